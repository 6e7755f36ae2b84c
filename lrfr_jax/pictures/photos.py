"""Pictures of any size: their bytes to pixels, with a cap that is checked before a pixel is decoded."""

import cv2
import numpy as np
from jaxtyping import UInt8

from lrfr_jax.data import records

_MAX_PIXELS = 40_000_000  # more than most cameras have; a decoded photo then takes at most 120 MB
_MAX_SIDE = 16_384  # a long row of few pixels would cost more than its area says


def decode_photo(encoded: bytes) -> UInt8[np.ndarray, "height width 3"]:
    """Decodes a photo to RGB as it is shown: EXIF orientation applied, gray repeated, alpha dropped, 16 bits cut to 8.

    Raises:
      ValueError: another format than JPEG, PNG, WebP or PPM, truncated, too large, or not decodable; the message
        starts with "is" or "cannot".
    """
    checked_size(encoded)
    try:
        photo = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error:
        photo = None
    if photo is None:
        raise ValueError("cannot be decoded: its header is that of an image, its content is damaged")
    return photo


def checked_size(encoded: bytes) -> tuple[int, int]:
    """Reads (width, height) in pixels from a photo's header, without decoding it.

    Raises:
      ValueError: as in `decode_photo`, save for damaged content.
    """
    width, height = records.image_size(encoded)
    if not 0 < width * height <= _MAX_PIXELS:
        raise ValueError(f"is {width}x{height}, its pixels must number from 1 to {_MAX_PIXELS}")
    if max(width, height) > _MAX_SIDE:
        raise ValueError(f"is {width}x{height}, a side may have at most {_MAX_SIDE} pixels")
    return width, height
