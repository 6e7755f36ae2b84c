"""The heads' formula over a whole matrix of cosines: the reference for tests, and for figures.

Training never holds this matrix: the classifier adds the others up, shard by shard and chunk by chunk.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from lrfr_jax.objective.heads import arcface, cosface
from lrfr_jax.objective.heads.head import Head, Number


def classification(
    head: Head,
    cosines: Float[Array, "*views batch identities"],
    labels: Int[Array, " batch"],
    norms: Float[Array, "*views batch"] | None,
    state: Mapping[str, Any],
    draws: Float[Array, "*views batch"] | None,
    bias: Float[Array, " identities"] | Float[Array, ""] | None,
) -> tuple[Float[Array, "*views batch"], dict[str, Any]]:
    """The loss of each feature, see `Head`, and the head's next state, which is the one that the losses are of.

    Gradients flow to the cosines, the norms and the bias; none to the state, its update and the bar.

    Args:
      head: any.
      cosines: of each feature to each class center; plain products for a head that does not normalize.
      labels: the identity of each feature, shared by the views. One that does not exist gives NaN.
      norms: the features' lengths, for a head that reads them.
      state: of the step before, `head.first_state` at first.
      draws: `head.draw`'s numbers, for a head that draws.
      bias: one number per identity or one for all, for a head with a bias.

    Raises:
      ValueError: a head that asks for more nearest others than there are.
    """
    labels = jnp.broadcast_to(labels, cosines.shape[:-1])
    own = _at_label(cosines, labels)
    fixed = jax.lax.stop_gradient
    state = dict(head.update(state, fixed(own), fixed(norms)) if head.update else state)
    losses = _losses(head, cosines, labels, own, norms, fixed(state), draws, 0 if bias is None else bias)
    losses = losses if head.norm_term is None else losses + head.norm_term(norms)
    return jnp.where(jnp.isnan(own), jnp.nan, losses), state


def _losses(head, cosines, labels, own, norms, state, draws, bias):
    if head.logits_of_all is not None:
        return cross_entropy(head.logits_of_all(cosines, labels), labels)
    is_own = _is_label(labels, cosines.shape[-1])
    if head.sum == "nearest":
        if head.num_nearest > cosines.shape[-1] - 1:
            raise ValueError(f"num_nearest={head.num_nearest} exceeds the {cosines.shape[-1] - 1} other identities")
        return head.hinge(own, jax.lax.top_k(jnp.where(is_own, -jnp.inf, cosines), head.num_nearest)[0])
    others = cosines
    if head.others is not None:
        bar = None if head.bar is None else jax.lax.stop_gradient(head.bar(own, norms, draws, state))[..., None]
        others = head.others(cosines, bar, state)
    if head.sum == "rival":
        nearest = jnp.argmax(jnp.where(is_own, -jnp.inf, cosines), axis=-1)
        others = jnp.where(_is_label(nearest, cosines.shape[-1]), head.rival(cosines), others)
    own = head.own(own, norms, draws, state)[..., None]
    bias = jnp.broadcast_to(bias, cosines.shape)
    logits = jnp.where(is_own, own, head.scale * others) + bias
    if head.sum == "sigmoid":
        terms = jnp.where(is_own, jax.nn.softplus(-logits), head.negative_weight * jax.nn.softplus(logits))
        return jnp.sum(terms, axis=-1)
    return cross_entropy(logits, labels)


def _is_label(labels: Int[Array, "*batch"], num_identities: int) -> Bool[Array, "*batch identities"]:
    return jax.nn.one_hot(labels, num_identities, dtype=bool)


def _at_label(values: Float[Array, "*batch identities"], labels: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
    # A masked sum, because a gather along a sharded class axis would collect the logits of all devices.
    # It would give 0 for a label that does not exist; NaN cannot be overlooked.
    exists = (labels >= 0) & (labels < values.shape[-1])
    picked = jnp.sum(jnp.where(_is_label(labels, values.shape[-1]), values, 0), axis=-1)
    return jnp.where(exists, picked, jnp.nan)


def cross_entropy(logits: Float[Array, "*batch identities"], labels: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
    r"""The negative log-probability of each label; NaN where a label is not one of the identities.

    .. math:: -\log \mathrm{softmax}(z)_y
    """
    return -_at_label(jax.nn.log_softmax(logits), labels)


def cosface_logits(
    cosines: Float[Array, "batch identities"], labels: Int[Array, " batch"], *, scale: Number, margin: Number
) -> Float[Array, "batch identities"]:
    r"""Scaled cosines, the label's lowered by a fixed margin: `cosface` as a whole matrix.

    .. math:: z_j = s\,(\cos\theta_j - m\,[j = y])

    Args:
      cosines: of each feature to each class center, in [-1, 1].
      labels: the identity y of each feature.
      scale, margin: see `cosface.cosface`.

    References:
      Wang et al. 2018, CosFace, arXiv 1801.09414, Eq. 4.
    """
    return _logits(cosface.cosface(scale=scale, margin=margin), cosines, labels)


def arcface_logits(
    cosines: Float[Array, "batch identities"],
    labels: Int[Array, " batch"],
    *,
    scale: Number,
    margin: Number,
    gradient: str,
) -> Float[Array, "batch identities"]:
    r"""Scaled cosines, the label's angle widened by a fixed margin: `arcface` without a guard, as a whole matrix.

    .. math:: z_y = s \cos(\theta_y + m), \quad z_j = s \cos\theta_j

    Args:
      cosines: of each feature to each class center, in [-1, 1].
      labels: the identity y of each feature.
      scale, margin, gradient: see `arcface.arcface`.

    Raises:
      ValueError: `gradient` is neither 'exact' nor 'straight_through'.

    References:
      Deng et al. 2019, ArcFace, arXiv 1801.07698, Eq. 3.
    """
    return _logits(arcface.arcface(scale=scale, margin=margin, gradient=gradient, guard="none"), cosines, labels)


def _logits(head: Head, cosines, labels):
    own = head.own(_at_label(cosines, labels), None, None, {})
    return jnp.where(_is_label(labels, cosines.shape[-1]), own[:, None], head.scale * cosines)
