"""From the images of a template to the one vector, and its quality, that are compared."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from lrfr_jax.data.protocol_arrays import TemplateProtocol
from lrfr_jax.errors import UserError
from lrfr_jax.evals import centering, scores
from lrfr_jax.evals.fusion import FUSIONS, unit
from lrfr_jax.evals.scores import Score

# The vectors that these fusions bring to unit length; the others add unit vectors, whose length says nothing.
_RAW = {
    "none": lambda features: features[:, 0].astype(np.float64),
    "sum": lambda features: features.sum(axis=1, dtype=np.float64),
    "norm_weighted": lambda features: features.sum(axis=1, dtype=np.float64),
}
WEIGHTS = ("norm", "unit")
# Images at a time.
_CHUNK = 8192


class Pooled(NamedTuple):
    """The vectors of templates, of unit length, and their qualities, which scores other than the cosine take."""

    vectors: Float[np.ndarray, "templates fused"]
    qualities: Float[np.ndarray, " templates"]


def pool(
    features: Float[np.ndarray, "images views dim"],
    protocol: TemplateProtocol,
    *,
    fusion: str,
    weights: str,
    use_faceness: bool,
    score: Score,
    mean: Float[np.ndarray, " fused"] | None,
) -> Pooled:
    r"""Sums over the media of a template the mean over the images of a medium, then unit length.

    .. math:: t = \frac{s}{||s||}, \quad s = \sum_{media} \frac{1}{|medium|} \sum_{i \in medium} w_i f_i

    The score qmag has a form of its own instead, see `scores.pooled`: within each medium, then over the media.

    Args:
      fusion: a row of `fusion.FUSIONS`, which gives f_i.
      weights: 'norm' keeps the length that f_i has before it is brought to unit length, as faces that are hard to
        recognize have short ones; 'unit' does not.
      use_faceness: whether w_i is the detector's score of the image, else it is 1.
      score: of two templates.
      mean: embedding that is taken away from each f_i; None for no centering.

    Raises:
      UserError: unknown weights, or lengths asked of a fusion that has none; a faceness that is no score.

    References:
      InsightFace, recognition/_evaluation_/ijb (its test modes N1 and N0, D1 and D0).
    """
    check(protocol, fusion=fusion, weights=weights, use_faceness=use_faceness, score=score)
    templates = protocol.templates
    _, medium, counts = np.unique(
        np.stack([templates, protocol.media], axis=1), axis=0, return_inverse=True, return_counts=True
    )
    if not score.is_cosine:
        return _by_quality(features, templates, medium, fusion, mean)
    fuse = _RAW[fusion] if weights == "norm" else FUSIONS[fusion]
    factors = (protocol.faceness if use_faceness else 1.0) / counts[medium]
    order = np.argsort(templates, kind="stable")
    sums = None
    for rows in (order[i : i + _CHUNK] for i in range(0, len(order), _CHUNK)):
        numbers, starts = np.unique(templates[rows], return_index=True)
        fused = fuse(features[rows])
        fused = fused if mean is None else centering.center(fused, mean)
        added = np.add.reduceat(fused * factors[rows, None], starts, axis=0)
        sums = np.zeros((templates.max() + 1, added.shape[1])) if sums is None else sums
        sums[numbers] += added
    return Pooled(unit(sums).astype(np.float32), np.linalg.norm(sums, axis=1))


def check(protocol: TemplateProtocol, *, fusion: str, weights: str, use_faceness: bool, score: Score) -> None:
    """Raises UserError where `pool` would: it needs no features, so it can come before them."""
    if weights not in WEIGHTS or (weights == "norm" and fusion not in _RAW):
        raise UserError(
            f"weights={weights!r} does not go with fusion={fusion!r}: choose 'unit', or 'norm' with {', '.join(_RAW)}"
        )
    if not score.is_cosine and (use_faceness or weights != "norm"):
        raise UserError(
            f"the score {score.name} weighs images by their quality alone: set use_faceness=False and weights='norm'"
        )
    if use_faceness and not np.all(np.isfinite(protocol.faceness) & (protocol.faceness >= 0)):
        raise UserError("a faceness is negative or not finite: prepare the set again or set use_faceness=False")


def _by_quality(
    features: Float[np.ndarray, "images views dim"],
    templates: np.ndarray,
    medium: np.ndarray,
    fusion: str,
    mean: Float[np.ndarray, " fused"] | None,
) -> Pooled:
    qualities = np.linalg.norm(features[:, 0].astype(np.float64), axis=-1)
    fused = unit(FUSIONS[fusion](features))
    fused = fused if mean is None else centering.center(fused, mean)
    of_media, lengths = scores.pooled(fused * qualities[:, None], qualities, medium)
    template_of = np.zeros(len(lengths), np.int64)
    template_of[medium] = templates
    vectors, lengths = scores.pooled(of_media, lengths, template_of)
    return Pooled(unit(vectors).astype(np.float32), lengths)
