"""DATL and DAQL: triplets and quadruplets that pull each feature to the densest region of its class."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from lrfr_jax.objective import distances
from lrfr_jax.objective.heads import checks
from lrfr_jax.objective.terms import pairwise
from lrfr_jax.objective.terms.term import MANY, Number, Term


def datl(*, bandwidth: Number, iterations: int, margin: Number, memory: Number) -> Term:
    r"""The hinge of each feature's distance to the dense center of its class against its nearest negative.

    .. math::
        L &= \tfrac1N \sum_i \max\bigl(0, \|f_i - m_{y_i}\|^2 - \min_{y_j \ne y_i} \|f_i - f_j\|^2 + \mu\bigr) \\
        m &\leftarrow \frac{\sum_i w_i f_i}{\sum_i w_i}, \quad w_i = e^{-\|f_i - m\|^2 / 2 h^2}

    Features: of any views, of unit length here and mixed within a class. The center of a class begins as the mean of
    its features in the batch, is shifted so many times, and has no gradient. The formula of the center, its bandwidth
    and the memory are ours, as the source says in words that an outlier must not drag it.

    With a memory the center is that of `update`: M times the remembered one and 1 - M times the batch's; a class that
    was not seen before has the batch's. A class with one feature in the batch has this as its center (without a
    memory), so that only the negative acts; without a second identity the term is 0.

    Args:
      bandwidth: h, above 0, in units of the features' distance.
      iterations: of the shift, 0 (the mean) or more.
      margin: mu, 0 or more, of squared distances.
      memory: M, from 0 (no memory) to below 1.

    Raises:
      ValueError: a number out of range.

    References:
      Ghosh, Singh, Vatsa 2019, Density Aware Triplet Loss and Quadruplet Loss for surveillance face recognition.
    """
    return _dense(bandwidth, iterations, margin, None, memory)


def daql(*, bandwidth: Number, iterations: int, margin: Number, second_margin: Number, memory: Number) -> Term:
    r"""DATL, and a second hinge against the distance of the negative to a third identity.

    .. math::
        L_{DATL} + \tfrac1N \sum_i \max\bigl(0, \|f_i - m_{y_i}\|^2 - \|f_n - f_l\|^2 + \mu_2\bigr)

    n is the negative that DATL has found for i, l the feature nearest to n among all identities but those of i and n.
    With two identities in the batch the second hinge is 0; all else is as `datl` says.

    Args:
      bandwidth, iterations, margin, memory: see `datl`.
      second_margin: mu_2, 0 or more.

    Raises:
      ValueError: a number out of range.

    References:
      Ghosh, Singh, Vatsa 2019, Density Aware Triplet Loss and Quadruplet Loss for surveillance face recognition.
    """
    checks.at_least_zero(second_margin=second_margin)
    return _dense(bandwidth, iterations, margin, second_margin, memory)


def centers_of(
    features: Float[Array, "batch dim"], same: Bool[Array, "batch batch"], *, bandwidth: Number, iterations: int
) -> Float[Array, "batch dim"]:
    """The dense center of each feature's class, from the batch; see `datl`. No gradient.

    Args:
      features: of unit length.
      same: which two are of one class.
      bandwidth, iterations: see `datl`.
    """
    features = jax.lax.stop_gradient(features)

    def shifted(_, centers):
        # A softmax divides by the sum, and cannot find all weights to be 0 however small the bandwidth is.
        weights = -pairwise.squared_distances(centers, features) / (2 * bandwidth**2)
        weights = jax.nn.softmax(jnp.where(same, weights, -jnp.inf), axis=1)
        return jnp.matmul(weights, features, precision=jax.lax.Precision.HIGHEST)

    share = same.astype(features.dtype) / jnp.sum(same, axis=1, keepdims=True).astype(features.dtype)
    means = jnp.matmul(share, features, precision=jax.lax.Precision.HIGHEST)
    return jax.lax.fori_loop(0, iterations, shifted, means)


def _dense(bandwidth, iterations, margin, second_margin, memory):
    checks.above_zero(bandwidth=bandwidth)
    checks.at_least_zero(iterations=iterations, margin=margin, memory=memory)
    if not memory < 1:
        raise ValueError(f"memory={memory} must be below 1: a center would never move")

    def seen(features, labels):
        x, labels = pairwise.pooled(features, labels)
        x = distances.unit_length(x)
        same = pairwise.same_identity(labels)
        return x, labels, same

    def of_batch(x, same):
        return centers_of(x, same, bandwidth=bandwidth, iterations=iterations)

    def first_state(num_identities, dim):
        return {"centers": jnp.zeros((num_identities, dim), jnp.float32)}

    def update(state, features, labels):
        x, labels, same = seen(features, labels)
        kept = state["centers"]
        # A center of zeros was never seen: those of unit features are not there, short of exact opposites.
        share = jnp.where(jnp.any(kept[labels] != 0, axis=1, keepdims=True), memory, 0)
        new = share * kept[labels] + (1 - share) * of_batch(x, same)
        # Once per class: features of one class agree but for the last digit, and which of them came last is open.
        is_first = jnp.argmax(same, axis=1) == jnp.arange(len(labels))
        rows = jnp.where(is_first, labels, len(kept))
        return {"centers": jax.lax.stop_gradient(kept.at[rows].set(new.astype(kept.dtype), mode="drop"))}

    def value(features, labels, state):
        x, labels, same = seen(features, labels)
        centers = jax.lax.stop_gradient(state["centers"][labels]) if memory else of_batch(x, same)
        return _hinges(x, labels, same, centers, margin, second_margin)

    state = {"first_state": first_state, "update": update} if memory else {}
    return Term(value, num_features=(1, MANY), is_aligned=False, **state)


def _hinges(x, labels, same, centers, margin, second_margin):
    measured = jax.lax.stop_gradient(pairwise.squared_distances(x, x))
    negative, has_negative = pairwise.nearest(measured, ~same)
    to_center = pairwise.squared_distance(x, centers)
    hinge = jax.nn.relu(to_center - pairwise.squared_distance(x, x[negative]) + margin)
    total = jnp.where(has_negative, hinge, 0)
    if second_margin is not None:
        third, has_third = pairwise.nearest(measured[negative], ~same & ~same[negative])
        between = pairwise.squared_distance(x[negative], x[third])
        total = total + jnp.where(has_third, jax.nn.relu(to_center - between + second_margin), 0)
    return jnp.mean(total)
