"""How the figures read numbers of the command line; each raises `argparse.ArgumentTypeError`, a usage error."""

import argparse
import math
from collections.abc import Callable

from lrfr_jax.image_ops import IMAGE_SIZE
from lrfr_jax.terminal import comma_list


def positive(text: str) -> int:
    """Reads a whole number of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of 1 or more")
    return int(text)


def seed(text: str) -> int:
    """Reads what every generator of random numbers takes, scikit-learn's too."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 to 2^32 - 1")
    return int(text)


def number(is_in_range: Callable[[float], bool], wanted: str) -> Callable[[str], float]:
    """Returns what reads a finite number; `wanted` says in words what `is_in_range` asks of it."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or not is_in_range(value):
            raise argparse.ArgumentTypeError(f"{text!r} is no number{wanted}")
        return value

    return read


finite = number(lambda value: True, " that is finite")
above_zero = number(lambda value: value > 0, " above 0 that is finite")
at_least_zero = number(lambda value: value >= 0, " of 0 or more that is finite")
at_least_one = number(lambda value: value >= 1, " of 1 or more that is finite")


def several_at_least_zero(text: str) -> tuple[float, ...]:
    """Reads comma-separated numbers, at least one."""
    parts = comma_list.words(text)
    if not parts:
        raise argparse.ArgumentTypeError(f"{text!r} holds no number: write some, as in 1,2,5")
    return tuple(map(at_least_zero, parts))


def resolutions(text: str) -> tuple[int, ...]:
    """Reads comma-separated side lengths in pixels and sorts them, the largest first."""
    parts = comma_list.words(text)
    if not parts or not all(part.isdecimal() and 1 <= int(part) <= IMAGE_SIZE for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} must be side lengths in 1..{IMAGE_SIZE} pixels, as in 112,28,14")
    return tuple(sorted({int(part) for part in parts}, reverse=True))
