"""`prepare recordio`: packs of MXNet, as InsightFace's sets come (train.rec, train.idx), become a training set."""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from lrfr_jax.data import builders
from lrfr_jax.errors import UserError
from lrfr_jax.pictures import sources
from lrfr_jax.prepare.packs import recordio_packs, recordio_table
from lrfr_jax.prepare.packs.recordio_header import NO_LABEL
from lrfr_jax.prepare.packs.recordio_packs import Pack
from lrfr_jax.prepare.packs.recordio_table import Checked, Layout
from lrfr_jax.prepare.sets import pixel_options, training_options
from lrfr_jax.prepare.sets.pixel_options import PixelOptions
from lrfr_jax.prepare.sets.training_options import Selection

SUMMARY = "MXNet RecordIO (train.rec, train.idx) as InsightFace's sets come -> training set"
EXAMPLE = "python -m lrfr_jax.prepare recordio --source faces_emore --name ms1m --data_dir ~/faces --shards 64"


class _Part(NamedTuple):
    """What is taken of a pack: rows of its table, the labels that they have in it in ascending order, and whose each
    row is, counted from 0 within the pack."""

    pack: Pack
    layout: Layout
    checked: Checked
    rows: np.ndarray
    originals: np.ndarray
    owners: np.ndarray


def add_arguments(add: Callable) -> None:
    """Declares the options of the command; `add` is the parser's `add_argument`."""
    add(
        "--source",
        required=True,
        action="append",
        help="a .rec file of aligned 112x112 faces, or the folder of train.rec; NAME.idx and the file `property` are "
        "looked for beside it. Identities are the labels in it, as integers. May be repeated: the identities of "
        "several packs stay apart, and are called PACK/LABEL",
    )
    training_options.add_arguments(add)


def prepare(arguments: argparse.Namespace) -> str:
    """Makes a training set of the images in all packs, and returns the summary; see `--help` for the arguments.

    Images keep the order of the files. Labels are numbered anew from 0, in the order of the packs and of their old
    labels; `labels.csv` in the set's folder says which became which.

    Raises:
      UserError: files that break their format or contradict each other, bad images under `--on_error error`, fewer
        than two identities, or another set of that name.
    """
    start = time.perf_counter()
    builders.check_target(arguments.name, num_shards=arguments.shards)
    selection, pixels = training_options.read_selection(arguments), pixel_options.read(arguments)
    packs = recordio_packs.find_all(arguments.source)
    is_alone = len(packs) == 1
    if is_alone:
        training_options.check_integers(arguments, selection, of="a .rec file")
    else:
        recordio_packs.check_names(selection, packs)
    found = [
        [source, *(path and sources.fingerprint(path) for path in pack.files)]
        for source, pack in zip(arguments.source, packs, strict=True)
    ]
    record = {
        "kind": "recordio",
        "source": found[0] if is_alone else found,
        **training_options.to_remember(arguments, selection),
    }
    if builders.is_complete(arguments.data_dir, arguments.name, arguments=record):
        return f"{arguments.name} is complete already in {arguments.data_dir}: nothing to do"
    parts = _read_all(packs, selection, pixels, arguments)
    problems = [problem for part in parts for problem in part.checked.problems]
    num_images, num_identities = sum(len(part.rows) for part in parts), sum(len(part.originals) for part in parts)
    if not num_images:
        raise training_options.nothing_left(problems, selection)
    _check_identities(parts, num_identities)
    folder = builders.write_training_set(
        arguments.data_dir,
        arguments.name,
        images=_labeled_images(parts, pixels),
        num_images=num_images,
        identities=_names(parts, is_alone=is_alone, usable_only=True),
        num_shards=arguments.shards,
        arguments=record,
        notes=training_options.skipped_note(problems) | {"labels.csv": _label_map(parts, is_alone=is_alone)},
    )
    seconds = time.perf_counter() - start
    return (
        f"{num_images} images of {num_identities} identities{_of_packs(parts)}, {len(problems)} skipped"
        f"{training_options.occurring(selection, _names(parts, is_alone=is_alone, usable_only=False))}, "
        f"{arguments.shards} shards{_without_idx(packs)}, {seconds:.1f} s, {num_images / seconds:.0f} images/s, "
        f"in {folder}"
    )


def _read_all(
    packs: Sequence[Pack], selection: Selection, pixels: PixelOptions, arguments: argparse.Namespace
) -> list[_Part]:
    """Reads all packs; what can be told of any of them before an image is decoded is told first."""
    layouts = [recordio_table.read_layout(pack.rec, pack.idx) for pack in packs]
    placed = list(zip(packs, layouts, strict=True))
    classes = [recordio_packs.read_property(pack, layout, resize=pixels.resize) for pack, layout in placed]
    _check_before_decoding(layouts, selection, pixels, arguments)
    parts = []
    for (pack, layout), number in zip(placed, classes, strict=True):
        own = recordio_packs.selection_of(pack, selection, is_alone=len(packs) == 1)
        parts.append(_read(pack, layout, own, pixels, arguments.on_error))
        recordio_packs.check_classes(pack, number, layout, parts[-1].checked)
    return parts


def _check_before_decoding(
    layouts: Sequence[Layout], selection: Selection, pixels: PixelOptions, arguments: argparse.Namespace
) -> None:
    """Refuses what bad images can only make worse: hours later it would be too late."""
    keeps_all = pixels.keeps_bytes and selection == Selection(None, frozenset())
    builders.check_fits(
        arguments.data_dir,
        num_images=sum(int(layout.is_image.sum()) for layout in layouts),
        num_bytes=sum(int(layout.stops[-1]) for layout in layouts) if keeps_all else 0,  # else nobody knows yet
        num_shards=arguments.shards,
    )


def _read(pack: Pack, layout: Layout, own: Selection, pixels: PixelOptions, on_error: str) -> _Part:
    """Checks the records of a pack, and chooses the rows to write."""
    checked = recordio_table.check_records(layout, selection=own, pixels=pixels, on_error=on_error)
    found = np.unique(checked.labels[checked.is_usable])
    taken = np.array([label for label in found.tolist() if own.takes(str(label))], np.int32)
    rows = np.flatnonzero(checked.is_usable & np.isin(checked.labels, taken))
    originals, owners = np.unique(checked.labels[rows], return_inverse=True)
    return _Part(pack, layout, checked, rows, originals, owners)


def _check_identities(parts: Sequence[_Part], num_identities: int) -> None:
    """Says where else the identities may stand where all records have one label; others are told by the builder."""
    labels = np.unique(np.concatenate([part.checked.labels[part.checked.labels != NO_LABEL] for part in parts]))
    if num_identities == 1 and len(labels) == 1:
        raise UserError(
            f"every record of {parts[0].pack.rec} has the label {labels[0]}: there is one identity, and nothing to "
            "tell apart; if the persons stand elsewhere, as in a list beside the pack, unpack it into a folder for "
            "each person and use `prepare folder`"
        )


def _names(parts: Sequence[_Part], *, is_alone: bool, usable_only: bool) -> list[str]:
    """The identities that are taken, by their new labels; or all that occur in the packs."""
    labels = (
        part.originals if usable_only else np.unique(part.checked.labels[part.checked.labels != NO_LABEL])
        for part in parts
    )
    return [
        recordio_packs.identity_of(part.pack, label, is_alone=is_alone)
        for part, own in zip(parts, labels, strict=True)
        for label in own.tolist()
    ]


def _labeled_images(parts: Sequence[_Part], pixels: PixelOptions) -> Iterator[tuple[bytes, int]]:
    images = (image for part in parts for image in recordio_table.read_images(part.layout, part.rows))
    starts = np.cumsum([0, *(len(part.originals) for part in parts)]).tolist()
    labels = (start + owner for start, part in zip(starts, parts, strict=False) for owner in part.owners.tolist())
    total = sum(len(part.rows) for part in parts)
    return zip(pixel_options.converted(images, pixels.to_record, total=total), labels, strict=True)


def _label_map(parts: Sequence[_Part], *, is_alone: bool) -> str:
    lines, label = ["original,label,images\n" if is_alone else "pack,original,label,images\n"], 0
    for part in parts:
        for original, count in zip(part.originals.tolist(), np.bincount(part.owners).tolist(), strict=True):
            lines.append(f"{'' if is_alone else f'{part.pack.name},'}{original},{label},{count}\n")
            label += 1
    return "".join(lines)


def _of_packs(parts: Sequence[_Part]) -> str:
    """Says how many identities each of several packs has."""
    if len(parts) == 1:
        return ""
    return f" ({', '.join(f'{len(part.originals)} of {part.pack.name}' for part in parts)})"


def _without_idx(packs: Sequence[Pack]) -> str:
    missing = [pack.rec for pack in packs if pack.idx is None]
    of = "" if len(packs) == 1 or not missing else f" of {', '.join(missing)}"
    return f", records{of} found without an .idx file" if missing else ""
