"""Embeddings on disk: an npz of plain arrays that says which model made them."""

import contextlib
import os
import pathlib
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from lrfr_jax.errors import NPZ_ERRORS, UserError

SUFFIX = ".npz"
# Vectors of unit length were rounded to float32.
_LENGTH_TOLERANCE = 1e-3


class EmbeddingsFile(NamedTuple):
    """What the file holds.

    Attributes:
      paths: of the images that were embedded.
      embeddings: of unit length, a row for each path.
      norms: lengths of the raw features.
      unreadable, reasons: paths of images that could not be used, and why.
      model: digest of the weights and of how they are used; equal ones can be compared.
      fusion, resolution: how the images were embedded.
    """

    paths: list[str]
    embeddings: Float[np.ndarray, "images dim"]
    norms: Float[np.ndarray, " images"]
    unreadable: list[str]
    reasons: list[str]
    model: str
    fusion: str
    resolution: int


def write(path: pathlib.Path, held: EmbeddingsFile) -> None:
    """Writes the file whole or not at all; `UserError` if it cannot be written."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.incomplete")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(unfinished, "wb") as file:
            texts = ("paths", "unreadable", "reasons")
            lists = {name: np.array(getattr(held, name), np.str_) for name in texts}
            np.savez(file, **held._asdict() | lists)
        unfinished.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            unfinished.unlink()  # after a full disk
        raise UserError(f"{path} cannot be written: {error}") from error


def read(path: str, *, flag: str) -> EmbeddingsFile:
    """Reads a file that `write` made.

    Raises:
      UserError: missing, damaged, or no such file.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            fields = {name: arrays[name] for name in EmbeddingsFile._fields}
    except NPZ_ERRORS as error:
        raise UserError(f"{flag} {path} cannot be read as a file of `lrfr_jax.embed`: {error}") from error
    vectors, norms = fields["embeddings"], fields["norms"]
    fits = vectors.dtype == np.float32 and vectors.ndim == 2 and len(vectors) == len(fields["paths"]) == len(norms)
    # einsum squares and adds without a second copy of millions of vectors.
    if not fits or not np.allclose(np.einsum("nd,nd->n", vectors, vectors), 1, atol=2 * _LENGTH_TOLERANCE):
        raise UserError(f"{flag} {path} holds no unit vectors, one for each path: make it with `lrfr_jax.embed`")
    for name in ("paths", "unreadable", "reasons"):
        fields[name] = list(map(str, fields[name]))
    return EmbeddingsFile(**fields | {"model": str(fields["model"]), "fusion": str(fields["fusion"])})
