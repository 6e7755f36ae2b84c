"""Safetensors: uint64 length of a JSON header, the header, then the tensors' bytes one after another without a hole.

The header maps each name to `{"dtype", "shape", "data_offsets": [begin, end]}`, offsets counted from its end, and
`__metadata__` to strings. It is checked more strictly than the format's own reader needs to: see `read`.

References: https://github.com/huggingface/safetensors
"""

import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from lrfr_jax.files.inert_pickle import Refused
from lrfr_jax.weights import tensor_bytes
from lrfr_jax.weights.tensor_bytes import BFLOAT16, Stream, num_elements, number, require, take

_LONGEST_HEADER = 2**22  # bytes: a backbone of 1,000 tensors needs 0.1 MB
_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": BFLOAT16, "BOOL": "?"}
_TYPES |= {"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1"}


def read(file: io.BufferedIOBase, size: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yields every tensor with its name, in the order of their bytes.

    Raises:
      Refused: truncated; names twice; a header that is no such JSON; tensors that overlap, leave holes or are cut off.
    """
    stream = Stream(file, size)
    length = number(stream, 8, inside="its header")
    require(length <= _LONGEST_HEADER, f"has a header of {length} bytes, more than any backbone's tensors need")
    entries = _entries(take(stream, length, inside="its header"))
    start, left, end = file.tell(), stream.left, 0
    for name, dtype, shape, begin, stop in entries:
        require(begin == end <= stop, f"keeps {name} at byte {begin}, not where the tensor before it ends: it lies")
        num_bytes = num_elements(shape, of=name) * dtype.itemsize
        sentence = f"gives {name} the shape {shape}, which does not fit its {stop - begin} bytes: it lies"
        require(num_bytes == stop - begin, sentence)
        end = stop
    require(end == left, f"has {left} bytes of tensors, but its header describes {end}: it is truncated or damaged")
    for name, dtype, shape, begin, stop in entries:
        file.seek(start + begin)
        content = take(Stream(file, stop - begin), stop - begin, inside=name)
        yield name, tensor_bytes.to_array(content, dtype, shape, of=name)


def _entries(header: bytes) -> list[tuple[str, np.dtype, list[int], int, int]]:
    """Returns (name, type, shape, begin, end) of each tensor by place."""
    try:
        table = json.loads(header.decode(), object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError) as error:
        raise Refused("has a header that is no JSON: it is damaged or no safetensors file") from error
    require(isinstance(table, dict), "has a header that is no JSON object: it is damaged")
    table.pop("__metadata__", None)
    return sorted((_entry(name, entry) for name, entry in table.items()), key=lambda entry: entry[3:])


def _entry(name: str, entry: Any) -> tuple[str, np.dtype, list[int], int, int]:
    name = tensor_bytes.tensor_name(name)
    match entry:
        case {"dtype": str(code), "shape": list(shape), "data_offsets": [int(begin), int(end)]} if len(entry) == 3:
            require(code in _TYPES, f"holds {name} of type {code}, which no backbone's weights have")
            return name, np.dtype(_TYPES[code]), shape, begin, end
    raise Refused(f"describes {name} in its header otherwise than by dtype, shape and data_offsets: it is damaged")


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    require(len(dict(pairs)) == len(pairs), "has the same name twice in its header: it is damaged or malicious")
    return dict(pairs)
