"""A writer of named arrays for each format that is read."""

import io
import json
import struct

import numpy as np

from lrfr_jax.weights import tensor_files
from tests.weights import mxnet_writer, torch_writer

_SAFETENSORS = {"f2": "F16", "f4": "F32", "f8": "F64", "i8": "I64", "i4": "I32", "u1": "U8", "b1": "BOOL"}


def _safetensors(arrays):
    header, end = {}, 0
    for name, array in arrays.items():
        begin, end = end, end + array.nbytes
        dtype = _SAFETENSORS[array.dtype.str[1:]]
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    return b"".join([struct.pack("<Q", len(text)), text, *(array.tobytes() for array in arrays.values())])


def _npz(arrays, save=np.savez):
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


FORMS = {
    "mxnet": mxnet_writer.write,
    "mxnet 1": lambda arrays: mxnet_writer.write(arrays, version=1),
    "mxnet 3": lambda arrays: mxnet_writer.write(arrays, version=3),
    "torch": torch_writer.write_zip,
    "torch legacy": torch_writer.write_legacy,
    "safetensors": _safetensors,
    "npz": _npz,
    "npz compressed": lambda arrays: _npz(arrays, np.savez_compressed),
}


def parse(content):
    """Reads the tensors of a file that consists of `content`."""
    return tensor_files.parse_tensors(io.BytesIO(content), size=len(content), name="x.file")
