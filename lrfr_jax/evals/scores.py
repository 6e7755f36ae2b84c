"""What is compared of two faces: the cosine alone, or with the quality of the worse one (QMagFace); numpy only.

A quality is the length of a raw feature, which grows with the quality of a face where the training saw to it (MagFace).
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from lrfr_jax.errors import UserError


class Line(NamedTuple):
    """By how much a pair of quality 1 is worth less at a cosine c: beta c - alpha, where that is below 0."""

    alpha: float
    beta: float


def cosine(
    cosines: Float[np.ndarray, "*pairs"], qualities: Float[np.ndarray, "*pairs"], *, line: Line | None
) -> Float[np.ndarray, "*pairs"]:
    """The cosine itself, whatever the qualities."""
    return cosines


def qmag(
    cosines: Float[np.ndarray, "*pairs"], qualities: Float[np.ndarray, "*pairs"], *, line: Line | None
) -> Float[np.ndarray, "*pairs"]:
    r"""QMagFace: good faces that are not alike are told apart more surely than bad ones.

    .. math:: s = c + \min(0, \beta c - \alpha)\, q, \quad q = \min(|x_1|, |x_2|)

    It equals the cosine from c = alpha / beta on, and at q = 0. Not monotone in c over pairs of different quality.

    Args:
      cosines: of the pairs, in [-1, 1].
      qualities: of the worse face of each pair, >= 0.
      line: the constants, see `QMAG_LINES` and `fit_line`.

    Raises:
      ValueError: no line.

    References:
      Terhörst et al. 2023, QMagFace, arXiv 2111.13475, Eq. 4 and 5.
    """
    if line is None:
        raise ValueError("the score qmag needs its constants alpha and beta")
    return cosines + np.minimum(0, line.beta * cosines - line.alpha) * qualities


SCORES: dict[str, Callable[..., np.ndarray]] = {"cosine": cosine, "qmag": qmag}
# QMagFace's constants for MagFace's released networks (its experiments/robustness_analysis.py).
QMAG_LINES = {
    "iresnet18": Line(0.092861, 0.135311),
    "iresnet50": Line(0.065984, 0.103799),
    "iresnet100": Line(0.077428, 0.125926),
}
# Its thresholds of accuracies over folds: so many from the lowest to the highest score, of which the first best counts.
QMAG_THRESHOLDS, QMAG_TIES = 600, "loosest"


@dataclasses.dataclass(frozen=True)
class Score:
    """A row of `SCORES` with its constants; `str` of it names both, and only equal names can be compared."""

    name: str = "cosine"
    line: Line | None = None

    def of(
        self, cosines: Float[np.ndarray, "*pairs"], qualities: Float[np.ndarray, "*pairs"]
    ) -> Float[np.ndarray, "*pairs"]:
        """Scores pairs by their cosines and by the quality of the worse face of each."""
        return SCORES[self.name](cosines, qualities, line=self.line)

    @property
    def is_cosine(self) -> bool:
        return self.name == "cosine"

    def __str__(self) -> str:
        return self.name if self.line is None else f"{self.name}({self.line.alpha:g}, {self.line.beta:g})"


COSINE = Score()


def score_of(name: str, *, given: Line | None, fitted: Line | None, backbone: str) -> Score:
    """Returns a score with the constants that count: given ones, else the model's own fit, else its backbone's.

    Raises:
      UserError: constants for a score that has none, or none for one that needs them.
    """
    if name == "cosine":
        if given is not None:
            raise UserError("qmag constants do nothing with the score cosine: choose the score qmag, or leave them out")
        return COSINE
    line = given or fitted or QMAG_LINES.get(backbone)
    if line is None:
        raise UserError(
            f"the score qmag has no constants for {backbone} (only for MagFace's {', '.join(QMAG_LINES)}): fit them "
            "with `python -m lrfr_jax.evaluate --fit_qmag SET`, or give --qmag ALPHA,BETA"
        )
    return Score(name, line)


def worse(
    first: Float[np.ndarray, " first"], second: Float[np.ndarray, " second"]
) -> Float[np.ndarray, "first second"]:
    """The quality of every pair of two lists of faces: that of the worse one."""
    return np.minimum(first[:, None], second[None])


def pooled(
    features: Float[np.ndarray, "images dim"],
    qualities: Float[np.ndarray, " images"],
    groups: Int[np.ndarray, " images"],
) -> tuple[Float[np.ndarray, "groups dim"], Float[np.ndarray, " groups"]]:
    r"""QMagFace's form of a set of images: their sum weighted by quality, as long as the weighted mean quality.

    .. math:: Q = \frac{\sum_i q_i^2}{\sum_i q_i}, \quad t = Q\, \frac{\sum_i q_i x_i}{|\sum_i q_i x_i|}

    Args:
      features: x_i, raw, or those of media, which this function made.
      qualities: q_i; those of one image are the length of its feature.
      groups: of each image, from 0 without a gap.

    Returns:
      (t, Q) of every group.

    References:
      Terhörst et al. 2023, QMagFace; its IJB evaluation pools the images of a medium first, then the media.
    """
    count = int(groups.max(initial=-1)) + 1
    sums = np.zeros((count, features.shape[1]))
    np.add.at(sums, groups, qualities[:, None] * features.astype(np.float64))
    weights, squares = (np.bincount(groups, weights=qualities**power, minlength=count) for power in (1, 2))
    lengths = squares / np.where(weights > 0, weights, 1)
    norms = np.linalg.norm(sums, axis=1)
    return sums * (lengths / np.where(norms > 0, norms, 1))[:, None], lengths


# How the published constants were found: slopes tried, the largest change of a score by quality (of the best face), and
# how many false match rates, from 1e-5 to 1e-2.
SLOPES, SPAN, NUM_RATES = 20, 0.5, 50
AXES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "raw": lambda scores: scores,
    "released_sigmoid": lambda scores: 1 / (1 + np.exp(-scores)),
}


def fit_line(
    cosines: Float[np.ndarray, " pairs"],
    qualities: Float[np.ndarray, " pairs"],
    is_same: Bool[np.ndarray, " pairs"],
    *,
    rates: tuple[float, float],
    axis: str,
) -> Line:
    r"""Finds QMagFace's constants on pairs: how much a quality should count at which threshold.

    For each slope the scores are c + slope q. At each false match rate (fewer impostor pairs than that share score the
    threshold or more) the slope with the fewest lost genuine pairs is taken, and its threshold t, the lowest genuine
    score that matches. Then least squares:

    .. math:: slope \approx \beta\, t - \alpha

    Args:
      cosines, qualities: see `qmag`.
      is_same: whether a pair shows one identity.
      rates: the lowest and the highest false match rate, of `NUM_RATES` that are equally far apart in their logarithms.
      axis: of t, a key of `AXES`: 'raw' as the score is used, 'released_sigmoid' as the released code fits.

    Raises:
      UserError: too few pairs for the rates, or thresholds that are all the same.

    References:
      Terhörst et al. 2023, QMagFace, and its code, whose thresholds are `sigmoid(score)`.
    """
    check_fit(is_same, rates=rates)
    slopes = np.linspace(-1, 1, SLOPES) * SPAN / max(float(qualities.max()), np.finfo(np.float64).tiny)
    wanted = np.geomspace(*rates, NUM_RATES)
    per_slope = [_lost_and_threshold(cosines + slope * qualities, is_same, wanted) for slope in slopes]
    lost, thresholds = (np.stack(part) for part in zip(*per_slope, strict=True))  # [slopes, rates]
    best = np.argmin(lost, axis=0)
    chosen = AXES[axis](thresholds[best, np.arange(len(wanted))])
    kept = np.isfinite(thresholds[best, np.arange(len(wanted))])  # no genuine pair matches at the others
    if len(np.unique(chosen[kept])) < 2:
        raise UserError(
            "these pairs show no line, as the threshold is the same at all false match rates: fit on more pairs, or on "
            "harder ones"
        )
    slope, intercept = np.polyfit(chosen[kept], slopes[best][kept], 1)
    return Line(alpha=float(-intercept), beta=float(slope))


def check_fit(is_same: Bool[np.ndarray, " pairs"], *, rates: tuple[float, float]) -> None:
    """Raises `UserError` where `fit_line` would for want of pairs: it needs no features, so it can come before them."""
    if not 0 < rates[0] < rates[1] < 1:
        raise UserError(f"the rates {rates[0]:g},{rates[1]:g} of the fit must rise and lie between 0 and 1")
    impostors, genuine = int(np.sum(~is_same)), int(np.sum(is_same))
    if not genuine or impostors * rates[0] < 1:
        least = int(np.ceil(1 / rates[0]))
        raise UserError(
            f"{genuine:,} genuine and {impostors:,} impostor pairs are too few to fit qmag at false match rates from "
            f"{rates[0]:g} on, which take {least:,} impostor pairs: name a larger set, or higher rates"
        )


def _lost_and_threshold(
    scores: Float[np.ndarray, " pairs"], is_same: Bool[np.ndarray, " pairs"], rates: Float[np.ndarray, " rates"]
) -> tuple[Float[np.ndarray, " rates"], Float[np.ndarray, " rates"]]:
    """Shares of genuine pairs that are lost at false match rates, and the thresholds, infinite where all are."""
    genuine, impostors = np.sort(scores[is_same]), np.sort(scores[~is_same])[::-1]
    # Strictly fewer than the rate: of n, the largest k with k / n < rate may match.
    matching = np.searchsorted(np.arange(len(impostors) + 1) / len(impostors), rates, side="left") - 1
    lost = np.searchsorted(genuine, impostors[matching], side="right")
    return lost / len(genuine), np.append(genuine, np.inf)[lost]
