"""Any pictures as the records that a network is asked about: aligned faces, read when they are needed."""

import multiprocessing.pool
import os
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from lrfr_jax.data import records
from lrfr_jax.data.records import IMAGE_SIZE
from lrfr_jax.errors import UserError
from lrfr_jax.pictures import photos, plausibility, resize, sources, stored_files, warp
from lrfr_jax.pictures.face_detector import Mtcnn
from lrfr_jax.pictures.landmarks import Face, choose_face
from lrfr_jax.pictures.stored_files import SourceImage
from lrfr_jax.terminal import progress

# A file, an image of a folder or tar, or RGB pixels.
Picture = str | os.PathLike | SourceImage | np.ndarray
# (a photo's RGB pixels) -> the faces in it.
FindFaces = Callable[[np.ndarray], list[Face]]
# (a photo's RGB pixels) -> its face at 112x112, and the side length in pixels that it had in the photo.
MakeFace = Callable[[np.ndarray], tuple[np.ndarray, int]]
_CHUNK = 64  # pictures per task of the looking threads; keeps the overhead of a task small beside its work
_LEAST_CONTRAST = 8  # gray levels, which the noise of a camera with its lens covered stays below


class Faces(Sequence):
    """Pictures as record source: `faces[i]` is {'image': a whole image file of 112x112}, any number of threads at once.

    A picture that cannot be used becomes a black face, and `problems` holds the reason by its place. `sizes` holds
    the side length in pixels that each face had in its picture.
    """

    def __init__(self, pictures: Sequence[Picture | Any], *, make_face: MakeFace):
        """Wraps pictures (anything else is a problem); `make_face` is one of `as_it_is`, `resized` and `aligned_by`."""
        self._pictures, self._make_face = pictures, make_face
        self.problems: dict[int, str] = {}
        self.sizes: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> dict[str, bytes]:
        face = np.zeros((IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
        if index not in self.problems:
            try:
                found, self.sizes[index] = self._make_face(to_pixels(self._pictures[index]))
                _require_content(found)
                face = found
            except (ValueError, OSError) as error:
                self.problems[index] = _reason_of(error)
        return {"image": records.encode_raw(face)}

    def only(self, places: Sequence[int]) -> "Faces":
        """Some of the pictures."""
        return Faces([self._pictures[place] for place in places], make_face=self._make_face)

    def look(self) -> None:
        """Finds the `problems` that are known without decoding: whether each is there, is an image and has a good size.

        It reads files and headers of images on all cores, so that a wrong path is told before any network runs.
        """
        workers = sources.num_workers() if len(self) > _CHUNK else 1
        with multiprocessing.pool.ThreadPool(workers) as pool:
            reasons = pool.imap(self._look_at, range(len(self)), chunksize=_CHUNK)
            for place, reason in enumerate(progress.bar(reasons, "looking at pictures", "pictures", total=len(self))):
                if reason:
                    self.problems[place] = reason

    def _look_at(self, place: int) -> str | None:
        picture = self._pictures[place]
        try:
            if isinstance(picture, np.ndarray):
                height, width, _ = _checked_pixels(picture).shape
            else:
                width, height = photos.checked_size(_encoded(picture))
            if self._make_face is as_it_is:
                _check_aligned(width, height)
        except (ValueError, OSError) as error:
            return _reason_of(error)
        return None

    def name(self, index: int) -> str:
        """What a sentence calls a picture."""
        picture = self._pictures[index]
        if isinstance(picture, SourceImage):
            return f"{picture.source}/{picture.path}"
        return os.fspath(picture) if isinstance(picture, str | os.PathLike) else f"image {index}"

    def require_all(self) -> None:
        """Raises `UserError` for the first picture that cannot be used, of those that were looked at or read.

        It says how many others there are.
        """
        if self.problems:
            first, others = min(self.problems), len(self.problems) - 1
            more = f"; {others} more of {len(self)} pictures cannot be used either" if others else ""
            raise UserError(f"{self.name(first)} {self.problems[first]}{more}")


def _require_content(face: UInt8[np.ndarray, "112 112 3"]) -> None:
    # Networks embed all such pictures alike, so that two of them would be taken for one person.
    if np.ptp(face, axis=(0, 1)).max() < _LEAST_CONTRAST:
        raise ValueError("shows one color alone, no face")


def to_pixels(picture: Picture) -> UInt8[np.ndarray, "height width 3"]:
    """Reads and decodes a picture, of which the size is checked before a pixel is decoded; see `photos.decode_photo`.

    Raises:
      ValueError: not RGB bytes, or a file that is too large or no image; the message starts with a verb.
      OSError: the file cannot be read.
    """
    if isinstance(picture, np.ndarray):
        return _checked_pixels(picture)
    return photos.decode_photo(_encoded(picture))


def _checked_pixels(pixels: np.ndarray) -> UInt8[np.ndarray, "height width 3"]:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[-1] != 3 or 0 in pixels.shape:
        raise ValueError(f"is an array of {pixels.dtype} {pixels.shape}, not of uint8 (height, width, 3) in RGB")
    return pixels


def _encoded(picture: Picture | Any) -> bytes:
    if isinstance(picture, SourceImage):
        return sources.read_image(picture)
    if not isinstance(picture, str | os.PathLike):
        raise ValueError(f"is of type {type(picture).__name__}, not a path or an array of RGB pixels")
    path = pathlib.Path(picture)
    size, reason = stored_files.file_size(os.fspath(path))
    if size > sources.MAX_IMAGE_BYTES:
        reason = f"has {size} bytes, more than the {sources.MAX_IMAGE_BYTES} that an image may have"
    if reason:
        raise ValueError(reason)
    return path.read_bytes()


def _reason_of(error: ValueError | OSError) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def _check_aligned(width: int, height: int) -> None:
    if (width, height) != (IMAGE_SIZE, IMAGE_SIZE):
        raise ValueError(
            f"is {width}x{height}, not {IMAGE_SIZE}x{IMAGE_SIZE}: align cuts the face out of a photo, resize takes a "
            "picture that shows nothing but an aligned face"
        )


def as_it_is(photo: UInt8[np.ndarray, "height width 3"]) -> tuple[UInt8[np.ndarray, "112 112 3"], int]:
    """Takes an aligned face; `ValueError` for a picture of another size."""
    _check_aligned(photo.shape[1], photo.shape[0])
    return photo, IMAGE_SIZE


def resized(photo: UInt8[np.ndarray, "height width 3"]) -> tuple[UInt8[np.ndarray, "112 112 3"], int]:
    """Brings a picture of an aligned face, of any size, to 112x112; the face has the picture's shorter side."""
    is_whole = photo.shape[:2] == (IMAGE_SIZE, IMAGE_SIZE)
    return photo if is_whole else resize.to_face_size(photo), min(photo.shape[:2])


def aligned_by(find_faces: FindFaces) -> MakeFace:
    """Builds the function that cuts the largest face out of a photo; it raises `ValueError` where there is none."""

    def aligned(photo: UInt8[np.ndarray, "height width 3"]) -> tuple[UInt8[np.ndarray, "112 112 3"], int]:
        faces = find_faces(photo)
        if not faces:
            raise ValueError("shows no face that the detector finds")
        height, width = photo.shape[:2]
        landmarks = choose_face(faces, choice="largest", height=height, width=width).landmarks
        reason = plausibility.doubt(landmarks)
        if reason:
            raise ValueError(reason.replace("has landmarks", "shows a face with landmarks", 1))
        matrix, _ = warp.fit_face(landmarks)
        enlarged = np.sqrt(np.linalg.det(matrix[:, :2]))
        return warp.warp_face(photo, landmarks)[0], max(round(IMAGE_SIZE / enlarged), 1)

    return aligned


def way_to_face(*, resize: bool, align: bool) -> MakeFace:
    """Chooses how a picture becomes an aligned face; `UserError` for both at once, or without the detector."""
    if resize and align:
        raise UserError("give resize or align, not both: align cuts the face out of a photo and sizes it")
    if align:
        return aligned_by(Mtcnn())
    return resized if resize else as_it_is


def listed(images: Any) -> Sequence[Any]:
    """Returns one image, an array of several, or any iterable of them as a sequence.

    What is no picture in it, `Faces` tells by its place.

    Raises:
      UserError: it is nothing of these.
    """
    if isinstance(images, str | os.PathLike) or (isinstance(images, np.ndarray) and images.ndim != 4):
        return [images]
    if not isinstance(images, Iterable):
        raise UserError(
            f"images of type {type(images).__name__} cannot be embedded: give paths or arrays of RGB pixels"
        )
    return list(images)
