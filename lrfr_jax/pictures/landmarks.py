"""Faces found in a photo: read from a landmark file, and which of several is taken."""

import csv
import gzip
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from lrfr_jax.errors import UserError
from lrfr_jax.pictures.landmark_forms import Form, form_of


class Face(NamedTuple):
    """One face in a photo; coordinates in pixels of the photo as it is shown (its EXIF orientation applied)."""

    landmarks: Float[np.ndarray, "points 2"]  # two, four or five points in the order of `landmark_forms`
    box: Float[np.ndarray, "4"]  # left, top, right, bottom
    score: float  # the detector's certainty in 0..1; 1 for a face of a landmark file


def read_landmarks(path: str, *, points: str | None = None) -> dict[str, list[Face]]:
    """Reads lines of a photo's name and its landmarks without a header, gzipped where the name ends in `.gz`.

    Commas part the columns, or white space where a line has no comma; lines that begin with # are comments. Several
    lines of one image are several faces in it; a face's box is the extent of its points, or for two eyes the square
    about their middle with their distance as side.

    Args:
      path: the file.
      points: a key of `landmark_forms.FORMS`; if not given, the number of columns in the first line tells.

    Raises:
      UserError: unreadable, empty, or a line with other columns or with a number that is none; it names the line.
    """
    faces: dict[str, list[Face]] = {}
    form = None
    for number, row in _rows(path):
        where = f"{path} line {number}"
        form = form or form_of(points, columns=len(row), where=where)
        faces.setdefault(row[0].strip().removeprefix("./"), []).append(_parse(row, form, where))
    if not faces:
        raise UserError(f"--landmarks {path} is empty: it must hold lines of <identity>/<image> and its landmarks")
    return faces


def check_inside(face: Face, *, height: int, width: int) -> None:
    """Refuses points outside the photo, which belong to another photo or to another size of it.

    Raises:
      ValueError: a point lies outside; the message starts with "has".
    """
    low, high = face.landmarks.min(axis=0), face.landmarks.max(axis=0)
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
    """Yields the lines that hold something, with their numbers."""
    opened = gzip.open if path.endswith(".gz") else open
    try:
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
            rows = map(_cells, csv.reader(file, skipinitialspace=True))
            yield from ((number, cells) for number, cells in enumerate(rows, 1) if cells)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, zlib.error) as error:
        raise UserError(f"--landmarks {path} cannot be read as CSV: {error}") from error


def _cells(row: list[str]) -> list[str]:
    """Parts a line without a comma at white space; nothing is left of a comment."""
    cells = row if len(row) > 1 else " ".join(row).split()
    return [] if cells and cells[0].startswith("#") else cells


def _parse(row: list[str], form: Form, where: str) -> Face:
    if len(row) != form.numbers + 1:
        expected = f"not {form.numbers + 1}: <identity>/<image>,{form.columns}"
        raise UserError(f"{where} has {len(row)} columns, {expected}")
    try:
        numbers = np.array(row[1:], np.float64)
    except ValueError:
        raise UserError(f"{where} must hold {form.numbers} numbers after the image, without a header") from None
    if not np.isfinite(numbers).all():
        raise UserError(f"{where} holds a coordinate that is not finite: leave the line out, or mend it")
    points = form.to_points(numbers)
    return Face(points, _extent(points), score=1.0)


def _extent(points: Float[np.ndarray, "points 2"]) -> Float[np.ndarray, "4"]:
    if len(points) == 2:  # eyes at one height span no area, by which the largest face is found
        middle, half = points.mean(axis=0), np.linalg.norm(points[1] - points[0]) / 2
        return np.concatenate([middle - half, middle + half])
    return np.concatenate([points.min(axis=0), points.max(axis=0)])
