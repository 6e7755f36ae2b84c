"""CurricularFace: ArcFace whose hard negatives weigh less at first and more as training succeeds."""

import jax.numpy as jnp

from lrfr_jax.objective.heads import angles, checks
from lrfr_jax.objective.heads.arcface import widened
from lrfr_jax.objective.heads.head import Head, Number


def curricularface(*, scale: Number, margin: Number, rate: Number) -> Head:
    r"""ArcFace with the cosines of hard negatives scaled by how well the batch is told apart.

    .. math::
        t &\leftarrow r\,\mathrm{mean}(c_y) + (1 - r)\,t, \quad z_y = s \cos(\theta_y + m) \\
        z_j &= s\,c_j\,(t + c_j) \text{ where } c_j > \cos(\theta_y + m), \text{ else } s\,c_j

    z_y is s (c_y - m sin m) where c_y <= cos(pi - m); the bar for the others is cos(theta_y + m) even there. Neither t
    nor the comparison has a gradient. While t + c_j < 1 the logit of a hard negative is lowered, not raised: that is
    the method. t is one number for all views, from the mean over all of their features.

    Args:
      scale: s, above 0.
      margin: m, in radians.
      rate: r, the share of the new batch in t, above 0 and at most 1; t is 0 before the first step.

    Raises:
      ValueError: a number out of range.

    References:
      Huang et al. 2020, CurricularFace, arXiv 2004.00288; HuangYG123/CurricularFace, head/metrics.py.
    """
    checks.above_zero(scale=scale)
    checks.at_most_one(rate=rate)

    def own(cosines, norms, draws, state):
        return scale * widened(cosines, margin=margin, gradient="exact", guard="fallback")

    def others(cosines, bar, state):
        return jnp.where(cosines > bar, cosines * (state["t"] + cosines), cosines)

    def bound(highest, state):
        # c (t + c) is convex: over [-1, highest] it is largest at one of the ends.
        return jnp.maximum(jnp.maximum(highest, highest * (state["t"] + highest)), 1 - state["t"])

    return Head(
        scale=scale,
        own=own,
        others=others,
        bar=lambda cosines, norms, draws, state: angles.plus(cosines, margin),
        bound=bound,
        first_state={"t": 0.0},
        update=lambda state, cosines, norms: {"t": rate * jnp.mean(cosines) + (1 - rate) * state["t"]},
    )
