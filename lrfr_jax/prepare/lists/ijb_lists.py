"""The lists of IJB-B and IJB-C as InsightFace distributes them: images, templates, pairs, galleries and probes."""

import csv
import itertools
import os
import warnings
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from lrfr_jax.errors import UserError
from lrfr_jax.pictures import sources

GALLERIES = {"ijbb": ("S1", "S2"), "ijbc": ("G1", "G2")}
_LANDMARK_NUMBERS = 10
_TEMPLATE, _SUBJECT = "TEMPLATE_ID", "SUBJECT_ID"


class Images(NamedTuple):
    """What the lists say of every image: its name, five landmarks (x, y), detector score, template and media."""

    names: list[str]
    landmarks: Float[np.ndarray, "images 5 2"]
    faceness: Float[np.ndarray, " images"]
    templates: Int[np.ndarray, " images"]
    media: Int[np.ndarray, " images"]


def read_images(meta: str, edition: str) -> Images:
    """Reads EDITION_name_5pts_score.txt and EDITION_face_tid_mid.txt.

    Raises:
      UserError: a list is missing or bad, or their lines are not about the same images.
    """
    points_path = os.path.join(meta, f"{edition}_name_5pts_score.txt")
    templates_path = os.path.join(meta, f"{edition}_face_tid_mid.txt")
    names, numbers = _named_numbers(points_path, columns=_LANDMARK_NUMBERS + 1, dtype=np.float64)
    same_names, places = _named_numbers(templates_path, columns=2, dtype=np.int64)
    for line, (name, same) in enumerate(itertools.zip_longest(names, same_names), start=1):
        if name != same:
            raise UserError(f"line {line} of {points_path} names {name}, that of {templates_path} names {same}")
    landmarks, faceness = numbers[:, :-1].reshape(-1, 5, 2), numbers[:, -1]
    bad = ~np.isfinite(numbers).all(axis=1) | (faceness < 0) | (np.ptp(landmarks, axis=1) == 0).all(axis=1)
    if bad.any():
        raise UserError(
            f"{points_path}: {names[np.argmax(bad)]} must have five finite landmarks that differ, and a score from 0 on"
        )
    return Images(names, landmarks, faceness.astype(np.float32), places[:, 0], places[:, 1])


def read_pairs(meta: str, edition: str) -> tuple[Int[np.ndarray, "pairs 2"], Bool[np.ndarray, " pairs"]]:
    """Reads EDITION_template_pair_label.txt: pairs of templates, and whether they show one subject.

    Raises:
      UserError: the list is missing or bad.
    """
    path = os.path.join(meta, f"{edition}_template_pair_label.txt")
    table = _numbers(path, columns=3, dtype=np.int32)
    if not np.isin(table[:, 2], (0, 1)).all():
        raise UserError(f"{path}: each line must be two templates and a label of 0 or 1")
    return table[:, :2], table[:, 2] == 1


def read_subjects(
    meta: str, edition: str, part: str
) -> tuple[Int[np.ndarray, " templates"], Int[np.ndarray, " templates"]]:
    """Reads EDITION_1N_PART.csv, a line per image: its templates, each once and in order, and their subjects.

    Raises:
      UserError: the list is missing or bad, or gives a template two subjects.
    """
    path = os.path.join(meta, f"{edition}_1N_{part}.csv")
    rows = csv.reader(sources.read_text(path, flag="--meta").splitlines())
    header = [name.strip().upper() for name in next(rows, [])]
    if _TEMPLATE not in header or _SUBJECT not in header:
        raise UserError(f"{path} must begin with the names of its columns, {_TEMPLATE} and {_SUBJECT} among them")
    columns = header.index(_TEMPLATE), header.index(_SUBJECT)
    subjects: dict[int, int] = {}
    for row in filter(None, rows):
        try:
            template, subject = (int(row[column]) for column in columns)
        except (ValueError, IndexError):
            raise UserError(f"{path} line {rows.line_num} has no whole numbers as template and subject") from None
        if subjects.setdefault(template, subject) != subject:
            raise UserError(f"{path} line {rows.line_num} gives template {template} a second subject, {subject}")
    if not subjects:
        raise UserError(f"{path} names no template")
    templates = np.array(sorted(subjects), np.int64)
    return templates, np.array([subjects[template] for template in templates.tolist()], np.int64)


def renumber(
    values: Int[np.ndarray, "*shape"], known: Int[np.ndarray, " known"]
) -> tuple[Int[np.ndarray, "*shape"], Bool[np.ndarray, "*shape"]]:
    """Finds each value's place in the sorted `known`; the second result says where there is one."""
    places = np.searchsorted(known, values).astype(np.int32)
    np.minimum(places, len(known) - 1, out=places)
    return places, known[places] == values


def _named_numbers(path: str, *, columns: int, dtype: type) -> tuple[list[str], np.ndarray]:
    """Reads lines of a name and so many numbers."""
    names = []
    for number, line in enumerate(sources.read_text(path, flag="--meta").splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue  # as numpy's reader does
        if len(fields) != columns + 1:
            raise UserError(f"{path} line {number} must have a name and {columns} numbers, it has {len(fields)} fields")
        names.append(fields[0])
    return names, _numbers(path, columns=columns, dtype=dtype, first=1)


def _numbers(path: str, *, columns: int, dtype: type, first: int = 0) -> np.ndarray:
    """Reads a table of numbers; numpy's reader is fast and takes little more memory than the result."""
    used = range(first, first + columns) if first else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an empty file it warns; that has its sentence below
            table = np.loadtxt(path, dtype, comments=None, ndmin=2, usecols=used)
    except (ValueError, OverflowError, OSError) as error:
        raise UserError(f"{path} is no list of {columns} numbers a line: {error}") from error
    if table.shape[1] != columns or not len(table):
        raise UserError(f"{path} has {len(table)} lines of {table.shape[1]} numbers, each must have {columns}")
    return table
