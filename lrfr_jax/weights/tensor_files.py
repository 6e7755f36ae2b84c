"""The door to foreign weight files: any of their formats in, named arrays out; nothing in a file is ever run."""

import io
import os
import zipfile
from collections.abc import Iterator

import numpy as np

from lrfr_jax.errors import UserError
from lrfr_jax.files.inert_pickle import Refused
from lrfr_jax.weights import mxnet_file, npz_file, safetensors_file, torch_file, zip_entries
from lrfr_jax.weights.tensor_bytes import as_weights, require

# What downloads leave in the place of weights, by how it begins.
_INSTEAD = {
    b"<!doctype html": "is a web page: the download asked something or was refused, so get the file by hand",
    b"<html": "is a web page: the download asked something or was refused, so get the file by hand",
    b"version https://git-lfs": "is a pointer of Git LFS and not the file: get that with `git lfs pull`",
}
_LONGEST_START = 64


def read_tensors(path: str) -> dict[str, np.ndarray]:
    """Reads the weights in a file; see `parse_tensors`.

    Raises:
      UserError: no such file, or as `parse_tensors`.
    """
    try:
        with open(path, "rb") as file:
            return parse_tensors(file, size=os.fstat(file.fileno()).st_size, name=path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def parse_tensors(file: io.BufferedIOBase, *, size: int, name: str) -> dict[str, np.ndarray]:
    """Reads the named tensors of a stream of `size` bytes, whose format shows in its content.

    Formats: MXNet `.params`; PyTorch's state dicts, as zip archives and as before 1.6; safetensors; numpy's `.npz`.
    Floats of any width become float32; integers and booleans stay what they are. Names are those of the file, without
    the names of dicts around all of them; arrays may be read-only.

    Raises:
      UserError: of another format; truncated or damaged; a shape that does not fit its bytes; a value that is not
        finite; a tensor twice; or a pickle that names anything but tensors and what training keeps beside them.
    """
    try:
        tensors = {}
        for key, raw in _read(file, size):
            require(key not in tensors, f"holds {key} twice: it is damaged or malicious")
            tensors[key] = as_weights(raw, of=key)
        require(tensors, "holds no tensors")
        return tensors
    except Refused as reason:
        raise UserError(f"{name} {reason}") from reason


def _read(file: io.BufferedIOBase, size: int) -> Iterator[tuple[str, np.ndarray]]:
    start = file.read(_LONGEST_START)
    file.seek(0)
    for beginning, what in _INSTEAD.items():
        require(not start.lstrip().lower().startswith(beginning), what)
    if start.startswith(zip_entries.MAGIC):
        return _read_zip(zip_entries.open_archive(file, size), size)
    if start.startswith(mxnet_file.MAGIC):
        return mxnet_file.read(file, size)
    if start.startswith(b"\x80"):
        return torch_file.read_legacy(file, size)
    if start[8:9] == b"{":
        return safetensors_file.read(file, size)
    raise Refused("is none of the weight files that can be read: MXNet .params, PyTorch, safetensors, .npz")


def _read_zip(archive: zipfile.ZipFile, size: int) -> Iterator[tuple[str, np.ndarray]]:
    names = archive.namelist()
    if names and all(name.endswith(npz_file.ENDING) for name in names):
        return npz_file.read(archive)
    return torch_file.read_zip(archive, size)
