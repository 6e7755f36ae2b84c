"""MXNet's `.params`: arrays, then their names (`arg:...` for parameters, `aux:...` for statistics).

All numbers are little-endian: uint64 0x112, uint64 0, uint64 count, the arrays; uint64 count, each name as uint64
length and bytes. An array is uint32 magic, from version 2 on int32 storage type (0: dense), uint32 number of axes,
int64 sides, int32 kind and int32 number of its device, int32 element type, elements.

References: `NDArray::Save` in src/ndarray/ndarray.cc of Apache MXNet.
"""

import io
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from lrfr_jax.weights import tensor_bytes
from lrfr_jax.weights.tensor_bytes import BFLOAT16, MOST_AXES, Stream, num_elements, number, require, skip

MAGIC = (0x112).to_bytes(8, "little")
_VERSIONS = {0xF993FAC8: 1, 0xF993FAC9: 2, 0xF993FACA: 3}
_TYPES = {0: "<f4", 1: "<f8", 2: "<f2", 3: "u1", 4: "<i4", 5: "i1", 6: "<i8", 7: "?", 12: BFLOAT16}


class _Array(NamedTuple):
    dtype: np.dtype
    shape: list[int]
    place: int
    num_bytes: int


def read(file: io.BufferedIOBase, size: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yields every array with its name, prefix included.

    Raises:
      Refused: truncated, damaged, sparse, or bytes follow the names.
    """
    stream = Stream(file, size)
    skip(stream, 16, inside="its header")
    count = number(stream, 8, inside="its header")
    arrays = [_header(stream, f"array number {place}") for place in _numbers(count, stream)]
    count_of_names = number(stream, 8, inside="the list of names")
    require(count_of_names == count, f"has {count} arrays and {count_of_names} names: it is damaged, or has no names")
    names = [_name(stream) for _ in range(count)]
    require(not stream.left, "does not end where its names end: it is damaged")
    for name, array in zip(names, arrays, strict=True):
        file.seek(array.place)
        content = tensor_bytes.take(Stream(file, array.num_bytes), array.num_bytes, inside=name)
        yield name, tensor_bytes.to_array(content, array.dtype, array.shape, of=name)


def _numbers(count: int, stream: Stream) -> range:
    smallest = 20  # bytes of an array without elements
    require(count * smallest <= stream.left, f"says that it holds {count} arrays, for which it is too short")
    return range(count)


def _header(stream: Stream, label: str) -> _Array:
    """Reads what stands before an array's elements, and passes over these."""
    version = _VERSIONS.get(number(stream, 4, inside=label))
    require(version, f"has another start of {label} than MXNet 0.11 or newer writes: it is damaged or older")
    is_dense = version == 1 or number(stream, 4, inside=label) == 0
    require(is_dense, f"stores {label} as a sparse array, which no backbone's weights are")
    num_axes = number(stream, 4, inside=label)
    require(num_axes or version == 3, f"has no shape for {label}: it was saved before it had a value")
    require(num_axes <= MOST_AXES, f"gives {label} {num_axes} axes, more than any tensor has: it is damaged")
    shape = [number(stream, 8, inside=label) for _ in range(num_axes)]
    num_elements(shape, of=label)
    skip(stream, 8, inside=label)
    code = number(stream, 4, inside=label)
    require(code in _TYPES, f"has {code} as the element type of {label}, which is none of a backbone's weights")
    dtype = np.dtype(_TYPES[code])
    num_bytes = num_elements(shape, of=label) * dtype.itemsize
    return _Array(dtype, shape, skip(stream, num_bytes, inside=f"{label}, of shape {shape}"), num_bytes)


def _name(stream: Stream) -> str:
    length = number(stream, 8, inside="the list of names")
    return tensor_bytes.tensor_name(tensor_bytes.take(stream, length, inside="the list of names"))
