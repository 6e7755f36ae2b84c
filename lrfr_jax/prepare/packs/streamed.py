"""A file of many labeled images that is read from its begin to its end: Parquet, LMDB."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, Int64

NOBODY = -1  # the owner of an image without an identity


class StreamedFile(NamedTuple):
    """Whose images a file holds, row by row, and what reads them.

    Attributes:
      path: of the file.
      names: its identities, all different.
      owners: the place in `names` of each row, or `NOBODY`.
      faults: why a row has no identity.
      num_bytes: about what its images take.
      read: yields the images of some rows, which ascend, or what is wrong with one; a message starts with a verb.
      where: what a sentence calls a row.
    """

    path: str
    names: list[str]
    owners: Int32[np.ndarray, " rows"]
    faults: dict[int, str]
    num_bytes: int
    read: Callable[[Int64[np.ndarray, " some"]], Iterator[bytes | ValueError]]
    where: Callable[[int], str]


def owners_of(
    identities: Iterable[str | ValueError], count: int
) -> tuple[list[str], Int32[np.ndarray, " rows"], dict[int, str]]:
    """Numbers the identities of `count` rows as they come; returns `names`, `owners` and `faults` of a file."""
    places: dict[str, int] = {}
    owners, faults = np.full(count, NOBODY, np.int32), {}
    for row, identity in enumerate(identities):
        if isinstance(identity, ValueError):
            faults[row] = str(identity)
        else:
            owners[row] = places.setdefault(identity, len(places))
    return list(places), owners, faults
