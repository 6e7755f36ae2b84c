"""A training set in the memory of every device: a step gets numbers of records, and nothing is decoded any more."""

import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int32

from lrfr_jax.data import face_sets, pipeline
from lrfr_jax.data.batches import Source
from lrfr_jax.errors import UserError
from lrfr_jax.image_ops import IMAGE_SIZE
from lrfr_jax.machines import sharding
from lrfr_jax.terminal import progress

logger = logging.getLogger("lrfr_jax")

CACHES = ("none", "device")
# Images that are decoded on the host before they are sent: 154 MB.
CHUNK = 4096
# Under this name a batch, and what is cached, hold those of a second source.
SECOND = "second"


def check(cache: str, sources: Sequence[Source], mesh: Mesh) -> None:
    """Raises `UserError` for a value that is none of `CACHES`, and for sets that do not fit into the devices."""
    check_choice(cache)
    num_images = sum(source.training_set.num_images for source in sources)
    wanted = bytes_of(num_images) if cache == "device" else 0
    free = _free_bytes(mesh.local_devices)
    if wanted > free:
        raise UserError(
            f"--config.input.cache=device wants {wanted / 1e9:.3g} GB on each device for {num_images} "
            f"images, {free / 1e9:.3g} GB are free: set it to 'none', with raw records (`python -m lrfr_jax.prepare "
            "raw`) if decoding is too slow, or take devices with more memory"
        )


def check_choice(cache: str) -> None:
    """Raises `UserError` for a value that is none of `CACHES`."""
    if cache not in CACHES:
        raise UserError(f"--config.input.cache={cache} is unknown: choose one of {', '.join(CACHES)}")


def bytes_of(num_images: int) -> int:
    """What so many cached images take on each device: pixels and labels."""
    return num_images * (3 * IMAGE_SIZE**2 + np.dtype(np.int32).itemsize)


def feed(
    sources: Sequence[Source], *, cache: str, mesh: Mesh, start_batch: int, num_threads: int, prefetch_images: int
) -> tuple[Iterator[dict[str, Any]], dict[str, Any]]:
    """Opens what `on_batch` takes: this process's share of the batches, and what its record numbers point into.

    Args:
      sources: one, or two that go side by side (see `sources.open_sources`); the batches of both have the same numbers.
      cache: of `CACHES`; 'device' decodes the whole sets first.
      mesh: whose devices each get the whole sets.
      start_batch: number of the first batch; which images are in it is the same with any cache.
      num_threads, prefetch_images: how each set is decoded.

    Returns:
      Batches of {'image', 'label'} and {}; with 'device' batches of {'record'} and {'image', 'label'} of all records.
      Of a second source each has the same once more, under 'second'.

    Raises:
      UserError: as in `check`; a record cannot be decoded, or a batch is not divisible by the processes.
    """
    check(cache, sources, mesh)
    reading = {"num_threads": num_threads, "prefetch_images": prefetch_images}
    which = {"start_batch": start_batch, "process_index": jax.process_index(), "process_count": jax.process_count()}
    if cache == "none":
        return _side_by_side([pipeline.training_batches(source, **which, **reading) for source in sources]), {}
    batches = _side_by_side([pipeline.training_numbers(source, **which) for source in sources])
    first, *others = (_load(source.training_set, mesh, **reading) for source in sources)
    return batches, first | ({SECOND: others[0]} if others else {})


def with_rows(kept: Float[np.ndarray, "records ..."], mesh: Mesh) -> jax.Array:
    """Sends what was kept of each record to every device.

    Raises:
      UserError: it does not fit there.
    """
    free = _free_bytes(mesh.local_devices)
    if kept.nbytes > free:
        raise UserError(
            f"--config.input.cache=device wants {kept.nbytes / 1e9:.3g} GB more on each device for the teacher's "
            f"features of {len(kept)} images, {free / 1e9:.3g} GB are free: set it to 'none', or take devices with "
            "more memory"
        )
    return everywhere(kept, sharding.replicated(mesh))


def on_batch(step: Callable, mesh: Mesh) -> Callable:
    """Makes a step of (state, batch, of_teacher) one of (state, batch, cached, of_teacher): two of them from `feed`."""

    # Named as what it stands for: a compiled program, which is kept by its name too, is then the same.
    def train_step(
        state: Any, batch: Mapping[str, Any], cached: Mapping[str, Any], of_teacher: Mapping[str, Any]
    ) -> Any:
        found = found_in(cached, batch, mesh) if cached else batch
        return step(state, found, of_teacher)

    return train_step


def found_in(cached: Mapping[str, Any], batch: Mapping[str, Any], mesh: Mesh) -> dict[str, Any]:
    """Looks the records of a batch up, those of a second source in its own set."""
    own = {key: whole for key, whole in cached.items() if key != SECOND}
    found: dict[str, Any] = look_up(own, batch["record"], mesh)
    if SECOND in cached:
        found[SECOND] = look_up(cached[SECOND], batch[SECOND]["record"], mesh)
    return found


def look_up(cached: Mapping[str, jax.Array], numbers: Int32[jax.Array, " batch"], mesh: Mesh) -> dict[str, jax.Array]:
    """Gathers the records of a batch, split over devices as the numbers are: each device reads its own memory alone."""
    found = {key: whole.at[numbers].get(mode="promise_in_bounds") for key, whole in cached.items()}
    found = jax.lax.with_sharding_constraint(found, sharding.over_batch(mesh))
    # Not fused with what follows, which is then compiled as it is for images from the host: the same to the last bit.
    return jax.lax.optimization_barrier(found)


def _side_by_side(each: Sequence[Iterator[dict[str, np.ndarray]]]) -> Iterator[dict[str, Any]]:
    first, *others = each
    return map(lambda batch, other: batch | {SECOND: other}, first, *others) if others else first


def _load(
    training_set: face_sets.TrainingSet, mesh: Mesh, *, num_threads: int, prefetch_images: int
) -> dict[str, jax.Array]:
    """Decodes the set chunk by chunk into arrays of their final size, so that no second copy is ever held."""
    total, whole = training_set.num_images, sharding.replicated(mesh)
    where = f"{bytes_of(total) / 1e9:.3g} GB on each of {mesh.size} devices"
    logger.info("device cache: loading %d images, %s", total, where)
    since, done = time.perf_counter(), 0
    shapes = {"image": ((total, IMAGE_SIZE, IMAGE_SIZE, 3), jnp.uint8), "label": ((total,), jnp.int32)}
    cached = jax.jit(lambda: {key: jnp.zeros(*shape) for key, shape in shapes.items()}, out_shardings=whole)()
    write = jax.jit(_written, donate_argnums=0, out_shardings=whole)
    chunks = pipeline.stored_batches(
        training_set, batch_size=CHUNK, num_threads=num_threads, prefetch_images=prefetch_images
    )
    with progress.bar(total, "device cache", "images") as told:
        for chunk in chunks:
            cached = write(cached, {key: everywhere(array, whole) for key, array in chunk.items()}, done)
            done += len(chunk["label"])
            told.update(len(chunk["label"]))
        jax.block_until_ready(cached)
    seconds = time.perf_counter() - since
    logger.info("device cache: %d images loaded in %.1f s (%.0f images/s), %s", total, seconds, total / seconds, where)
    return cached


def _written(cached: dict[str, jax.Array], chunk: dict[str, jax.Array], first: jax.Array) -> dict[str, jax.Array]:
    return {key: jax.lax.dynamic_update_slice_in_dim(cached[key], part, first, 0) for key, part in chunk.items()}


def everywhere(array: np.ndarray, whole: jax.sharding.NamedSharding) -> jax.Array:
    """Sends what every process holds to all devices; `jax.device_put` would compare the processes' copies first."""
    return jax.make_array_from_callback(array.shape, whole, lambda index: array[index])


def _free_bytes(devices: Sequence[Any]) -> float | int:
    """Of the fullest one; a CPU has its share of the machine's memory, of a device that does not say it no bound."""

    def free(device: Any) -> float | int:
        known = device.memory_stats()
        if known:
            return known["bytes_limit"] - known["bytes_in_use"]
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return machine / len(devices) if device.platform == "cpu" else math.inf

    return min(map(free, devices))
