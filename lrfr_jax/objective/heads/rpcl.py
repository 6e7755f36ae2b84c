"""RPCL: CosFace, ArcFace and MagFace that also push away the rival, the nearest of the other centers."""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp

from lrfr_jax.objective.heads import angles, checks
from lrfr_jax.objective.heads.arcface import arcface
from lrfr_jax.objective.heads.cosface import GUARDS, cosface, lowered
from lrfr_jax.objective.heads.head import Head, Number
from lrfr_jax.objective.heads.magface import magface


def rpcl_cosface(*, scale: Number, margin: Number, guard: str, rival_share: Number, rival_threshold: Number) -> Head:
    r"""CosFace with the rival's cosine raised where it is high.

    .. math:: z_y = s\,(c_y - m), \quad z_r = s\,(c_r + f m) \text{ where } c_r > \tau, \quad z_j = s\,c_j

    The rival r is the other center with the highest cosine; the choice has no gradient. The rule is that of RPCL's
    MagFace, carried over: its own code for CosFace does something else, see `rpcl_cosface_released`.

    Args:
      scale: s, above 0.
      margin: m, in units of the cosine.
      guard: 'easy' (as its code has it: z_y = s c_y where c_y <= 0) or 'none'.
      rival_share: f, the rival's margin as a share of the own one, 0 or more.
      rival_threshold: tau, a cosine.

    Raises:
      ValueError: a number out of range, or an unknown `guard`.

    References:
      Li, Tu, Xu 2022, RPCL; CMACH508/RPCL_LowResolutionFaceRecognition, magface_lr/magface.py.
    """
    checks.one_of("guard", guard, GUARDS)

    def own(cosines, norms, draws, state):
        return scale * lowered(cosines, margin, guard=guard)

    head = dataclasses.replace(cosface(scale=scale, margin=margin), own=own)
    return _with_rival(head, lambda cosines, angle: cosines + angle, margin, rival_share, rival_threshold)


def rpcl_arcface(
    *, scale: Number, margin: Number, gradient: str, guard: str, rival_share: Number, rival_threshold: Number
) -> Head:
    r"""ArcFace with the rival's angle narrowed where its cosine is high.

    .. math:: z_y = s \cos(\theta_y + m), \quad z_r = s \cos(\theta_r - f m) \text{ where } c_r > \tau,
        \quad z_j = s\,c_j

    `gradient` concerns the own logit; the rival's is the exact one. Its code for ArcFace does something else, see
    `rpcl_arcface_released`.

    Args:
      scale, margin, gradient, guard: those of `arcface`; its code has the guard 'easy'.
      rival_share: f, the rival's margin as a share of the own one, 0 or more.
      rival_threshold: tau, a cosine.

    Raises:
      ValueError: a number out of range, an unknown `gradient` or `guard`.

    References:
      Li, Tu, Xu 2022, RPCL; CMACH508/RPCL_LowResolutionFaceRecognition, magface_lr/magface.py.
    """
    head = arcface(scale=scale, margin=margin, gradient=gradient, guard=guard)
    return _with_rival(head, _narrowed, margin, rival_share, rival_threshold)


def rpcl_magface(
    *,
    scale: Number,
    smallest_norm: Number,
    largest_norm: Number,
    smallest_margin: Number,
    largest_margin: Number,
    norm_weight: Number,
    guard: str,
    rival_share: Number,
    rival_threshold: Number,
) -> Head:
    r"""MagFace with the rival's angle narrowed where its cosine is high.

    .. math:: z_y = s \cos(\theta_y + m(a')), \quad z_r = s \cos(\theta_r - f\,l_m) \text{ where } c_r > \tau,
        \quad z_j = s\,c_j

    Args:
      scale, smallest_norm, largest_norm, smallest_margin, largest_margin, norm_weight, guard: those of `magface`.
      rival_share: f, the rival's margin as a share of the smallest own one, l_m, 0 or more.
      rival_threshold: tau, a cosine.

    Raises:
      ValueError: a number out of range, or an unknown `guard`.

    References:
      Li, Tu, Xu 2022, RPCL; CMACH508/RPCL_LowResolutionFaceRecognition, magface_lr/magface.py.
    """
    head = magface(
        scale=scale,
        smallest_norm=smallest_norm,
        largest_norm=largest_norm,
        smallest_margin=smallest_margin,
        largest_margin=largest_margin,
        norm_weight=norm_weight,
        guard=guard,
    )
    return _with_rival(head, _narrowed, smallest_margin, rival_share, rival_threshold)


def _narrowed(cosines, angle):
    return jnp.clip(angles.plus(cosines, -angle), -1, 1)


def _with_rival(head: Head, raised: Callable, margin: Number, share: Number, threshold: Number) -> Head:
    checks.at_least_zero(rival_share=share)
    if not -1 <= threshold <= 1:
        raise ValueError(f"rival_threshold={threshold} must be a cosine, between -1 and 1")

    def rival(cosines):
        return jnp.where(cosines > threshold, raised(cosines, share * margin), cosines)

    return dataclasses.replace(head, sum="rival", rival=rival)
