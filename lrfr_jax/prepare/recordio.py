"""`prepare recordio`: a pack of MXNet, as InsightFace's sets come (train.rec, train.idx), becomes a training set."""

import argparse
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from lrfr_jax.data import builders
from lrfr_jax.data.records import IMAGE_SIZE
from lrfr_jax.errors import UserError
from lrfr_jax.pictures import sources
from lrfr_jax.prepare import pixel_options, recordio_table, training_options
from lrfr_jax.prepare.pixel_options import PixelOptions
from lrfr_jax.prepare.recordio_header import NO_LABEL
from lrfr_jax.prepare.recordio_table import Checked, Layout
from lrfr_jax.prepare.training_options import Selection

SUMMARY = "MXNet RecordIO (train.rec, train.idx) as InsightFace's sets come -> training set"
EXAMPLE = "python -m lrfr_jax.prepare recordio --source faces_emore --name ms1m --data_dir ~/faces --shards 64"

_PROPERTY = re.compile(r"\s*([0-9]{1,9})\s*,\s*([0-9]{1,9})\s*,\s*([0-9]{1,9})\s*(?:\n\s*([0-9]{1,18})\s*)?")
_LONGEST_PROPERTY = 256  # bytes


class _Pack(NamedTuple):
    """The files of a pack; None for those that are not there."""

    rec: str
    idx: str | None
    property: str | None


def add_arguments(add: Callable) -> None:
    """Declares the options of the command; `add` is the parser's `add_argument`."""
    add(
        "--source",
        required=True,
        help="a .rec file of aligned 112x112 faces, or the folder of train.rec; NAME.idx and the file `property` are "
        "looked for beside it. Identities are the labels in it, as integers",
    )
    training_options.add_arguments(add)


def prepare(arguments: argparse.Namespace) -> str:
    """Makes a training set of the images in a pack, and returns the summary; see `--help` for the arguments.

    Images keep the order of the file. Labels are numbered anew from 0, in the order of the old ones; `labels.csv` in
    the set's folder says which became which.

    Raises:
      UserError: files that break their format or contradict each other, bad images under `--on_error error`, an empty
        selection, or another set of that name.
    """
    start = time.perf_counter()
    builders.check_target(arguments.name, num_shards=arguments.shards)
    selection, pixels = training_options.read_selection(arguments), pixel_options.read(arguments)
    training_options.check_integers(arguments, selection, of="a .rec file")
    pack = _find_pack(arguments.source)
    record = {
        "kind": "recordio",
        "source": [arguments.source, *(path and sources.fingerprint(path) for path in pack)],
        **training_options.to_remember(arguments, selection),
    }
    if builders.is_complete(arguments.data_dir, arguments.name, arguments=record):
        return f"{arguments.name} is complete already in {arguments.data_dir}: nothing to do"
    layout = recordio_table.read_layout(pack.rec, pack.idx)
    checked = recordio_table.check_records(layout, selection=selection, pixels=pixels, on_error=arguments.on_error)
    _check_property(pack.property, layout, checked)
    rows, originals, labels = _choose(checked, selection)
    folder = builders.write_training_set(
        arguments.data_dir,
        arguments.name,
        images=_labeled_images(layout, rows, labels, pixels),
        num_images=len(rows),
        identities=[str(original) for original in originals],
        num_shards=arguments.shards,
        arguments=record,
        notes=training_options.skipped_note(checked.problems) | {"labels.csv": _label_map(originals, labels)},
    )
    seconds = time.perf_counter() - start
    without = "" if pack.idx else ", records found without an .idx file"
    labels_in_pack = np.unique(checked.labels[checked.labels != NO_LABEL])
    occurring = training_options.occurring(selection, map(str, labels_in_pack.tolist()))
    return (
        f"{len(rows)} images of {len(originals)} identities, {len(checked.problems)} skipped{occurring}, "
        f"{arguments.shards} shards{without}, {seconds:.1f} s, {len(rows) / seconds:.0f} images/s, in {folder}"
    )


def _find_pack(source: str) -> _Pack:
    rec = os.path.join(source, "train.rec") if os.path.isdir(source) else source
    if not rec.endswith(".rec") or not os.path.isfile(rec):
        raise UserError(f"--source {source} must be a .rec file, or a folder with train.rec in it")
    idx, property_path = f"{rec.removesuffix('.rec')}.idx", os.path.join(os.path.dirname(rec), "property")
    return _Pack(rec, *(path if os.path.exists(path) else None for path in (idx, property_path)))


def _choose(checked: Checked, selection: Selection) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the rows to write, the old labels in ascending order, and the new label of each row."""
    found = np.unique(checked.labels[checked.is_usable])
    taken = np.array([label for label in found.tolist() if selection.takes(str(label))], np.int32)
    rows = np.flatnonzero(checked.is_usable & np.isin(checked.labels, taken))
    if not len(rows):
        raise training_options.nothing_left(checked.problems, selection)
    originals, labels = np.unique(checked.labels[rows], return_inverse=True)
    return rows, originals, labels


def _labeled_images(
    layout: Layout, rows: np.ndarray, labels: np.ndarray, pixels: PixelOptions
) -> Iterator[tuple[bytes, int]]:
    images = pixel_options.converted(recordio_table.read_images(layout, rows), pixels.to_record, total=len(rows))
    return zip(images, map(int, labels), strict=True)


def _label_map(originals: np.ndarray, labels: np.ndarray) -> str:
    counts = np.bincount(labels)
    lines = (f"{original},{label},{counts[label]}\n" for label, original in enumerate(originals))
    return "original,label,images\n" + "".join(lines)


def _check_property(path: str | None, layout: Layout, checked: Checked) -> None:
    """Compares `classes,height,width`, and the number of images on a second line if there is one, with the records.

    Some writers count the labels that occur, others all up to the largest.
    """
    if path is None:
        return
    text = sources.read_text(path, flag="the file") if os.path.getsize(path) <= _LONGEST_PROPERTY else ""
    match = _PROPERTY.fullmatch(text)
    if match is None:
        raise UserError(f"{path} must hold `classes,height,width`, as in `85742,112,112`: correct or remove it")
    classes, height, width, num_images = (int(field) if field else None for field in match.groups())
    if (height, width) != (IMAGE_SIZE, IMAGE_SIZE):
        raise UserError(f"{path} says that images have {width}x{height} pixels, {IMAGE_SIZE}x{IMAGE_SIZE} are needed")
    found = np.unique(checked.labels[checked.labels != NO_LABEL])
    if len(found) and classes not in (len(found), int(found[-1]) + 1):
        raise UserError(
            f"{path} says that there are {classes} classes, the records have {len(found)} labels up to {found[-1]}: "
            "a file is not whole or not of this pack; correct or remove `property` if the records are right"
        )
    if num_images not in (None, int(layout.is_image.sum())):
        raise UserError(
            f"{path} says that there are {num_images} images, the records are {int(layout.is_image.sum())}: "
            "a file is not whole or not of this pack; correct or remove `property` if the records are right"
        )
