"""Which layout a foreign file has, by the names of its tensors."""

import re
from collections.abc import Iterable, Sequence

from lrfr_jax.errors import UserError
from lrfr_jax.weights.layouts import LAYOUTS

MOST_NAMES = 10  # in one message
_SQUEEZE_AND_EXCITATION = re.compile(r".*res_layer\.(\d+|se_block)\.fc[12]\.weight")


def recognize(names: Iterable[str], *, source: str, layout: str | None) -> tuple[str, str]:
    """Finds the layout of a file, and what stands before all names of its network ('model.', or nothing).

    Args:
      names: of the file's tensors.
      source: the file, for messages.
      layout: the key of `LAYOUTS` that it must be, or None for any.

    Raises:
      UserError: it is of no layout, can be of several, or holds the network several times.
    """
    names = set(names)
    if any(map(_SQUEEZE_AND_EXCITATION.fullmatch, names)):
        raise UserError(f"{source} holds an IR-SE network (squeeze and excitation), which no backbone here is: use IR")
    found = {key: _beginnings(names, row.markers) for key, row in LAYOUTS.items() if layout in (None, key)}
    found = {key: beginnings for key, beginnings in found.items() if beginnings}
    if not found:
        raise UserError(f"{source} is not of layout {layout or ' or '.join(LAYOUTS)}: it holds {listed(sorted(names))}")
    fitting = found if layout else {key: found[key] for key in found if _begins_as_usual(key, found[key])}
    if len(fitting) != 1:
        raise UserError(f"{source} can be of layout {' or '.join(found)}, of unlike colors: choose with --layout")
    [(key, beginnings)] = fitting.items()
    if len(beginnings) > 1:
        raise UserError(f"{source} holds networks at {' and '.join(map(repr, beginnings))}: keep only one of them")
    return key, beginnings[0]


def listed(names: Sequence[str]) -> str:
    """Writes names as text, the first `MOST_NAMES` of them and how many more there are."""
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _begins_as_usual(layout: str, beginnings: Sequence[str]) -> bool:
    return all(re.fullmatch(LAYOUTS[layout].before, beginning) for beginning in beginnings)


def _beginnings(names: set[str], markers: Sequence[str]) -> list[str]:
    """What stands before all markers of a layout, wherever all of them are."""
    starts = sorted(name.removesuffix(markers[0]) for name in names if name.endswith(markers[0]))
    return [start for start in starts if all(start + marker in names for marker in markers)]
