"""UniFace: one threshold for all pairs of feature and center, instead of a softmax over each row."""

import math

from lrfr_jax.objective.heads import checks
from lrfr_jax.objective.heads.cosface import lowered
from lrfr_jax.objective.heads.head import Head, Number


def uniface(*, scale: Number, margin: Number, negative_weight: Number, bias_factor: Number) -> Head:
    r"""Binary cross-entropies of own and other centers about one learned threshold.

    .. math:: L = \log\bigl(1 + e^{-(s (c_y - m) - b)}\bigr) + w \sum_{j \ne y} \log\bigl(1 + e^{s c_j - b}\bigr)

    b is the negative of the head's shared bias and starts at log(f N), with N the identities that take part in a step.
    The released code also limits both exponents to +-s; that cuts off the gradient only of features with
    c_y < m - 1 + b / s, so it is left out.

    Args:
      scale: s, above 0.
      margin: m, in units of the cosine.
      negative_weight: w, 0 or more.
      bias_factor: f, above 0.

    Raises:
      ValueError: a number out of range.

    References:
      Zhou et al. 2023, UniFace (ICCV); CVI-SZU/UniFace, head.py, Unified_Cross_Entropy_Loss.
    """
    checks.above_zero(scale=scale, bias_factor=bias_factor)
    checks.at_least_zero(negative_weight=negative_weight)
    return Head(
        scale=scale,
        own=lambda cosines, norms, draws, state: scale * lowered(cosines, margin, guard="none"),
        sum="sigmoid",
        negative_weight=negative_weight,
        bias="shared",
        first_bias=lambda identities: -math.log(bias_factor * identities),
    )
