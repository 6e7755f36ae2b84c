"""Caffe's Datum, as packs of key and value hold it: a protobuf message of an image and its label."""

from typing import NamedTuple

import numpy as np

from lrfr_jax.pictures.sources import MAX_IMAGE_BYTES

# The fields that are read, by their numbers in caffe.proto; the others are passed over.
_CHANNELS, _HEIGHT, _WIDTH, _DATA, _LABEL, _FLOATS, _ENCODED = 1, 2, 3, 4, 5, 6, 7
_VARINT, _EIGHT_BYTES, _COUNTED, _FOUR_BYTES = 0, 1, 2, 5  # types on the wire
_TYPES = {_CHANNELS: _VARINT, _HEIGHT: _VARINT, _WIDTH: _VARINT, _DATA: _COUNTED, _LABEL: _VARINT, _ENCODED: _VARINT}
_LONGEST_VARINT = 10  # bytes
_DAMAGED = "is a damaged Datum"


class Datum(NamedTuple):
    """An image file and its label; an image of raw pixels is given as PPM."""

    image: bytes
    label: int


def starts(value: bytes) -> bool:
    """Whether a value begins as a Datum does: with one of its fields."""
    return any(value[:1] == bytes([field << 3 | kind]) for field, kind in _TYPES.items())


def parse(value: bytes) -> Datum:
    """Reads a Datum. Raw pixels are channel by channel, in the order blue, green, red, as OpenCV has them.

    Raises:
      ValueError: damaged, without label or image, or of floats; the message starts with a verb.
    """
    fields: dict[int, int | bytes] = {}
    position = 0
    while position < len(value):
        tag, position = _varint(value, position)
        field, kind = tag >> 3, tag & 7
        content, position = _content(value, position, kind)
        if field in _TYPES and _TYPES[field] != kind:
            raise ValueError(_DAMAGED)
        fields[field] = content  # of a field that occurs twice the last one counts, as in protobuf
    data, label = fields.get(_DATA, b""), fields.get(_LABEL)
    if label is None:
        raise ValueError("is a Datum without a label")
    if not data:
        raise ValueError(f"is a Datum {'of floats' if _FLOATS in fields else 'without data'}, not of an image")
    label -= 2**64 if label >= 2**63 else 0
    if fields.get(_ENCODED):
        return Datum(data, label)
    return Datum(_as_ppm(data, *(fields.get(side, 0) for side in (_CHANNELS, _HEIGHT, _WIDTH))), label)


def _as_ppm(data: bytes, channels: int, height: int, width: int) -> bytes:
    size = channels * height * width
    if channels not in (1, 3) or size != len(data) or size > MAX_IMAGE_BYTES:
        raise ValueError(f"is a Datum of {len(data)} bytes that says {channels}x{height}x{width}: it is no image")
    planes = np.frombuffer(data, np.uint8).reshape(channels, height, width)[::-1]
    pixels = np.broadcast_to(planes, (3, height, width)).transpose(1, 2, 0)
    return b"P6\n%d %d\n255\n" % (width, height) + pixels.tobytes()


def _content(value: bytes, position: int, kind: int) -> tuple[int | bytes, int]:
    """Reads what follows a tag; returns it and where it ends."""
    if kind == _VARINT:
        return _varint(value, position)
    size, start = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}.get(kind, 0), position
    if kind == _COUNTED:
        size, start = _varint(value, position)
    if (not size and kind != _COUNTED) or start + size > len(value):
        raise ValueError(_DAMAGED)
    return value[start : start + size], start + size


def _varint(value: bytes, position: int) -> tuple[int, int]:
    number = 0
    for place, byte in enumerate(value[position : position + _LONGEST_VARINT]):
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return number & 2**64 - 1, position + place + 1
    raise ValueError(_DAMAGED)
