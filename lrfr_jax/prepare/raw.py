"""`prepare raw`: a prepared training set with its pixels as they are, so that a run decodes nothing."""

import argparse
import pathlib
import time
from collections.abc import Callable, Iterator

import tensorflow_datasets as tfds
from tqdm import tqdm

from lrfr_jax.data import builders, face_sets, pipeline, records
from lrfr_jax.pictures import resize
from lrfr_jax.pictures.sources import num_workers
from lrfr_jax.prepare.sets import pixel_options
from lrfr_jax.prepare.sets.pixel_options import PixelOptions

SUMMARY = "prepared training set -> the same set with pixels that need no decoding, 37.6 kB an image"
EXAMPLE = "python -m lrfr_jax.prepare raw --source ~/faces/casia --name casia_raw --data_dir ~/faces --shards 16"

_BATCH = 64  # images that are decoded before they are written, some of them at a time
_IMAGE_BYTES = 3 * records.IMAGE_SIZE**2
# What a set says of itself beside TFDS's own files and `prepared.json`.
_NOTES = ("labels.csv", "skipped.txt")


def add_arguments(add: Callable) -> None:
    """Declares the options of the command; `add` is the parser's `add_argument`."""
    add("--source", required=True, metavar="DATA_DIR/NAME", help="folder of a prepared training set")
    add("--shards", type=int, default=8, help="files to spread the set over")
    pixel_options.add_order(add)


def prepare(arguments: argparse.Namespace) -> str:
    """Makes a training set of the same images, labels and names in the same order, and returns the summary.

    Raises:
      UserError: no such training set, an image that cannot be decoded, no room on the disk, or another set of that
        name.
    """
    start = time.perf_counter()
    builders.check_target(arguments.name, num_shards=arguments.shards)
    source = pathlib.Path(arguments.source).absolute()
    training_set = face_sets.open_training_set(str(source.parent), source.name)
    folder = face_sets.folder_of(str(source.parent), source.name)
    record = {
        "kind": "raw",
        "source": face_sets.read_prepared(folder)["arguments"],
        "images": training_set.num_images,
        "licence": training_set.licence or None,
        "shards": arguments.shards,
        **PixelOptions(False, arguments.order).remembered(),
    }
    if builders.is_complete(arguments.data_dir, arguments.name, arguments=record):
        return f"{arguments.name} is complete already in {arguments.data_dir}: nothing to do"
    builders.check_fits(
        arguments.data_dir,
        num_images=training_set.num_images,
        num_bytes=training_set.num_images * _IMAGE_BYTES,
        num_shards=arguments.shards,
    )
    written = builders.write_training_set(
        arguments.data_dir,
        arguments.name,
        images=_raw_images(training_set, order=arguments.order),
        num_images=training_set.num_images,
        identities=tfds.builder_from_directory(folder).info.features["label"].names,
        num_shards=arguments.shards,
        arguments=record,
        notes={name: (folder / name).read_text() for name in _NOTES if (folder / name).exists()},
    )
    seconds = time.perf_counter() - start
    return (
        f"{training_set.num_images} images of {training_set.num_identities} identities, {arguments.shards} shards, "
        f"{seconds:.1f} s, {training_set.num_images / seconds:.0f} images/s, in {written}"
    )


def _raw_images(training_set: face_sets.TrainingSet, *, order: str) -> Iterator[tuple[bytes, int]]:
    batches = pipeline.stored_batches(
        training_set, batch_size=_BATCH, num_threads=num_workers(), prefetch_images=num_workers() * _BATCH
    )
    with tqdm(total=training_set.num_images, desc="write", unit=" images", disable=None) as bar:
        for batch in batches:
            for image, label in zip(batch["image"], batch["label"].tolist(), strict=True):
                yield records.encode_raw(image[..., ::-1] if order == resize.BGR else image), label
                bar.update()
