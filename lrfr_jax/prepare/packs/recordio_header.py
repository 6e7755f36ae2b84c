"""The records of an InsightFace pack that are no images: a header, and the range of images of each identity.

The header, at key 0, has two labels (a, b). Keys 1 to a - 1 are images. Behind them stand either the identities, keys a
to b - 1, each with the labels (first key, last key + 1) of its images; or nothing, and b is the number of classes, as
converters write it that know InsightFace's newer reader alone. The labels are float32, so from 2^24 on a key may have
been rounded: such keys are derived from the records, and compared after the same rounding.

References:
  InsightFace, recognition/arcface_torch/dataset.py: keys 1 to a - 1 are images wherever key 0 has several labels.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, Int32

from lrfr_jax.prepare.packs.recordio_file import EXACT_FLOAT32, RecordIOError

NO_LABEL = -1  # of a record that is no image, or whose label is none


def first_identity_key(first: float, last: float, num_keys: int, is_identity: Callable[[int], bool]) -> int:
    """Finds the exact key a of the first identity record behind the header's float32 labels (a, b).

    Keys must be 0 to num_keys - 1, so that b = num_keys; or a = num_keys, which is the result, and b counts classes. A
    key that float32 cannot tell from its neighbors is the first of them whose record is that of an identity.

    Raises:
      RecordIOError: (a, b) cannot be the header's labels of such a file.
    """
    is_whole = 1 < first < np.inf and 1 <= last < np.inf and first == int(first) and last == int(last)  # NaN is not
    if not is_whole:
        raise RecordIOError(f"has the labels ({first}, {last}), which announce no images")
    counts_classes = last < first or np.float32(num_keys) == np.float32(first) < np.float32(last)
    if counts_classes:
        return _behind_all(first, num_keys, is_identity)
    if np.float32(num_keys) != np.float32(last):
        raise RecordIOError(f"announces keys 0 to {int(last) - 1}, the file has {num_keys} of them")
    exact = int(first)
    if first < EXACT_FLOAT32:
        if is_identity(exact - 1):
            raise RecordIOError(f"announces identities from key {exact} on, key {exact - 1} is one, too")
        return exact
    reach = int(np.spacing(np.float32(first)))
    rounded_to_it = (key for key in range(exact - reach, exact + reach + 1) if np.float32(key) == np.float32(first))
    for key in rounded_to_it:
        if key == num_keys or (key < num_keys and is_identity(key)):
            return key
    raise RecordIOError(f"announces identities from about key {exact} on, there are none")


def _behind_all(first: float, num_keys: int, is_identity: Callable[[int], bool]) -> int:
    """Checks that the images which a header announces are all records but itself."""
    if np.float32(num_keys) != np.float32(first):
        raise RecordIOError(f"announces images at keys 1 to {int(first) - 1}, the file has keys up to {num_keys - 1}")
    if is_identity(num_keys - 1):
        raise RecordIOError(f"announces images up to the last key, {num_keys - 1}, whose record holds none")
    return num_keys


def check_ranges(
    ranges: Float32[np.ndarray, "identities 2"], labels: Int32[np.ndarray, " keys"]
) -> tuple[int, str] | None:
    """Compares the identities' ranges of keys with the labels of the images, keys 1 to len(labels) - 1.

    A bound from 2^24 on may be off by float32's spacing there: what is inside for certain is compared.

    Returns:
      What is wrong with an identity: (its row, a text), or None.
    """
    end = np.float32(len(labels))
    first, last = ranges[:, 0], ranges[:, 1]
    wrong = ~((first >= 1) & (first <= last) & (last <= end) & (first == np.floor(first)) & (last == np.floor(last)))
    if wrong.any():
        row = int(np.argmax(wrong))
        return row, f"names images {first[row]} to {last[row]}, the file has keys 1 to {len(labels) - 1}"
    order = np.argsort(first, kind="stable")
    overlaps = last[order][:-1] > first[order][1:]
    if overlaps.any():
        return int(order[1:][np.argmax(overlaps)]), "names images that another identity names too"
    slack = [np.where(bound < EXACT_FLOAT32, 0, np.spacing(bound)) for bound in (first, last)]
    inside = np.stack([first + slack[0], last - slack[1]], axis=-1).astype(np.int64)
    for row in np.flatnonzero(inside[:, 1] > inside[:, 0]):
        own = labels[slice(*inside[row])]
        own = own[own != NO_LABEL]
        if len(own) and own.min() != own.max():
            return int(row), f"names images of several identities, with labels {own.min()} and {own.max()}"
    return None
