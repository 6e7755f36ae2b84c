"""One training step: the paper's Eq. 7 in code. Everything here is pure."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, UInt8

from lrfr_jax import losses

# What each of the step's random draws is folded with; a new purpose takes the next number.
AUGMENTATION, DROPOUT = 0, 1
BATCH_NORMS = ("per_view", "joint")


class TrainState(flax.struct.PyTreeNode):
    """All that a step changes. `params` has the entries 'backbone' and 'classifier'."""

    step: PyTree  # an int32 scalar; jax also rebuilds the state with shapes or shardings in place of arrays
    params: PyTree
    batch_stats: PyTree
    opt_state: PyTree


def init_state(
    rng: PRNGKeyArray,
    *,
    image_shape: tuple[int, int, int],
    backbone: nn.Module,
    classifier: nn.Module,
    optimizer: optax.GradientTransformation,
) -> TrainState:
    """Draws fresh parameters for images of `image_shape` (height, width, channels)."""
    backbone_rng, classifier_rng = jax.random.split(rng)
    variables = backbone.init(backbone_rng, jnp.zeros((1, *image_shape)), train=False)
    features = jax.eval_shape(lambda: backbone.apply(variables, jnp.zeros((1, *image_shape)), train=False))
    centers = classifier.init(classifier_rng, jnp.zeros(features.shape))
    params = {"backbone": variables["params"], "classifier": centers["params"]}
    return TrainState(jnp.zeros((), jnp.int32), params, variables["batch_stats"], optimizer.init(params))


def embed_views(
    params: PyTree,
    batch_stats: PyTree,
    views: tuple[Float[Array, "batch height width channels"], ...],
    rng: PRNGKeyArray,
    *,
    backbone: nn.Module,
    batch_norm: str,
) -> tuple[tuple[Float[Array, "batch dim"], ...], PyTree]:
    """Runs the views through the one backbone; returns their raw features and the new BatchNorm statistics.

    `per_view`: one forward after the other, each normalized by its own batch statistics and both updating the running
    ones, as the released code's two calls do. `joint`: one forward over all views, normalized together.
    """

    def forward(stats, images, rng):
        variables = {"params": params, "batch_stats": stats}
        rngs, mutable = {"dropout": rng}, ["batch_stats"]
        features, updated = backbone.apply(variables, images, train=True, rngs=rngs, mutable=mutable)
        return features, updated["batch_stats"]

    if batch_norm == "joint":
        features, batch_stats = forward(batch_stats, jnp.concatenate(views), rng)
        return tuple(jnp.split(features, len(views))), batch_stats
    features = []
    for number, view in enumerate(views):
        feature, batch_stats = forward(batch_stats, view, jax.random.fold_in(rng, number))
        features.append(feature)
    return tuple(features), batch_stats


def total_loss(
    features: tuple[Float[Array, "batch dim"], ...],
    class_centers: PyTree,
    labels: Int[Array, " batch"],
    *,
    classifier: nn.Module,
    margin_logits: Callable,
    pair_distance: Callable,
    distance_weight: float,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    r"""The classification loss of each view and the distance between the two views.

    .. math:: L = \lambda\, d(\hat f_{HR}, \hat f_{LR}) + \tfrac12 L_{cls}(f_{HR}) + \tfrac12 L_{cls}(f_{LR})

    With the high-resolution view alone it is L_cls(f_HR), the paper's baseline.

    Args:
      features: raw features of the high-resolution view and, if there are two, of the low-resolution view.
      class_centers: the classifier's parameters.
      labels: identity of each image.
      margin_logits: (cosines, labels) -> logits, scale and margin bound.
      pair_distance: (unit embeddings, unit embeddings) -> one value for the batch.
      distance_weight: the paper's lambda.

    Returns:
      (loss, its parts and the share of images whose own class center is the nearest, before any margin).

    References:
      Ling et al. 2022, arXiv 2302.05621, Eq. 7.
    """
    loss, parts = jnp.zeros(()), {}
    for name, feature in zip(("hr", "lr"), features, strict=False):
        cosines = classifier.apply({"params": class_centers}, feature)
        classification = jnp.mean(losses.cross_entropy(margin_logits(cosines, labels), labels))
        parts[f"classification_{name}"] = classification
        parts[f"accuracy_{name}"] = jnp.mean(jnp.argmax(cosines, axis=-1) == labels)
        loss = loss + classification / len(features)
    if len(features) == 2:
        parts["distance"] = pair_distance(losses.unit_length(features[0]), losses.unit_length(features[1]))
        loss = loss + distance_weight * parts["distance"]
    return loss, {"loss": loss} | parts


def train_step(
    state: TrainState,
    images: UInt8[Array, "batch height width channels"],
    labels: Int[Array, " batch"],
    *,
    seed: int,
    make_views: Callable,
    batch_norm: str,
    loss: Mapping[str, Any],
    backbone: nn.Module,
    classifier: nn.Module,
    optimizer: optax.GradientTransformation,
) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
    """Dresses the images, takes the gradient of Eq. 7 and updates the state.

    Randomness is a function of (seed, step), so a resumed run draws what the uninterrupted one would have drawn.

    Args:
      make_views: (rng, images) -> views; policy and rounding bound.
      batch_norm: 'per_view' or 'joint', see `embed_views`.
      loss: the remaining arguments of `total_loss`.

    Returns:
      (new state, metrics: the loss, its parts, `grad_norm`, the global norm of the gradient before clipping and decay).
    """
    rng = jax.random.fold_in(jax.random.key(seed), state.step)
    views = make_views(jax.random.fold_in(rng, AUGMENTATION), images)
    dropout_rng = jax.random.fold_in(rng, DROPOUT)

    def loss_of(params):
        features, batch_stats = embed_views(
            params["backbone"], state.batch_stats, views, dropout_rng, backbone=backbone, batch_norm=batch_norm
        )
        value, metrics = total_loss(features, params["classifier"], labels, classifier=classifier, **loss)
        return value, (metrics, batch_stats)

    (_, (metrics, batch_stats)), gradient = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    metrics["grad_norm"] = optax.global_norm(gradient)
    new_state = TrainState(state.step + 1, optax.apply_updates(state.params, updates), batch_stats, opt_state)
    return new_state, metrics
