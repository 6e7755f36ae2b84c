"""Verification and identification metrics from scores (numpy only). A score is higher for more similar pairs."""

import dataclasses
import statistics

import numpy as np
from jaxtyping import Bool, Float, Int

# Among thresholds that are equally good on the training folds: the highest score or the lowest one.
TIES = ("strictest", "loosest")
# The usual level of a reported interval.
CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class KFoldAccuracy:
    """Accuracies in [0, 1]; entry k belongs to the k-th smallest fold label."""

    fold_accuracies: Float[np.ndarray, " folds"]
    thresholds: Float[np.ndarray, " folds"]
    mean: float
    std: float


def negative_squared_l2(
    x: Float[np.ndarray, "pairs dim"], y: Float[np.ndarray, "pairs dim"]
) -> Float[np.ndarray, " pairs"]:
    r"""Scores pairs of unit vectors by -||x - y||^2, in [-4, 0].

    References:
      InsightFace, recognition/arcface_torch/eval/verification.py, whose `dist` it is the negative of.
    """
    return -np.sum(np.square(x - y), axis=1)


def cosine(
    x: Float[np.ndarray, "pairs dim"], y: Float[np.ndarray, "pairs dim"], *, epsilon: float
) -> Float[np.ndarray, " pairs"]:
    r"""Scores pairs by x.y / (||x|| ||y|| + epsilon), in [-1, 1].

    References:
      LRFR (arXiv 2302.05621), released src/lfw_eval.py with epsilon = 1e-5.
    """
    return np.sum(x * y, axis=1) / (np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1) + epsilon)


def kfold_accuracy(
    scores: Float[np.ndarray, " pairs"],
    is_same: Bool[np.ndarray, " pairs"],
    *,
    folds: Int[np.ndarray, " pairs"],
    thresholds: Float[np.ndarray, " grid"],
    ties: str,
) -> KFoldAccuracy:
    """Measures each fold with the threshold that is best on all other folds together.

    A pair is accepted if score > threshold. Scores -d^2 and thresholds -t make it InsightFace's d^2 < t, exactly.

    Args:
      scores: higher = more similar; finite.
      is_same: True where both images show one identity.
      folds: label of each pair's fold; any integers, at least two different ones.
      thresholds: grid on the score axis, in any order.
      ties: 'strictest' takes the highest of equally good thresholds, as both InsightFace (first best distance) and the
        released LRFR code (last best cosine) do; 'loosest' takes the lowest.

    Raises:
      ValueError: lengths differ, scores are not finite, fewer than two folds, an empty grid or an unknown tie rule.

    References:
      Huang et al. 2007, Labeled Faces in the Wild, View 2.
    """
    _check(scores, is_same)
    labels = np.unique(folds)
    if len(folds) != len(scores) or len(labels) < 2:
        raise ValueError(
            f"{len(folds)} fold labels with {len(labels)} different values for {len(scores)} pairs: need >= 2"
        )
    if len(thresholds) == 0 or ties not in TIES:
        raise ValueError(f"thresholds must not be empty and ties must be one of {TIES}, not {ties!r}")
    grid = np.sort(thresholds)
    if ties == "strictest":
        grid = grid[::-1]
    # Counts, not rates, so that equally good means equal.
    correct = np.stack([_correct_counts(scores[folds == label], is_same[folds == label], grid) for label in labels])
    best = np.argmax(correct.sum(axis=0) - correct, axis=1)
    sizes = np.array([np.sum(folds == label) for label in labels])
    accuracies = correct[np.arange(len(labels)), best] / sizes
    return KFoldAccuracy(accuracies, grid[best].astype(np.float64), float(accuracies.mean()), float(accuracies.std()))


def wilson_interval(accuracy: float, trials: int, *, confidence: float) -> tuple[float, float]:
    """Interval that holds the true accuracy with probability `confidence` if the trials are independent draws.

    It stays within [0, 1], and is the same measure of doubt for two folds as for ten.

    References:
      Wilson 1927, Probable inference, the law of succession, and statistical inference.
    """
    z2 = statistics.NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    center = (accuracy + z2 / (2 * trials)) / (1 + z2 / trials)
    variance = accuracy * (1 - accuracy) / trials + z2 / (2 * trials) ** 2
    half = np.sqrt(z2 * variance) / (1 + z2 / trials)
    # The ends at accuracies 0 and 1 are exact but for rounding.
    return max(float(center - half), 0.0), min(float(center + half), 1.0)


def tar_at_far(scores: Float[np.ndarray, " pairs"], is_same: Bool[np.ndarray, " pairs"], *, far: float) -> float:
    """Returns the largest true accept rate whose false accept rate does not exceed `far` (both in [0, 1]).

    The threshold is one that occurs: no interpolation, and equal scores are accepted or refused together.

    Raises:
      ValueError: far outside [0, 1], scores that are not finite, or only one of the two kinds of pairs.
    """
    genuine, impostor = _split(scores, is_same)
    return float(np.mean(genuine > strictest_threshold(impostor, far)))


def tar_at_nearest_far(
    scores: Float[np.ndarray, " pairs"], is_same: Bool[np.ndarray, " pairs"], *, fars: tuple[float, ...]
) -> dict[float, float]:
    """Returns for each `far` the true accept rate at the corner of the ROC whose false accept rate is nearest to it.

    The rate reached may lie above `far`, or far from it: points on a straight piece of the curve are no corners, as in
    scikit-learn's `roc_curve`. Of two corners equally near the one with the larger rates counts. See `tar_at_far`.

    References:
      InsightFace, recognition/arcface_torch/eval_ijbc.py.
    """
    rates = roc_curve(scores, is_same)
    totals = [int(np.sum(~is_same)), int(np.sum(is_same))]
    # Counts instead of rates, so that no bend means exactly zero.
    counts = [np.rint(rate * total).astype(np.int64) for rate, total in zip(rates, totals, strict=True)]
    bends = np.any([np.diff(count[1:], 2) for count in counts], axis=0)
    corners = np.concatenate([[True, True], bends, [True]]) if len(bends) else np.ones(len(counts[0]), bool)
    falling = [count[corners][::-1] / total for count, total in zip(counts, totals, strict=True)]
    return {far: float(falling[1][np.argmin(np.abs(falling[0] - far))]) for far in fars}


def roc_curve(
    scores: Float[np.ndarray, " pairs"], is_same: Bool[np.ndarray, " pairs"]
) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]:
    """Returns (false accept rates, true accept rates), both rising from 0 to 1: one point per different score."""
    genuine, impostor = _split(scores, is_same)
    thresholds = np.unique(scores)[::-1]
    rates = [
        np.concatenate([[0.0], 1 - np.searchsorted(np.sort(group), thresholds, side="left") / len(group)])
        for group in (impostor, genuine)
    ]
    return rates[0], rates[1]


def roc_auc(scores: Float[np.ndarray, " pairs"], is_same: Bool[np.ndarray, " pairs"]) -> float:
    """Returns the area under the ROC: P(genuine score > impostor score) + P(equal) / 2."""
    genuine, impostor = _split(scores, is_same)
    ranked = np.sort(impostor)
    below, not_above = (np.searchsorted(ranked, genuine, side=side) for side in ("left", "right"))
    return float(np.mean(below + not_above) / (2 * len(impostor)))


def auc_interval(auc: float, genuine: int, impostors: int, *, confidence: float) -> tuple[float, float]:
    r"""Interval of an area under the ROC from so many genuine and impostor pairs, within [0, 1].

    .. math:: \sigma^2 = \frac{A(1-A) + (g-1)(\frac{A}{2-A}-A^2) + (i-1)(\frac{2A^2}{1+A}-A^2)}{g\,i}

    References:
      Hanley and McNeil 1982, The meaning and use of the area under a receiver operating characteristic curve.
    """
    spread = (genuine - 1) * (auc / (2 - auc) - auc**2) + (impostors - 1) * (2 * auc**2 / (1 + auc) - auc**2)
    deviation = np.sqrt(max(auc * (1 - auc) + spread, 0.0) / (genuine * impostors))
    half = statistics.NormalDist().inv_cdf((1 + confidence) / 2) * deviation
    return max(float(auc - half), 0.0), min(float(auc + half), 1.0)


def cmc(
    similarities: Float[np.ndarray, "probes gallery"],
    probe_labels: Int[np.ndarray, " probes"],
    gallery_labels: Int[np.ndarray, " gallery"],
    *,
    ranks: tuple[int, ...],
) -> dict[int, float]:
    """Returns {k: share of the probes that have a mate among the first k of the gallery}: the closed-set CMC.

    Of equal scores those of other identities stand first. A gallery image with a negative label is nobody's mate.
    `search.search` does it for score matrices that do not fit in memory.

    Raises:
      ValueError: a probe has no mate, a rank is below 1, or scores are not finite.
    """
    if min(ranks, default=1) < 1:
        raise ValueError(f"ranks={ranks} must be 1 or more")
    best = np.array([ranks_of[0] for ranks_of in _mate_ranks(similarities, probe_labels, gallery_labels)])
    return {rank: float(np.mean(best <= rank)) for rank in ranks}


def mean_average_precision(
    similarities: Float[np.ndarray, "probes gallery"],
    probe_labels: Int[np.ndarray, " probes"],
    gallery_labels: Int[np.ndarray, " gallery"],
) -> float:
    """Returns the mean over probes of `average_precisions`; ties, negative labels and errors as in `cmc`."""
    per_probe = _mate_ranks(similarities, probe_labels, gallery_labels)
    offsets = np.cumsum([0, *map(len, per_probe)])
    return float(np.mean(average_precisions(np.concatenate(per_probe), offsets)))


def average_precisions(
    mate_ranks: Int[np.ndarray, " mates"], offsets: Int[np.ndarray, " probes_and_end"]
) -> Float[np.ndarray, " probes"]:
    r"""Area under each probe's precision over recall, by trapezoids from precision 1 at recall 0, as TinyFace has it.

    .. math:: AP = \frac{1}{M} \sum_{m=1}^{M} \frac{1}{2} \left(\frac{m-1}{r_m - 1} + \frac{m}{r_m}\right)

    r_m is the rank, from 1, of the m-th of M mates; the first fraction is 1 where r_m = 1. Without mates it is NaN.

    Args:
      mate_ranks: rising for each probe; those of probe i are `mate_ranks[offsets[i] : offsets[i + 1]]`.

    References:
      Cheng et al. 2018, Low-Resolution Face Recognition (TinyFace), evaluation code.
    """
    counts = np.diff(offsets)
    owners = np.repeat(np.arange(len(counts)), counts)
    found = np.arange(1, len(mate_ranks) + 1) - offsets[owners]
    before = np.where(mate_ranks > 1, (found - 1) / np.maximum(mate_ranks - 1, 1), 1.0)
    areas = np.bincount(owners, weights=(before + found / mate_ranks) / 2, minlength=len(counts))
    return np.where(counts > 0, areas / np.maximum(counts, 1), np.nan)


def tpir_at_fpir(
    mate_scores: Float[np.ndarray, " mated"],
    mate_ranks: Int[np.ndarray, " mated"],
    unmated_scores: Float[np.ndarray, " unmated"],
    *,
    fpir: float,
    rank: int,
) -> float:
    """Returns the largest true positive identification rate whose false positive rate does not exceed `fpir`.

    A search with a mate is right if its best mate is above the threshold and among the first `rank`; one without is
    wrong if its highest score is above the threshold, which is a score that occurs, as in `tar_at_far`.

    Raises:
      ValueError: fpir outside [0, 1], scores that are not finite, or only one of the two kinds of searches.

    References:
      NIST FRTE 1:N; Cheng et al. 2018, Surveillance Face Recognition Challenge (TPIR20 at FPIR).
    """
    if not len(mate_scores) or not len(unmated_scores):
        raise ValueError(f"{len(mate_scores)} searches with a mate, {len(unmated_scores)} without: some of both needed")
    if not all(np.all(np.isfinite(scores)) for scores in (mate_scores, unmated_scores)):
        raise ValueError("scores are not finite: check the embeddings")
    return float(np.mean((mate_scores > strictest_threshold(unmated_scores, fpir)) & (mate_ranks <= rank)))


def _check(scores: np.ndarray, is_same: np.ndarray) -> None:
    if scores.ndim != 1 or scores.shape != is_same.shape:
        raise ValueError(f"scores {scores.shape} and is_same {is_same.shape} must be lists of the same length")
    if not np.all(np.isfinite(scores)):
        raise ValueError(f"{np.sum(~np.isfinite(scores))} of {len(scores)} scores are not finite: check the embeddings")


def _split(scores: np.ndarray, is_same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    _check(scores, is_same)
    genuine, impostor = scores[is_same], scores[~is_same]
    if not len(genuine) or not len(impostor):
        raise ValueError(f"{len(genuine)} genuine and {len(impostor)} impostor pairs: an ROC needs some of both")
    return genuine, impostor


def _correct_counts(scores: np.ndarray, is_same: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Number of right decisions at each threshold: accepted genuine and refused impostor pairs."""
    refused_genuine = np.searchsorted(np.sort(scores[is_same]), grid, side="right")
    refused_impostor = np.searchsorted(np.sort(scores[~is_same]), grid, side="right")
    return np.sum(is_same) - refused_genuine + refused_impostor


def strictest_threshold(impostor: np.ndarray, rate: float) -> float:
    """The lowest score of impostors above which no more than a share `rate` of them lies."""
    if not 0 <= rate <= 1:
        raise ValueError(f"{rate} is no rate: it must lie in [0, 1]")
    # How many impostors may pass: the same division as in a measured rate, so that k / n == rate is allowed.
    allowed = np.searchsorted(np.arange(len(impostor) + 1) / len(impostor), rate, side="right") - 1
    return -np.inf if allowed == len(impostor) else float(np.partition(impostor, -1 - allowed)[-1 - allowed])


def _mate_ranks(similarities: np.ndarray, probe_labels: np.ndarray, gallery_labels: np.ndarray) -> list[np.ndarray]:
    """Ranks from 1 of all mates of each probe, rising; others that score as high stand before them."""
    if not np.all(np.isfinite(similarities)):
        raise ValueError(f"{np.sum(~np.isfinite(similarities))} similarities are not finite: check the embeddings")
    ranks = []
    for row, label in zip(similarities, probe_labels, strict=True):
        is_mate = (gallery_labels == label) & (label >= 0)
        mates, others = np.sort(row[is_mate])[::-1], np.sort(row[~is_mate])
        if not len(mates):
            raise ValueError(f"probe {len(ranks)} (label {label}) has no mate in the gallery: leave it out")
        ahead = len(others) - np.searchsorted(others, mates, side="left")
        ranks.append(np.arange(1, len(mates) + 1) + ahead)
    return ranks
