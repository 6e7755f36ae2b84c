"""Numbers, text and cells of text out of a MATLAB 5 file, with nothing believed that the file says of itself.

`scipy.io.loadmat` takes the whole process down on some damaged files, so this reads the format, as far as lists of
images need it.

References:
  MathWorks, MAT-File Format, chapter 1 (Level 5 MAT-files).
"""

import math
import struct
import zlib
from typing import NamedTuple

import numpy as np

MAX_BYTES = 64 * 2**20  # of the file, and of each of its variables unpacked; the longest official list has 5 MB
_HEADER_BYTES, _VERSION_AT, _ORDER_AT, _TAG_BYTES = 128, 124, 126, 8
_ORDERS = {b"IM": "<", b"MI": ">"}
_MATLAB_5, _MATLAB_73 = 0x0100, 0x0200
_INT8, _UINT32, _INT32, _MATRIX, _COMPRESSED = 1, 6, 5, 14, 15  # types of elements
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {1: "utf-8", 2: "utf-8", 16: "utf-8", 4: "utf-16", 17: "utf-16"}
_CELL, _CHAR, _NUMERIC = 1, 4, range(6, 16)  # classes of arrays
_COMPLEX = 0x0800


class _Array(NamedTuple):
    """An array's head, and where its content begins in `data`."""

    name: str
    array_class: int
    shape: tuple[int, ...]
    data: memoryview
    start: int


def read_variable(content: bytes, key: str) -> np.ndarray:
    """Reads the variable of that name: numbers, or an object array of str (of a char array, its rows).

    Raises:
      ValueError: another format, no such variable, or one that is damaged or of another kind; the message goes behind
        the file's name.
    """
    order = _byte_order(content)
    buffer, position, others = memoryview(content), _HEADER_BYTES, []
    while position < len(buffer):
        kind, data, position = _element(buffer, position, order)
        if kind == _COMPRESSED:
            kind, data, _ = _element(_unpack(data), 0, order)
        if kind != _MATRIX:
            raise ValueError(f"is damaged: an element of type {kind} stands where a variable should")
        array = _head(data, order)
        if array.name == key:
            return _value(array, order)
        others.append(array.name)
    raise ValueError(f"has no {key}, it has {', '.join(sorted(others)) or 'nothing'}")


def _byte_order(content: bytes) -> str:
    order = _ORDERS.get(content[_ORDER_AT:_HEADER_BYTES])
    version = struct.unpack_from(f"{order}H", content, _VERSION_AT)[0] if order else None
    if version == _MATLAB_73:
        raise ValueError("is a MATLAB 7.3 file, which is HDF5: save it again with `-v7`")
    if version != _MATLAB_5:
        raise ValueError("is not a MATLAB file of version 5 to 7.2")
    return order


def _element(buffer: memoryview, position: int, order: str) -> tuple[int, memoryview, int]:
    """Returns an element's type, its data, and the position of the next one."""
    if len(buffer) - position < _TAG_BYTES:
        raise ValueError("is damaged: it ends within an element")
    kind, size = struct.unpack_from(f"{order}II", buffer, position)
    start, end = position + _TAG_BYTES, position + _TAG_BYTES + size
    following = end if kind == _COMPRESSED else end + -size % _TAG_BYTES
    if kind >> 16:  # a small element: its size shares the first word, its data takes the second one
        kind, size = kind & 0xFFFF, kind >> 16
        start, following = position + 4, position + _TAG_BYTES
        end = start + size
    if end > len(buffer) or end > following:
        raise ValueError("is damaged: an element claims more bytes than there are")
    return kind, buffer[start:end], following


def _unpack(data: memoryview) -> memoryview:
    """Unpacks a compressed variable."""
    stream = zlib.decompressobj()
    try:
        unpacked = stream.decompress(data, MAX_BYTES)
    except zlib.error as error:
        raise ValueError(f"is damaged: {error}") from error
    if not stream.eof:
        raise ValueError(f"is damaged, or holds a variable of more than {MAX_BYTES} bytes")
    return memoryview(unpacked)


def _head(data: memoryview, order: str) -> _Array:
    flags_kind, flags, position = _element(data, 0, order)
    shape_kind, sides, position = _element(data, position, order)
    name_kind, name, position = _element(data, position, order)
    if (flags_kind, shape_kind, name_kind) != (_UINT32, _INT32, _INT8) or len(flags) != _TAG_BYTES:
        raise ValueError("is damaged: a variable has no head")
    flag_bits = struct.unpack_from(f"{order}I", flags)[0]
    shape = tuple(np.frombuffer(sides, f"{order}i4").tolist())
    if len(shape) != 2 or min(shape) < 0 or flag_bits & _COMPLEX:
        raise ValueError(f"holds a variable of shape {shape}, or with complex numbers: lists have neither")
    return _Array(bytes(name).decode("utf-8"), flag_bits & 0xFF, shape, data, position)


def _value(array: _Array, order: str) -> np.ndarray:
    if array.array_class == _CELL:
        return _cells(array, order)
    kind, content, _ = _element(array.data, array.start, order)
    if array.array_class == _CHAR:
        rows = _text(array, kind, content, order)
        return np.array(["".join(row).rstrip() for row in rows], object).reshape(-1, 1)
    if array.array_class not in _NUMERIC or kind not in _NUMBERS:
        raise ValueError(f"holds {array.name}, which is neither numbers nor text nor cells of text")
    numbers = np.frombuffer(content, order + _NUMBERS[kind])
    if len(numbers) != math.prod(array.shape):
        raise ValueError(f"is damaged: {array.name} has {len(numbers)} numbers and claims a shape of {array.shape}")
    return numbers.reshape(array.shape, order="F")


def _cells(array: _Array, order: str) -> np.ndarray:
    count, position = math.prod(array.shape), array.start
    if count * _TAG_BYTES > len(array.data) - position:
        raise ValueError(f"is damaged: {array.name} claims {count} cells, more than its bytes can hold")
    cells = np.empty(count, object)
    for place in range(count):
        kind, data, position = _element(array.data, position, order)
        cell = _head(data, order) if kind == _MATRIX else None
        if cell is None or cell.array_class != _CHAR:
            raise ValueError(f"holds {array.name}, whose cells are not all text")
        kind, content, _ = _element(cell.data, cell.start, order)
        cells[place] = "".join(_text(cell, kind, content, order).ravel())
    return cells.reshape(array.shape, order="F")


def _text(array: _Array, kind: int, content: memoryview, order: str) -> np.ndarray:
    """Decodes a char array; one character each, in its shape."""
    if kind not in _TEXTS:
        raise ValueError(f"is damaged: {array.name} is text of an unknown kind")
    encoding = _TEXTS[kind] + ({"<": "-le", ">": "-be"}[order] if _TEXTS[kind] == "utf-16" else "")
    characters = list(bytes(content).decode(encoding))
    if len(characters) != math.prod(array.shape):
        raise ValueError(f"is damaged: text of {len(characters)} characters claims a shape of {array.shape}")
    return np.array(characters, "U1").reshape(array.shape, order="F")
