"""Lists in MATLAB files, as the makers of TinyFace and SurvFace give them: names of images, and their identities."""

import collections
import os
import pathlib

import numpy as np
from jaxtyping import Int, Shaped

from lrfr_jax.errors import UserError
from lrfr_jax.pictures import sources
from lrfr_jax.prepare.lists import mat_file


def find_list(folder: str, name: str) -> str:
    """Finds the file of that name in a folder or below it.

    Raises:
      UserError: there is none, or there are several and they differ.
    """
    found = sorted(path for path, endless in sources.walk(folder) if not endless and os.path.basename(path) == name)
    if not found:
        raise UserError(f"{folder} holds no {name}: give the folder with the official lists as --lists")
    if len({pathlib.Path(path).read_bytes() for path in found}) > 1:
        raise UserError(f"{found[0]} and {found[1]} differ: leave the one that belongs to these images")
    return found[0]


def read_names(path: str, key: str, *, columns: int) -> Shaped[np.ndarray, "rows columns"]:
    """Reads a cell array of image names with so many columns.

    Raises:
      UserError: not such a file, no such key, another shape, or an entry that is no plain file name.
    """
    cells = _read(path, key)
    if columns == 1:
        cells = cells.reshape(-1, 1)  # a list may stand or lie
    if cells.shape[1] != columns or cells.size == 0:
        raise UserError(f"{path}: {key} has shape {cells.shape}, it must be a list of {columns} image names a row")
    for name in cells.ravel():
        if not isinstance(name, str) or not name.isprintable() or name in ("", ".", "..") or set(name) & set("/\\"):
            raise UserError(f"{path}: {key} holds {name!r}, which is no name of a file in the folder of its images")
    return cells


def read_faces(path: str, *, names: str, ids: str) -> tuple[list[str], Int[np.ndarray, " faces"]]:
    """Reads a list of images and one of their identities.

    Raises:
      UserError: either is bad, they differ in length, an image stands twice, or an identity is no whole number.
    """
    listed = read_names(path, names, columns=1)[:, 0].tolist()
    numbers = _read(path, ids).ravel()
    if len(numbers) != len(listed):
        raise UserError(f"{path}: {names} has {len(listed)} entries, {ids} has {len(numbers)}: the list is not whole")
    in_range = numbers.dtype.kind in "iuf" and bool(np.all((numbers >= 0) & (numbers < 2**31)))
    if not in_range or (numbers % 1 != 0).any():
        raise UserError(f"{path}: {ids} must hold the number of an identity, 0 or more, for each image")
    (most, times), *_ = collections.Counter(listed).most_common(1)
    if times > 1:
        raise UserError(f"{path}: {names} holds {most} {times} times: each image must stand there once")
    return listed, numbers.astype(np.int64)


def _read(path: str, key: str) -> np.ndarray:
    try:
        if os.path.getsize(path) > mat_file.MAX_BYTES:
            raise ValueError(f"has more than {mat_file.MAX_BYTES} bytes, a list of images has some megabytes at most")
        return mat_file.read_variable(pathlib.Path(path).read_bytes(), key)
    except (ValueError, OSError) as error:
        raise UserError(f"{path} {error}") from error
