"""Terms of a batch that measure single features against each other: TCN's triplets, contrastive pairs."""

import jax
import jax.numpy as jnp

from lrfr_jax.objective import distances
from lrfr_jax.objective.heads import checks
from lrfr_jax.objective.terms import pairwise
from lrfr_jax.objective.terms.term import MANY, Number, Term


def coupled_triplet(*, margin: Number) -> Term:
    r"""TCN's triplets: the anchor is a low-resolution feature, the others are of the high-resolution network.

    .. math:: L = \tfrac1B \sum_i \max\bigl(0, \|l_i - h_{p(i)}\|^2 - \min_{y_k \ne y_i} \|l_i - h_k\|^2 + m\bigr)

    Features: (low resolution, high resolution) of the same images, as long as they are. p(i) is the next image of the
    identity in the batch (after its last one the first), or i itself where there is no other; which image it is, and
    that lengths count, are a reading [ours] in lack of the text. Without a second identity in the batch the term is 0.

    Args:
      margin: m, 0 or more, of squared distances.

    Raises:
      ValueError: the margin is below 0.

    References:
      Zha and Chao 2019, TCN: Transferable Coupled Network for Cross-Resolution Face Recognition.
    """
    checks.at_least_zero(margin=margin)

    def value(features, labels, state):
        low, high = pairwise.embeddings(features)
        same = pairwise.same_identity(pairwise.everywhere(labels[0]))
        negative, has_negative = pairwise.nearest(jax.lax.stop_gradient(pairwise.squared_distances(low, high)), ~same)
        to_positive = pairwise.squared_distance(low, high[pairwise.next_one(same)])
        hinge = jax.nn.relu(to_positive - pairwise.squared_distance(low, high[negative]) + margin)
        return jnp.mean(jnp.where(has_negative, hinge, 0))

    return Term(value)


def contrastive(*, margin: Number) -> Term:
    r"""The contrastive loss of all pairs of a batch.

    .. math::
        L = \frac1{|S|} \sum_{(i,j) \in S} d_{ij}^2 + \frac1{|D|} \sum_{(i,j) \in D} \max(0, m - d_{ij})^2

    Features: of any views, pooled. d is the Euclidean distance of features of unit length; S are the pairs of one
    identity, two views of an image among them, and D all others. The mean over the pairs of each kind is ours: there
    are many more of the other kind. A kind without a pair counts 0.

    Args:
      margin: m, above 0; no two features are farther apart than 2.

    Raises:
      ValueError: the margin is not above 0.

    References:
      Hadsell, Chopra, LeCun 2006; Li, Prieto, Mery, Flynn 2019, arXiv 1811.10107.
    """
    checks.above_zero(margin=margin)

    def value(features, labels, state):
        x, labels = pairwise.pooled(features, labels)
        x = distances.unit_length(x)
        squared = pairwise.squared_distances(x, x)
        same = pairwise.same_identity(labels)
        is_pair = ~jnp.eye(len(x), dtype=bool)
        apart = jax.nn.relu(margin - pairwise.root(squared)) ** 2
        return _mean_where(same & is_pair, squared) + _mean_where(~same, apart)

    return Term(value, num_features=(1, MANY), is_aligned=False)


def _mean_where(chosen, values):
    return jnp.sum(jnp.where(chosen, values, 0)) / jnp.maximum(jnp.sum(chosen), 1).astype(values.dtype)
