"""Octuplet: four triplet losses between high- and low-resolution views of a batch, without a classifier."""

import jax
import jax.numpy as jnp

from lrfr_jax.objective import distances
from lrfr_jax.objective.heads import checks
from lrfr_jax.objective.terms import pairwise
from lrfr_jax.objective.terms.term import Number, Term

METRICS = ("euclidean", "euclidean_squared", "cosine")


def octuplet(*, metric: str, margin: Number) -> Term:
    r"""The hardest triplets of a batch, whose anchors and others are of either view.

    .. math::
        L = \tfrac1B \sum_i \sum_{(u,v) \in \{h,l\}^2} \max\Bigl(0,
        \max_{j \ne i,\, y_j = y_i} d(u_i, v_j) - \min_{y_k \ne y_i} d(u_i, v_k) + m\Bigr)

    Features: (high resolution, low resolution) of the same images, as long as they are save with 'cosine'. An image's
    own other view is never a positive. An anchor without a positive, whose identity has one image in the batch, keeps
    the rest of its hinge (the maximum is 0); one without a negative counts 0 [ours]. Where the hardest two are equal
    the distance is 0, and so is its gradient.

    The hardest are found by one matrix product a block, without a gradient; the distances to them are then taken from
    differences.

    Args:
      metric: d: 'euclidean', 'euclidean_squared', or 'cosine' (1 - cosine).
      margin: m, 0 or more, in the unit of d.

    Raises:
      ValueError: an unknown metric, or a margin below 0.

    References:
      Knoche et al. 2023, Octuplet Loss, arXiv 2207.06726; Martlgap/octuplet-loss, the TensorFlow file (the PyTorch
      file has no gradient for the Euclidean metrics).
    """
    checks.one_of("metric", metric, METRICS)
    checks.at_least_zero(margin=margin)

    def between(x, y):
        if metric == "cosine":
            return 1 - jnp.sum(x * y, axis=-1)
        squared = pairwise.squared_distance(x, y)
        return pairwise.root(squared) if metric == "euclidean" else squared

    def value(features, labels, state):
        views = pairwise.embeddings(features)
        if metric == "cosine":
            views = tuple(map(distances.unit_length, views))
        same = pairwise.same_identity(pairwise.everywhere(labels[0]))
        positive = same & ~jnp.eye(len(same), dtype=bool)
        total = jnp.zeros(len(same), views[0].dtype)
        for anchors in views:
            for others in views:
                # Unit vectors stand in the same order by their squared distance as by 1 - cosine.
                measured = jax.lax.stop_gradient(pairwise.squared_distances(anchors, others))
                far, has_positive = pairwise.farthest(measured, positive)
                near, has_negative = pairwise.nearest(measured, ~same)
                to_positive = jnp.where(has_positive, between(anchors, others[far]), 0)
                hinge = jax.nn.relu(to_positive - between(anchors, others[near]) + margin)
                total = total + jnp.where(has_negative, hinge, 0)
        return jnp.mean(total)

    return Term(value)
