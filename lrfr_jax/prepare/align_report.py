"""What `prepare align` did with each photo: a table, a summary and a contact sheet."""

import argparse
import collections
import csv
import io
import json
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lrfr_jax.data import records
from lrfr_jax.pictures import contact_sheet

ALIGNED, CROPPED, NO_FACE, UNREADABLE = "aligned", "cropped", "no_face", "unreadable"
_ON_SHEET, _SHEET_COLUMNS = 96, 12


class Outcome(NamedTuple):
    """What became of one photo: a line of images.csv."""

    image: str
    outcome: str
    faces: int = 0
    score: float | None = None
    residual: float | None = None  # root mean square distance of the landmarks from the template, pixels of 112
    reason: str = ""


def _counts(outcomes: Sequence[Outcome]) -> dict[str, int]:
    counts = collections.Counter(outcome.outcome for outcome in outcomes)
    several = sum(outcome.faces > 1 for outcome in outcomes)
    return {kind: counts[kind] for kind in (ALIGNED, CROPPED, NO_FACE, UNREADABLE)} | {"several_faces": several}


def in_words(outcomes: Sequence[Outcome]) -> str:
    """Says in one line what became of the photos."""
    counts = _counts(outcomes)
    residuals = [outcome.residual for outcome in outcomes if outcome.residual is not None]
    distance = f", landmarks {np.median(residuals):.1f} px from the template (median)" if residuals else ""
    return (
        f"{len(outcomes)} photos: {counts[ALIGNED]} aligned ({counts['several_faces']} with several faces), "
        f"{counts[CROPPED]} cropped and {counts[NO_FACE]} left out for want of a face, {counts[UNREADABLE]} unreadable"
        + distance
    )


def write_report(
    report: pathlib.Path, outcomes: Sequence[Outcome], folder: pathlib.Path, arguments: argparse.Namespace
) -> None:
    """Writes report.json, images.csv and the contact sheet of faces drawn from those written to `folder`."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerows([Outcome._fields, *outcomes])
    options = {key: value for key, value in vars(arguments).items() if isinstance(value, str | int | float | None)}
    far = sorted((outcome for outcome in outcomes if outcome.residual is not None), key=lambda one: -one.residual)
    summary = {
        "arguments": options,
        "photos": len(outcomes),
        "counts": _counts(outcomes),
        "residual_median": float(np.median([outcome.residual for outcome in far])) if far else None,
        "residual_largest": {outcome.image: outcome.residual for outcome in far[:10]},
        NO_FACE: [outcome.image for outcome in outcomes if outcome.outcome == NO_FACE],
        CROPPED: [outcome.image for outcome in outcomes if outcome.outcome == CROPPED],
        UNREADABLE: {outcome.image: outcome.reason for outcome in outcomes if outcome.outcome == UNREADABLE},
    }
    written = [outcome for outcome in outcomes if outcome.outcome in (ALIGNED, CROPPED)]
    names = [written[index].image for index in contact_sheet.sample(len(written), size=_ON_SHEET, seed=arguments.seed)]
    paths = [folder / f"{name.rpartition('.')[0]}.{arguments.format}" for name in names]
    faces = [records.decode_image(path.read_bytes()) for path in paths]
    titles = [name.rpartition("/")[2] for name in names]
    contact_sheet.save_png(
        report / "contact_sheet.png", contact_sheet.draw_sheet(faces, titles, columns=_SHEET_COLUMNS)
    )
    contact_sheet.write_whole(report / "images.csv", table.getvalue().encode())
    contact_sheet.write_whole(report / "report.json", json.dumps(summary, indent=1).encode())
