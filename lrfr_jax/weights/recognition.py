"""Which layout a foreign file has, by the names of its tensors."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from lrfr_jax.errors import UserError
from lrfr_jax.weights.layouts import LAYOUTS, Layout

MOST_NAMES = 10  # in one message


def recognize(tensors: Mapping[str, np.ndarray], *, source: str, layout: str | None) -> tuple[str, str]:
    """Finds the layout of a file, and what stands before all names of its network ('model.', or nothing).

    Args:
      tensors: the whole file.
      source: the file, for messages.
      layout: the key of `LAYOUTS` that it must be, or None for any.

    Raises:
      UserError: it is of no layout, can be of several, or holds the network several times.
    """
    names = set(tensors)
    every = {key: starts for key, row in LAYOUTS.items() if (starts := _beginnings(names, row))}
    found = {key: starts for key, starts in every.items() if layout in (None, key)}
    if not found:
        held = f", but of {' or '.join(every)}" if every else f": it holds {listed(sorted(names))}"
        raise UserError(f"{source} is not of layout {layout or ' or '.join(LAYOUTS)}{held}")
    usual = {key: starts for key, starts in found.items() if _is_usual(LAYOUTS[key], starts, tensors)}
    fitting = found if layout else usual
    if len(fitting) != 1:
        raise UserError(
            f"{source} can be of layout {' or '.join(found)}, which want other colors or pixel values: choose with "
            "--layout"
        )
    [(key, beginnings)] = fitting.items()
    if len(beginnings) > 1:
        raise UserError(f"{source} holds networks at {' and '.join(map(repr, beginnings))}: keep only one of them")
    return key, beginnings[0]


def listed(names: Sequence[str]) -> str:
    """Writes names as text, the first `MOST_NAMES` of them and how many more there are."""
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _is_usual(row: Layout, beginnings: Sequence[str], tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether a file that has the markers of a layout also begins as its makers' do, and has their sizes and scales."""
    scales = [tensors.get(beginning + row.last_scale) for beginning in beginnings if row.last_scale]
    is_free = row.learns_last_scale or all(scale is None or (scale == 1).all() for scale in scales)
    sized = [(tensors[start + name], size) for name, size in row.last_axes.items() for start in beginnings]
    is_free = is_free and all(np.shape(tensor)[-1:] == (size,) for tensor, size in sized)
    return is_free and all(re.fullmatch(row.before, beginning) for beginning in beginnings)


def _beginnings(names: set[str], row: Layout) -> list[str]:
    """What stands before all markers of a layout, wherever all of them are."""
    first, *others = row.markers
    starts = sorted(name.removesuffix(first) for name in names if name.endswith(first))
    held = [start for start in starts if all(start + marker in names for marker in others)]
    return [start for start in held if not any(start + name in names for name in row.lacks)]
