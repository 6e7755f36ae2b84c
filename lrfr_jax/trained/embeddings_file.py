"""Embeddings on disk: an npz of plain arrays that says which model made them, written in memory that does not grow."""

import contextlib
import os
import pathlib
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from lrfr_jax.errors import NPZ_ERRORS, UserError
from lrfr_jax.trained.spaces import spaces_of

SUFFIX = ".npz"
# Vectors of unit length were rounded to float32.
_LENGTH_TOLERANCE = 1e-3
# Texts at a time that become an array, whose letters take four bytes each up to the longest.
_CHUNK = 8192
# Bytes at a time from the rows' own file into the npz.
_COPY_BYTES = 2**22
# Fields that files of older versions lack.
_NEWER = ("fits",)


class EmbeddingsFile(NamedTuple):
    """What the file holds.

    Attributes:
      paths: of the images that were embedded.
      embeddings: of unit length, a row for each path.
      norms: lengths of the raw features.
      unreadable, reasons: paths of images that could not be used, and why.
      model: digest of the weights and of how they are used; equal ones can be compared.
      fusion, resolution: how the images were embedded.
      fits: digests of the weights that the embeddings fit beside their own (`Embedder.fits`); files of older versions
        name none.
    """

    paths: list[str]
    embeddings: Float[np.ndarray, "images dim"]
    norms: Float[np.ndarray, " images"]
    unreadable: list[str]
    reasons: list[str]
    model: str
    fusion: str
    resolution: int
    fits: list[str]

    @property
    def spaces(self) -> frozenset[str]:
        """Embeddings of two files can be compared if these have anything in common, see `spaces.spaces_of`."""
        return spaces_of(self.model, self.fits, self.fusion)


class Writer:
    """Collects rows on disk and puts them into a file that is there whole or not at all; use it in `with`.

    Until `finish` the rows lie beside the file without a name: whatever ends the process, nothing of them stays behind.
    """

    def __init__(self, path: pathlib.Path):
        self._path, self._dim, self._norms = path, 0, []

    def __enter__(self) -> "Writer":
        self._close = contextlib.ExitStack()
        there = next(folder for folder in self._path.absolute().parents if folder.exists())
        with _in_words(self._path):
            self._rows = self._close.enter_context(tempfile.TemporaryFile(dir=there))
        return self

    def __exit__(self, *error: Any) -> None:
        self._close.close()

    def add(self, vectors: Float[np.ndarray, "part dim"], norms: Float[np.ndarray, " part"]) -> None:
        """Appends embeddings of unit length and the norms of their raw features, both float32."""
        with _in_words(self._path):
            self._rows.write(np.ascontiguousarray(vectors))
        self._norms.append(norms)
        self._dim = vectors.shape[1]

    def finish(self, **texts: Any) -> None:
        """Makes the file of all rows and of the other fields of `EmbeddingsFile`.

        Raises:
          UserError: it cannot be written.
        """
        norms = np.concatenate([np.zeros(0, np.float32), *self._norms])
        unfinished = self._path.with_name(f".{self._path.name}.{os.getpid()}.incomplete")
        self._close.callback(_remove, unfinished)
        with _in_words(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(unfinished, "w") as file:
                self._rows.seek(0)
                rows = iter(lambda: self._rows.read(_COPY_BYTES), b"")
                _put(file, "embeddings", norms.dtype, (len(norms), self._dim), rows)
                _put(file, "norms", norms.dtype, norms.shape, [norms])
                for name, value in texts.items():
                    _put(file, name, *(_text(value) if isinstance(value, list) else _scalar(value)))
            unfinished.replace(self._path)


def _put(file: zipfile.ZipFile, name: str, dtype: np.dtype, shape: tuple[int, ...], parts: Iterable[Any]) -> None:
    """Writes an array of parts as numpy does, one part in memory at a time."""
    with file.open(f"{name}.npy", "w", force_zip64=True) as member:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(member, header)
        for part in parts:
            member.write(part if isinstance(part, bytes) else part.tobytes())


def _text(lines: Sequence[str]) -> tuple[np.dtype, tuple[int], Iterator[np.ndarray]]:
    dtype = np.dtype((np.str_, max(map(len, lines), default=1)))
    return dtype, (len(lines),), (np.array(lines[i : i + _CHUNK], dtype) for i in range(0, len(lines), _CHUNK))


def _scalar(value: Any) -> tuple[np.dtype, tuple[()], list[np.ndarray]]:
    array = np.array(value)
    return array.dtype, (), [array]


@contextlib.contextmanager
def _in_words(path: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error}") from error


def _remove(path: pathlib.Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()  # after a full disk


def read(path: str, *, flag: str) -> EmbeddingsFile:
    """Reads a file that `Writer` made.

    Raises:
      UserError: missing, damaged, or no such file.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            fields = {name: arrays[name] for name in EmbeddingsFile._fields if name in arrays or name not in _NEWER}
    except NPZ_ERRORS as error:
        raise UserError(f"{flag} {path} cannot be read as a file of `lrfr_jax.embed`: {error}") from error
    vectors, norms = fields["embeddings"], fields["norms"]
    fits = vectors.dtype == np.float32 and vectors.ndim == 2 and len(vectors) == len(fields["paths"]) == len(norms)
    # einsum squares and adds without a second copy of millions of vectors.
    if not fits or not np.allclose(np.einsum("nd,nd->n", vectors, vectors), 1, atol=2 * _LENGTH_TOLERANCE):
        raise UserError(f"{flag} {path} holds no unit vectors, one for each path: make it with `lrfr_jax.embed`")
    for name in ("paths", "unreadable", "reasons", "fits"):
        fields[name] = list(map(str, fields.get(name, ())))
    return EmbeddingsFile(**fields | {"model": str(fields["model"]), "fusion": str(fields["fusion"])})
