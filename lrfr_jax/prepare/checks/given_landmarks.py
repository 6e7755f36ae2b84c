"""Landmarks of a file for the photos of a source, looked at as a whole before the first photo is decoded."""

import collections
import os
from collections.abc import Callable, Sequence

import numpy as np

from lrfr_jax.errors import UserError
from lrfr_jax.pictures.landmarks import Face, check_inside, read_landmarks
from lrfr_jax.pictures.plausibility import doubt
from lrfr_jax.pictures.stored_files import SourceImage

FindFaces = Callable[[SourceImage, np.ndarray], list[Face]]


def finder(
    path: str,
    images: Sequence[SourceImage],
    *,
    source: str,
    points: str | None,
    may_lack: bool,
    may_be_doubtful: bool,
) -> FindFaces:
    """Reads a landmark file and returns what looks up the faces of a photo.

    Args:
      path: the file.
      images: all photos.
      source: what the user named as their source.
      points: what the landmarks are, as of `read_landmarks`.
      may_lack: photos may be without a line.
      may_be_doubtful: landmarks may be such that `plausibility.doubt` has a reason, which is then the caller's to see.

    Raises:
      UserError: a bad file, one of other photos, or what may not be.
    """
    by_name = read_landmarks(path, points=points)
    by_image = _of_photos(by_name, images)
    lacking = [image.name for image in images if image.name not in by_image]
    if len(lacking) == len(images):
        raise UserError(
            f"--landmarks {path} has no line for any photo of {source}: its first is for {next(iter(by_name))}, the "
            f"first photo is {images[0].name}"
        )
    if lacking and not may_lack:
        raise UserError(
            f"{lacking[0]}{_and_others(len(lacking), len(images))} has no line in {path}: --no_face skip leaves such "
            "photos out, --no_face crop takes their middle"
        )
    if not may_be_doubtful:
        _check_plausible(path, by_image, images)

    def look_up(image: SourceImage, photo: np.ndarray) -> list[Face]:
        faces = by_image.get(image.name, [])
        for face in faces:
            check_inside(face, height=photo.shape[0], width=photo.shape[1])
        return faces

    return look_up


def _of_photos(by_name: dict[str, list[Face]], images: Sequence[SourceImage]) -> dict[str, list[Face]]:
    """Finds each photo's faces by `<identity>/<photo>`, or by its file's name if it alone has it, suffix or not."""
    alike = collections.Counter(_stems(image)[1] for image in images)
    found = {}
    for image in images:
        stem, file_stem = _stems(image)
        names = [image.name, stem]
        if alike[file_stem] == 1:
            names += [os.path.basename(image.name), file_stem]
        known = next((name for name in names if name in by_name), None)
        if known is not None:
            found[image.name] = by_name[known]
    return found


def _stems(image: SourceImage) -> tuple[str, str]:
    """`<identity>/<photo>` and the file's name, both without the suffix."""
    stem, _ = os.path.splitext(image.name)
    return stem, os.path.basename(stem)


def _check_plausible(path: str, by_image: dict[str, list[Face]], images: Sequence[SourceImage]) -> None:
    doubts = {}
    for image in images:
        reasons = [doubt(face.landmarks) for face in by_image.get(image.name, [])]
        if any(reasons):
            doubts[image.name] = next(filter(None, reasons))
    if doubts:
        first, reason = next(iter(doubts.items()))
        raise UserError(
            f"{path}: {first}{_and_others(len(doubts), len(images))} {reason} (--on_error skip leaves such photos out)"
        )


def _and_others(number: int, of: int) -> str:
    return f" (and {number - 1} more of {of} photos)" if number > 1 else ""
