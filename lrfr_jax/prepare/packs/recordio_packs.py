"""The packs that `prepare recordio` is given: their files, their names, and whom of each to take."""

import dataclasses
import os
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lrfr_jax.data.records import IMAGE_SIZE
from lrfr_jax.errors import UserError
from lrfr_jax.pictures import sources
from lrfr_jax.prepare.packs.recordio_header import NO_LABEL
from lrfr_jax.prepare.packs.recordio_table import Checked, Layout
from lrfr_jax.prepare.sets import training_options
from lrfr_jax.prepare.sets.training_options import Selection

_PROPERTY = re.compile(
    r"\s*([0-9]{1,9})\s*,\s*([0-9]{1,9})\s*,\s*([0-9]{1,9})\s*(?:\n\s*([0-9]{1,18})\s*)?(?:\n[^\0]*)?"
)
_LONGEST_PROPERTY = 256  # bytes
_TRAIN = "train"  # a pack of this name is told by its folder


class Pack(NamedTuple):
    """The files of a pack; None for those that are not there. `name` tells it from others."""

    name: str
    rec: str
    idx: str | None
    property: str | None

    @property
    def files(self) -> tuple[str | None, ...]:
        return self.rec, self.idx, self.property


def find_all(given: Sequence[str]) -> list[Pack]:
    """Finds the packs behind all `--source`: .rec files, or folders with a train.rec.

    Raises:
      UserError: something else, or one pack twice.
    """
    packs: list[Pack] = []
    for source in given:
        pack = _find(source)
        if any(os.path.samefile(pack.rec, other.rec) for other in packs):
            raise UserError(f"--source {source} is given twice: leave it out once")
        taken = {other.name for other in packs}
        names = (pack.name, *(f"{pack.name}_{number}" for number in range(2, len(given) + 1)))
        packs.append(pack._replace(name=next(name for name in names if name not in taken)))
    return packs


def identity_of(pack: Pack, label: int, *, is_alone: bool) -> str:
    """What a set calls an identity: its label, behind the name of its pack where there are several."""
    return str(label) if is_alone else f"{pack.name}/{label}"


def selection_of(pack: Pack, selection: Selection, *, is_alone: bool) -> Selection:
    """What a selection says of the identities of one pack, as integers."""
    if is_alone:
        return selection
    start = f"{pack.name}/"
    only, excluded = (
        None if names is None else frozenset(name.removeprefix(start) for name in names if name.startswith(start))
        for names in (selection.only, selection.excluded)
    )
    return dataclasses.replace(selection, only=only, excluded=excluded)


def check_names(selection: Selection, packs: Sequence[Pack]) -> None:
    """Refuses names that are none of several packs: they would leave nobody out, without a word.

    Raises:
      UserError: a list names something else than PACK/LABEL.
    """
    known = {pack.name for pack in packs}
    for name in sorted((selection.only or frozenset()) | selection.excluded):
        pack, _, label = name.rpartition("/")
        if pack not in known or not training_options.is_integer(label):
            raise UserError(
                f"--only_identities or --exclude_identities names {name!r}: of several packs, write an identity as "
                f"PACK/LABEL, as in {packs[0].name}/17 (packs: {', '.join(sorted(known))})"
            )


def read_property(pack: Pack, layout: Layout, *, resize: bool) -> int | None:
    """Reads `classes,height,width`, and the number of images on a second line if there is one; returns the classes.

    Lines behind these are notes. It is None without the file.

    Raises:
      UserError: the file holds something else, another number of images, or a size that is not to be resized.
    """
    path = pack.property
    if path is None:
        return None
    text = sources.read_text(path, flag="the file") if os.path.getsize(path) <= _LONGEST_PROPERTY else ""
    match = _PROPERTY.fullmatch(text)
    if match is None:
        raise UserError(f"{path} must hold `classes,height,width`, as in `85742,112,112`: correct or remove it")
    classes, height, width, num_images = (int(field) if field else None for field in match.groups())
    if (height, width) != (IMAGE_SIZE, IMAGE_SIZE) and not resize:
        raise UserError(f"{path} says that images have {width}x{height} pixels, {IMAGE_SIZE}x{IMAGE_SIZE} are needed")
    if num_images not in (None, int(layout.is_image.sum())):
        raise UserError(
            f"{path} says that there are {num_images} images, the records are {int(layout.is_image.sum())}: "
            "a file is not whole or not of this pack; correct or remove `property` if the records are right"
        )
    return classes


def check_classes(pack: Pack, classes: int | None, layout: Layout, checked: Checked) -> None:
    """Compares the classes of `property` with the labels.

    Some writers count those that occur, others all to the largest, or the identities' records, of which several may
    have one label.

    Raises:
      UserError: they differ.
    """
    found = np.unique(checked.labels[checked.labels != NO_LABEL])
    counts = (len(found), *(found[-1:] + 1).tolist(), int(layout.is_identity.sum()))
    if classes is not None and len(found) and classes not in counts:
        raise UserError(
            f"{pack.property} says that there are {classes} classes, the records have {len(found)} labels up to "
            f"{found[-1]}: a file is not whole or not of this pack; correct or remove `property` if the records are "
            "right"
        )


def _find(source: str) -> Pack:
    rec = os.path.join(source, f"{_TRAIN}.rec") if os.path.isdir(source) else source
    if not rec.endswith(".rec") or not os.path.isfile(rec):
        raise UserError(f"--source {source} must be a .rec file, or a folder with train.rec in it")
    idx, property_path = f"{rec.removesuffix('.rec')}.idx", os.path.join(os.path.dirname(rec), "property")
    stem = os.path.basename(rec).removesuffix(".rec")
    name = os.path.basename(os.path.dirname(os.path.abspath(rec))) if stem == _TRAIN else stem
    return Pack(
        re.sub(r"[^\w.-]", "_", name), rec, *(path if os.path.exists(path) else None for path in (idx, property_path))
    )
