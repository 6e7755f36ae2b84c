"""ElasticFace: ArcFace and CosFace whose margin is drawn anew for each feature."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lrfr_jax.objective.heads import angles, checks
from lrfr_jax.objective.heads.cosface import lowered
from lrfr_jax.objective.heads.head import Head, Number

# Who gets which of the drawn margins, see `given_out`.
PLUS = ("none", "intended", "released")


def elastic_arcface(*, scale: Number, margin: Number, sigma: Number, plus: str) -> Head:
    r"""ArcFace with a margin that is drawn for each feature.

    .. math:: M \sim N(m, \sigma^2), \quad z_y = s \cos(\theta_y + M), \quad z_j = s\,c_j

    Neither clipped nor guarded beyond pi - M; the gradient is the exact one. With sigma = 0 it is ArcFace.

    Args:
      scale: s, above 0.
      margin: m, in radians.
      sigma: standard deviation of the margins, 0 or more.
      plus: which feature gets which margin, see `given_out`.

    Raises:
      ValueError: a number out of range, or an unknown `plus`.

    References:
      Boutros et al. 2022, ElasticFace, arXiv 2109.09416; fdbtrs/ElasticFace, utils/losses.py.
    """
    return _elastic(angles.plus, scale=scale, margin=margin, sigma=sigma, plus=plus)


def elastic_cosface(*, scale: Number, margin: Number, sigma: Number, plus: str) -> Head:
    r"""CosFace with a margin that is drawn for each feature.

    .. math:: M \sim N(m, \sigma^2), \quad z_y = s\,(c_y - M), \quad z_j = s\,c_j

    With sigma = 0 it is CosFace. Arguments and errors are those of `elastic_arcface`, m in units of the cosine.

    Raises:
      ValueError: a number out of range, or an unknown `plus`.

    References:
      Boutros et al. 2022, ElasticFace, arXiv 2109.09416; fdbtrs/ElasticFace, utils/losses.py.
    """
    return _elastic(
        lambda cosines, margins: lowered(cosines, margins, guard="none"),
        scale=scale,
        margin=margin,
        sigma=sigma,
        plus=plus,
    )


def given_out(margins: Float[Array, "*shape"], cosines: Float[Array, "*shape"], *, plus: str) -> Float[Array, "*shape"]:
    """Gives the drawn margins out to the features of a step, all views together.

    Args:
      margins: one drawn for each feature.
      cosines: of each feature to its own center.
      plus: 'none' (as drawn), 'intended' (the k-th largest cosine gets the k-th smallest margin) or 'released' (as the
        code of ElasticFace+ has it: feature i gets the margin whose place among the sorted is the number of the feature
        with the i-th largest cosine, which is the inverse of what was intended).
    """
    if plus == "none":
        return margins
    falling = jnp.argsort(jax.lax.stop_gradient(cosines).ravel(), descending=True)
    places = jnp.argsort(falling) if plus == "intended" else falling
    return jnp.sort(margins.ravel())[places].reshape(margins.shape)


def _elastic(target: Callable, *, scale: Number, margin: Number, sigma: Number, plus: str) -> Head:
    checks.above_zero(scale=scale)
    checks.at_least_zero(sigma=sigma)
    checks.one_of("plus", plus, PLUS)

    def own(cosines, norms, draws, state):
        return scale * target(cosines, given_out(draws, cosines, plus=plus))

    return Head(scale=scale, own=own, draw=lambda rng, shape: margin + sigma * jax.random.normal(rng, shape))
