"""numpy's `.npz`: a zip archive of `.npy` files, compressed or not, read without numpy's own reader of headers.

A `.npy` file is b'\\x93NUMPY', two bytes of version, the header's length (uint16, from version 2 on uint32), the header
as the text of a dict, and the elements.

References: `numpy.lib.format`.
"""

import re
import zipfile
from collections.abc import Iterator

import numpy as np

from lrfr_jax.weights import tensor_bytes
from lrfr_jax.weights.tensor_bytes import require
from lrfr_jax.weights.zip_entries import read_entry

ENDING = ".npy"
_MAGIC = b"\x93NUMPY"
_HEADER = re.compile(
    rb"\{'descr': '(?P<type>[<>|=]?[a-zA-Z][0-9]{1,4})', 'fortran_order': (?P<order>True|False), "
    rb"'shape': \((?P<shape>[0-9L, ]*)\),? *\} *\n?"
)


def read(archive: zipfile.ZipFile) -> Iterator[tuple[str, np.ndarray]]:
    """Yields every array with its name.

    Raises:
      Refused: damaged, or an array of objects, records, text or of another shape than its bytes.
    """
    for entry in archive.namelist():
        name = tensor_bytes.tensor_name(entry.removesuffix(ENDING))
        yield name, _array(read_entry(archive, entry), name)


def _array(content: bytes, name: str) -> np.ndarray:
    width = 4 if content[6:7] > b"\x01" else 2
    start = 8 + width
    stop = start + int.from_bytes(content[8:start], "little")
    header = _HEADER.fullmatch(content[start:stop]) if content.startswith(_MAGIC) else None
    require(header, f"holds {name} as something else than an array of numbers (no object is ever unpickled)")
    code = header["type"].decode()
    # V2 is how numpy writes the bfloat16 of ml_dtypes.
    require(re.fullmatch(r".?(f[248]|[iu][1248]|b1|V2)", code), f"holds {name} of type {code}, which no weights have")
    shape = [int(side[:20]) for side in re.findall(rb"[0-9]+", header["shape"])]
    order = "F" if header["order"] == b"True" else "C"
    flat = tensor_bytes.to_array(content[stop:], np.dtype(code), shape, of=name)
    return flat.reshape(-1).reshape(shape, order=order)
