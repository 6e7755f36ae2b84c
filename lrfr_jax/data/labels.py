"""The label of every record of a training set: a small file beside the shards, or the records without their images."""

import concurrent.futures

import numpy as np
from jaxtyping import Int32

from lrfr_jax.data import face_sets
from lrfr_jax.errors import NPZ_ERRORS, UserError
from lrfr_jax.terminal import progress

# Records that are read at a time: half the time of one by one.
CHUNK = 256


def read(training_set: face_sets.TrainingSet, *, num_threads: int) -> Int32[np.ndarray, " images"]:
    """Returns the labels in the order of the records.

    Sets of older versions lack the file; their records are read, which takes 20 s a million and the time of the disk.

    Raises:
      UserError: the file, or a record, is damaged.
    """
    path = training_set.path / face_sets.LABELS if training_set.path else None
    if path is None or not path.exists():
        return _of_records(training_set, num_threads)
    try:
        found = np.load(path, allow_pickle=False)
    except NPZ_ERRORS as error:
        raise UserError(f"{path} is damaged ({error!r}): remove it, and the records are read instead") from error
    is_sound = found.shape == (training_set.num_images,) and found.dtype == np.int32
    if not is_sound or found.min() < 0 or found.max() >= training_set.num_identities:
        raise UserError(f"{path} is not that of this set: remove it, and the records are read instead")
    return found


def _of_records(training_set: face_sets.TrainingSet, num_threads: int) -> Int32[np.ndarray, " images"]:
    total = training_set.num_images
    found = np.empty(total, np.int32)

    def fill(first: int) -> int:
        numbers = range(first, min(first + CHUNK, total))
        found[first : numbers.stop] = training_set.source.labels(numbers)
        return len(numbers)

    chunks = range(0, total, CHUNK)
    what = "labels of the training set"
    with (
        concurrent.futures.ThreadPoolExecutor(max(num_threads, 1)) as pool,
        progress.bar(total, what, "images") as told,
    ):
        for count in pool.map(fill, chunks):
            told.update(count)
    return found
