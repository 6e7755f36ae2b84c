"""From encoded images to raw features at every resolution: the only file of the evaluation that knows jax."""

import collections
import concurrent.futures
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, UInt8

from lrfr_jax import image_ops, models
from lrfr_jax.data import records
from lrfr_jax.errors import UserError
from lrfr_jax.evals.readers import Embedder, Gallery, Readers
from lrfr_jax.terminal import progress

# (images uint8 [batch, h, w, 3], resolutions int32 [batch]) -> SSIM of image and reduced image, float32 [batch].
SimilarityMeter = Callable[[np.ndarray, np.ndarray], jax.Array]
# Batches that the device may be busy with while the host decodes the next ones.
_IN_FLIGHT = 2
# Decoded batches that wait for the device, so that memory does not grow with the set.
_DECODED_AHEAD = 3


def make_embedder(
    backbone: models.Backbone,
    *,
    sizes: tuple[int, ...],
    rounding: str,
    sharding: NamedSharding | None = None,
    mirror: bool = True,
    is_traced: bool = True,
) -> Embedder:
    """Builds the function that embeds a batch of images and of their mirrored selves, each image at its own resolution.

    It compiles once for a batch size, whatever the resolutions. A batch at full resolution alone is not resampled.

    Args:
      backbone: module (normalized images, train) -> raw features.
      sizes: the resolutions that may occur, in pixels.
      rounding: 'uint8' or 'none', see `image_ops.degrade`; that of the training.
      sharding: how the images lie over devices (leading axis); variables must then be replicated over the same devices.
        Every process passes the whole batch and gets all features.
      mirror: False leaves the mirrored images out, and half of the work.
      is_traced: False for a backbone that is no jax program; it runs on the host.

    Returns:
      (variables, images, resolutions) -> features; on the second axis first the image, then the mirrored one if wanted.
    """
    replicated = None if sharding is None else NamedSharding(sharding.mesh, PartitionSpec())

    @jax.jit
    def views_of(
        images: UInt8[Array, "batch size size 3"], resolutions: Int[Array, " batch"]
    ) -> Float[Array, "rows size size 3"]:
        pixels = _reduced(images, resolutions, sizes=sizes, rounding=rounding)
        # Both orientations side by side, not one batch after the other: each device keeps its own images.
        views = jnp.stack([pixels, pixels[:, :, ::-1]] if mirror else [pixels], axis=1)
        return image_ops.normalize(views.reshape(-1, *pixels.shape[1:]))

    def embed(variables: Any, images: jax.Array, resolutions: jax.Array) -> jax.Array | np.ndarray:
        features = backbone.apply(variables, views_of(images, resolutions), train=False)
        return features.reshape(len(images), 1 + mirror, -1)

    compiled = jax.jit(embed, out_shardings=replicated) if is_traced else embed

    def place_and_embed(variables: Any, images: np.ndarray, resolutions: np.ndarray) -> jax.Array | np.ndarray:
        if sharding is not None:
            images, resolutions = (
                jax.make_array_from_callback(array.shape, sharding, array.__getitem__)
                for array in (images, resolutions)
            )
        return compiled(variables, images, resolutions)

    return place_and_embed


def make_similarity_meter(*, sizes: tuple[int, ...], rounding: str) -> SimilarityMeter:
    """Builds the function that compares each image of a batch with itself at its resolution; see `make_embedder`."""

    @jax.jit
    def measure(images: UInt8[Array, "batch size size 3"], resolutions: Int[Array, " batch"]) -> Float[Array, " batch"]:
        whole = images.astype(jnp.float32)
        return image_ops.structural_similarity(whole, _reduced(images, resolutions, sizes=sizes, rounding=rounding))

    return measure


def embed_records(
    embedder: Embedder,
    variables: Any,
    source: Sequence[Mapping[str, Any]],
    *,
    wanted: Mapping[int, Int[np.ndarray, " records"]],
    batch_size: int,
    num_threads: int,
    what: str = "embedding",
    gallery: Gallery | None = None,
) -> dict[int, Float[np.ndarray, "images views dim"]]:
    """Embeds records at the resolutions wanted of each, all in memory; see `stream_records`.

    Returns:
      For each resolution the raw features of [image, mirrored image] (of the image alone without `mirror`), float32, a
      row per record of the source; rows that are not wanted are zero, and take no memory.

    Raises:
      UserError: an image cannot be decoded, or features are not finite.
    """
    features: dict[int, np.ndarray] = {}
    reading = {"wanted": wanted, "batch_size": batch_size, "num_threads": num_threads, "what": what, "gallery": gallery}
    for jobs, rows in stream_records(embedder, variables, source, **reading):
        for resolution in {resolution for _, resolution in jobs}:
            chosen = [place for place, job in enumerate(jobs) if job[1] == resolution]
            table = features.setdefault(resolution, np.zeros((len(source), *rows.shape[1:]), np.float32))
            table[[jobs[place][0] for place in chosen]] = rows[chosen]
    return features


def stream_records(
    embedder: Embedder,
    variables: Any,
    source: Sequence[Mapping[str, Any]],
    *,
    wanted: Mapping[int, Int[np.ndarray, " records"]],
    batch_size: int,
    num_threads: int,
    what: str = "embedding",
    gallery: Gallery | None = None,
) -> Iterator[tuple[list[tuple[int, int]], Float[np.ndarray, "jobs views dim"]]]:
    """Embeds records at the resolutions wanted of each, batch by batch; every record is read and decoded once.

    Args:
      embedder: from `make_embedder`, with all the resolutions among its sizes.
      variables: of the backbone; an adapted one is asked with the statistics nearest to each face.
      source: records {'image': encoded bytes}.
      wanted: {side length in pixels: numbers of the records}.
      batch_size: over all devices; the last batch is filled up with black images, whose features are dropped.
      num_threads: threads that decode while the device works.
      what: how the work is called while one waits for it.
      gallery: another model that reads the larger faces, see `Readers.key_of`; its features are as long.

    Yields:
      ((record, resolution) of each row, raw features as of `embed_records`); those of one resolution come in the order
      of the records, if one model reads all with the same statistics.

    Raises:
      UserError: an image cannot be decoded, or features are not finite: told at the batch where it shows.
    """
    flying: collections.deque = collections.deque()
    readers = Readers(embedder, variables, gallery)
    key_of = functools.partial(readers.key_of, source)
    with progress.bar(sum(map(len, wanted.values())), what, "images") as landed:

        def land() -> tuple[list[tuple[int, int]], np.ndarray]:
            output, jobs = flying.popleft()
            rows = np.asarray(output)[: len(jobs)]
            _check_finite(rows, jobs)
            landed.update(len(jobs))
            return jobs, rows

        how = {"batch_size": batch_size, "num_threads": num_threads}
        for images, resolutions, jobs in _batches(source, wanted, key_of=key_of, **how):
            flying.append((readers.ask(key_of(*jobs[0]), images, resolutions), jobs))
            if len(flying) > _IN_FLIGHT:
                yield land()
        while flying:
            yield land()


def mean_similarity(
    meter: SimilarityMeter,
    source: Sequence[Mapping[str, Any]],
    *,
    wanted: Mapping[int, Int[np.ndarray, " records"]],
    batch_size: int,
    num_threads: int,
    what: str = "structural similarity",
) -> dict[int, float]:
    """Returns, for each resolution, the mean structural similarity of reduced records to their whole selves."""
    totals = dict.fromkeys(wanted, 0.0)
    with progress.bar(sum(map(len, wanted.values())), what, "images") as measured:
        how = {"batch_size": batch_size, "num_threads": num_threads}
        for images, resolutions, jobs in _batches(source, wanted, key_of=lambda *_: None, **how):
            for (_, resolution), value in zip(jobs, np.asarray(meter(images, resolutions)), strict=False):
                totals[resolution] += float(value)
            measured.update(len(jobs))
    return {resolution: total / max(len(wanted[resolution]), 1) for resolution, total in totals.items()}


def _reduced(
    images: UInt8[Array, "batch size size 3"],
    resolutions: Int[Array, " batch"],
    *,
    sizes: tuple[int, ...],
    rounding: str,
) -> Float[Array, "batch size size 3"]:
    full = image_ops.IMAGE_SIZE
    # Without the full size: every operator is padded to the largest one.
    lower = tuple(sorted({*sizes} - {full})) or (full,)
    whole, is_whole = images.astype(jnp.float32), resolutions == full

    def degraded() -> Float[Array, "batch size size 3"]:
        reduced = image_ops.degrade(images, jnp.where(is_whole, lower[0], resolutions), sizes=lower, rounding=rounding)
        return jnp.where(is_whole[:, None, None, None], whole, reduced)

    return jax.lax.cond(jnp.all(is_whole), lambda: whole, degraded)


def _batches(
    source: Sequence[Mapping[str, Any]],
    wanted: Mapping[int, Int[np.ndarray, " records"]],
    *,
    key_of: Callable[[int, int], Any],
    batch_size: int,
    num_threads: int,
) -> Iterator[tuple[UInt8[np.ndarray, "batch size size 3"], Int[np.ndarray, " batch"], list[tuple[int, int]]]]:
    """Yields images, their resolutions, and (record, resolution) of those that are no filling.

    Every wanted combination comes once, full resolution apart from lower ones: a batch of it is not resampled; those
    of different keys, which `key_of` gives for (record, resolution), are apart as well.
    """
    resolutions_of: dict[int, list[int]] = {}
    for resolution in sorted(wanted, reverse=True):
        for record in wanted[resolution].tolist():
            resolutions_of.setdefault(record, []).append(resolution)
    queues: dict[tuple[bool, Any], list] = collections.defaultdict(list)
    decoded = _decoded(source, sorted(resolutions_of), batch_size=batch_size, num_threads=num_threads)
    for record, image in decoded:
        for resolution in resolutions_of[record]:
            queue = queues[resolution == image_ops.IMAGE_SIZE, key_of(record, resolution)]
            queue.append((image, (record, resolution)))
            if len(queue) == batch_size:
                yield _stacked(queue, batch_size)
                queue.clear()
    yield from (_stacked(queue, batch_size) for queue in queues.values() if queue)


def _stacked(queue: list, batch_size: int) -> tuple[np.ndarray, np.ndarray, list[tuple[int, int]]]:
    """Makes a batch of at most so many queued images; black ones fill it up, at the resolution of the last."""
    images = np.zeros((batch_size, image_ops.IMAGE_SIZE, image_ops.IMAGE_SIZE, 3), np.uint8)
    jobs = [job for _, job in queue]
    resolutions = np.full(batch_size, jobs[-1][1], np.int32)
    for row, (image, (_, resolution)) in enumerate(queue):
        images[row], resolutions[row] = image, resolution
    return images, resolutions, jobs


def _decoded(
    source: Sequence[Mapping[str, Any]], wanted: Sequence[int], *, batch_size: int, num_threads: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (record, pixels) in order, while threads decode the next ones."""

    def decode(record: int) -> np.ndarray:
        try:
            return records.decode_image(source[record]["image"])
        except ValueError as error:
            raise UserError(f"record {record} of the test set {error}; prepare the set again") from error

    with concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
        waiting: collections.deque = collections.deque()
        for record in wanted:
            waiting.append((record, pool.submit(decode, record)))
            if len(waiting) > _DECODED_AHEAD * batch_size:
                first, image = waiting.popleft()
                yield first, image.result()
        while waiting:
            first, image = waiting.popleft()
            yield first, image.result()


def _check_finite(rows: Float[np.ndarray, "jobs views dim"], jobs: Sequence[tuple[int, int]]) -> None:
    finite = np.isfinite(rows).all(axis=(1, 2))
    if not finite.all():
        record, resolution = jobs[int(np.argmin(finite))]
        raise UserError(
            f"the features of {np.sum(~finite)} of {len(jobs)} images of a batch are not finite (the first: record "
            f"{record} at {resolution} px): this model has diverged or its weights are damaged, use another checkpoint"
        )
