"""What `prepare align` did with each photo: a table, a summary and a contact sheet."""

import argparse
import collections
import csv
import io
import json
import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lrfr_jax.data import records
from lrfr_jax.pictures import contact_sheet

ALIGNED, CROPPED, NO_FACE, UNREADABLE = "aligned", "cropped", "no_face", "unreadable"
IMPLAUSIBLE = "implausible"  # its landmarks lie as no face's do
# From where on the report counts a face as small (pixels between its eyes in the photo, 35 in an aligned face), as cut
# by the photo's border (share of the aligned face beyond it), and as far from the template (pixels of 112).
_SMALL_EYES, _CUT_SHARE, _FAR_RESIDUAL = 10.0, 0.1, 12.0
_ON_SHEET, _SHEET_COLUMNS = 96, 12


class Outcome(NamedTuple):
    """What became of one photo: a line of images.csv."""

    image: str
    outcome: str
    faces: int = 0
    score: float | None = None
    residual: float | None = None  # root mean square distance of the landmarks from the template, pixels of 112
    eyes: float | None = None  # the distance of the eyes in the photo, pixels
    outside: float | None = None  # share of the aligned face that lies beyond the photo's border
    reason: str = ""


_REMARKS = {
    IMPLAUSIBLE: ", {} left out as its landmarks lie as no face's do",
    "small": f", {{}} with less than {_SMALL_EYES:.0f} px between the eyes",
    "cut_by_border": f", {{}} cut by the photo's border (over {_CUT_SHARE:.0%} black)",
    "far_from_template": f", {{}} with landmarks over {_FAR_RESIDUAL:.0f} px from the template (profiles?)",
}


def _counts(outcomes: Sequence[Outcome]) -> dict[str, int]:
    counts = collections.Counter(outcome.outcome for outcome in outcomes)
    aligned = [outcome for outcome in outcomes if outcome.outcome == ALIGNED]
    return {kind: counts[kind] for kind in (ALIGNED, CROPPED, NO_FACE, IMPLAUSIBLE, UNREADABLE)} | {
        "several_faces": sum(outcome.faces > 1 for outcome in outcomes),
        "small": sum(outcome.eyes < _SMALL_EYES for outcome in aligned),
        "cut_by_border": sum(outcome.outside > _CUT_SHARE for outcome in aligned),
        "far_from_template": sum(outcome.residual > _FAR_RESIDUAL for outcome in aligned),
    }


def in_words(outcomes: Sequence[Outcome]) -> str:
    """Says in one line what became of the photos."""
    counts = _counts(outcomes)
    residuals = [outcome.residual for outcome in outcomes if outcome.residual is not None]
    distance = f", landmarks {np.median(residuals):.1f} px from the template (median)" if residuals else ""
    return (
        f"{len(outcomes)} photos: {counts[ALIGNED]} aligned ({counts['several_faces']} with several faces), "
        f"{counts[CROPPED]} cropped and {counts[NO_FACE]} left out for want of a face, {counts[UNREADABLE]} unreadable"
        + "".join(text.format(counts[kind]) for kind, text in _REMARKS.items() if counts[kind])
        + distance
    )


def write_report(
    report: pathlib.Path,
    outcomes: Sequence[Outcome],
    folder: pathlib.Path,
    arguments: argparse.Namespace,
    *,
    others: Sequence[str],
) -> None:
    """Writes report.json, images.csv and the contact sheet of faces drawn from those written to `folder`.

    `others` are the files of the source that are no photos.
    """
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
        IMPLAUSIBLE: {outcome.image: outcome.reason for outcome in outcomes if outcome.outcome == IMPLAUSIBLE},
        "other_files": list(others),
        UNREADABLE: {outcome.image: outcome.reason for outcome in outcomes if outcome.outcome == UNREADABLE},
    }
    written = [outcome for outcome in outcomes if outcome.outcome in (ALIGNED, CROPPED)]
    names = [written[index].image for index in contact_sheet.sample(len(written), size=_ON_SHEET, seed=arguments.seed)]
    paths = [folder / f"{os.path.splitext(name)[0]}.{arguments.format}" for name in names]
    faces = [records.decode_image(path.read_bytes()) for path in paths]
    titles = [name.rpartition("/")[2] for name in names]
    contact_sheet.save_png(
        report / "contact_sheet.png", contact_sheet.draw_sheet(faces, titles, columns=_SHEET_COLUMNS)
    )
    contact_sheet.write_whole(report / "images.csv", table.getvalue().encode())
    contact_sheet.write_whole(report / "report.json", json.dumps(summary, indent=1).encode())
