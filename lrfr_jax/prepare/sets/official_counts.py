"""Whether what was found below a source is the set that its makers published."""

from collections.abc import Mapping

from lrfr_jax.errors import UserError


def check(counts: Mapping[str, tuple[int, int]], *, allow_partial: bool, what: str) -> bool:
    """Compares what was found with the official counts.

    Args:
      counts: {what is counted: (official count, found count)}.
      allow_partial: go on although they differ.
      what: the set's name, for the sentence.

    Returns:
      Whether the set is partial: some count is not the official one.

    Raises:
      UserError: it is, and `allow_partial` is false; the sentence holds every count that differs.
    """
    wrong = [f"{found} {thing} (official: {due})" for thing, (due, found) in counts.items() if due != found]
    if wrong and not allow_partial:
        raise UserError(
            f"{what} has {', '.join(wrong)}: get the whole set, or go on with --allow_partial, which marks every "
            "number measured on it as partial"
        )
    return bool(wrong)
