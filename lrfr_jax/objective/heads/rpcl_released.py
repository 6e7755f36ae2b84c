"""RPCL for CosFace and ArcFace as its code has it, faults included, to reproduce what was published."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from lrfr_jax.objective.heads import angles, checks
from lrfr_jax.objective.heads.cosface import lowered
from lrfr_jax.objective.heads.head import Head, Number


def rpcl_cosface_released(
    *, scale: Number, margin: Number, rival_factor: Number, rival_threshold: Number, probability_gap: Number
) -> Head:
    r"""CosFace with RPCL's rule for the rival as released.

    .. math:: z_y = s\,(c_y - m) \text{ where } c_y > 0, \text{ else } s\,c_y; \quad
        z_r = s f (c_r + m) \text{ where } c_r > \tau; \quad z_j = s\,c_j

    With f = 0.2 the rival's logit becomes the smallest of all: a feature that lies nearest to its rival is forgiven,
    the opposite of what the text says. Which center counts as the rival, see `picked`: with thousands of identities
    the rule never meets a feature whose own center is the nearest.

    Args:
      scale: s, above 0.
      margin: m, in units of the cosine.
      rival_factor: f.
      rival_threshold: tau, a cosine.
      probability_gap: see `picked`, 0 or more.

    Raises:
      ValueError: a number out of range.

    References:
      CMACH508/RPCL_LowResolutionFaceRecognition, RPCL/fc_layer_RPCL.py.
    """

    def rewritten(own, rival):
        raised = jnp.where(rival > rival_threshold, rival_factor * (rival + margin), rival)
        return lowered(own, margin, guard="easy"), raised

    return _released(rewritten, scale=scale, probability_gap=probability_gap)


def rpcl_arcface_released(
    *, scale: Number, margin: Number, rival_factor: Number, rival_threshold: Number, probability_gap: Number
) -> Head:
    r"""ArcFace with RPCL's rule for the rival as released.

    .. math:: z_y = s \cos(\theta_y + m) \text{ where } c_y > 0, \text{ else } s\,c_y; \quad
        z_r = s f \cos(\theta_r - m) \text{ where } c_r > \tau, \text{ else } s\,c_y; \quad z_j = s\,c_j

    Beside the faults of `rpcl_cosface_released`: below tau the picked center gets the own cosine as its logit, a
    negative that no feature can leave behind.

    Args:
      scale: s, above 0.
      margin: m, in radians.
      rival_factor: f.
      rival_threshold: tau, a cosine.
      probability_gap: see `picked`, 0 or more.

    Raises:
      ValueError: a number out of range.

    References:
      CMACH508/RPCL_LowResolutionFaceRecognition, RPCL/fc_layer_RPCL.py.
    """

    def rewritten(own, rival):
        raised = jnp.where(rival > rival_threshold, rival_factor * angles.plus(rival, -margin), own)
        return angles.guarded(angles.plus(own, margin), own, margin, guard="easy"), raised

    return _released(rewritten, scale=scale, probability_gap=probability_gap)


def picked(cosines, labels, *, probability_gap: Number):
    r"""The number of the center that the released code takes for the rival.

    With p the softmax of the unscaled cosines: the center with the highest p, if it is not the own one; else the one
    with the highest p among those with p < max p - gap, and center 0 where there are none. Of N identities the gap
    excludes all cosines within log(1 / (1 - gap / max p)) of the own one, which for N = 10,575 and a gap of 1e-4 is
    about 0.5, and all of them where the own cosine is below 0.056.

    Args:
      cosines: [..., identities].
      labels: [...].
      probability_gap: the gap.
    """
    probabilities = jax.nn.softmax(jax.lax.stop_gradient(cosines), axis=-1)
    nearest = jnp.argmax(probabilities, axis=-1)
    far = probabilities < jnp.max(probabilities, axis=-1, keepdims=True) - probability_gap
    second = jnp.argmax(jnp.where(far, probabilities, 0), axis=-1)
    return jnp.where(nearest == labels, second, nearest)


def _released(rewritten: Callable, *, scale: Number, probability_gap: Number) -> Head:
    checks.above_zero(scale=scale)
    checks.at_least_zero(probability_gap=probability_gap)

    def logits(cosines, labels):
        identities = cosines.shape[-1]
        rivals = picked(cosines, labels, probability_gap=probability_gap)
        own_row, rival_row = (jax.nn.one_hot(which, identities, dtype=bool) for which in (labels, rivals))
        own, rival = (jnp.sum(jnp.where(row, cosines, 0), axis=-1) for row in (own_row, rival_row))
        own, rival = rewritten(own, rival)
        # Center 0 may be picked where it is the own one: then the own logit stands.
        with_rival = jnp.where(rival_row, rival[..., None], cosines)
        return scale * jnp.where(own_row, own[..., None], with_rival)

    return Head(
        scale=scale,
        own=lambda cosines, norms, draws, state: scale * rewritten(cosines, cosines)[0],
        logits_of_all=logits,
    )
