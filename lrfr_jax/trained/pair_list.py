"""A csv of pairs of images to compare, with or without what is true of them."""

import csv
import dataclasses

import numpy as np
from jaxtyping import Bool, Int

from lrfr_jax.errors import UserError

COLUMNS = ("first", "second", "is_same", "fold")
_TRUTH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
# As many as LFW has, if the file names none.
_NUM_FOLDS = 10


@dataclasses.dataclass(frozen=True, eq=False)
class PairList:
    """Pairs as their file lists them.

    Attributes:
      images: every image that occurs, once, in order of appearance.
      pairs: places in `images`.
      is_same: whether both show one person; None if the file does not say.
      fold: of each pair; without such a column the pairs of each kind are dealt out to ten folds in turn.
    """

    images: list[str]
    pairs: Int[np.ndarray, "pairs 2"]
    is_same: Bool[np.ndarray, " pairs"] | None
    fold: Int[np.ndarray, " pairs"]


def read(path: str) -> PairList:
    """Reads a csv whose first line names its columns: first and second, and if known is_same (1 or 0) and fold.

    Raises:
      UserError: unreadable, without pairs, or with a wrong column or value; it names the line. Or it says of a pair
        what cannot be.
    """
    rows = _rows(path)
    _check_truth(path, rows)
    place = {name: number for number, name in enumerate(dict.fromkeys(name for row in rows for name in row[:2]))}
    pairs = np.array([[place[row[0]], place[row[1]]] for row in rows])
    if rows[0][2] is None:
        return PairList(list(place), pairs, None, np.zeros(len(rows), np.int64))
    is_same = np.array([row[2] for row in rows])
    if rows[0][3] is not None:
        return PairList(list(place), pairs, is_same, np.array([row[3] for row in rows]))
    fold = np.zeros(len(rows), np.int64)
    for kind in (True, False):
        fold[is_same == kind] = np.arange(np.sum(is_same == kind)) % _NUM_FOLDS
    return PairList(list(place), pairs, is_same, fold)


def _rows(path: str) -> list[tuple[str, str, bool | None, int | None]]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True, skipinitialspace=True)
            reader.fieldnames = [name.strip() for name in reader.fieldnames or []]
            _check_columns(path, reader.fieldnames)
            rows = [_row(row, f"{path} line {reader.line_num}") for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as csv: {error}") from error
    if not rows:
        raise UserError(f"{path} names no pairs: write a line `first,second` for each below the first one")
    return rows


def _check_truth(path: str, rows: list[tuple[str, str, bool | None, int | None]]) -> None:
    told: dict[frozenset[str], bool | None] = {}
    for first, second, is_same, _ in rows:
        if first == second and is_same is False:
            raise UserError(f"{path} says that {first} and {second}, one picture, show different persons: correct it")
        if told.setdefault(frozenset((first, second)), is_same) != is_same:
            raise UserError(
                f"{path} says of {first} and {second} both that they show one person and that they do not: correct it"
            )


def _check_columns(path: str, names: list[str]) -> None:
    unknown = [name for name in names if name not in COLUMNS]
    missing = [name for name in COLUMNS[:2] if name not in names]
    if unknown or missing or len(set(names)) < len(names) or ("fold" in names and "is_same" not in names):
        raise UserError(
            f"the first line of {path} must name its columns, first,second and if known is_same and fold: it is "
            f"{','.join(names)!r}"
        )


def _row(row: dict[str, str], where: str) -> tuple[str, str, bool | None, int | None]:
    if None in row or None in row.values() or not row["first"].strip() or not row["second"].strip():
        raise UserError(f"{where} must have a value for each column of the first line")
    is_same, fold = row.get("is_same"), row.get("fold")
    if is_same is not None and is_same.strip().lower() not in _TRUTH:
        raise UserError(f"{where}: is_same is {is_same!r}, it must be 1 or 0")
    if fold is not None and not fold.strip().isdecimal():
        raise UserError(f"{where}: fold is {fold!r}, it must be a whole number")
    truth = None if is_same is None else _TRUTH[is_same.strip().lower()]
    return row["first"].strip(), row["second"].strip(), truth, None if fold is None else int(fold)
