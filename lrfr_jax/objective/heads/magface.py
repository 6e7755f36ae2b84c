"""MagFace: a margin that grows with the feature's length, and a price on short features."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from lrfr_jax.objective.heads import angles, checks
from lrfr_jax.objective.heads.cosface import lowered
from lrfr_jax.objective.heads.head import Head, Number


def magface(
    *,
    scale: Number,
    smallest_norm: Number,
    largest_norm: Number,
    smallest_margin: Number,
    largest_margin: Number,
    norm_weight: Number,
    guard: str,
) -> Head:
    r"""ArcFace with a margin by the feature's length a, and a term that pays for length.

    .. math::
        a' &= \mathrm{clip}(a, l_a, u_a), \quad m(a') = l_m + \frac{u_m - l_m}{u_a - l_a} (a' - l_a) \\
        z_y &= s \cos(\theta_y + m(a')), \quad z_j = s\,c_j, \quad
        L = \mathrm{CE} + \lambda_g \Bigl(\frac{a'}{u_a^2} + \frac1{a'}\Bigr)

    Nothing is detached: the gradient flows through a' into both terms. The clip has none outside [l_a, u_a], so a
    feature shorter than l_a is never pulled up. With l_m = u_m and lambda_g = 0 this is ArcFace with the same guard.

    Args:
      scale: s, above 0.
      smallest_norm, largest_norm: l_a and u_a, 0 < l_a < u_a. For a trained model: just outside of its lengths.
      smallest_margin, largest_margin: l_m and u_m, in radians, l_m <= u_m.
      norm_weight: lambda_g, at least the bound of `norm_weight_bound`.
      guard: 'easy' (as published: c_y where c_y <= 0), 'fallback' or 'none', see `arcface`.

    Raises:
      ValueError: a number out of range, or an unknown `guard`.

    References:
      Meng et al. 2021, MagFace, arXiv 2103.06627; IrvingMeng/MagFace, models/magface.py.
    """
    checks.one_of("guard", guard, angles.GUARDS)

    def target(cosines, margins):
        return angles.guarded(angles.plus(cosines, margins), cosines, margins, guard=guard)

    return _by_norm(
        target,
        scale=scale,
        norms=(smallest_norm, largest_norm),
        margins=(smallest_margin, largest_margin),
        norm_weight=norm_weight,
    )


def mag_cosface(
    *,
    scale: Number,
    smallest_norm: Number,
    largest_norm: Number,
    smallest_margin: Number,
    largest_margin: Number,
    norm_weight: Number,
) -> Head:
    r"""CosFace with a margin by the feature's length, and MagFace's term that pays for length.

    .. math:: z_y = s\,(c_y - m(a')), \quad z_j = s\,c_j, \quad
        L = \mathrm{CE} + \lambda_g \Bigl(\frac{a'}{u_a^2} + \frac1{a'}\Bigr)

    No easy margin. m(a') is that of `magface`, in units of the cosine; so are the arguments and what they must be.

    Raises:
      ValueError: a number out of range.

    References:
      IrvingMeng/MagFace, run/run_dist_cos.sh.
    """
    return _by_norm(
        lambda cosines, margins: lowered(cosines, margins, guard="none"),
        scale=scale,
        norms=(smallest_norm, largest_norm),
        margins=(smallest_margin, largest_margin),
        norm_weight=norm_weight,
    )


def norm_weight_bound(*, scale: Number, norms: tuple[Number, Number], margins: tuple[Number, Number]) -> float:
    r"""The smallest lambda_g for which the best length of a feature is unique and grows with its cosine.

    .. math:: \lambda_g \ge s\,K \frac{u_a^2 l_a^2}{u_a^2 - l_a^2}, \quad K = \frac{u_m - l_m}{u_a - l_a}

    References:
      Meng et al. 2021, MagFace, arXiv 2103.06627; IrvingMeng/MagFace.
    """
    lower, upper = norms
    slope = (margins[1] - margins[0]) / (upper - lower)
    return scale * slope * upper**2 * lower**2 / (upper**2 - lower**2)


def _by_norm(
    target: Callable,
    *,
    scale: Number,
    norms: tuple[Number, Number],
    margins: tuple[Number, Number],
    norm_weight: Number,
) -> Head:
    (lower, upper), (small, large) = norms, margins
    checks.above_zero(scale=scale, smallest_norm=lower)
    checks.at_least_zero(norm_weight=norm_weight)
    if not lower < upper:
        raise ValueError(f"smallest_norm={lower} (l_a) must be below largest_norm={upper} (u_a)")
    if not small <= large:
        raise ValueError(f"smallest_margin={small} (l_m) must not be above largest_margin={large} (u_m)")
    bound = norm_weight_bound(scale=scale, norms=norms, margins=margins)
    if norm_weight < bound:
        raise ValueError(
            f"norm_weight={norm_weight} (lambda_g) must be at least {bound:.6g}, "
            "or features have no best length at this scale, these norms and these margins"
        )
    slope = (large - small) / (upper - lower)

    def own(cosines, norms, draws, state):
        return scale * target(cosines, small + slope * (jnp.clip(norms, lower, upper) - lower))

    def norm_term(norms: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        clipped = jnp.clip(norms, lower, upper)
        return norm_weight * (clipped / upper**2 + 1 / clipped)

    return Head(scale=scale, own=own, norm_term=norm_term)
