"""Search of many probes in a large gallery, of which the score matrix never exists as a whole (numpy only)."""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int

from lrfr_jax.evals.scores import Score, worse

# With more mates than this, sorting a probe's scores once is faster than counting for each mate.
_MANY_MATES = 64
# (cosines of some probes with all of the gallery, which probes) -> their scores.
Rescore = Callable[[np.ndarray, slice], np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class SearchResult:
    """What metrics need of a score matrix. Ranks count from 1; others that score as high as a mate stand before it.

    Attributes:
      mate_ranks: of all mates, rising for each probe; those of probe i are `mate_ranks[offsets[i] : offsets[i + 1]]`.
      offsets: where each probe's mates begin, and at last the number of all mates.
      best_mate_ranks: of each probe; gallery size + 1 without a mate.
      best_mate_scores: of each probe; minus infinity without a mate.
      best_other_scores: highest score that is not a mate's; minus infinity if all are.
      top_other_scores: the highest such scores of all probes together, falling.
    """

    mate_ranks: Int[np.ndarray, " mates"]
    offsets: Int[np.ndarray, " probes_and_end"]
    best_mate_ranks: Int[np.ndarray, " probes"]
    best_mate_scores: Float[np.ndarray, " probes"]
    best_other_scores: Float[np.ndarray, " probes"]
    top_other_scores: Float[np.ndarray, " top"]

    @property
    def is_mated(self) -> Bool[np.ndarray, " probes"]:
        return np.diff(self.offsets) > 0


def search(
    probes: Float[np.ndarray, "probes dim"],
    gallery: Float[np.ndarray, "gallery dim"],
    probe_labels: Int[np.ndarray, " probes"],
    gallery_labels: Int[np.ndarray, " gallery"],
    *,
    num_top: int,
    memory_bytes: int,
    rescore: Rescore | None = None,
) -> SearchResult:
    """Scores every probe against every gallery entry by their dot product in float32, some probes at a time.

    Two equal vectors may differ in the last bit of their scores, as matrix products round by position.

    Args:
      probes, gallery: of unit length where a score is to be a cosine.
      probe_labels, gallery_labels: equal labels make mates; a negative label (`protocol_arrays.DISTRACTOR`) makes none.
      num_top: how many of the highest scores of others are kept, over all probes together.
      memory_bytes: bound on the scores that exist at a time; at least one probe's are held, whatever it is.
      rescore: turns dot products into other scores, see `by_score`.

    Raises:
      ValueError: an empty gallery, or vectors that are not finite.
    """
    if not len(gallery) or not all(np.isfinite(np.sum(vectors, dtype=np.float64)) for vectors in (probes, gallery)):
        raise ValueError(f"a gallery of {len(gallery)} images cannot be searched: it needs one and finite features")
    mates, offsets = _mates_of(probe_labels, gallery_labels)
    ranks = np.empty(len(mates), np.int64)
    best_mate, best_other = np.full((2, len(probes)), -np.inf, np.float32)
    top = np.empty(0, np.float32)
    # Selecting the highest scores of a block takes a mask and copies of them, in the worst case three more blocks.
    # Another score takes as much once more, for the parts of its formula.
    bytes_per_score = (16 if num_top else 4) + (16 if rescore is not None else 0)
    chunk = min(max(memory_bytes // (bytes_per_score * len(gallery)), 1), max(len(probes), 1))
    block = np.empty((chunk, len(gallery)), np.float32)
    for first in range(0, len(probes), chunk):
        rows = slice(first, min(first + chunk, len(probes)))
        scores = np.matmul(probes[rows], gallery.T, out=block[: rows.stop - first])
        if rescore is not None:
            scores[:] = rescore(scores, rows)
        starts = offsets[first : rows.stop + 1]
        span = slice(starts[0], starts[-1])
        owners = np.repeat(np.arange(len(scores)), np.diff(starts))
        mate_scores = scores[owners, mates[span]]
        scores[owners, mates[span]] = -np.inf  # what is left are the others
        best_other[rows] = scores.max(axis=1)
        top = _highest(top, scores, num_top)
        best_mate[rows], ranks[span] = _rank(scores, mate_scores, starts - starts[0])
    best_ranks = np.full(len(probes), len(gallery) + 1)
    is_mated = np.diff(offsets) > 0
    best_ranks[is_mated] = ranks[offsets[:-1][is_mated]]
    return SearchResult(ranks, offsets, best_ranks, best_mate, best_other, np.sort(top)[::-1])


def by_score(
    score: Score, probes: Float[np.ndarray, " probes"], gallery: Float[np.ndarray, " gallery"]
) -> Rescore | None:
    """What makes a score of cosines, by the qualities of both sides; None where that is the cosine itself."""
    if score.is_cosine:
        return None
    return lambda cosines, rows: score.of(cosines, worse(probes[rows], gallery))


def _mates_of(probe_labels: np.ndarray, gallery_labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gallery positions of all probes' mates, one probe after the other, and where each probe's begin."""
    order = np.argsort(gallery_labels, kind="stable")
    left, right = (np.searchsorted(gallery_labels, probe_labels, side, sorter=order) for side in ("left", "right"))
    counts = np.where(probe_labels >= 0, right - left, 0)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return order[np.repeat(left - offsets[:-1], counts) + np.arange(offsets[-1])], offsets


def _rank(others: np.ndarray, mate_scores: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best mate's score of each row and the ranks of all mates; rows with many mates are sorted in place."""
    best, ranks = np.full(len(others), -np.inf, np.float32), np.empty(len(mate_scores), np.int64)
    for row in np.flatnonzero(np.diff(starts)):
        span = slice(starts[row], starts[row + 1])
        falling = np.sort(mate_scores[span])[::-1]
        if len(falling) > _MANY_MATES:
            others[row].sort()
            ahead = others.shape[1] - np.searchsorted(others[row], falling, side="left")
        else:
            ahead = [np.count_nonzero(others[row] >= score) for score in falling]
        best[row], ranks[span] = falling[0], np.arange(1, len(falling) + 1) + ahead
    return best, ranks


def _highest(held: np.ndarray, scores: np.ndarray, count: int) -> np.ndarray:
    """The `count` highest among the held ones and the new ones, in any order; mates are at minus infinity."""
    lowest = held.min() if len(held) == count and count else -np.inf
    held = np.concatenate([held, scores[scores > lowest]]) if count else held
    return np.partition(held, len(held) - count)[len(held) - count :] if len(held) > count else held


def nearest(
    probes: Float[np.ndarray, "probes dim"],
    gallery: Float[np.ndarray, "gallery dim"],
    *,
    count: int,
    memory_bytes: int,
) -> tuple[Int[np.ndarray, "probes hits"], Float[np.ndarray, "probes hits"]]:
    """Finds the gallery entries of the highest dot products with each probe: exact, some probes at a time.

    Args:
      count: entries wanted for each probe; all if there are fewer.
      memory_bytes: bound on what exists at a time beside the vectors; at least one probe's scores do.

    Returns:
      Positions in the gallery, the best first (of equal scores the first in the gallery), and their scores.

    Raises:
      ValueError: `count` below 1, or an empty gallery.
    """
    if count < 1 or not len(gallery):
        raise ValueError(f"{count} entries of a gallery of {len(gallery)} cannot be found: it takes one of each")
    hits = min(count, len(gallery))
    # A score takes 4 bytes, and its place while the highest are selected 8.
    chunk = min(max(memory_bytes // (12 * len(gallery)), 1), max(len(probes), 1))
    positions, best = np.empty((len(probes), hits), np.int64), np.empty((len(probes), hits), np.float32)
    block = np.empty((chunk, len(gallery)), np.float32)
    for first in range(0, len(probes), chunk):
        rows = slice(first, min(first + chunk, len(probes)))
        scores = np.matmul(probes[rows], gallery.T, out=block[: rows.stop - first])
        chosen = np.argpartition(scores, len(gallery) - hits, axis=1)[:, len(gallery) - hits :]
        chosen = np.sort(chosen, axis=1)
        _take_first_of_equals(scores, chosen)
        values = np.take_along_axis(scores, chosen, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        positions[rows], best[rows] = (np.take_along_axis(array, order, axis=1) for array in (chosen, values))
    return positions, best


def _take_first_of_equals(scores: Float[np.ndarray, "probes gallery"], chosen: Int[np.ndarray, "probes hits"]) -> None:
    """Puts the first of the entries at the lowest chosen score into `chosen`, where argpartition took any of them."""
    cut = np.take_along_axis(scores, chosen, axis=1).min(axis=1, keepdims=True)
    hits = chosen.shape[1]
    for row in np.flatnonzero(np.count_nonzero(scores >= cut, axis=1) > hits):
        better, equal = np.flatnonzero(scores[row] > cut[row]), np.flatnonzero(scores[row] == cut[row])
        chosen[row] = np.sort(np.concatenate([better, equal[: hits - len(better)]]))
