"""What the heads refuse: one sentence for each kind of number or name that cannot be meant."""

from collections.abc import Iterable

from lrfr_jax.objective.heads.head import Number


def one_of(name: str, value: str, choices: Iterable[str]) -> None:
    """Refuses a value that is none of the choices.

    Raises:
      ValueError: `value` is none of `choices`.
    """
    if value not in choices:
        *first, last = choices
        raise ValueError(f"{name}={value!r} is unknown: choose {', '.join(first)} or {last}")


def above_zero(**numbers: Number) -> None:
    """Refuses numbers of 0 or less, and NaN.

    Raises:
      ValueError: one of the numbers is not above 0.
    """
    for name, value in numbers.items():
        if not value > 0:
            raise ValueError(f"{name}={value} must be above 0")


def at_least_zero(**numbers: Number) -> None:
    """Refuses numbers below 0, and NaN.

    Raises:
      ValueError: one of the numbers is not 0 or more.
    """
    for name, value in numbers.items():
        if not value >= 0:
            raise ValueError(f"{name}={value} must be 0 or more")


def at_most_one(**numbers: Number) -> None:
    """Refuses numbers that are no share, which lies above 0 and is at most 1.

    Raises:
      ValueError: one of the numbers is outside.
    """
    for name, value in numbers.items():
        if not 0 < value <= 1:
            raise ValueError(f"{name}={value} must be above 0 and at most 1")
