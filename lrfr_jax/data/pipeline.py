"""From records to batches: the k-th batch is a function of dataset, order, seed, batch size and k, of nothing else."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence

import grain
import numpy as np
from jaxtyping import UInt8

from lrfr_jax.data import face_sets, records
from lrfr_jax.data.batches import Source
from lrfr_jax.errors import UserError

# Images that a thread reads and decodes at a time, or as many as divide the batch.
TURN = 16
# Batches of record numbers that wait: enough that no one waits for them.
NUMBERS_AHEAD = 8


def _decode(record: Mapping) -> UInt8[np.ndarray, "112 112 3"]:
    try:
        return records.decode_image(record["image"])
    except ValueError as error:
        raise UserError(f"a training record with label {record['label']} {error}; prepare the set again") from error


def training_batches(
    source: Source,
    *,
    start_batch: int,
    process_index: int,
    process_count: int,
    num_threads: int,
    prefetch_images: int,
) -> Iterator[dict[str, np.ndarray]]:
    """Iterates without end over this process's share of the batches from number `start_batch` on.

    Each process reads its own consecutive part of every batch, so the joined batch is the same, image by image, for any
    number of processes. Starting at a batch costs nothing: the batch number is all that a checkpoint must hold of the
    data.

    Args:
      source: what `batches.make_source` returned; `process_count` divides its batch.
      start_batch: number of the first batch returned; 0 for a fresh run.
      num_threads: threads that read and decode in this process; with 0 the caller does, when it asks for a batch.
      prefetch_images: decoded images that may wait in memory.

    Yields:
      {'image': uint8 [batch_size / process_count, 112, 112, 3], 'label': int32 [batch_size / process_count]}.

    Raises:
      UserError: a record cannot be decoded, the batch is not divisible by the processes, or a number is below 0.
    """
    share = _share(source.batch_size, process_count)
    size = _turn(share, num_threads, prefetch_images)
    turns = share // size

    def read(number: int) -> dict[str, np.ndarray]:
        batch, turn = divmod(int(number), turns)
        first = batch * source.batch_size + process_index * share + turn * size
        return _read(source.training_set, source.order(np.arange(first, first + size)).tolist())

    reads = grain.MapDataset.range(start_batch * turns, sys.maxsize).map(read)
    options = _options(num_threads, turns_waiting=-(-prefetch_images // size))
    return iter(reads.to_iter_dataset(options).batch(turns, drop_remainder=True, batch_fn=_joined))


def training_numbers(
    source: Source, *, start_batch: int, process_index: int, process_count: int
) -> Iterator[dict[str, np.ndarray]]:
    """Iterates over the same batches as `training_batches`, each image by the number of its record.

    Yields:
      {'record': int32 [batch_size / process_count]}.
    """
    share = _share(source.batch_size, process_count)

    def draw(batch: int) -> dict[str, np.ndarray]:
        first = int(batch) * source.batch_size + process_index * share
        return {"record": source.order(np.arange(first, first + share)).astype(np.int32)}

    draws = grain.MapDataset.range(start_batch, sys.maxsize).map(draw)
    return iter(draws.to_iter_dataset(_options(1, turns_waiting=NUMBERS_AHEAD)))


def stored_batches(
    training_set: face_sets.TrainingSet, *, batch_size: int, num_threads: int, prefetch_images: int
) -> Iterator[dict[str, np.ndarray]]:
    """Iterates once over all images as they are stored; form, threads and errors as in `training_batches`.

    The last batch holds what is left.
    """
    size = _turn(batch_size, num_threads, prefetch_images)

    def read(turn: int) -> dict[str, np.ndarray]:
        first = int(turn) * size
        return _read(training_set, range(first, min(first + size, training_set.num_images)))

    reads = grain.MapDataset.range(-(-training_set.num_images // size)).map(read)
    options = _options(num_threads, turns_waiting=-(-prefetch_images // size))
    return iter(reads.to_iter_dataset(options).batch(batch_size // size, drop_remainder=False, batch_fn=_joined))


def _options(num_threads: int, *, turns_waiting: int) -> grain.ReadOptions:
    if num_threads < 0 or turns_waiting < 0:
        raise UserError("input.num_threads and input.prefetch_images must be at least 0, where the loop itself reads")
    # A thread without room for its turn would only wait; grain warns of such.
    return grain.ReadOptions(num_threads=min(num_threads, turns_waiting), prefetch_buffer_size=turns_waiting)


def _share(batch_size: int, process_count: int) -> int:
    if batch_size % process_count:
        raise UserError(f"batch_size={batch_size} cannot be split evenly over {process_count} processes")
    return batch_size // process_count


def _turn(count: int, num_threads: int, prefetch_images: int) -> int:
    """How many images a thread reads and decodes at a time.

    Some, not one: handing each of them over would take longer than decoding it. A whole batch, which need not be
    joined from parts, where every thread can have one waiting.
    """
    if count * num_threads <= prefetch_images:
        return count
    return max(size for size in range(1, TURN + 1) if count % size == 0)


def _read(training_set: face_sets.TrainingSet, numbers: Iterable[int]) -> dict[str, np.ndarray]:
    numbers = list(numbers)
    images, labels = np.empty((len(numbers), records.IMAGE_SIZE, records.IMAGE_SIZE, 3), np.uint8), []
    for place, number in enumerate(numbers):
        record = training_set.source[number]
        images[place] = _decode(record)  # at once, while it is in the processor's cache
        labels.append(record["label"])
    return {"image": images, "label": np.asarray(labels, np.int32)}


def _joined(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    if len(parts) == 1:
        return parts[0]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
