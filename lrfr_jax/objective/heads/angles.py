"""Cosines of angles that are wider or narrower by a margin, without ever taking an arc cosine."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lrfr_jax.objective.heads.head import Number

# Reached in float32 only where |cos| rounds to 1; there the sine is 1e-6 and its gradient 0 instead of infinite.
SQUARED_SINE_FLOOR = 1e-12
# How a target is found ('exact': by differentiating it; 'straight_through': by passing on the cosine's gradient).
GRADIENTS = ("exact", "straight_through")
# What stands in for the margin where theta + m would exceed pi, see `guarded`.
GUARDS = ("none", "easy", "fallback")


def plus(cosines: Float[Array, "*shape"], angle: Number | Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    r"""The cosine of the angle widened by `angle` radians, one number or one for each cosine.

    .. math:: \cos(\theta + m) = \cos\theta \cos m - \sin\theta \sin m

    The slope is cos m + cot(theta) sin m, which grows near a cosine of 1; the floor of the sine keeps it finite there.
    """
    # (1 - c)(1 + c) keeps the digits that 1 - c^2 loses near |c| = 1.
    sine = jnp.sqrt(jnp.maximum((1 - cosines) * (1 + cosines), SQUARED_SINE_FLOOR))
    return cosines * _cos(angle) - sine * _sin(angle)


def guarded(
    target: Float[Array, "*shape"],
    cosines: Float[Array, "*shape"],
    margin: Number | Float[Array, "*shape"],
    *,
    guard: str,
) -> Float[Array, "*shape"]:
    r"""The margined cosine, replaced where theta + m may exceed pi, beyond which it would rise again.

    .. math::
        \text{easy}:&\ c_y \text{ where } c_y \le 0 \\
        \text{fallback}:&\ c_y - m \sin m \text{ where } c_y \le \cos(\pi - m)

    Args:
      target: cos(theta + m).
      cosines: c_y.
      margin: m, in radians, one number or one for each cosine.
      guard: 'none', 'easy' or 'fallback'.

    References:
      Deng et al. 2019, ArcFace, arXiv 1801.07698; deepinsight/insightface, `easy_margin`.
    """
    if guard == "easy":
        return jnp.where(cosines > 0, target, cosines)
    if guard == "fallback":
        return jnp.where(cosines > -_cos(margin), target, cosines - margin * _sin(margin))
    return target


def straight_through(values: Float[Array, "*shape"], cosines: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The values, with the gradient of the cosines."""
    return cosines + jax.lax.stop_gradient(values - cosines)


def _cos(angle):
    return math.cos(angle) if isinstance(angle, Number) else jnp.cos(angle)


def _sin(angle):
    return math.sin(angle) if isinstance(angle, Number) else jnp.sin(angle)
