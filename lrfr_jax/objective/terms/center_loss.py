"""Center loss: each identity's mean feature, learned by steps of its own, pulls its features together."""

import jax
import jax.numpy as jnp

from lrfr_jax.objective.heads import checks
from lrfr_jax.objective.terms import pairwise
from lrfr_jax.objective.terms.term import MANY, Number, Term

UPDATES = ("wen", "unofficial")
OVER_DIMS = ("sum", "mean")


def center_loss(*, update: str, rate: Number, over_dims: str) -> Term:
    r"""The squared distance of each feature to the center of its identity, as a mean over the batch.

    .. math::
        \text{sum}:\ \tfrac1N \sum_i \tfrac12 \|x_i - k_{y_i}\|^2, \quad
        \text{mean}:\ \tfrac1{ND} \sum_i \|x_i - k_{y_i}\|^2

    The centers begin at 0 and are moved before the loss is taken, without a gradient. For an identity with n features
    in the batch:

    .. math::
        \text{wen}:\ k \leftarrow k - \alpha \frac{\sum_i (k - x_i)}{1 + n}, \quad
        \text{unofficial}:\ k \leftarrow k + \alpha \tfrac1n \textstyle\sum_i (x_i - k)

    Features: of any views, as long as they are, pooled. The state has a row for each identity, whole on every device.

    Args:
      update: 'wen', or 'unofficial' as gyfastas/CS7319E1G16 (DCR) has it.
      rate: alpha, above 0 and at most 1: Wen 0.5, the unofficial code 0.6.
      over_dims: 'sum' (Wen), or 'mean' as the unofficial code, which is 2 / D of it.

    Raises:
      ValueError: a number out of range, or an unknown name.

    References:
      Wen et al. 2016, A Discriminative Feature Learning Approach for Deep Face Recognition, Eq. 2 to 4.
    """
    checks.one_of("update", update, UPDATES)
    checks.one_of("over_dims", over_dims, OVER_DIMS)
    checks.at_most_one(rate=rate)

    def first_state(num_identities, dim):
        return {"centers": jnp.zeros((num_identities, dim), jnp.float32)}

    def moved(state, features, labels):
        x, labels = pairwise.pooled(features, labels)
        centers = state["centers"]
        pull = jnp.zeros_like(centers).at[labels].add((x - centers[labels]).astype(centers.dtype))
        count = jnp.zeros(len(centers), centers.dtype).at[labels].add(1)[:, None]
        step = pull / (1 + count) if update == "wen" else pull / jnp.maximum(count, 1)
        return {"centers": jax.lax.stop_gradient(centers + rate * step)}

    def value(features, labels, state):
        x, labels = pairwise.pooled(features, labels)
        squared = pairwise.squared_distance(x, jax.lax.stop_gradient(state["centers"][labels]))
        return jnp.mean(squared) / (2 if over_dims == "sum" else x.shape[-1])

    return Term(value, num_features=(1, MANY), is_aligned=False, first_state=first_state, update=moved)
