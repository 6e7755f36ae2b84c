"""DDL: the similarities of hard groups of images are to be distributed as those of an easy group."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lrfr_jax.objective import distances
from lrfr_jax.objective.heads import checks
from lrfr_jax.objective.terms import pairwise
from lrfr_jax.objective.terms.term import MANY, Number, Term

NEGATIVES = ("released", "hardest")
# The released code's, added to both densities; they add up to a millionth more than 1 by it.
EPSILON = 1e-9


class Group(NamedTuple):
    """Features of one group, of unit length: pairs of one identity each, and features of one image per identity.

    The labels `of_pairs` are those of the two sides; a pair whose labels differ is none, and counts nowhere.
    """

    first: Float[Array, "pairs dim"]
    second: Float[Array, "pairs dim"]
    of_pairs: tuple[Int[Array, " pairs"], Int[Array, " pairs"]]
    singles: Float[Array, "singles dim"]
    of_singles: Int[Array, " singles"]


class Similarities(NamedTuple):
    """Similarities of a group, and the weight of each of them, 0 or 1."""

    values: Float[Array, " count"]
    weights: Float[Array, " count"]


def ddl(
    *,
    images_per_identity: int,
    bandwidth: Number,
    num_bins: int,
    positive_weight: Number,
    negative_weight: Number,
    order_weight: Number,
    negatives: str,
) -> Term:
    r"""The divergence of each hard group's densities of similarities from the easy group's, and their order.

    .. math::
        L = \sum_{g>0} \bigl(w_+ \mathrm{KL}(p_0^+ \| p_g^+) + w_- \mathrm{KL}(p_0^- \| p_g^-)\bigr)
        + w_o \sum_{g,g'} (\bar s_g^- - \bar s_{g'}^+), \quad
        p(t) \propto \sum_k e^{-(s_k - t)^2 / 2 h^2}

    at t = 0, 1/n, ..., (n-1)/n. Features: one for each group, the first is the easy one; they may have labels of their
    own and batches of any length, each of P identities x K images, ordered by identities. A group's positive
    similarities are the cosines of the first two images of each identity, those not above 0 left out; its negatives
    are taken among the first images of all identities (the source has other images for them; this reading is ours).
    The easy group has a gradient as well. The order term is linear, and has no bound.

    A group without a positive takes part in no positive divergence, and in no order as the positive side; one without
    a negative likewise. So a batch without either is worth 0.

    Args:
      images_per_identity: K of the batches, 2 or more.
      bandwidth: h, above 0, in units of the cosine.
      num_bins: n, 1 or more.
      positive_weight, negative_weight, order_weight: w_+, w_-, w_o, each 0 or more.
      negatives: 'released': each image's nearest among those behind it, and 0 if that is negative or it is the last
        one; 'hardest': its nearest of all others [ours]. Another image of the same identity is no negative.

    Raises:
      ValueError: a number out of range, an unknown name, or (from the value) a batch that K does not divide.

    References:
      Huang et al. 2020, Distribution Distillation Loss, arXiv 2002.03662; Tencent/TFace,
      recognition/torchkit/loss/ddl.py.
    """
    checks.one_of("negatives", negatives, NEGATIVES)
    checks.above_zero(bandwidth=bandwidth)
    checks.at_least_zero(positive_weight=positive_weight, negative_weight=negative_weight, order_weight=order_weight)
    if images_per_identity < 2 or num_bins < 1:
        least = f"images_per_identity={images_per_identity} must be 2 or more, num_bins={num_bins} 1 or more"
        raise ValueError(f"{least}: a positive needs two images of an identity")
    density = {"bandwidth": bandwidth, "num_bins": num_bins}
    weights = {"positive": positive_weight, "negative": negative_weight, "order": order_weight}

    def value(features, labels, state):
        groups = [
            _group(x, pairwise.everywhere(each), images_per_identity)
            for x, each in zip(pairwise.embeddings(features), labels, strict=True)
        ]
        return of_groups(groups, weights=weights, negatives=negatives, **density)

    return Term(value, num_features=(2, MANY), is_aligned=False)


def of_groups(
    groups: list[Group], *, weights: dict[str, Number], negatives: str, bandwidth: Number, num_bins: int
) -> Float[Array, ""]:
    """The value of `ddl` for groups of any make.

    Args:
      groups: the easy one first.
      weights: those of `ddl`, as 'positive', 'negative', 'order'.
      negatives, bandwidth, num_bins: see `ddl`.
    """
    positive = [_positives(group) for group in groups]
    negative = [_negatives(group, negatives) for group in groups]
    total = jnp.zeros((), groups[0].first.dtype)
    for kind, found in (("positive", positive), ("negative", negative)):
        easy = density(found[0], bandwidth=bandwidth, num_bins=num_bins)
        for hard in found[1:]:
            divergence = _divergence(easy, density(hard, bandwidth=bandwidth, num_bins=num_bins))
            total = total + weights[kind] * jnp.where(_any(found[0]) & _any(hard), divergence, 0)
    for low in negative:
        for high in positive:
            order = jnp.where(_any(low) & _any(high), _mean(low) - _mean(high), 0)
            total = total + weights["order"] * order
    return total


def density(found: Similarities, *, bandwidth: Number, num_bins: int) -> Float[Array, " bins"]:
    """The density of similarities at 0, 1/n, ..., (n-1)/n, which add up to 1; zeros where there is no similarity."""
    at = jnp.arange(num_bins, dtype=found.values.dtype) / num_bins
    kernels = jnp.exp(-(((found.values[:, None] - at[None, :]) / bandwidth) ** 2) / 2)
    heights = jnp.sum(found.weights[:, None] * kernels, axis=0)
    total = jnp.sum(heights)
    return heights / jnp.where(total > 0, total, 1)


def _group(x, labels, size):
    if len(x) % size:
        raise ValueError(f"a batch of {len(x)} images is not made of identities with images_per_identity={size}")
    x, labels = distances.unit_length(x).reshape(-1, size, x.shape[-1]), labels.reshape(-1, size)
    return Group(x[:, 0], x[:, 1], (labels[:, 0], labels[:, 1]), x[:, 0], labels[:, 0])


def _positives(group):
    similarities = jnp.sum(group.first * group.second, axis=-1)
    counts = (similarities > 0) & (group.of_pairs[0] == group.of_pairs[1])
    return Similarities(similarities, counts.astype(similarities.dtype))


def _negatives(group, form):
    similarities = jnp.matmul(group.singles, group.singles.T, precision=jax.lax.Precision.HIGHEST)
    other = ~pairwise.same_identity(group.of_singles)
    if form == "released":
        behind = jnp.triu(jnp.ones_like(other), 1)
        highest = jnp.max(jnp.where(other & behind, similarities, 0), axis=1)
        return Similarities(highest, jnp.ones_like(highest))
    counts = jnp.any(other, axis=1)
    highest = jnp.where(counts, jnp.max(jnp.where(other, similarities, -1), axis=1), 0)
    return Similarities(highest, counts.astype(highest.dtype))


def _divergence(easy, hard):
    easy, hard = easy + EPSILON, hard + EPSILON
    return jnp.sum(easy * (jnp.log(easy) - jnp.log(hard)))


def _any(found):
    return jnp.any(found.weights > 0)


def _mean(found):
    return jnp.sum(found.weights * found.values) / jnp.maximum(jnp.sum(found.weights), 1)
