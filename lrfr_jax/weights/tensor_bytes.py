"""What all readers of weight files share: bytes that the file must still hold, shapes that must fit them, values."""

import dataclasses
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lrfr_jax.files.inert_pickle import Refused

BFLOAT16 = np.dtype("V2")  # the upper half of a float32; numpy has no type for it
MOST_AXES, _MOST_ELEMENTS = 8, 2**48
_LONGEST_NAME = 300


@dataclasses.dataclass
class Stream:
    """A file from its present place on, and how many bytes it has left."""

    file: io.BufferedIOBase
    left: int


def take(stream: Stream, count: int, *, inside: str) -> bytes:
    """Reads so many bytes, or refuses before it reads any; `inside` says of what they are a part."""
    _check_left(stream, count, inside)
    content = stream.file.read(count)
    require(len(content) == count, "became shorter while it was read")
    stream.left -= count
    return content


def skip(stream: Stream, count: int, *, inside: str) -> int:
    """Passes over so many bytes; returns the place in the file at which they begin."""
    _check_left(stream, count, inside)
    place = stream.file.tell()
    stream.file.seek(count, io.SEEK_CUR)
    stream.left -= count
    return place


def number(stream: Stream, width: int, *, inside: str) -> int:
    """Reads an unsigned little-endian integer of so many bytes."""
    return int.from_bytes(take(stream, width, inside=inside), "little")


def num_elements(shape: Sequence[Any], *, of: str) -> int:
    """Returns how many elements a shape has; refuses one of more than 8 axes, or with a side that is no size."""
    is_shape = len(shape) <= MOST_AXES and all(type(side) is int and side >= 0 for side in shape)
    is_shape = is_shape and math.prod(max(side, 1) for side in shape) < _MOST_ELEMENTS
    require(is_shape, f"gives {of} a shape that no tensor has: it is damaged or malicious")
    return math.prod(shape)


def tensor_name(text: str | bytes) -> str:
    """Returns a tensor's name; refuses one that could not be shown to the user, or only at great length."""
    name = text.decode("utf-8", "surrogateescape") if isinstance(text, bytes) else text
    is_name = 0 < len(name) <= _LONGEST_NAME and name.isprintable()
    require(is_name, f"has a tensor whose name is empty, over {_LONGEST_NAME} characters long or not printable")
    return name


def to_array(content: bytes, dtype: np.dtype, shape: Sequence[int], *, of: str) -> np.ndarray:
    """Makes an array of bytes that it must fill exactly."""
    count = num_elements(shape, of=of)
    sentence = f"gives {of} the shape {tuple(shape)} of {dtype}, which does not fit its {len(content)} bytes: it lies"
    require(count * dtype.itemsize == len(content), sentence)
    return np.frombuffer(content, dtype).reshape(shape)


def as_weights(raw: np.ndarray, *, of: str) -> np.ndarray:
    """Returns floats of any width as float32, and integers and booleans as they are, in the machine's byte order.

    Raises:
      Refused: neither of them, or a float that is not finite in float32; a number alone may be so, as it is no weight
        but a score or a scale that training keeps.
    """
    if raw.dtype.kind in "iub":
        return np.asarray(raw, raw.dtype.newbyteorder("="), order="C")
    if raw.dtype == BFLOAT16:
        raw = (np.asarray(raw, order="C").view("<u2").astype("<u4") << 16).view("<f4")
    require(raw.dtype.kind == "f", f"holds {of} of type {raw.dtype}, which no weights have")
    with np.errstate(over="ignore", invalid="ignore"):  # what becomes infinite is refused here
        values = np.asarray(raw, np.float32, order="C")
    is_finite = not values.ndim or np.isfinite(values).all()
    require(is_finite, f"holds values in {of} that are not finite: weights must be numbers")
    return values


def require(condition: Any, otherwise: str) -> None:
    """Refuses the file for the given reason unless the condition holds."""
    if not condition:
        raise Refused(otherwise)


def _check_left(stream: Stream, count: int, inside: str) -> None:
    require(count <= stream.left, f"is truncated: it ends inside {inside}")
