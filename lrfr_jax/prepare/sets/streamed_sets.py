"""Training sets of files that are read from begin to end, one or several; their images keep the order of the files."""

import argparse
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int32, Int64

from lrfr_jax.data import builders
from lrfr_jax.pictures import sources
from lrfr_jax.pictures.sources import Problem
from lrfr_jax.prepare.packs.streamed import NOBODY, StreamedFile
from lrfr_jax.prepare.sets import pixel_options, several_sources, training_options
from lrfr_jax.prepare.sets.pixel_options import PixelOptions
from lrfr_jax.prepare.sets.several_sources import Joined
from lrfr_jax.prepare.sets.training_options import Selection

# Rows of a file, and what is true of each of its rows: as many as a file has, which differs from file to file.
_Rows, _Flags = Int64[np.ndarray, " _"], Bool[np.ndarray, " _"]


class _All(NamedTuple):
    """The files of all sources.

    Attributes:
      files: in turn.
      names: the identities of all, in the order of names.
      owners: the place in `names` of every row of each file, or `NOBODY`.
    """

    files: list[StreamedFile]
    names: list[str]
    owners: list[Int32[np.ndarray, " _"]]


def prepare(
    arguments: argparse.Namespace,
    *,
    kind: str,
    find_files: Callable[[str], Sequence[str]],
    open_file: Callable[[str], StreamedFile],
    to_remember: dict[str, Any],
) -> str:
    """Makes a training set of the images in all sources, and returns the summary.

    Equal names of identities in several sources are one identity (`several_sources.join` says more), whose images
    --min_images and --max_images count together, bad ones left out; labels number identities in the order of names, 2
    before 10.

    Args:
      arguments: of the command line.
      kind: the command's name, which the set remembers.
      find_files: the files of one `--source`.
      open_file: reads whose images a file holds.
      to_remember: options of the kind, which the set remembers.

    Raises:
      UserError: bad sources, bad images under `--on_error error`, an empty selection, or another set of that name.
    """
    start = time.perf_counter()
    builders.check_target(arguments.name, num_shards=arguments.shards)
    training_options.check_limits(arguments)
    selection, pixels = training_options.read_selection(arguments), pixel_options.read(arguments)
    groups = [
        [path for one in several_sources.expand(source) for path in find_files(one)] for source in arguments.source
    ]
    paths = [path for group in groups for path in group]
    several_sources.check_once(paths)
    record = {
        "kind": kind,
        "sources": [[path, sources.fingerprint(path)] for path in paths],
        "groups": list(map(len, groups)),
        "min_images": arguments.min_images,
        "max_images": arguments.max_images,
        **to_remember,
        **training_options.to_remember(arguments, selection),
    }
    if builders.is_complete(arguments.data_dir, arguments.name, arguments=record):
        return f"{arguments.name} is complete already in {arguments.data_dir}: nothing to do"
    opened = [[open_file(path) for path in group] for group in groups]
    found, joined = _join(arguments.source, opened)
    several_sources.check_names(arguments, selection, names=found.names, joined=joined)
    problems, usable = _check(found, selection, pixels, arguments)
    if not any(rows.any() for rows in usable):
        raise training_options.nothing_left(problems, selection)
    kept = _limited(found, usable, arguments)
    folder, num_images, num_identities = _write(found, kept, pixels, arguments, record, problems)
    seconds = time.perf_counter() - start
    return (
        f"{num_images} images of {num_identities} identities, {len(problems)} skipped"
        f"{training_options.occurring(selection, found.names)}{several_sources.in_words(joined)}, {len(paths)} file"
        f"{'s' if len(paths) > 1 else ''}, {arguments.shards} shards, {seconds:.1f} s, "
        f"{num_images / seconds:.0f} images/s, in {folder}"
    )


def _join(given: Sequence[str], opened: Sequence[Sequence[StreamedFile]]) -> tuple[_All, Joined]:
    """Numbers the identities of all files together."""
    joined = several_sources.join(given, [{name for file in group for name in file.names} for group in opened])
    renamed = [
        (file, [joined.name(place, name) for name in file.names])
        for place, group in enumerate(opened)
        for file in group
    ]
    names = sorted({name for _, own in renamed for name in own}, key=lambda name: (sources.natural(name), name))
    number_of = {name: number for number, name in enumerate(names)}
    owners = []
    for file, own in renamed:
        numbers = np.array([number_of[name] for name in own] + [NOBODY], np.int32)  # NOBODY is -1: the last of them
        owners.append(numbers[file.owners])
    return _All([file for file, _ in renamed], names, owners), joined


def _check(
    found: _All, selection: Selection, pixels: PixelOptions, arguments: argparse.Namespace
) -> tuple[list[Problem], list[_Flags]]:
    """Decodes the images that are selected; returns what is wrong with rows, and which rows may be written."""
    problems = []
    for file in found.files:
        problems += [Problem(file.where(row), reason) for row, reason in file.faults.items()]
        _end_at(problems, arguments)
    takes = np.array([selection.takes(name) for name in found.names] + [False], bool)
    usable = [takes[owners] for owners in found.owners]
    if any(rows.any() for rows in usable):
        _check_before_decoding(found, _limited(found, usable, arguments), pixels, arguments)
    for file, rows in zip(found.files, usable, strict=True):
        wanted = np.flatnonzero(rows)
        reasons = pixel_options.converted(
            file.read(wanted), lambda image: _fault(image, pixels), total=len(wanted), what="check"
        )
        for row, reason in zip(wanted.tolist(), reasons, strict=True):
            if reason is not None:
                problems.append(Problem(file.where(row), reason))
                rows[row] = False
                _end_at(problems, arguments)
    return problems, usable


def _end_at(problems: Sequence[Problem], arguments: argparse.Namespace) -> None:
    if problems and arguments.on_error == "error":
        raise training_options.as_error(problems[0])


def _check_before_decoding(
    found: _All, kept: Sequence[_Rows], pixels: PixelOptions, arguments: argparse.Namespace
) -> None:
    """Refuses what bad images can only make worse: hours later it would be too late."""
    builders.check_identities(_num_identities(found, kept), name=arguments.name)
    num_bytes = sum(
        file.num_bytes * len(rows) // len(file.owners)
        for file, rows in zip(found.files, kept, strict=True)
        if len(rows)
    )
    builders.check_fits(
        arguments.data_dir,
        num_images=sum(map(len, kept)),
        num_bytes=num_bytes if pixels.keeps_bytes else 0,  # else nobody knows yet
        num_shards=arguments.shards,
    )


def _fault(image: bytes | ValueError, pixels: PixelOptions) -> str | None:
    try:
        if isinstance(image, ValueError):
            return str(image)
        pixels.check(image)
    except ValueError as reason:
        return str(reason)
    return None


def _limited(found: _All, usable: Sequence[_Flags], arguments: argparse.Namespace) -> list[_Rows]:
    """The rows of each file that --min_images and --max_images leave; none of an identity that has too few."""
    owners = np.concatenate([owners[rows] for owners, rows in zip(found.owners, usable, strict=True)])
    counts = np.bincount(owners, minlength=len(found.names))
    keeps = counts[owners] >= (arguments.min_images or 1)
    if not keeps.any():
        raise training_options.too_few(arguments)
    if arguments.max_images:
        order = np.argsort(owners, kind="stable")
        place = np.empty(len(owners), np.int64)
        place[order] = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
        keeps &= place < arguments.max_images
    ends = np.cumsum([int(rows.sum()) for rows in usable])[:-1]
    return [np.flatnonzero(rows)[keep] for rows, keep in zip(usable, np.split(keeps, ends), strict=True)]


def _num_identities(found: _All, kept: Sequence[_Rows]) -> int:
    return len(np.unique(np.concatenate([owners[rows] for owners, rows in zip(found.owners, kept, strict=True)])))


def _write(
    found: _All,
    kept: Sequence[_Rows],
    pixels: PixelOptions,
    arguments: argparse.Namespace,
    record: dict[str, Any],
    problems: Sequence[Problem],
) -> tuple[Any, int, int]:
    """Writes the set; returns its folder, and how many images and identities it has."""
    owners = np.concatenate([owners[rows] for owners, rows in zip(found.owners, kept, strict=True)])
    identities, labels = np.unique(owners, return_inverse=True)
    folder = builders.write_training_set(
        arguments.data_dir,
        arguments.name,
        images=zip(_stored(found, kept, pixels, len(labels)), labels.tolist(), strict=True),
        num_images=len(labels),
        identities=[found.names[identity] for identity in identities.tolist()],
        num_shards=arguments.shards,
        arguments=record,
        notes=training_options.skipped_note(problems),
    )
    return folder, len(labels), len(identities)


def _stored(found: _All, kept: Sequence[_Rows], pixels: PixelOptions, total: int) -> Iterator[bytes]:
    images = itertools.chain.from_iterable(
        file.read(rows) for file, rows in zip(found.files, kept, strict=True) if len(rows)
    )
    return pixel_options.converted(images, pixels.to_record, total=total)
