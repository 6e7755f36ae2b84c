"""Distances between the embeddings of two views: what pulls them together.

Everything is meant for float32: bfloat16 embeddings put the gradient of LogExp off by several percent.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Number = float | int

# Features shorter than 1e-6 are left short: their direction is noise, and 1 / norm would have no gradient at 0.
SQUARED_NORM_FLOOR = 1e-12


def unit_length(features: Float[Array, "batch dim"]) -> Float[Array, "batch dim"]:
    r"""Scales each feature to length 1; the zero feature stays zero, with a finite gradient.

    .. math:: \hat f = f / \sqrt{\max(\textstyle\sum_i f_i^2, \epsilon)}
    """
    squared_norm = jnp.sum(features**2, axis=-1, keepdims=True)
    return features * jax.lax.rsqrt(jnp.maximum(squared_norm, SQUARED_NORM_FLOOR))


def _absolute(difference: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    # jax.grad(abs) is 1 at 0: two equal embeddings would be pushed apart.
    return difference * jax.lax.stop_gradient(jnp.sign(difference))


def l1_distance(x: Float[Array, "batch dim"], y: Float[Array, "batch dim"]) -> Float[Array, " batch"]:
    r"""The mean absolute difference of each pair; gradient 0 where the two are equal.

    .. math:: \tfrac1D \textstyle\sum_i |x_i - y_i|

    References:
      Ling et al. 2022, arXiv 2302.05621, Eq. 1.
    """
    return jnp.mean(_absolute(x - y), axis=-1)


def l2_distance(x: Float[Array, "batch dim"], y: Float[Array, "batch dim"]) -> Float[Array, " batch"]:
    r"""Half the mean squared difference of each pair.

    .. math:: \tfrac1{2D} \textstyle\sum_i (x_i - y_i)^2

    References:
      Ling et al. 2022, arXiv 2302.05621, Eq. 2.
    """
    return jnp.mean((x - y) ** 2, axis=-1) / 2


def smooth_l1_distance(x: Float[Array, "batch dim"], y: Float[Array, "batch dim"]) -> Float[Array, " batch"]:
    r"""Quadratic for differences below 1, linear above; the gradient per dimension is min(\|d\|, 1) / D.

    .. math:: \tfrac1D \textstyle\sum_i h(x_i - y_i), \quad h(d) = d^2/2 \text{ if } |d| < 1, \text{ else } |d| - 1/2

    References:
      Girshick 2015, Fast R-CNN, arXiv 1504.08083, Eq. 3; plotted in Fig. 4 of Ling et al. 2022.
    """
    absolute = _absolute(x - y)
    return jnp.mean(jnp.where(absolute < 1, absolute**2 / 2, absolute - 1 / 2), axis=-1)


def _powers(x: Float[Array, "batch dim"], y: Float[Array, "batch dim"], *, p: Number) -> Float[Array, "batch dim"]:
    if p < 1:
        raise ValueError(f"p={p} is below 1, where the gradient of |d|^p has no bound: set p to 1 or more")
    return _absolute(x - y) ** p


def logexp_distance(x: Float[Array, "batch dim"], y: Float[Array, "batch dim"], *, p: Number) -> Float[Array, " batch"]:
    r"""The paper's distance of each pair: LogExp.

    .. math:: \tfrac1{pD} \log\bigl(1 + \textstyle\sum_i (e^{|x_i - y_i|^p} - 1)\bigr)

    The gradient grows with the difference of its own dimension (as L2's) and, unlike L2's, with the pair's closeness.
    It is 0 where the two are equal. With a_i = \|x_i - y_i\|^p: max a <= pD LogExp <= sum a, with equality at D = 1.

    Args:
      x, y: embeddings of the two views, of unit length; e^a overflows float32 at a = 89, which they cannot reach.
      p: the exponent, 1 or more.

    Raises:
      ValueError: p < 1.

    References:
      Ling et al. 2022, arXiv 2302.05621, Eq. 3 and 5.
    """
    # log1p and expm1, because 1 + sum(e^a - 1) loses all digits for pairs that are nearly equal.
    total = jnp.sum(jnp.expm1(_powers(x, y, p=p)), axis=-1)
    return jnp.log1p(total) / (p * x.shape[-1])


def logexp_distance_released(
    x: Float[Array, "batch dim"], y: Float[Array, "batch dim"], *, p: Number
) -> Float[Array, ""]:
    r"""LogExp as the released code has it: one logarithm for all pairs, divided by their number and not by D.

    .. math:: \tfrac1{pB} \log\bigl(1 + \textstyle\sum_{b,i} (e^{|x_{bi} - y_{bi}|^p} - 1)\bigr)

    The pairs share the logarithm, so the value depends on the batch size, and weights tuned for one form do not carry
    over to the other.

    Raises:
      ValueError: p < 1.

    References:
      hurricanelx/LRFR, src/metrics.py, ExpDist.
    """
    return jnp.log1p(jnp.sum(jnp.expm1(_powers(x, y, p=p)))) / (p * x.shape[0])


DISTANCES = {
    "l1": l1_distance,
    "l2": l2_distance,
    "smooth_l1": smooth_l1_distance,
    "logexp": logexp_distance,
}
# The exponent that a distance has by its definition; LogExp takes any.
FIXED_P = {"l1": 1, "l2": 2, "smooth_l1": 1}
REDUCTIONS = ("paper", "released")


def pair_distance(
    x: Float[Array, "batch dim"], y: Float[Array, "batch dim"], *, distance: str, p: Number, reduction: str
) -> Float[Array, ""]:
    """The distance between the two views, as one value for the batch.

    Args:
      x, y: embeddings of the two views, of unit length.
      distance: a key of `DISTANCES`.
      p: exponent; must be the distance's own one for all but logexp, which takes any p >= 1.
      reduction: 'paper' (mean over the pairs) or 'released' (`logexp_distance_released`, logexp only).

    Raises:
      ValueError: an unknown name, or a combination that does not exist.
    """
    if distance not in DISTANCES:
        raise ValueError(f"distance={distance!r} is unknown: choose one of {', '.join(DISTANCES)}")
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction={reduction!r} is unknown: choose one of {', '.join(REDUCTIONS)}")
    if p != FIXED_P.get(distance, p):
        raise ValueError(f"p={p} does not fit distance={distance!r}: set p to {FIXED_P[distance]} or choose logexp")
    if reduction == "released" and distance != "logexp":
        raise ValueError(f"reduction='released' exists for logexp only: set it to 'paper' for distance={distance!r}")
    if reduction == "released":
        return logexp_distance_released(x, y, p=p)
    exponent = {} if distance in FIXED_P else {"p": p}
    return jnp.mean(DISTANCES[distance](x, y, **exponent))
