"""`prepare align`: raw photos become faces aligned to the ArcFace template."""

import argparse
import contextlib
import multiprocessing.pool
import os
import pathlib
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from lrfr_jax.data import records
from lrfr_jax.errors import UserError
from lrfr_jax.files import folder_lock
from lrfr_jax.pictures import photos, plausibility, sources, warp
from lrfr_jax.pictures.face_detector import Mtcnn
from lrfr_jax.pictures.landmark_forms import FORMS
from lrfr_jax.pictures.landmarks import CHOICES, Face, choose_face
from lrfr_jax.pictures.stored_files import SourceImage
from lrfr_jax.prepare.checks import given_landmarks, report_folder
from lrfr_jax.prepare.checks.align_report import (
    ALIGNED,
    CROPPED,
    IMPLAUSIBLE,
    NO_FACE,
    UNREADABLE,
    Outcome,
    in_words,
    write_report,
)
from lrfr_jax.prepare.checks.given_landmarks import FindFaces

SUMMARY = "raw photos in folders, one per identity -> faces aligned to 112x112, in equal folders, and a report"
EXAMPLE = """python -m lrfr_jax.prepare align --source lfw.tar --output lfw112 --detector mtcnn --faces centre
  python -m lrfr_jax.prepare align --source photos --output photos112 --landmarks landmarks.csv.gz --format png
  python -m lrfr_jax.prepare align --source scface --output scface112 --landmarks positions.txt --points idiap_xy"""

DETECTORS = {"mtcnn": Mtcnn}
_DONE_BUT = 3  # the exit status where landmarks that lie as no face's do left photos out, as of embed and search


def add_arguments(add: Callable) -> None:
    """Declares the options of the command; `add` is the parser's `add_argument`."""
    add("--source", required=True, help="folder or uncompressed tar of <identity>/<photo>, pictures of any format")
    add("--output", required=True, help="folder to make, with <identity>/<photo>.jpg; it appears when all is done")
    add("--report", help="folder for report.json, images.csv and contact_sheet.png; OUTPUT_report if not given")
    add(
        "--landmarks",
        metavar="FILE",
        help="text (or .gz) without a header, a line for each face: <identity>/<photo> (or the file's name, with or "
        "without suffix) and its landmarks in pixels of the photo as shown, parted by commas or white space",
    )
    add(
        "--points",
        choices=tuple(FORMS),
        help="what a line's landmarks are; left is left in the image. eyes: the left and the right one. idiap_xy, "
        "idiap_yx: left and right eye, nose, middle of the mouth, x before y or y before x. retinaface: left and right "
        "eye, nose, left and right corner of the mouth as x1,y1,...,x5,y5; mtcnn: the same as x1..x5,y1..y5. dlib68: "
        "x1,y1,...,x68,y68. If not given, the number of columns tells: 5 are eyes, 11 retinaface, 137 dlib68",
    )
    add("--detector", choices=tuple(DETECTORS), help="find the landmarks; needs pip install -e '.[align]'")
    add("--min_face", type=float, default=20.0, help="detector: side of the smallest face to look for, pixels")
    add(
        "--faces",
        choices=tuple(CHOICES),
        default="largest",
        help="which of several faces in a photo is taken, by the detector's boxes or the landmarks' extents; "
        "highest_score needs --detector",
    )
    add(
        "--no_face",
        choices=("error", "skip", "crop"),
        help="a photo without a face, or without a line in the landmark file: end the command, leave it out, or shrink "
        "the square in its middle; if not given, error with --landmarks and skip with --detector",
    )
    add(
        "--on_error",
        choices=("error", "skip"),
        default="error",
        help="what an unreadable photo, or one with landmarks outside it or that lie as no face's do, does: end the "
        "command with nothing written, or be left out and listed in the report; a detector's faces with such landmarks "
        "are always left out",
    )
    add("--format", choices=("jpg", "png"), default="jpg", help="of the aligned faces")
    add("--quality", type=int, default=95, help="of JPEG, 1 to 100")
    add("--seed", type=int, default=0, help="draws the faces of the contact sheet")


def run(arguments: argparse.Namespace) -> str:
    """Aligns all photos of the source, and returns the summary; see `--help` for the arguments.

    Raises:
      UserError: bad options, source or landmark file, an output that exists, a bad photo under `--on_error error`, a
        photo without a face under `--no_face error`, or not one face.
    """
    start = time.perf_counter()
    output = pathlib.Path(os.path.abspath(arguments.output))
    report = pathlib.Path(os.path.abspath(arguments.report or f"{output}_report"))
    _check(arguments, output, report)
    images, problems, others = sources.list_images(arguments.source)
    _check_stems(images)
    refused = [Outcome(problem.where, UNREADABLE, reason=problem.reason) for problem in problems]
    find_faces = _finder(arguments, images)
    unfinished = output.with_name(f".{output.name}.incomplete")
    try:
        unfinished.mkdir(parents=True, exist_ok=True)
        with (
            folder_lock.alone_in(unfinished),
            _removed_at_the_end(unfinished),
            report_folder.made_for_a_report(report, flag="--report"),
        ):
            _empty(unfinished)  # what a killed run left
            outcomes = _all_outcomes(refused, images, find_faces, unfinished, arguments)
            write_report(report, outcomes, unfinished, arguments, others=[other.where for other in others])
            unfinished.rename(output)  # over an empty folder of this name, too
    except OSError as error:
        raise UserError(f"--output {arguments.output} cannot be written: {error}") from error
    seconds = time.perf_counter() - start
    speed = f"{seconds:.1f} s, {len(outcomes) / seconds:.1f} photos/s"
    summary = f"{in_words(outcomes)}{sources.are_passed_over(others)}; {speed}, in {output}, report in {report}"
    if any(outcome.outcome == IMPLAUSIBLE for outcome in outcomes):
        print(summary)
        sys.exit(_DONE_BUT)
    return summary


class Cut(NamedTuple):
    """A photo's face: cut out (the photo's middle if it shows none), the chosen one, and how many there are.

    `residual` is how far its landmarks stay from the template in pixels of 112, `eyes` their distance in those of the
    photo, and `outside` the share of the cut that lies beyond the photo.
    """

    pixels: np.ndarray
    chosen: Face | None
    number: int
    residual: float | None = None
    eyes: float | None = None
    outside: float | None = None


def align_photo(encoded: bytes, find_faces: Callable[[np.ndarray], list[Face]], *, choice: str) -> Cut:
    """Decodes a photo and cuts its face out.

    Raises:
      Implausible: the chosen face has landmarks that lie as no face's do.
      ValueError: the photo cannot be decoded, or the landmarks are not its own.
    """
    photo = photos.decode_photo(encoded)
    faces = find_faces(photo)
    if not faces:
        return Cut(warp.crop_center(photo), None, 0)
    height, width = photo.shape[:2]
    chosen = choose_face(faces, choice=choice, height=height, width=width)
    reason = plausibility.doubt(chosen.landmarks)
    if reason:
        raise Implausible(reason)
    aligned, residual = warp.warp_face(photo, chosen.landmarks)
    eyes = float(np.linalg.norm(chosen.landmarks[1] - chosen.landmarks[0]))
    outside = warp.share_outside(chosen.landmarks, height=height, width=width)
    return Cut(aligned, chosen, len(faces), residual, eyes, outside)


class Implausible(ValueError):
    """A face's landmarks lie as no face's do; the message is the rest of a sentence about the photo."""


def _check(arguments: argparse.Namespace, output: pathlib.Path, report: pathlib.Path) -> None:
    if (arguments.landmarks is None) == (arguments.detector is None):
        raise UserError("give either --landmarks FILE or --detector mtcnn")
    if arguments.detector and arguments.points:
        raise UserError("--points says what --landmarks holds: with --detector leave it out")
    if arguments.landmarks and arguments.faces == "highest_score":
        raise UserError("--faces highest_score needs --detector: a landmark file holds no scores")
    if not 1 <= arguments.quality <= 100:
        raise UserError(f"--quality must be in 1..100, it is {arguments.quality}")
    if not arguments.min_face >= 1:
        raise UserError(f"--min_face must be at least 1 pixel, it is {arguments.min_face}")
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise UserError(f"--output {arguments.output} exists and is not an empty folder: choose another, or remove it")
    source = os.path.realpath(arguments.source)
    if os.path.commonpath([source, os.path.realpath(output)]) == source:
        raise UserError(f"--output {arguments.output} must not lie in --source: another run would take it for photos")
    if output == report or output in report.parents:
        raise UserError(f"--report {report} must not lie in --output, which holds nothing but identities")


def _check_stems(images: Iterable[SourceImage]) -> None:
    """Refuses two photos whose aligned faces would have one name, such as 1.png and 1.jpg."""
    stems: dict[str, SourceImage] = {}
    for image in images:
        other = stems.setdefault(_stem(image), image)
        if other is not image:
            raise UserError(f"{image.source} holds both {other.path} and {image.path}: rename or leave out one of them")


def _finder(arguments: argparse.Namespace, images: Sequence[SourceImage]) -> FindFaces:
    if arguments.detector:
        detect = DETECTORS[arguments.detector](min_face=arguments.min_face)
        return lambda image, photo: detect(photo)
    skips = arguments.on_error == "skip"
    return given_landmarks.finder(
        arguments.landmarks,
        images,
        source=arguments.source,
        points=arguments.points,
        may_lack=arguments.no_face in ("skip", "crop") or skips,  # those without a line may be unreadable
        may_be_doubtful=skips,
    )


def _all_outcomes(
    refused: list[Outcome],
    images: Sequence[SourceImage],
    find_faces: FindFaces,
    folder: pathlib.Path,
    arguments: argparse.Namespace,
) -> list[Outcome]:
    """Aligns on all cores; ends at the first outcome that the arguments do not allow."""
    no_face = arguments.no_face or ("error" if arguments.landmarks else "skip")

    def work(image: SourceImage) -> Outcome:
        return _aligned(image, find_faces, folder, arguments, no_face)

    outcomes = list(refused)
    for outcome in refused:
        _check_allowed(outcome, arguments, no_face)
    pool = multiprocessing.pool.ThreadPool(sources.num_workers())
    try:
        aligned = pool.imap(work, images)
        for outcome in tqdm(aligned, total=len(images), desc="align", unit=" photos", disable=None):
            _check_allowed(outcome, arguments, no_face)
            outcomes.append(outcome)
    finally:  # no thread may write into the folder once it is given up
        pool.terminate()
        pool.join()
    if not any(outcome.outcome in (ALIGNED, CROPPED) for outcome in outcomes):
        raise UserError(f"not one of the {len(outcomes)} photos of {arguments.source} gave a face")
    return outcomes


def _aligned(
    image: SourceImage, find_faces: FindFaces, folder: pathlib.Path, arguments: argparse.Namespace, no_face: str
) -> Outcome:
    try:
        encoded = sources.read_image(image)
        cut = align_photo(encoded, lambda photo: find_faces(image, photo), choice=arguments.faces)
    except Implausible as error:
        return Outcome(image.name, IMPLAUSIBLE, reason=str(error))
    except (ValueError, OSError) as error:
        return Outcome(image.name, UNREADABLE, reason=str(error))
    if cut.chosen is None and no_face != "crop":
        return Outcome(image.name, NO_FACE)
    path = folder / f"{_stem(image)}.{arguments.format}"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(_encode(cut.pixels, arguments))
    if cut.chosen is None:
        return Outcome(image.name, CROPPED)
    return Outcome(image.name, ALIGNED, cut.number, cut.chosen.score, cut.residual, cut.eyes, cut.outside)


def _check_allowed(outcome: Outcome, arguments: argparse.Namespace, no_face: str) -> None:
    if outcome.outcome == UNREADABLE and arguments.on_error == "error":
        where = outcome.image if outcome.image.startswith(arguments.source) else f"{arguments.source}/{outcome.image}"
        raise UserError(f"{where} {outcome.reason} (--on_error skip leaves such photos out)")
    if outcome.outcome == NO_FACE and no_face == "error":
        lacking = f"no line in {arguments.landmarks}" if arguments.landmarks else "no face that the detector finds"
        raise UserError(f"{outcome.image} has {lacking}: --no_face skip leaves it out, --no_face crop takes its middle")


def _encode(face: np.ndarray, arguments: argparse.Namespace) -> bytes:
    if arguments.format == "png":
        return cv2.imencode(".png", face[..., ::-1])[1].tobytes()
    return records.encode_image(face, quality=arguments.quality)


def _stem(image: SourceImage) -> str:
    return os.path.splitext(image.name)[0]


@contextlib.contextmanager
def _removed_at_the_end(folder: pathlib.Path) -> Iterator[None]:
    """Removes a folder that still has this name then: its work was not finished."""
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _empty(folder: pathlib.Path) -> None:
    for child in folder.iterdir():
        shutil.rmtree(child) if child.is_dir() else child.unlink()
