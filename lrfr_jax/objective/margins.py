"""Margins: what becomes of the cosine to a feature's own class center, and the cross-entropy over all."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

Number = float | int

# Reached in float32 only where |cos| rounds to 1; there the sine is 1e-6 and its gradient 0 instead of infinite.
SQUARED_SINE_FLOOR = 1e-12


def _is_label(labels: Int[Array, " batch"], num_identities: int) -> Bool[Array, "batch identities"]:
    return labels[:, None] == jnp.arange(num_identities)[None, :]


def _at_label(values: Float[Array, "batch identities"], labels: Int[Array, " batch"]) -> Float[Array, " batch"]:
    # A masked sum, because a gather along a sharded class axis would collect the logits of all devices.
    # It would give 0 for a label that does not exist; NaN cannot be overlooked.
    exists = (labels >= 0) & (labels < values.shape[-1])
    picked = jnp.sum(jnp.where(_is_label(labels, values.shape[-1]), values, 0), axis=-1)
    return jnp.where(exists, picked, jnp.nan)


def softmax_target(cosine: Float[Array, "*shape"], *, scale: Number, margin: Number) -> Float[Array, "*shape"]:
    r"""The cosine times `scale`, without a margin (NormFace).

    .. math:: z_y = s \cos\theta_y

    Raises:
      ValueError: the margin is not 0.

    References:
      Wang et al. 2017, NormFace, arXiv 1704.06369.
    """
    if margin != 0:
        raise ValueError(f"margin={margin} has no meaning for softmax: set it to 0 or choose cosface or arcface")
    return scale * cosine


def cosface_target(cosine: Float[Array, "*shape"], *, scale: Number, margin: Number) -> Float[Array, "*shape"]:
    r"""The scaled cosine, lowered by a fixed margin.

    .. math:: z_y = s\,(\cos\theta_y - m)

    Args:
      cosine: of each feature to the center of its own identity, in [-1, 1].
      scale: s.
      margin: m, in units of the cosine.

    References:
      Wang et al. 2018, CosFace, arXiv 1801.09414, Eq. 4.
    """
    return scale * (cosine - margin)


def arcface_target(
    cosine: Float[Array, "*shape"], *, scale: Number, margin: Number, gradient: str
) -> Float[Array, "*shape"]:
    r"""The scaled cosine of the angle, widened by a fixed margin.

    .. math:: z_y = s \cos(\theta_y + m) = s\,(\cos\theta_y \cos m - \sin\theta_y \sin m)

    No guard beyond theta + m = pi, as in arcface_torch. The values do not depend on `gradient`, the training run does:
    'exact' gives dz_y/dcos = s (cos m + cot(theta) sin m), which grows near cos = 1 and is negative beyond pi - m;
    'straight_through' gives s everywhere, which is what arcface_torch and thus its published weights were trained with.

    Args:
      cosine: of each feature to the center of its own identity, in [-1, 1].
      scale: s.
      margin: m, in radians.
      gradient: 'exact' or 'straight_through'.

    Raises:
      ValueError: `gradient` is neither.

    References:
      Deng et al. 2019, ArcFace, arXiv 1801.07698, Eq. 3; deepinsight/insightface, arcface_torch, losses.py.
    """
    if gradient not in ("exact", "straight_through"):
        raise ValueError(f"gradient={gradient!r} is unknown: choose exact or straight_through")
    # (1 - c)(1 + c) keeps the digits that 1 - c^2 loses near |c| = 1.
    sine = jnp.sqrt(jnp.maximum((1 - cosine) * (1 + cosine), SQUARED_SINE_FLOOR))
    target = cosine * math.cos(margin) - sine * math.sin(margin)
    if gradient == "straight_through":
        target = cosine + jax.lax.stop_gradient(target - cosine)
    return scale * target


# What becomes of the cosine to the own identity; those to all others are multiplied by the scale.
MARGINS = {
    "softmax": softmax_target,
    "cosface": cosface_target,
    "arcface": functools.partial(arcface_target, gradient="exact"),
    "arcface_straight_through": functools.partial(arcface_target, gradient="straight_through"),
}


def _margin_logits(
    cosines: Float[Array, "batch identities"], labels: Int[Array, " batch"], target: Callable, *, scale: Number
) -> Float[Array, "batch identities"]:
    own = target(_at_label(cosines, labels), scale=scale)
    return jnp.where(_is_label(labels, cosines.shape[-1]), own[:, None], scale * cosines)


def cosface_logits(
    cosines: Float[Array, "batch identities"], labels: Int[Array, " batch"], *, scale: Number, margin: Number
) -> Float[Array, "batch identities"]:
    r"""Scaled cosines, the label's lowered by a fixed margin: `cosface_target` as a whole matrix.

    .. math:: z_j = s\,(\cos\theta_j - m\,[j = y])

    Args:
      cosines: of each feature to each class center, in [-1, 1].
      labels: the identity y of each feature.
      scale, margin: see `cosface_target`.

    References:
      Wang et al. 2018, CosFace, arXiv 1801.09414, Eq. 4.
    """
    return _margin_logits(cosines, labels, functools.partial(cosface_target, margin=margin), scale=scale)


def arcface_logits(
    cosines: Float[Array, "batch identities"],
    labels: Int[Array, " batch"],
    *,
    scale: Number,
    margin: Number,
    gradient: str,
) -> Float[Array, "batch identities"]:
    r"""Scaled cosines, the label's angle widened by a fixed margin: `arcface_target` as a whole matrix.

    .. math:: z_y = s \cos(\theta_y + m), \quad z_j = s \cos\theta_j

    Args:
      cosines: of each feature to each class center, in [-1, 1].
      labels: the identity y of each feature.
      scale, margin, gradient: see `arcface_target`.

    Raises:
      ValueError: `gradient` is neither 'exact' nor 'straight_through'.

    References:
      Deng et al. 2019, ArcFace, arXiv 1801.07698, Eq. 3.
    """
    target = functools.partial(arcface_target, margin=margin, gradient=gradient)
    return _margin_logits(cosines, labels, target, scale=scale)


def cross_entropy(logits: Float[Array, "batch identities"], labels: Int[Array, " batch"]) -> Float[Array, " batch"]:
    r"""The negative log-probability of each label; NaN where a label is not one of the identities.

    .. math:: -\log \mathrm{softmax}(z)_y
    """
    return -_at_label(jax.nn.log_softmax(logits), labels)
