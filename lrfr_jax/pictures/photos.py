"""Pictures of any size: their bytes to pixels, with a cap that is checked before a pixel is decoded."""

import cv2
import numpy as np
from jaxtyping import UInt8

from lrfr_jax.data import records
from lrfr_jax.pictures import other_formats
from lrfr_jax.pictures.other_formats import HELD

_MAX_PIXELS = 40_000_000  # more than most cameras have; a decoded photo then takes at most 120 MB
_MAX_SIDE = 16_384  # a long row of few pixels would cost more than its area says


def decode_photo(encoded: bytes) -> UInt8[np.ndarray, "height width 3"]:
    """Decodes a photo to RGB as it is shown: EXIF orientation applied, gray repeated, alpha dropped, 16 bits cut to 8.

    Of several pictures in a file it is the first.

    Raises:
      ValueError: no picture, truncated, too large, or not decodable; the message starts with "is" or "cannot".
    """
    checked_size(encoded)
    kind = kind_of(encoded)
    if kind != HELD:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # it prints a paragraph for each bad file
    try:
        photo = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error:
        photo = None
    if photo is None and kind == HELD:
        raise ValueError("cannot be decoded: its header is that of an image, its content is damaged")
    if photo is None:
        raise ValueError(f"cannot be decoded: its content is cut or damaged, or this OpenCV reads no such {kind}")
    return photo


def checked_size(encoded: bytes) -> tuple[int, int]:
    """Reads (width, height) in pixels from a photo's header, without decoding it.

    Raises:
      ValueError: as in `decode_photo`, save for damaged content.
    """
    width, height = size_of(encoded)
    if not 0 < width * height <= _MAX_PIXELS:
        raise ValueError(f"is {width}x{height}, its pixels must number from 1 to {_MAX_PIXELS}")
    if max(width, height) > _MAX_SIDE:
        raise ValueError(f"is {width}x{height}, a side may have at most {_MAX_SIDE} pixels")
    return width, height


def size_of(encoded: bytes) -> tuple[int, int]:
    """Reads a picture's (width, height) in pixels from its header.

    Raises:
      ValueError: as in `decode_photo`.
    """
    kind = kind_of(encoded)
    if kind == HELD:
        return records.image_size(encoded)
    if kind is None:
        if encoded.startswith(b"version https://git-lfs"):
            raise ValueError("is a pointer of Git LFS, not the picture itself: run `git lfs pull`")
        formats = "JPEG, PNG, WebP, BMP, TIFF, GIF, JPEG 2000, AVIF or Netpbm"
        raise ValueError(f"is not an image in a known format ({formats})" if encoded else "is an empty file")
    return other_formats.size_of(encoded, kind)


def can_be_held(encoded: bytes) -> bool:
    """Whether records hold these bytes as they are: those of JPEG, PNG, WebP, and PPM without a comment."""
    return kind_of(encoded) == HELD


def kind_of(encoded: bytes) -> str | None:
    """The format of a picture, as `other_formats.kind_of`."""
    return other_formats.kind_of(encoded[: other_formats.HEAD_BYTES])
