"""Distances between two features of the same image, of the student's views or a teacher's."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from lrfr_jax.models.layers import at_least_float32
from lrfr_jax.objective import distances
from lrfr_jax.objective.heads import checks
from lrfr_jax.objective.terms.term import MANY, Number, Term

OVER = ("sum", "mean")


def distance(*, distance: str, p: Number, reduction: str) -> Term:
    """The distance of Eq. 7 between the features of two views: `distances.feature_distance`.

    Raises:
      ValueError: (from the value) an unknown name, or a combination that does not exist.

    References:
      Ling et al. 2022, arXiv 2302.05621, Eq. 7.
    """

    def value(features, labels, state):
        x, y = map(at_least_float32, features)
        return distances.feature_distance(x, y, distance=distance, p=p, reduction=reduction)

    return Term(value)


def mse() -> Term:
    r"""The mean squared difference over the batch and all dimensions, of raw features or of maps of equal shape.

    .. math:: \tfrac1{BD} \textstyle\sum_{b,i} (x_{bi} - y_{bi})^2

    Raises:
      ValueError: (from the value) two shapes.

    References:
      Massoli et al. 2020, arXiv 1912.02851; FitNets, arXiv 1412.6550, for maps.
    """

    def value(features, labels, state):
        x, y = map(at_least_float32, features)
        _same_shape(x, y)
        return jnp.mean((x - y) ** 2)

    return Term(value)


def squared_distance() -> Term:
    r"""The squared Euclidean distance of raw features, as a mean over the batch.

    .. math:: \tfrac1B \textstyle\sum_b \|x_b - y_b\|^2

    References:
      Zha and Chao 2019, TCN: the transfer from the high-resolution network, read so in lack of its text.
    """

    def value(features, labels, state):
        x, y = map(at_least_float32, features)
        _same_shape(x, y)
        return jnp.mean(jnp.sum((x - y) ** 2, axis=-1))

    return Term(value)


def cosine(*, over: str) -> Term:
    r"""One minus the cosine of two features or maps, each of an image as one long vector.

    .. math:: \sum_k \tfrac1B \textstyle\sum_b (1 - \cos(x_b^k, y_b^k)) \quad\text{or its mean over } k

    The features alternate: the first against the second, the third against the fourth. One that is a tuple of maps
    (the tap `attention`) counts as so many features. Whoever has a teacher hands its features as constants.

    Args:
      over: what becomes of the pairs k: 'sum' (A-SKD: 24 blocks with two maps each) or 'mean' (F-SKD: four stages).

    Raises:
      ValueError: an unknown `over`; (from the value) two shapes, or two numbers of maps.

    References:
      Shin et al. 2022, A-SKD, arXiv 2209.14498; Shin et al. 2023, F-SKD.
    """
    checks.one_of("over", over, OVER)

    def value(features, labels, state):
        pairs = [pair for x, y in zip(features[::2], features[1::2], strict=True) for pair in _maps(x, y)]
        total = sum(jnp.mean(distances.cosine_distance(flat(x), flat(y))) for x, y in pairs)
        return total if over == "sum" else total / len(pairs)

    return Term(value, num_features=(2, MANY), by=2)


def flat(x: Float[Array, "batch *rest"]) -> Float[Array, "batch dim"]:
    """Each image's numbers as one vector, in float32 or more."""
    return at_least_float32(x).reshape(len(x), -1)


def _maps(x, y):
    x, y = (side if isinstance(side, tuple) else (side,) for side in (x, y))
    if len(x) != len(y):
        raise ValueError(f"one side has {len(x)} maps and the other {len(y)}: they are compared one by one")
    for pair in zip(x, y, strict=True):
        _same_shape(*pair)
    return list(zip(x, y, strict=True))


def _same_shape(x, y):
    if x.shape != y.shape:
        raise ValueError(f"features of the shapes {list(x.shape[1:])} and {list(y.shape[1:])} have no distance")
