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
# What else is given the name .mat, by its first bytes.
_OTHER_FILES = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file, as Octave's -hdf5 and h5py write it",
    b"Octave-1-": "a file in Octave's own binary format",
    b"# Created by Octave": "a file in Octave's own text format",
    b"\x1f\x8b": "packed by gzip, as Octave's -zip does it",
}
_SAVE_ANEW = "load it in MATLAB or Octave and type `save -v7 new.mat` (or write it by scipy.io.savemat)"
_MATLAB_4_HEAD = struct.Struct("<5i")
_MATLAB_4_TYPES = 5000  # the first number of a MATLAB 4 file is below it, in one order of bytes or the other
_INT8, _UINT32, _INT32, _MATRIX, _COMPRESSED = 1, 6, 5, 14, 15  # types of elements
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {1: "utf-8", 2: "utf-8", 16: "utf-8", 4: "utf-16", 17: "utf-16"}
_CELL, _CHAR, _NUMERIC, _OPAQUE = 1, 4, range(6, 16), 17  # classes of arrays
_COMPLEX = 0x0800


class _Array(NamedTuple):
    """An array's head, and where its content begins in `data`."""

    name: str
    array_class: int
    shape: tuple[int, ...]
    is_complex: bool
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
            return _value(_listable(array), order)
        others.append(array.name)
    raise ValueError(f"has no {key}, it has {', '.join(sorted(others)) or 'nothing'}")


def _byte_order(content: bytes) -> str:
    order = _ORDERS.get(content[_ORDER_AT:_HEADER_BYTES])
    version = struct.unpack_from(f"{order}H", content, _VERSION_AT)[0] if order else None
    if version == _MATLAB_5:
        return order
    other = next((name for start, name in _OTHER_FILES.items() if content.startswith(start)), None)
    if version == _MATLAB_73:
        other = "a MATLAB 7.3 file, which is HDF5"
    elif other is None and _is_matlab_4(content):
        other = "a MATLAB 4 file"
    if other:
        raise ValueError(f"is {other}: {_SAVE_ANEW}")
    raise ValueError("is not a MATLAB file of version 5 to 7.2")


def _is_matlab_4(content: bytes) -> bool:
    """Whether the first variable's head is one of MATLAB 4: type, rows, columns, complex or not, length of its name."""
    if len(content) < _MATLAB_4_HEAD.size:
        return False
    for order in _ORDERS.values():
        kind, rows, columns, is_complex, length = struct.unpack_from(order + _MATLAB_4_HEAD.format[1:], content)
        is_head = kind < _MATLAB_4_TYPES and rows >= 0 and columns >= 0 and is_complex in (0, 1)
        end = _MATLAB_4_HEAD.size + length
        if is_head and 1 < length <= len(content) and content[end - 1 : end] == b"\0":
            return True
    return False


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
    if flags_kind != _UINT32 or len(flags) != _TAG_BYTES:
        raise ValueError("is damaged: a variable has no head")
    flag_bits = struct.unpack_from(f"{order}I", flags)[0]
    array_class, shape = flag_bits & 0xFF, ()
    shape_kind = _INT32
    if array_class != _OPAQUE:  # which has none
        shape_kind, sides, position = _element(data, position, order)
        shape = tuple(np.frombuffer(sides, f"{order}i4").tolist())
    name_kind, name, position = _element(data, position, order)
    if (shape_kind, name_kind) != (_INT32, _INT8) or min(shape, default=0) < 0:
        raise ValueError("is damaged: a variable has no head")
    return _Array(bytes(name).decode("utf-8"), array_class, shape, bool(flag_bits & _COMPLEX), data, position)


def _listable(array: _Array) -> _Array:
    """Refuses what no list of images is; variables that nobody asks for may be anything."""
    name = array.name or "a cell"
    if array.array_class == _OPAQUE:
        raise ValueError(
            f"holds {name} as an object, such as an array of strings: make it cells of text, `{name} = cellstr({name})`"
        )
    if len(array.shape) != 2 or array.is_complex:
        raise ValueError(f"holds {name} of shape {array.shape}, or with complex numbers: lists have neither")
    return array


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
        _listable(cell)
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
