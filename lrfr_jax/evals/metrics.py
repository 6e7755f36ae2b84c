"""Verification metrics from scores (numpy only). A score is any number that is higher for more similar pairs."""

import dataclasses
import statistics

import numpy as np
from jaxtyping import Bool, Float, Int

# Among thresholds that are equally good on the training folds: the highest score or the lowest one.
TIES = ("strictest", "loosest")


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
    if not 0 <= far <= 1:
        raise ValueError(f"far={far} is no rate: it must lie in [0, 1]")
    # How many impostors may pass: the same division as in a measured rate, so that k / n == far is allowed.
    allowed = np.searchsorted(np.arange(len(impostor) + 1) / len(impostor), far, side="right") - 1
    if allowed == len(impostor):
        return 1.0
    return float(np.mean(genuine > np.sort(impostor)[::-1][allowed]))


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
