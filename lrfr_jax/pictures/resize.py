"""Pictures of any size as records: brought to 112x112 the way Pillow does it."""

import functools

import cv2
import numpy as np
from jaxtyping import Float64, UInt8

from lrfr_jax.data.records import IMAGE_SIZE
from lrfr_jax.pictures import photos

RGB, BGR = ORDERS = ("rgb", "bgr")  # in which files hold the colors
_A = -0.5  # the bicubic kernel of Pillow and of jax.image.resize; cv2.INTER_CUBIC has -0.75 and no antialias
_REACH = 2  # the kernel is zero from this distance on
_FIXED_POINT = 2**22  # Pillow's weights are whole multiples of 1 / 2**22
_OPERATORS = 32  # matrices that are kept, as many as 15 MB each
_PNG_COMPRESSION = 1  # of 0..9: 1 is a sixth larger than 6 and writes four times as fast


def decode(encoded: bytes, *, resize: bool) -> UInt8[np.ndarray, "height width 3"]:
    """Decodes an aligned face, or with `resize` a picture of any size.

    Raises:
      ValueError: a bad picture, or one that is not 112x112 and may not be resized; it starts with "is" or "cannot".
    """
    size = photos.size_of(encoded)
    if size != (IMAGE_SIZE, IMAGE_SIZE) and not resize:
        raise ValueError(
            f"is {size[0]}x{size[1]}, not {IMAGE_SIZE}x{IMAGE_SIZE}: align the faces with "
            "`python -m lrfr_jax.prepare align`, or take them unaligned with --resize"
        )
    return photos.decode_photo(encoded)


def to_record(encoded: bytes, *, resize: bool, order: str) -> bytes:
    """Returns the bytes of a 112x112 picture in RGB as they are if records hold its format; else its pixels as PNG.

    Args:
      encoded: the picture's file.
      resize: take pictures of any size.
      order: of the colors in the file, one of `ORDERS`; red and blue of `bgr` are exchanged.

    Raises:
      ValueError: as in `decode`.
    """
    image = decode(encoded, resize=resize)
    is_face_size = image.shape == (IMAGE_SIZE, IMAGE_SIZE, 3)
    if is_face_size and order == RGB and photos.can_be_held(encoded):
        return encoded
    image = image if is_face_size else to_face_size(image)
    return encode_png(image[..., ::-1] if order == BGR else image)


def encode_png(image: UInt8[np.ndarray, "height width 3"]) -> bytes:
    """Encodes RGB pixels without loss."""
    return cv2.imencode(".png", image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, _PNG_COMPRESSION])[1].tobytes()


def to_face_size(image: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "112 112 3"]:
    """Resizes to 112x112, first along the rows, then along the columns; equals Pillow's BICUBIC to the last bit.

    It is the kernel of `image_ops.degrade`, in numpy so that a preparation starts no accelerator. (Pillow 13 begins
    with the columns of a picture that it makes lower and wider; the versions before it do as this does.)

    References:
      Pillow, src/libImaging/Resample.c: fixed-point weights, both passes rounded to bytes.
    """
    rows = np.moveaxis(image, -1, 0).astype(np.float64)
    columns = _to_bytes(rows @ _operator(image.shape[1]).T)
    return np.moveaxis(_to_bytes(_operator(image.shape[0]) @ columns), 0, -1).astype(np.uint8)


@functools.lru_cache(maxsize=_OPERATORS)
def _operator(size: int) -> Float64[np.ndarray, "112 size"]:
    """The matrix that resamples an axis of `size` pixels, times 2**22; whole numbers."""
    step = size / IMAGE_SIZE
    centers = (np.arange(IMAGE_SIZE) + 0.5) * step
    # It shrinks with a wider kernel, which is the antialias.
    distance = np.abs(np.arange(size) + 0.5 - centers[:, None]) / max(step, 1)
    near = ((_A + 2) * distance - (_A + 3)) * distance**2 + 1
    far = _A * (((distance - 5) * distance + 8) * distance - 4)
    weights = np.where(distance < 1, near, np.where(distance < _REACH, far, 0))
    weights /= weights.sum(axis=1, keepdims=True)
    return np.trunc(weights * _FIXED_POINT + np.copysign(0.5, weights))


def _to_bytes(fixed_point: np.ndarray) -> np.ndarray:
    return np.clip(np.floor(fixed_point / _FIXED_POINT + 0.5), 0, 255)
