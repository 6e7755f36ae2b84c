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

    Images of one hash are given as pairs with the first of them, and stand behind it for all other pairs. Memory
    grows with the images and the pairs found, not with the comparisons.

    Args:
      groups: the two images of a pair must be of two groups.
      limit: pairs at which the search ends.

    Returns:
      Pairs of indices (lower, higher), sorted, each once; and whether there are more than `limit`.
    """
    unique, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    leaders = first[inverse]
    followers = np.flatnonzero(leaders != np.arange(len(hashes)))
    found = [_of_two_groups(leaders[followers], followers, groups)]
    width = HASH_BITS // _BANDS
    for band in range(_BANDS):
        keys = (unique >> np.uint64(band * width)) & np.uint64(2**width - 1)
        for low, high in _near_in_buckets(unique, keys):
            found.append(_of_two_groups(first[low], first[high], groups))
            if sum(map(len, found)) > limit * _BANDS:  # a pair can be found once in each band
                break
    pairs = np.unique(np.sort(np.concatenate(found), axis=1), axis=0)
    return pairs[:limit], len(pairs) > limit


def _of_two_groups(low: np.ndarray, high: np.ndarray, groups: np.ndarray) -> np.ndarray:
    return np.stack([low, high], axis=1)[groups[low] != groups[high]]


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
