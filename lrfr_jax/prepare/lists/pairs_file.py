"""Files of pairs: LFW's form, a csv as `verify` reads it, and `path path 1` lines."""

import csv
from typing import NamedTuple

import numpy as np

from lrfr_jax.errors import UserError
from lrfr_jax.trained import pair_list

_MATCHED_FIELDS, _MISMATCHED_FIELDS = 3, 4  # name i j | name i name j
_FIRST_LINE = 2  # of the pairs, counted from 1, below the header


class Pair(NamedTuple):
    """One line of a pairs file: two images, their fold (from 1), their place among the pairs (from 0), and the line.

    Images are `<Name>/<Name>_0001` in LFW's form, in the others paths with a suffix or without.
    """

    first: str
    second: str
    is_same: bool
    fold: int
    place: int
    line: int


_SAME = {"1": True, "0": False, "-1": False}
_DEALT_FOLDS = 10  # where the file names none, as many as LFW has


def names_paths(text: str) -> bool:
    """Whether a pairs file names images by their paths, so that these need not lie as LFW's do."""
    first = _first_line(text)
    return _has_header(first) or len(_at_any(first)) == 3  # LFW's first line has two fields


def parse(text: str, *, path: str) -> list[Pair]:
    """Parses any form of a pairs file.

    Raises:
      UserError: as in `parse_pairs` and `pair_list.read`, a csv that does not say who is who, or a bad line.
    """
    if not names_paths(text):
        return parse_pairs(text, path=path)
    return _parse_csv(path) if _has_header(_first_line(text)) else _parse_triples(text, path=path)


def _first_line(text: str) -> str:
    return next((line for line in text.splitlines() if line.strip()), "")


def _has_header(line: str) -> bool:
    return "first" in [name.strip().strip('"') for name in line.split(",")]


def _at_any(line: str) -> list[str]:
    """Splits at tabs, else at commas, else at spaces."""
    if "\t" in line:
        return [field.strip() for field in line.split("\t")]
    return next(csv.reader([line], skipinitialspace=True)) if "," in line else line.split()


def _parse_triples(text: str, *, path: str) -> list[Pair]:
    rows = [(number, _at_any(line)) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    for number, fields in rows:
        if len(fields) != 3 or fields[2].strip() not in _SAME:
            raise UserError(f"{path} line {number} must be two paths and 1 or 0, parted as in the first line: {fields}")
    is_same = np.array([_SAME[fields[2].strip()] for _, fields in rows])
    fold = np.zeros(len(rows), int)
    for kind in (True, False):
        fold[is_same == kind] = np.arange(np.sum(is_same == kind)) % _DEALT_FOLDS + 1
    return [
        Pair(fields[0].strip(), fields[1].strip(), bool(same), int(of_fold), place, number)
        for place, ((number, fields), same, of_fold) in enumerate(zip(rows, is_same, fold, strict=True))
    ]


def _parse_csv(path: str) -> list[Pair]:
    listed = pair_list.read(path)
    if listed.is_same is None:
        raise UserError(f"{path} has no column is_same: add it, 1 for two images of one person and 0 for others")
    first_fold = listed.fold + (listed.fold.min() == 0)  # folds are counted from 1
    return [
        Pair(listed.images[first], listed.images[second], bool(is_same), int(fold), place, place + _FIRST_LINE)
        for place, ((first, second), is_same, fold) in enumerate(
            zip(listed.pairs.tolist(), listed.is_same, first_fold, strict=True)
        )
    ]


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
    return Pair(first, second, is_same, place // (2 * per_kind) + 1, place, place + _FIRST_LINE)


def _fields(line: str) -> list[str]:
    """Splits at tabs, so that names may hold spaces; a line without tabs at spaces."""
    return [field.strip() for field in line.split("\t")] if "\t" in line else line.split()
