"""Landmarks of a file for the photos of a source, looked at as a whole before the first photo is decoded."""

from collections.abc import Callable, Sequence

import numpy as np

from lrfr_jax.errors import UserError
from lrfr_jax.pictures.landmarks import Face, check_inside, read_landmarks
from lrfr_jax.pictures.plausibility import doubt
from lrfr_jax.pictures.stored_files import SourceImage

FindFaces = Callable[[SourceImage, np.ndarray], list[Face]]


def finder(
    path: str, images: Sequence[SourceImage], *, source: str, may_lack: bool, may_be_doubtful: bool
) -> FindFaces:
    """Reads a landmark file and returns what looks up the faces of a photo.

    Args:
      path: the file.
      images: all photos.
      source: what the user named as their source.
      may_lack: photos may be without a line.
      may_be_doubtful: landmarks may be such that `plausibility.doubt` has a reason, which is then the caller's to see.

    Raises:
      UserError: a bad file, one of other photos, or what may not be.
    """
    by_image = read_landmarks(path)
    lacking = [image.name for image in images if image.name not in by_image]
    if len(lacking) == len(images):
        raise UserError(
            f"--landmarks {path} has no line for any photo of {source}: its first is for {next(iter(by_image))}, the "
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
