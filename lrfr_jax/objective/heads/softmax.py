"""Softmax without a margin: of cosines (NormFace) and of plain products."""

from lrfr_jax.objective.heads import checks
from lrfr_jax.objective.heads.head import Head, Number


def softmax(*, scale: Number) -> Head:
    r"""The softmax of scaled cosines, without a margin (NormFace).

    .. math:: z_y = s\,c_y, \quad z_j = s\,c_j

    Args:
      scale: s, above 0.

    Raises:
      ValueError: a scale that is not above 0.

    References:
      Wang et al. 2017, NormFace, arXiv 1704.06369.
    """
    checks.above_zero(scale=scale)
    return Head(scale=scale, own=lambda cosines, norms, draws, state: scale * cosines)


def linear_softmax(*, bias: bool) -> Head:
    r"""The softmax of the last linear layer of a plain network: neither features nor centers are normalized.

    .. math:: z_j = x \cdot w_j + b_j

    Args:
      bias: whether each identity has a learned number b_j, 0 at first.
    """
    return Head(
        scale=1,
        own=lambda products, norms, draws, state: products,
        normalize="none",
        bias="per_identity" if bias else "none",
    )
