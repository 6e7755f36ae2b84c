"""Faces found in a photo: read from a landmark file, and which of several is taken."""

import csv
import gzip
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from lrfr_jax.errors import UserError

_NUM_POINTS = 5
_COLUMNS = 1 + 2 * _NUM_POINTS


class Face(NamedTuple):
    """One face in a photo; coordinates in pixels of the photo as it is shown (its EXIF orientation applied)."""

    landmarks: Float[np.ndarray, "5 2"]
    box: Float[np.ndarray, "4"]  # left, top, right, bottom
    score: float  # the detector's certainty in 0..1; 1 for a face of a landmark file


def read_landmarks(path: str) -> dict[str, list[Face]]:
    """Reads `<identity>/<image>,x1,y1,...,x5,y5` lines without a header, gzipped where the name ends in `.gz`.

    Points: the eye left in the image, the right one, the nose, the left and the right corner of the mouth. Several
    lines of one image are several faces in it; a face's box is the extent of its points.

    Raises:
      UserError: unreadable, empty, or a line with other columns or with a number that is none; it names the line.
    """
    faces: dict[str, list[Face]] = {}
    for number, row in _rows(path):
        faces.setdefault(row[0].strip().removeprefix("./"), []).append(_parse(row, f"{path} line {number}"))
    if not faces:
        raise UserError(f"--landmarks {path} is empty: it must hold <identity>/<image>,x1,y1,...,x5,y5 lines")
    return faces


def check_inside(face: Face, *, height: int, width: int) -> None:
    """Refuses points outside the photo, which belong to another photo or to another size of it.

    Raises:
      ValueError: a point lies outside; the message starts with "has".
    """
    low, high = face.box[:2], face.box[2:]
    if (low < 0).any() or (high > (width, height)).any():
        x, y = low if (low < 0).any() else high
        raise ValueError(f"has {width}x{height} pixels, its landmarks reach to x={x:.1f}, y={y:.1f}")


def _area(face: Face, height: int, width: int) -> float:
    return float(np.prod(face.box[2:] - face.box[:2]))


def _centrality(face: Face, height: int, width: int) -> float:
    middle = (face.box[:2] + face.box[2:]) / 2
    return -float(np.linalg.norm(middle - (width / 2, height / 2)))


def _score(face: Face, height: int, width: int) -> float:
    return face.score


# Which of several faces is taken: the one with the greatest value; of equal ones the first.
CHOICES: dict[str, Callable[[Face, int, int], float]] = {
    "largest": _area,
    "centre": _centrality,
    "highest_score": _score,
}


def choose_face(faces: Sequence[Face], *, choice: str, height: int, width: int) -> Face:
    """Picks one of the faces in a photo of this size by a rule of `CHOICES`."""
    return max(faces, key=lambda face: CHOICES[choice](face, height, width))


def _rows(path: str) -> Iterator[tuple[int, list[str]]]:
    """Yields the lines that are not empty, with their numbers."""
    opened = gzip.open if path.endswith(".gz") else open
    try:
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
            yield from ((number, row) for number, row in enumerate(csv.reader(file, skipinitialspace=True), 1) if row)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, zlib.error) as error:
        raise UserError(f"--landmarks {path} cannot be read as CSV: {error}") from error


def _parse(row: list[str], where: str) -> Face:
    if len(row) != _COLUMNS:
        raise UserError(f"{where} has {len(row)} columns, not {_COLUMNS}: <identity>/<image>,x1,y1,...,x5,y5")
    try:
        points = np.array(row[1:], np.float64).reshape(_NUM_POINTS, 2)
    except ValueError:
        raise UserError(f"{where} must hold {2 * _NUM_POINTS} numbers after the image, without a header") from None
    if not np.isfinite(points).all():
        raise UserError(f"{where} holds a coordinate that is not finite: leave the line out, or mend it")
    return Face(points, np.concatenate([points.min(0), points.max(0)]), score=1.0)
