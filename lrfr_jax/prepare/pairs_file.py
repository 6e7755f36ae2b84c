"""Files of pairs: LFW's form, and a csv as `verify` reads it."""

from typing import NamedTuple

from lrfr_jax import pair_list
from lrfr_jax.errors import UserError

_MATCHED_FIELDS, _MISMATCHED_FIELDS = 3, 4  # name i j | name i name j
FIRST_LINE = 2  # of the pairs, counted from 1, below the header


class Pair(NamedTuple):
    """One line of a pairs file: two images, their fold (from 1), their place (from 0).

    Images are `<Name>/<Name>_0001` in LFW's form and paths, with the suffix or without it, in a csv.
    """

    first: str
    second: str
    is_same: bool
    fold: int
    place: int


def parse(text: str, *, path: str) -> list[Pair]:
    """Parses either form of a pairs file.

    Raises:
      UserError: as in `parse_pairs` and `pair_list.read`, or a csv that does not say who is who.
    """
    header = next(iter(text.splitlines()), "")
    if "first" not in [name.strip().strip('"') for name in header.split(",")]:
        return parse_pairs(text, path=path)
    listed = pair_list.read(path)
    if listed.is_same is None:
        raise UserError(f"{path} has no column is_same: add it, 1 for two images of one person and 0 for others")
    first_fold = listed.fold + (listed.fold.min() == 0)  # folds are counted from 1
    return [
        Pair(listed.images[first], listed.images[second], bool(is_same), int(fold), place)
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
        _parse_line(line, place=place, per_kind=per_kind, where=f"{path} line {place + FIRST_LINE}")
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
    return Pair(first, second, is_same, place // (2 * per_kind) + 1, place)


def _fields(line: str) -> list[str]:
    """Splits at tabs, so that names may hold spaces; a line without tabs at spaces."""
    return [field.strip() for field in line.split("\t")] if "\t" in line else line.split()
