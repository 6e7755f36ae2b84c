"""The views of a batch through a backbone: the values that are asked for by name, and the new BatchNorm statistics."""

import functools
from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from lrfr_jax.models import taps as backbone_taps

BATCH_NORMS = ("per_view", "joint", "frozen")
# {(view, tap): value of the batch}
Features = Mapping[tuple[str, str], PyTree]


def embed_views(
    params: PyTree,
    batch_stats: PyTree,
    views: Mapping[str, Float[Array, "_ height width channels"]],
    rng: PRNGKeyArray,
    *,
    taps: Mapping[str, tuple[str, ...]],
    backbone: nn.Module,
    batch_norm: str,
    parts: int,
) -> tuple[Features, PyTree]:
    """Runs views through a backbone; returns what is asked of each and the new BatchNorm statistics.

    Args:
      params, batch_stats: the backbone's parameters and statistics; those of a network without BatchNorm are empty.
      views: of the batch, normalized; those without a tap are left out.
      rng: of the dropout.
      taps: {view: names of `models.taps`, 'feature' being the raw feature}.
      batch_norm: `per_view`: one forward after the other, each normalized by its own batch statistics and both updating
        the running ones, as the released code's two calls do. `joint`: one forward over all views, normalized together.
        `frozen`: as in evaluation, by the running statistics, which stay as they are; there is no dropout then.
      parts: with `frozen`, where images do not meet, that many equal parts of the batch go through one after the other,
        and the gradient computes each part's forward pass again: the memory is that of one part. 1 otherwise.

    Raises:
      UserError: a tap that the backbone does not have.
      ValueError: views of different lengths with `joint`.
    """
    settings = {"backbone": backbone, "batch_norm": batch_norm, "parts": parts}
    names = [name for name in views if taps.get(name)]
    features: dict[tuple[str, str], PyTree] = {}
    if batch_norm == "joint" and len(names) > 1:
        if len({len(views[name]) for name in names}) > 1:
            raise ValueError("model.batch_norm='joint' wants views of as many images each: set it to 'per_view'")
        # An image's views side by side: one view after the other would send the images of a split batch around.
        images = jnp.stack([views[name] for name in names], axis=1).reshape(-1, *views[names[0]].shape[1:])
        wanted = tuple(dict.fromkeys(tap for name in names for tap in taps[name]))
        found, batch_stats = _forward(params, batch_stats, images, rng, taps=wanted, **settings)
        for number, name in enumerate(names):
            of_view = jax.tree.map(lambda value, first=number: value[first :: len(names)], found)
            features |= {(name, tap): of_view[tap] for tap in taps[name]}
        return features, batch_stats
    for number, name in enumerate(names):
        view_rng = jax.random.fold_in(rng, number)
        found, batch_stats = _forward(params, batch_stats, views[name], view_rng, taps=taps[name], **settings)
        features |= {(name, tap): value for tap, value in found.items()}
    return features, batch_stats


# Under jit of its own, so that both views, and the check of a config and the step, share its traces and gradients.
@functools.partial(jax.jit, static_argnames=("taps", "backbone", "batch_norm", "parts"))
def _forward(params, batch_stats, images, rng, *, taps, backbone, batch_norm, parts):
    variables = {"params": params, "batch_stats": batch_stats}
    read = functools.partial(backbone_taps.apply, backbone, variables, taps=taps)
    if batch_norm == "frozen":
        return _in_parts(lambda part: read(part, train=False)[0], images, parts), batch_stats
    features, updated = read(images, train=True, rngs={"dropout": rng}, mutable=["batch_stats"])
    return features, jax.lax.stop_gradient(updated.get("batch_stats", batch_stats))


def _in_parts(function: Callable, images: Float[Array, "batch height width channels"], parts: int) -> PyTree:
    if parts == 1:
        return function(images)
    # A part is every `parts`-th image, so that each device has its share of every part.
    images = jnp.moveaxis(images.reshape(-1, parts, *images.shape[1:]), 1, 0)
    # In a loop nothing is there to be merged with; the barrier against it would cost a fifth of the time on a CPU.
    features = jax.lax.map(jax.checkpoint(function, prevent_cse=False), images)
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1).reshape(-1, *x.shape[2:]), features)
