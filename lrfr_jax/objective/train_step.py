"""One training step: the paper's Eq. 7 in code. Everything here is pure."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, UInt8

from lrfr_jax.objective import classifier as classifiers
from lrfr_jax.objective.classifier import Classifier
from lrfr_jax.objective.heads import Head

# What each of the step's random draws is folded with; a new purpose takes the next number.
AUGMENTATION, DROPOUT, CLASS_SAMPLE = 0, 1, 2
BATCH_NORMS = ("per_view", "joint", "frozen")
# What `distance_weight` counts in: the paper's lambda, or shares of the gradient of the classification.
WEIGHT_UNITS = ("lambda", "gradient_share")
# Reached only where the two views are embedded alike to the last digits, and so have no distance to weigh.
GRADIENT_FLOOR = 1e-20


class TrainState(flax.struct.PyTreeNode):
    """All that a step changes. `params` has the entries 'backbone' and 'classifier'; `head` is empty for most heads."""

    step: PyTree  # an int32 scalar; jax also rebuilds the state with shapes or shardings in place of arrays
    params: PyTree
    batch_stats: PyTree
    opt_state: PyTree
    head: PyTree = flax.struct.field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<TrainState of {len(jax.tree.leaves(self))} arrays>"


def init_state(
    rng: PRNGKeyArray,
    *,
    image_shape: tuple[int, int, int],
    backbone: nn.Module,
    classifier: Classifier,
    head: Head,
    optimizer: optax.GradientTransformation,
) -> TrainState:
    """Draws fresh parameters for images of `image_shape` (height, width, channels)."""
    backbone_rng, classifier_rng = jax.random.split(rng)
    features, variables = backbone.init_with_output(backbone_rng, jnp.zeros((1, *image_shape)), train=False)
    centers = classifiers.init_class_centers(classifier_rng, classifier, features.shape[-1])
    of_classifier = {"class_centers": centers, **classifiers.init_bias(head, classifier)}
    params = {"backbone": variables["params"], "classifier": of_classifier}
    state = {name: jnp.asarray(value, jnp.float32) for name, value in head.first_state.items()}
    stats = variables.get("batch_stats", {})  # a network without BatchNorm has none
    return TrainState(jnp.zeros((), jnp.int32), params, stats, optimizer.init(params), state)


def embed_views(
    params: PyTree,
    batch_stats: PyTree,
    views: tuple[Float[Array, "batch height width channels"], ...],
    rng: PRNGKeyArray,
    *,
    backbone: nn.Module,
    batch_norm: str,
    parts: int,
) -> tuple[tuple[Float[Array, "batch dim"], ...], PyTree]:
    """Runs the views through the one backbone; returns their raw features and the new BatchNorm statistics.

    Args:
      params, batch_stats: the backbone's parameters and statistics; those of a network without BatchNorm are empty.
      views: of the batch, normalized.
      rng: of the dropout.
      batch_norm: `per_view`: one forward after the other, each normalized by its own batch statistics and both updating
        the running ones, as the released code's two calls do. `joint`: one forward over all views, normalized together.
        `frozen`: as in evaluation, by the running statistics, which stay as they are; there is no dropout then.
      parts: with `frozen`, where images do not meet, that many equal parts of the batch go through one after the other,
        and the gradient computes each part's forward pass again: the memory is that of one part. 1 otherwise.
    """
    settings = {"backbone": backbone, "batch_norm": batch_norm, "parts": parts}
    if batch_norm == "joint":
        # An image's views side by side: one view after the other would send the images of a split batch around.
        images = jnp.stack(views, axis=1).reshape(-1, *views[0].shape[1:])
        features, batch_stats = _forward(params, batch_stats, images, rng, **settings)
        return tuple(features[number :: len(views)] for number in range(len(views))), batch_stats
    features = []
    for number, view in enumerate(views):
        view_rng = jax.random.fold_in(rng, number)
        feature, batch_stats = _forward(params, batch_stats, view, view_rng, **settings)
        features.append(feature)
    return tuple(features), batch_stats


# Under jit of its own, so that both views, and the check of a config and the step, share its traces and gradients.
@functools.partial(jax.jit, static_argnames=("backbone", "batch_norm", "parts"))
def _forward(params, batch_stats, images, rng, *, backbone, batch_norm, parts):
    variables = {"params": params, "batch_stats": batch_stats}
    if batch_norm == "frozen":
        return _in_parts(lambda part: backbone.apply(variables, part, train=False), images, parts), batch_stats
    rngs, mutable = {"dropout": rng}, ["batch_stats"]
    features, updated = backbone.apply(variables, images, train=True, rngs=rngs, mutable=mutable)
    return features, jax.lax.stop_gradient(updated.get("batch_stats", batch_stats))


def _in_parts(
    function: Callable, images: Float[Array, "batch height width channels"], parts: int
) -> Float[Array, "batch dim"]:
    if parts == 1:
        return function(images)
    # A part is every `parts`-th image, so that each device has its share of every part.
    images = jnp.moveaxis(images.reshape(-1, parts, *images.shape[1:]), 1, 0)
    # In a loop nothing is there to be merged with; the barrier against it would cost a fifth of the time on a CPU.
    features = jax.lax.map(jax.checkpoint(function, prevent_cse=False), images)
    return jnp.moveaxis(features, 0, 1).reshape(-1, features.shape[-1])


def classification_loss(
    features: tuple[Float[Array, "batch dim"], ...],
    params: PyTree,
    labels: Int[Array, " batch"],
    rng: PRNGKeyArray,
    state: PyTree,
    *,
    classifier: Classifier,
    head: Head,
    view_weights: Mapping[str, float | int],
) -> tuple[Float[Array, ""], tuple[dict[str, Float[Array, ""]], PyTree]]:
    r"""The weighted sum of the views' classification losses, each the mean over the batch.

    .. math:: \textstyle\sum_v w_v L_{cls}(f_v)

    The paper has 1/2 for the high- and 1/2 for the low-resolution view, its baseline the former alone.

    Args:
      features: raw features of each view.
      params, labels, rng, state, classifier, head: see `classifier.classification`.
      view_weights: {name of a view: w}, in the order of the features.

    Returns:
      (loss, (its parts and the share of images whose own class center is the nearest of those that take part, before
      any margin; the head's next state)).

    References:
      Ling et al. 2022, arXiv 2302.05621, Eq. 7.
    """
    per_image, is_nearest, state = classifiers.classification(
        jnp.stack(features), params, labels, rng, state, classifier=classifier, head=head
    )
    parts = {}
    for name, loss, nearest in zip(view_weights, per_image, is_nearest, strict=True):
        parts |= {f"classification_{name}": jnp.mean(loss), f"accuracy_{name}": jnp.mean(nearest)}
    return _weighted_mean(per_image, tuple(view_weights.values())), (parts, state)


def _weighted_mean(per_image: Float[Array, "views batch"], weights: tuple[float | int, ...]) -> Float[Array, ""]:
    total = sum(weights)
    if set(weights) == {total / len(weights)}:
        # One mean over all views, as Eq. 7's halves have always been: the same numbers to the last bit.
        return jnp.mean(per_image) if total == 1 else total * jnp.mean(per_image)
    return sum(weight * jnp.mean(loss) for weight, loss in zip(weights, per_image, strict=True))


def total_loss_gradient(
    features: tuple[Float[Array, "batch dim"], ...],
    params: PyTree,
    labels: Int[Array, " batch"],
    rng: PRNGKeyArray,
    state: PyTree,
    *,
    classifier: Classifier,
    head: Head,
    view_weights: Mapping[str, float | int],
    pair_distance: Callable,
    distance_weight: float,
    weight_unit: str,
) -> tuple[tuple[PyTree, PyTree], dict[str, Float[Array, ""]], PyTree]:
    r"""The gradient of the whole loss with respect to features and the classifier, and the loss's parts.

    .. math:: L = \lambda\, d(f_{HR}, f_{LR}) + \tfrac12 L_{cls}(f_{HR}) + \tfrac12 L_{cls}(f_{LR})

    With two views of other names and weights alike, and without the distance for a single view or more than two.

    Everything below the features is linear in this gradient, so the terms are weighed against each other here, where
    it costs nothing: with the unit 'gradient_share' lambda is chosen anew in each step, as a number, such that the
    distance's gradient has `distance_weight` times the length of the classification's, both over the features of all
    views of the batch.

    Args:
      features, params, labels, rng, state, classifier, head, view_weights: see `classification_loss`.
      pair_distance: (raw features, raw features) -> one value for the batch.
      distance_weight: the paper's lambda, or a share.
      weight_unit: one of `WEIGHT_UNITS`.

    Returns:
      ((gradient of the features, of the classifier), metrics: `loss`, its parts, and, if there are two views,
      `distance_weight` (lambda), `grad_norm_classification` and `grad_norm_distance` (lambda times the distance's); the
      head's next state).

    References:
      Ling et al. 2022, arXiv 2302.05621, Eq. 7.
    """
    of_classification = jax.value_and_grad(classification_loss, argnums=(0, 1), has_aux=True)
    (loss, (parts, state)), (gradient, params_gradient) = of_classification(
        features, params, labels, rng, state, classifier=classifier, head=head, view_weights=view_weights
    )
    if len(features) != 2:
        return (gradient, params_gradient), {"loss": loss} | parts, state
    distance, distance_gradient = jax.value_and_grad(lambda views: pair_distance(*views))(features)
    norm, distance_norm = optax.global_norm(gradient), optax.global_norm(distance_gradient)
    weight = jnp.asarray(distance_weight, norm.dtype)
    if weight_unit == "gradient_share":
        weight = weight * norm / jnp.maximum(distance_norm, GRADIENT_FLOOR)
    parts |= {"distance": distance, "distance_weight": weight}
    parts |= {"grad_norm_classification": norm, "grad_norm_distance": weight * distance_norm}
    gradient = jax.tree.map(lambda a, b: a + weight * b, gradient, distance_gradient)
    return (gradient, params_gradient), {"loss": loss + weight * distance} | parts, state


def train_step(
    state: TrainState,
    images: UInt8[Array, "batch height width channels"],
    labels: Int[Array, " batch"],
    *,
    seed: int,
    make_views: Callable,
    batch_norm: str,
    parts: int,
    is_frozen: Callable,
    loss: Mapping[str, Any],
    backbone: nn.Module,
    classifier: Classifier,
    optimizer: optax.GradientTransformation,
) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
    """Dresses the images, takes the gradient of Eq. 7 and updates the state.

    Randomness is a function of (seed, step), so a resumed run draws what the uninterrupted one would have drawn.

    Args:
      make_views: (rng, images, step) -> {name: view}; policy and rounding bound.
      batch_norm, parts: see `embed_views`.
      is_frozen: parameters -> tree of bools: which of them stay as they are.
      loss: the remaining arguments of `total_loss_gradient`.

    Returns:
      (new state, metrics: the loss, its parts, `grad_norm`, the global norm of the gradient before clipping and decay).
    """
    rng = jax.random.fold_in(jax.random.key(seed), state.step)
    views = tuple(make_views(jax.random.fold_in(rng, AUGMENTATION), images, step=state.step).values())
    dropout_rng = jax.random.fold_in(rng, DROPOUT)

    def embed(params):
        settings = {"backbone": backbone, "batch_norm": batch_norm, "parts": parts}
        return embed_views(params, state.batch_stats, views, dropout_rng, **settings)

    features, pull_back, batch_stats = jax.vjp(embed, state.params["backbone"], has_aux=True)
    (features_gradient, classifier_gradient), metrics, head_state = total_loss_gradient(
        features,
        state.params["classifier"],
        labels,
        jax.random.fold_in(rng, CLASS_SAMPLE),
        state.head,
        classifier=classifier,
        **loss,
    )
    (backbone_gradient,) = pull_back(features_gradient)
    gradient = {"backbone": backbone_gradient, "classifier": classifier_gradient}
    # What is frozen counts neither for the norm nor for clipping, and the compiler leaves out what nobody needs.
    gradient = jax.tree.map(lambda g, stays: jnp.zeros_like(g) if stays else g, gradient, is_frozen(state.params))
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    metrics["grad_norm"] = optax.global_norm(gradient)
    params = optax.apply_updates(state.params, updates)
    return TrainState(state.step + 1, params, batch_stats, opt_state, head_state), metrics
