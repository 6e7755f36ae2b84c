"""The gradient of a loss of images at one resolution by the backbone's weights, in two norms."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from lrfr_jax import image_ops, models
from lrfr_jax.objective import distances
from lrfr_jax.objective.classifier import Classifier, cross_entropy

LOSSES = ("classification", "distance", "both")
BATCH_NORMS = ("running", "batch")
# (variables, class centers, images, labels, resolutions) -> [global norm, sum of norms]; what is not used may be None.
Meter = Callable[..., Float[Array, "2"]]


def make_meter(
    model: Mapping[str, Any],
    *,
    loss: str,
    batch_norm: str,
    sizes: tuple[int, ...],
    rounding: str,
    scale: float | int,
    target_logit: Callable,
    pair_distance: Callable,
    distance_weight: float,
) -> Meter:
    r"""Builds the function that measures the gradient of a batch; the class centers stand still.

    The loss is the mean over the batch of the classification of the reduced images f_LR; or the distance of f_HR and
    f_LR, pulled at both ends; or both as in training: lambda d + (L(f_HR) + L(f_LR)) / 2.

    Args:
      model: arguments of `models.create_backbone`; dropout is off.
      loss: of `LOSSES`.
      batch_norm: 'running' for the checkpoint's statistics, 'batch' for those of each view, as in training.
      sizes: the resolutions that may occur, in pixels.
      rounding: see `image_ops.degrade`.
      scale, target_logit: see `classifier.cross_entropy`.
      pair_distance: (unit embeddings, unit embeddings) -> one value for the batch.
      distance_weight: lambda.

    Returns:
      The meter; its values are the norm of all weights' gradient, and the sum of the norms of each tensor's.

    References:
      Ling et al. 2022, arXiv 2302.05621, Eq. 7; Fig. 3b, which does not say loss, batch, statistics or norm.
    """
    backbone = models.create_backbone(**{**model, "dropout": 0.0})

    def embed(variables: Any, pixels: Any) -> Float[Array, "batch dim"]:
        normalized = image_ops.normalize(pixels)
        if batch_norm == "running":
            return backbone.apply(variables, normalized, train=False)
        return backbone.apply(variables, normalized, train=True, mutable=["batch_stats"])[0]

    def classify(features: Float[Array, "batch dim"], centers: Any, labels: Any) -> Float[Array, ""]:
        classifier, rng = Classifier(len(centers), shards=1, chunks=1, sampled_share=1), jax.random.key(0)
        margin = {"scale": scale, "target_logit": target_logit}
        per_image, _ = cross_entropy(features[None], centers, labels, rng, classifier=classifier, **margin)
        return jnp.mean(per_image)

    @jax.jit
    def measure(variables: Any, centers: Any, images: Any, labels: Any, resolutions: Any) -> Float[Array, "2"]:
        reduced = image_ops.degrade(images, resolutions, sizes=sizes, rounding=rounding)

        def value(params: Any) -> Float[Array, ""]:
            weights = {**variables, "params": params}
            low = embed(weights, reduced)
            if loss == "classification":
                return classify(low, centers, labels)
            high = embed(weights, images)
            distance = pair_distance(distances.unit_length(high), distances.unit_length(low))
            if loss == "distance":
                return distance
            classification = classify(high, centers, labels) + classify(low, centers, labels)
            return distance_weight * distance + classification / 2

        gradient = jax.grad(value)(variables["params"])
        norms = jnp.stack([jnp.linalg.norm(leaf.ravel()) for leaf in jax.tree.leaves(gradient)])
        return jnp.stack([optax.global_norm(gradient), jnp.sum(norms)])

    return measure
