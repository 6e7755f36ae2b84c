"""Near duplicates among millions of faces: a 64-bit perceptual hash, and all pairs of hashes that nearly agree."""

from collections.abc import Iterator

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8, UInt64

HASH_BITS = 64
RADIUS = 3  # bits; encoding a face again at JPEG quality 75 flips none in four of five faces, and at most 2
_BANDS = RADIUS + 1  # two hashes that differ in at most RADIUS bits agree in one of so many bands
_THUMBNAIL = 32
# The 64 lowest frequencies without the mean, so that brightness does not count.
_FREQUENCIES = sorted((u + v, u, v) for u in range(12) for v in range(12) if u + v)[:HASH_BITS]
_ROWS, _COLUMNS = np.array([u for _, u, _ in _FREQUENCIES]), np.array([v for _, _, v in _FREQUENCIES])


def frequencies(face: UInt8[np.ndarray, "112 112 3"]) -> Float[np.ndarray, "64"]:
    """Returns the lowest cosine frequencies of a face's gray thumbnail."""
    gray = cv2.resize(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY), (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
    return cv2.dct(gray.astype(np.float32))[_ROWS, _COLUMNS]


def hash_of(values: Float[np.ndarray, "64"], thresholds: Float[np.ndarray, "64"]) -> np.uint64:
    """Makes 64 bits, one for each frequency: is it above its threshold?

    Thresholds are medians over faces: aligned faces are alike, and bits about zero would hardly tell them apart.
    """
    return np.packbits(values > thresholds).view(np.uint64)[0]


def close_pairs(
    hashes: UInt64[np.ndarray, " images"], groups: Int[np.ndarray, " images"], *, limit: int
) -> tuple[Int[np.ndarray, "pairs 2"], bool]:
    """Finds images whose hashes differ in at most `RADIUS` bits, without comparing all with all.

    Of each close hash, its own among them, an image is paired with the first image that has it, or the last, where the
    first is of the image's group. So an image with a close one in another group is in one pair at least, and a thousand
    copies are in a thousand pairs, not in half a million.

    Args:
      groups: the two images of a pair must be of two groups.
      limit: pairs at which the search ends.

    Returns:
      Pairs of indices (lower, higher), sorted, each once; and whether there are more than `limit`.
    """
    order = np.lexsort((groups, hashes))
    unique, starts, counts = np.unique(hashes[order], return_index=True, return_counts=True)
    stops = starts + counts
    first, last = order[starts], order[stops - 1]  # of each hash; of one group only if all are
    found, room = [np.empty((0, 2), int)], 2 * limit  # a pair may be found from both of its ends
    for low, high in _close_hashes(unique, groups[first], groups[last], limit=limit):
        for own, other in {(low, high), (high, low)}:
            images = order[starts[own] : stops[own]]
            partners = np.where(groups[images] != groups[first[other]], first[other], last[other])
            found.append(np.stack([images, partners], axis=1)[groups[images] != groups[partners]])
            room -= len(found[-1])
        if room < 0:
            break
    pairs = np.unique(np.sort(np.concatenate(found), axis=1), axis=0)
    return pairs[:limit], len(pairs) > limit


def _close_hashes(
    unique: UInt64[np.ndarray, " hashes"],
    first_groups: Int[np.ndarray, " hashes"],
    last_groups: Int[np.ndarray, " hashes"],
    *,
    limit: int,
) -> list[list[int]]:
    """Returns pairs of numbers of close hashes that images of two groups have, each with itself among them.

    Not all, but more than `limit`, where there are more: each stands for one pair of images at least.
    """

    def of_two_groups(low: np.ndarray, high: np.ndarray) -> np.ndarray:
        is_mixed = first_groups != last_groups
        usable = is_mixed[low] | is_mixed[high] | (first_groups[low] != first_groups[high])
        return np.stack([low, high], axis=1)[usable]

    numbers, width = np.arange(len(unique)), HASH_BITS // _BANDS
    found = [of_two_groups(numbers, numbers)]
    for band in range(_BANDS):
        keys = (unique >> np.uint64(band * width)) & np.uint64(2**width - 1)
        for low, high in _near_in_buckets(unique, keys):
            found.append(of_two_groups(low, high))
            if sum(map(len, found)) > limit * _BANDS:  # a pair can be found once in each band
                break
    return np.unique(np.concatenate(found), axis=0)[: limit + 1].tolist()


def _near_in_buckets(hashes: np.ndarray, keys: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Compares each hash with those of its key: with the next in the bucket, the one after it, and so on."""
    order = np.argsort(keys, kind="stable")
    keys, places, step = keys[order], np.arange(len(order)), 1
    while True:
        places = places[places + step < len(order)]
        places = places[keys[places] == keys[places + step]]
        if not len(places):
            return
        low, high = order[places], order[places + step]
        near = np.bitwise_count(hashes[low] ^ hashes[high]) <= RADIUS
        if near.any():
            yield low[near], high[near]
        step += 1
