"""From encoded images to raw features at every resolution: the only file of the evaluation that knows jax."""

import concurrent.futures
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, UInt8

from lrfr_jax import image_ops
from lrfr_jax.data import records
from lrfr_jax.errors import UserError

# (variables, images uint8 [batch, h, w, 3], resolutions int32 [batch]) -> raw features float32 [batch, 2, dim].
Embedder = Callable[[Any, np.ndarray, np.ndarray], jax.Array]


def make_embedder(
    backbone: nn.Module, *, sizes: tuple[int, ...], rounding: str, sharding: NamedSharding | None = None
) -> Embedder:
    """Builds the function that embeds a batch of images and of their mirrored selves, each image at its own resolution.

    It compiles once for a batch size, whatever the resolutions. A batch at full resolution alone is not resampled.

    Args:
      backbone: module (normalized images, train) -> raw features.
      sizes: the resolutions that may occur, in pixels.
      rounding: 'uint8' or 'none', see `image_ops.degrade`; that of the training.
      sharding: how the images lie over devices (leading axis); variables must then be replicated over the same devices.
        Every process passes the whole batch and gets all features.

    Returns:
      (variables, images, resolutions) -> features; on the second axis first the image, then the mirrored one.
    """
    full = image_ops.IMAGE_SIZE
    # Without the full size: every operator is padded to the largest one.
    lower = tuple(sorted({*sizes} - {full})) or (full,)
    replicated = None if sharding is None else NamedSharding(sharding.mesh, PartitionSpec())

    def embed(
        variables: Any, images: UInt8[Array, "batch size size 3"], resolutions: Int[Array, " batch"]
    ) -> Float[Array, "batch 2 dim"]:
        whole, is_whole = images.astype(jnp.float32), resolutions == full

        def degraded() -> Float[Array, "batch size size 3"]:
            reduced = image_ops.degrade(
                images, jnp.where(is_whole, lower[0], resolutions), sizes=lower, rounding=rounding
            )
            return jnp.where(is_whole[:, None, None, None], whole, reduced)

        pixels = jax.lax.cond(jnp.all(is_whole), lambda: whole, degraded)
        # Both orientations side by side, not one batch after the other: each device keeps its own images.
        views = jnp.stack([pixels, pixels[:, :, ::-1]], axis=1).reshape(-1, *pixels.shape[1:])
        features = backbone.apply(variables, image_ops.normalize(views), train=False)
        return features.reshape(len(images), 2, -1)

    compiled = jax.jit(embed, out_shardings=replicated)

    def place_and_embed(variables: Any, images: np.ndarray, resolutions: np.ndarray) -> jax.Array:
        if sharding is not None:
            images, resolutions = (
                jax.make_array_from_callback(array.shape, sharding, array.__getitem__)
                for array in (images, resolutions)
            )
        return compiled(variables, images, resolutions)

    return place_and_embed


def embed_source(
    embedder: Embedder,
    variables: Any,
    source: Sequence[Mapping[str, Any]],
    *,
    resolutions: tuple[int, ...],
    batch_size: int,
    num_threads: int,
) -> dict[int, Float[np.ndarray, "images 2 dim"]]:
    """Embeds all images of a source at all resolutions; each image is read and decoded once.

    Args:
      embedder: from `make_embedder`, with all the resolutions among its sizes.
      source: records {'image': encoded bytes}.
      resolutions: side lengths in pixels.
      batch_size: over all devices; the last batch is filled up with black images, whose features are dropped.
      num_threads: threads that decode while the device works.

    Returns:
      For each resolution the raw features of [image, mirrored image], float32.

    Raises:
      UserError: an image cannot be decoded, or features are not finite.
    """
    collected = {resolution: [] for resolution in resolutions}
    for images, count in _decoded_batches(source, batch_size=batch_size, num_threads=num_threads):
        outputs = {r: embedder(variables, images, np.full(batch_size, r, np.int32)) for r in resolutions}
        for resolution, features in outputs.items():
            collected[resolution].append(np.asarray(features)[:count])
    joined = {resolution: np.concatenate(parts) for resolution, parts in collected.items()}
    for resolution, features in joined.items():
        if not np.isfinite(features).all():
            bad = np.flatnonzero(~np.isfinite(features).all(axis=(1, 2)))
            raise UserError(
                f"the features of {len(bad)} of {len(features)} images at {resolution} px are not finite (the first: "
                f"record {bad[0]}): this model has diverged or its weights are damaged, use another checkpoint"
            )
    return joined


def _decoded_batches(
    source: Sequence[Mapping[str, Any]], *, batch_size: int, num_threads: int
) -> Iterator[tuple[np.ndarray, int]]:
    """Yields (uint8 batch, number of real images in it), while the next batch is already being decoded."""

    def decode(index: int) -> np.ndarray:
        try:
            return records.decode_image(source[index]["image"])
        except ValueError as error:
            raise UserError(f"record {index} of the verification set {error}; prepare the set again") from error

    shape = (batch_size, image_ops.IMAGE_SIZE, image_ops.IMAGE_SIZE, 3)
    with concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
        # One batch is decoded ahead, so memory does not grow with the set.
        starts = range(0, len(source), batch_size)
        waiting = ([pool.submit(decode, i) for i in range(s, min(s + batch_size, len(source)))] for s in starts)
        current = next(waiting, [])
        for following in itertools.chain(waiting, [[]]):
            images = np.zeros(shape, np.uint8)
            for row, future in enumerate(current):
                images[row] = future.result()
            yield images, len(current)
            current = following
