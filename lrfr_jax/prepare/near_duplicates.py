"""Near duplicates among millions of faces: a 64-bit perceptual hash, and all pairs of hashes that nearly agree."""

from collections.abc import Iterator
from typing import NamedTuple

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

    The first image of a hash and a group leads the others of both. The leaders of one hash are pairs with the first of
    them, which stands for them in all other pairs; where the other image is of its group, the second leader does. Who
    has a leader is paired with the leader's partners. So an image with a close one in another group is in one pair at
    least. Memory grows with the images and the pairs found, not with the comparisons.

    Args:
      groups: the two images of a pair must be of two groups.
      limit: pairs at which the search ends.

    Returns:
      Pairs of indices (lower, higher), sorted, each once; and whether there are more than `limit`.
    """
    teams = _teams_of(hashes, groups)
    found = [teams.of_one_hash]
    unique, width = hashes[teams.first], HASH_BITS // _BANDS
    for band in range(_BANDS):
        keys = (unique >> np.uint64(band * width)) & np.uint64(2**width - 1)
        for low, high in _near_in_buckets(unique, keys):
            found.append(_between_hashes(teams, low, high, groups))
            if sum(map(len, found)) > limit * _BANDS:  # a pair can be found once in each band
                break
    pairs = np.unique(np.sort(np.concatenate(found), axis=1), axis=0)
    behind, is_cut = _behind_leaders(teams, pairs[:limit], room=max(limit - len(pairs), 0))
    all_pairs = np.concatenate([pairs[:limit], np.sort(behind, axis=1)])
    return all_pairs[np.lexsort(all_pairs.T[::-1])], is_cut or len(pairs) > limit


class _Teams(NamedTuple):
    """Images in the order of hash and group; a team is those of one hash and one group, its leader the first of them.

    Attributes:
      order: image at each place of the order.
      starts: place at which each team begins.
      team: team of each image.
      first, second: of each hash, in rising order, the leaders of its first two teams; twice the same if it has one.
      of_one_hash: pairs of the first leader of a hash with each other one.
    """

    order: Int[np.ndarray, " images"]
    starts: Int[np.ndarray, " teams"]
    team: Int[np.ndarray, " images"]
    first: Int[np.ndarray, " hashes"]
    second: Int[np.ndarray, " hashes"]
    of_one_hash: Int[np.ndarray, "pairs 2"]


def _teams_of(hashes: np.ndarray, groups: np.ndarray) -> _Teams:
    order = np.lexsort((groups, hashes))
    is_new_hash = np.ones(len(order), bool)
    is_new_hash[1:] = np.diff(hashes[order]) != 0
    is_new_team = is_new_hash.copy()
    is_new_team[1:] |= np.diff(groups[order]) != 0
    starts = np.flatnonzero(is_new_team)
    team = np.empty_like(order)
    team[order] = np.cumsum(is_new_team) - 1
    leaders, is_first = order[starts], is_new_hash[starts]
    firsts = np.flatnonzero(is_first)
    has_second = ~np.append(is_first, True)[firsts + 1]
    hash_number = np.cumsum(is_first) - 1
    of_one_hash = np.stack([leaders[firsts][hash_number], leaders], axis=1)[~is_first]
    return _Teams(order, starts, team, leaders[firsts], leaders[firsts + has_second], of_one_hash)


def _between_hashes(teams: _Teams, low: np.ndarray, high: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Pairs of leaders of two groups, for pairs of numbers of hashes."""
    first, second = teams.first, teams.second
    alike = groups[first[low]] == groups[first[high]]
    pairs = [(first[low], first[high]), (first[low], second[high]), (second[low], first[high])]
    usable = [~alike, alike, alike]
    kept = [np.stack(pair, axis=1)[mask] for pair, mask in zip(pairs, usable, strict=True)]
    found = np.concatenate(kept)
    return found[groups[found[:, 0]] != groups[found[:, 1]]]


def _behind_leaders(teams: _Teams, pairs: np.ndarray, *, room: int) -> tuple[np.ndarray, bool]:
    """Pairs of whoever stands behind a leader with the leader's partners, and whether there is no room for all."""
    both = np.concatenate([pairs, pairs[:, ::-1]])
    stops, team = np.append(teams.starts[1:], len(teams.order)), teams.team[both[:, 0]]
    ends = np.cumsum(stops[team] - teams.starts[team] - 1)  # of the pairs with one leader, counted through
    total = int(ends[-1]) if len(ends) else 0
    numbers = np.arange(min(total, room))
    pair = np.searchsorted(ends, numbers, side="right")
    places = stops[team[pair]] - (ends[pair] - numbers)
    return np.stack([teams.order[places], both[pair, 1]], axis=1), total > room


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
