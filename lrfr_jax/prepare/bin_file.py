"""InsightFace's `.bin` files: a pickle of (images, is_same), two encoded images for each pair."""

import io
import os
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from lrfr_jax.errors import UserError
from lrfr_jax.prepare import inert_pickle
from lrfr_jax.prepare.inert_pickle import ByteArray, Dtype, Refused

_MAX_BYTES = 2**31  # the official sets have about 100 MB


class BinFile(NamedTuple):
    """Encoded images 2k and 2k + 1 form pair k; `is_same` says whether they show one person."""

    images: list[bytes]
    is_same: Bool[np.ndarray, " pairs"]


def read_bin(path: str) -> BinFile:
    """Reads a `.bin` file; see `parse_bin`.

    Raises:
      UserError: no such file, an unreasonably large one, or not a `.bin` file.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > _MAX_BYTES:
                raise UserError(f"{path} has {size} bytes, more than {_MAX_BYTES}: this is no .bin file of a test set")
            return parse_bin(file, size=size, name=path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def parse_bin(file: io.BufferedIOBase, *, size: int, name: str) -> BinFile:
    """Reads a stream that consists of `size` bytes; runs nothing that it names, and decodes no image.

    Images are `bytes`, `bytearray`, Python 2's `str`, or numpy arrays of uint8; `is_same` is a list, a tuple or a numpy
    array of booleans, or of 0 and 1. The pickle may be of Python 2 or 3, in any protocol.

    Raises:
      UserError: truncated, damaged, of another structure, or naming anything but byte strings and byte arrays.
    """
    try:
        return _pairs(inert_pickle.read(file, size=size))
    except Refused as reason:
        raise UserError(f"{name} {reason}") from reason


def _pairs(value: Any) -> BinFile:
    match value:
        case (list() | tuple() as images, list() | tuple() | ByteArray() as flags):
            encoded = [_image(image, place) for place, image in enumerate(images)]
            is_same = _is_same(flags)
        case _:
            raise Refused("is a pickle of something else than (images, is_same): it is no .bin file of a test set")
    if len(encoded) != 2 * len(is_same) or not encoded:
        raise Refused(f"holds {len(encoded)} images for {len(is_same)} pairs: it must hold two for each, and one pair")
    return BinFile(encoded, is_same)


def _image(value: Any, place: int) -> bytes:
    match value:
        case bytes(content) | ByteArray(Dtype(b"u1"), bytes(content)):
            return content
    raise Refused(f"has an image, number {place}, that is neither a byte string nor an array of uint8")


def _is_same(flags: Any) -> Bool[np.ndarray, " pairs"]:
    if isinstance(flags, ByteArray):
        values = np.frombuffer(flags.content or b"", np.uint8)
        are_flags = bool(np.all(values <= 1))
    else:
        values, are_flags = flags, all(isinstance(flag, int) and flag in (0, 1) for flag in flags)
    if not are_flags:
        raise Refused("has a pair that is neither matched nor mismatched: is_same must hold booleans, or 0 and 1")
    return np.array(values, bool)
