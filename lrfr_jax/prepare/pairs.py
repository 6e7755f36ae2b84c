"""`prepare pairs`: an LFW-style pairs file and the images that it names become a verification set."""

import argparse
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lrfr_jax import comma_list
from lrfr_jax.data import builders
from lrfr_jax.data.protocol_arrays import VerificationProtocol
from lrfr_jax.errors import UserError
from lrfr_jax.pictures import sources
from lrfr_jax.pictures.stored_files import SourceImage
from lrfr_jax.prepare import official_counts, pixel_options, verification

SUMMARY = "pairs file in the format of LFW -> verification set"
EXAMPLE = "python -m lrfr_jax.prepare pairs --source faces.tar --pairs pairs.txt --name mine --data_dir ~/faces"

_MATCHED_FIELDS, _MISMATCHED_FIELDS = 3, 4  # name i j | name i name j
_FIRST_LINE = 2  # of the pairs, counted from 1, below the header


class Pair(NamedTuple):
    """One line of a pairs file: two images as `<Name>/<Name>_0001`, their fold (from 1), their place (from 0)."""

    first: str
    second: str
    is_same: bool
    fold: int
    place: int


def add_arguments(add: Callable) -> None:
    """Declares the options of the command; `add` is the parser's `add_argument`."""
    add_files(add)
    verification.add_sizes(add)
    add("--folds", type=_fold_numbers, help="folds to take, counted from 1, as in 9,10; all if not given")


def add_files(add: Callable) -> None:
    """Declares `--source` and `--pairs`."""
    add(
        "--source", required=True, help="folder or uncompressed tar with <Name>/<Name>_0001.jpg (or .jpeg, .png, .webp)"
    )
    add(
        "--pairs",
        required=True,
        metavar="FILE",
        help="the pairs file: `folds<TAB>n`, then n matched, n mismatched a fold",
    )
    pixel_options.add_arguments(add)


def prepare(arguments: argparse.Namespace) -> str:
    """Makes a verification set of the pairs in the chosen folds, and returns the summary; see `--help` and `make`."""
    return make(arguments, kind="pairs", folds=arguments.folds, sizes=arguments.sizes, official={}, allow_partial=False)


def make(
    arguments: argparse.Namespace,
    *,
    kind: str,
    folds: Sequence[int] | None,
    sizes: Sequence[str] | None,
    official: Mapping[str, int],
    allow_partial: bool,
) -> str:
    """Makes a verification set of a pairs file and the images that it names, and returns the summary.

    Only images that occur in a pair are stored. `identities.txt` in the set's folder names their identities, made for
    `prepare folder --exclude_identities`.

    Args:
      arguments: of the command: source, pairs, name, data_dir.
      kind: of the command.
      folds: to take; None: all.
      sizes: files of `verification.read_sizes`, for all folds.
      official: what the set must have, of `folds`, `pairs`, `images` and `identities` in the source, and
        `images in pairs` and `identities in pairs`.
      allow_partial: go on, with a set that is marked, if it has not.

    Raises:
      UserError: a bad pairs file, other counts, a missing or bad image, or another set of that name.
    """
    start = time.perf_counter()
    builders.check_target(arguments.name, num_shards=1)
    text = sources.read_text(arguments.pairs, flag="--pairs")
    all_pairs = parse_pairs(text, path=arguments.pairs)
    pairs = choose_folds(all_pairs, folds)
    all_sizes = verification.read_sizes(sizes, num_pairs=len(all_pairs))
    images = sources.list_images(arguments.source).images
    used, indices = _resolve(pairs, images, path=arguments.pairs, source=arguments.source)
    found = _count(pairs, images, used)
    counts = {thing: (expected, found[thing]) for thing, expected in official.items()}
    is_partial = official_counts.check(counts, allow_partial=allow_partial, what=f"{arguments.source} as {kind}")
    record = {
        "kind": kind,
        "source": [arguments.source, sources.fingerprint(arguments.source)],
        "pairs": hashlib.sha256(text.encode()).hexdigest(),
        "folds": folds,
        "sizes": verification.describe_sizes(all_sizes),
        "partial": is_partial or None,
        **pixel_options.read(arguments).remembered(),
    }
    if builders.is_complete(arguments.data_dir, arguments.name, arguments=record):
        return f"{arguments.name} is complete already in {arguments.data_dir}: nothing to do"
    rows = [pair.place for pair in pairs]
    return verification.write(
        arguments,
        record,
        paths=[image.name for image in used],
        read=lambda place: sources.read_image(used[place]),
        protocol=VerificationProtocol(
            pairs=indices,
            is_same=np.array([pair.is_same for pair in pairs]),
            fold=np.array([pair.fold for pair in pairs], np.int32),
            sizes={name: rows_of[rows] for name, rows_of in all_sizes.items()},
        ),
        identities=sorted({image.identity for image in used}),
        start=start,
    )


def parse_pairs(text: str, *, path: str) -> list[Pair]:
    """Parses LFW's pairs.txt: `folds<TAB>n`, then per fold n lines `name i j` and n lines `name i name j`.

    Raises:
      UserError: a wrong header, a wrong number of lines, or a bad line; it names file and line.
    """
    lines = text.splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    header = _fields(lines[0]) if lines else []
    if len(header) != 2 or not all(field.isdecimal() and int(field) for field in header):
        raise UserError(f"{path} line 1 must be `folds<TAB>pairs of each kind per fold`, as in `10<TAB>300`")
    num_folds, per_kind = map(int, header)
    expected = num_folds * 2 * per_kind
    if len(lines) - 1 != expected:
        raise UserError(
            f"{path} has {len(lines) - 1} pairs, its first line announces {expected}: the file is not whole"
        )
    return [
        _parse_line(line, place=place, per_kind=per_kind, where=f"{path} line {place + _FIRST_LINE}")
        for place, line in enumerate(lines[1:])
    ]


def choose_folds(pairs: list[Pair], folds: list[int] | None) -> list[Pair]:
    """Keeps the pairs of the given folds (None: all of them), with their fold numbers."""
    existing = {pair.fold for pair in pairs}
    missing = sorted(set(folds or ()) - existing)
    if missing:
        raise UserError(f"--folds names fold {missing[0]}, the pairs file has 1 to {max(existing)}")
    return [pair for pair in pairs if folds is None or pair.fold in folds]


def _fold_numbers(text: str) -> list[int]:
    try:
        return sorted(set(map(int, comma_list.words(text))))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} must be fold numbers with commas between, as in 9,10") from None


def _parse_line(line: str, *, place: int, per_kind: int, where: str) -> Pair:
    is_same = place // per_kind % 2 == 0
    fields = _fields(line)
    if len(fields) != (_MATCHED_FIELDS if is_same else _MISMATCHED_FIELDS):
        form = "name<TAB>i<TAB>j, a matched pair" if is_same else "name<TAB>i<TAB>name<TAB>j, a mismatched pair"
        raise UserError(f"{where} must be {form}: it is {line!r}")
    names = (fields[0], fields[0] if is_same else fields[2])
    numbers = (fields[1], fields[-1])
    if not all(number.isdecimal() for number in numbers):
        raise UserError(f"{where} must number its images with integers: it is {line!r}")
    if not is_same and names[0] == names[1]:
        raise UserError(f"{where} stands among the mismatched pairs but names {names[0]} twice")
    first, second = (f"{name}/{name}_{int(number):04d}" for name, number in zip(names, numbers, strict=True))
    return Pair(first, second, is_same, place // (2 * per_kind) + 1, place)


def _fields(line: str) -> list[str]:
    """Splits at tabs, so that names may hold spaces; a line without tabs at spaces."""
    return [field.strip() for field in line.split("\t")] if "\t" in line else line.split()


def _resolve(
    pairs: list[Pair], images: list[SourceImage], *, path: str, source: str
) -> tuple[list[SourceImage], np.ndarray]:
    """Finds each pair's images; returns those that occur, in the source's order, and pairs of indices."""
    by_stem: dict[str, SourceImage] = {}
    for image in images:
        stem = image.name.rsplit(".", 1)[0]
        if stem in by_stem:
            raise UserError(f"{source} holds both {by_stem[stem].name} and {image.name}: leave one of them")
        by_stem[stem] = image
    for pair in pairs:
        for stem in (pair.first, pair.second):
            if stem not in by_stem:
                raise UserError(f"{path} line {pair.place + _FIRST_LINE} names {stem}, which {source} does not hold")
    occurring = {stem for pair in pairs for stem in (pair.first, pair.second)}
    stems = [stem for stem in by_stem if stem in occurring]
    place = {stem: index for index, stem in enumerate(stems)}
    indices = np.array([[place[pair.first], place[pair.second]] for pair in pairs], np.int32)
    return [by_stem[stem] for stem in stems], indices


def _count(pairs: list[Pair], images: list[SourceImage], used: list[SourceImage]) -> dict[str, int]:
    return {
        "folds": len({pair.fold for pair in pairs}),
        "pairs": len(pairs),
        "images": len(images),
        "identities": len({image.identity for image in images}),
        "images in pairs": len(used),
        "identities in pairs": len({image.identity for image in used}),
    }
