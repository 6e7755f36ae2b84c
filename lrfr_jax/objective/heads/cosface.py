"""CosFace: the own cosine, lowered by a fixed margin."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from lrfr_jax.objective.heads import checks
from lrfr_jax.objective.heads.head import Head, Number

# 'easy': no margin where the own cosine is not above 0.
GUARDS = ("none", "easy")


def lowered(
    cosines: Float[Array, "*shape"], margin: Number | Float[Array, "*shape"], *, guard: str
) -> Float[Array, "*shape"]:
    """The cosines minus the margin, one number or one for each; with guard 'easy' only where they are above 0."""
    return jnp.where(cosines > 0, cosines - margin, cosines) if guard == "easy" else cosines - margin


def cosface(*, scale: Number, margin: Number) -> Head:
    r"""The scaled cosine, lowered by a fixed margin.

    .. math:: z_y = s\,(c_y - m), \quad z_j = s\,c_j

    Args:
      scale: s, above 0.
      margin: m, in units of the cosine.

    Raises:
      ValueError: a scale that is not above 0.

    References:
      Wang et al. 2018, CosFace, arXiv 1801.09414, Eq. 4.
    """
    checks.above_zero(scale=scale)
    return Head(scale=scale, own=lambda cosines, norms, draws, state: scale * lowered(cosines, margin, guard="none"))
