"""Any pictures as the records that a network is asked about: aligned faces, read when they are needed."""

import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import UInt8

from lrfr_jax.data import records
from lrfr_jax.data.records import IMAGE_SIZE
from lrfr_jax.errors import UserError
from lrfr_jax.pictures import photos, plausibility, resize, sources, stored_files, warp
from lrfr_jax.pictures.landmarks import Face, choose_face
from lrfr_jax.pictures.stored_files import SourceImage

# A file, an image of a folder or tar, or RGB pixels.
Picture = str | os.PathLike | SourceImage | np.ndarray
# (a photo's RGB pixels) -> the faces in it.
FindFaces = Callable[[np.ndarray], list[Face]]
# (a photo's RGB pixels) -> its face at 112x112, and the side length in pixels that it had in the photo.
MakeFace = Callable[[np.ndarray], tuple[np.ndarray, int]]
_LEAST_CONTRAST = 8  # gray levels, which the noise of a camera with its lens covered stays below


class Faces(Sequence):
    """Pictures as record source: `faces[i]` is {'image': a whole image file of 112x112}, any number of threads at once.

    A picture that cannot be used becomes a black face, and `problems` holds the reason by its place. `sizes` holds
    the side length in pixels that each face had in its picture.
    """

    def __init__(self, pictures: Sequence[Picture], *, make_face: MakeFace):
        """Wraps pictures; `make_face` is one of `as_it_is`, `resized` and `aligned_by`."""
        self._pictures, self._make_face = pictures, make_face
        self.problems: dict[int, str] = {}
        self.sizes: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> dict[str, bytes]:
        try:
            face, self.sizes[index] = self._make_face(to_pixels(self._pictures[index]))
            _require_content(face)
        except (ValueError, OSError) as error:
            self.problems[index] = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            face = np.zeros((IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
        return {"image": records.encode_raw(face)}

    def name(self, index: int) -> str:
        """What a sentence calls a picture."""
        picture = self._pictures[index]
        if isinstance(picture, np.ndarray):
            return f"image {index}"
        return f"{picture.source}/{picture.path}" if isinstance(picture, SourceImage) else os.fspath(picture)

    def require_all(self) -> None:
        """Raises `UserError` for the first picture that could not be used, of those that were read."""
        if self.problems:
            first = min(self.problems)
            raise UserError(f"{self.name(first)} {self.problems[first]}")


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
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[-1] != 3 or 0 in picture.shape:
            raise ValueError(f"is an array of {picture.dtype} {picture.shape}, not of uint8 (height, width, 3) in RGB")
        return picture
    if isinstance(picture, SourceImage):
        return photos.decode_photo(sources.read_image(picture))
    path = pathlib.Path(picture)
    size, reason = stored_files.file_size(os.fspath(path))
    if size > sources.MAX_IMAGE_BYTES:
        reason = f"has {size} bytes, more than the {sources.MAX_IMAGE_BYTES} that an image may have"
    if reason:
        raise ValueError(reason)
    return photos.decode_photo(path.read_bytes())


def as_it_is(photo: UInt8[np.ndarray, "height width 3"]) -> tuple[UInt8[np.ndarray, "112 112 3"], int]:
    """Takes an aligned face; `ValueError` for a picture of another size."""
    height, width = photo.shape[:2]
    if (height, width) != (IMAGE_SIZE, IMAGE_SIZE):
        raise ValueError(
            f"is {width}x{height}, not {IMAGE_SIZE}x{IMAGE_SIZE}: align cuts the face out of a photo, resize takes a "
            "picture that shows nothing but an aligned face"
        )
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
        matrix, _ = warp.fit_similarity(landmarks, warp.TEMPLATE)
        enlarged = np.sqrt(np.linalg.det(matrix[:, :2]))
        return warp.warp_face(photo, landmarks)[0], max(round(IMAGE_SIZE / enlarged), 1)

    return aligned
