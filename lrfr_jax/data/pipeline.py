"""From records to batches: the k-th batch is a function of dataset, seed, batch size and k, and of nothing else."""

import sys
from collections.abc import Iterator, Mapping

import grain
import numpy as np

from lrfr_jax.data import face_sets, records
from lrfr_jax.errors import UserError


def _decode(record: Mapping) -> dict[str, np.ndarray]:
    try:
        image = records.decode_image(record["image"])
    except ValueError as error:
        raise UserError(f"a training record with label {record['label']} {error}; prepare the set again") from error
    return {"image": image, "label": np.asarray(record["label"], np.int32)}


def training_batches(
    training_set: face_sets.TrainingSet,
    *,
    batch_size: int,
    seed: int,
    start_batch: int,
    process_index: int,
    process_count: int,
    num_threads: int,
    prefetch_images: int,
) -> Iterator[dict[str, np.ndarray]]:
    """Iterates without end over this process's share of the batches from number `start_batch` on.

    The order is one global shuffle per epoch, seeded by (seed, epoch); an epoch's last images and the next one's first
    share a batch, so no image is dropped. Each process reads its own consecutive part of every batch, so the joined
    batch is the same, image by image, for any number of processes. Starting at a batch costs nothing: the batch number
    is all that a checkpoint must hold of the data.

    Args:
      training_set: what `face_sets.open_training_set` returned.
      batch_size: images over all processes; divisible by `process_count`.
      start_batch: number of the first batch returned; 0 for a fresh run.
      num_threads: threads that read and decode in this process.
      prefetch_images: decoded images that may wait in memory.

    Yields:
      {'image': uint8 [batch_size / process_count, 112, 112, 3], 'label': int32 [batch_size / process_count]}.

    Raises:
      UserError: a record cannot be decoded, or the batch is not divisible by the processes.
    """
    if batch_size % process_count:
        raise UserError(f"batch_size={batch_size} cannot be split evenly over {process_count} processes")
    share = batch_size // process_count
    records_in_order = grain.MapDataset.source(training_set.source).seed(seed).shuffle().repeat(reseed_each_epoch=True)

    def read(position: int) -> dict[str, np.ndarray]:
        batch, place = divmod(int(position), share)
        return _decode(records_in_order[batch * batch_size + process_index * share + place])

    images = grain.MapDataset.range(start_batch * share, sys.maxsize).map(read)
    in_background = images.to_iter_dataset(
        grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=prefetch_images)
    )
    return iter(in_background.batch(share, drop_remainder=True))
