"""ArcFace: the own angle, widened by a fixed margin."""

from jaxtyping import Array, Float

from lrfr_jax.objective.heads import angles, checks
from lrfr_jax.objective.heads.head import Head, Number


def widened(cosines: Float[Array, "*shape"], *, margin: Number, gradient: str, guard: str) -> Float[Array, "*shape"]:
    """The cosine of the angle widened by the margin, see `arcface`."""
    values = angles.guarded(angles.plus(cosines, margin), cosines, margin, guard=guard)
    return angles.straight_through(values, cosines) if gradient == "straight_through" else values


def arcface(*, scale: Number, margin: Number, gradient: str, guard: str) -> Head:
    r"""The scaled cosine of the angle, widened by a fixed margin.

    .. math:: z_y = s \cos(\theta_y + m) = s\,(c_y \cos m - \sin\theta_y \sin m), \quad z_j = s\,c_j

    The values do not depend on `gradient`, the training run does: 'exact' gives dz_y/dc = s (cos m + cot(theta) sin m),
    which grows near c = 1 and is negative beyond pi - m; 'straight_through' gives s everywhere, which is what
    arcface_torch and thus its published weights were trained with.

    Args:
      scale: s, above 0.
      margin: m, in radians.
      gradient: 'exact' or 'straight_through'.
      guard: what stands in for the margin where theta + m may exceed pi: 'none' (as in arcface_torch), 'easy' (c_y
        where c_y <= 0) or 'fallback' (c_y - m sin m where c_y <= cos(pi - m)).

    Raises:
      ValueError: a scale that is not above 0, an unknown `gradient` or `guard`.

    References:
      Deng et al. 2019, ArcFace, arXiv 1801.07698, Eq. 3; deepinsight/insightface, arcface_torch, losses.py.
    """
    checks.above_zero(scale=scale)
    checks.one_of("gradient", gradient, angles.GRADIENTS)
    checks.one_of("guard", guard, angles.GUARDS)

    def own(cosines, norms, draws, state):
        return scale * widened(cosines, margin=margin, gradient=gradient, guard=guard)

    return Head(scale=scale, own=own)
