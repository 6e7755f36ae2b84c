"""The Parquet files behind a `--source`: a file, shards of one pattern, or the folder of a Hugging Face dataset."""

import glob
import os
import re

from lrfr_jax.errors import UserError
from lrfr_jax.pictures import sources, stored_files

_SUFFIX = ".parquet"
# What tells shards of one split apart: train-00000-of-00010, with or without a digest, or 0000.
_NUMBERS = re.compile(r"[-_]?[0-9]+(-of-[0-9]+)?(-[0-9a-f]{8,})?$")
_SHOWN = 4  # splits that a sentence names


def find_files(source: str) -> list[str]:
    """Finds the files of a source, in the order of their names, 2 before 10.

    Raises:
      UserError: there is none, or a folder holds those of several splits.
    """
    if os.path.isdir(source):
        return _of_folder(source)
    if os.path.exists(source):
        return [source]
    found = sorted(glob.glob(source, recursive=True), key=sources.natural)
    files = [path for path in found if os.path.isfile(path)]
    if not files:
        raise UserError(f"--source {source} does not exist: give a Parquet file, a folder of such or 'FOLDER/train-*'")
    return files


def _of_folder(source: str) -> list[str]:
    paths = [path for path, reason in stored_files.walk(source) if reason is None and path.lower().endswith(_SUFFIX)]
    inside = {path: os.path.relpath(path, source) for path in paths}
    files = [path for path in sorted(paths, key=sources.natural) if not stored_files.is_hidden(inside[path])]
    if not files:
        raise UserError(f"--source {source} holds no file *{_SUFFIX}: give a folder of Parquet files")
    splits = sorted({_NUMBERS.sub("", os.path.splitext(inside[path])[0]) for path in files})
    if len(splits) > 1:
        shown = ", ".join(sources.printable(split) for split in splits[:_SHOWN])
        raise UserError(
            f"--source {source} holds {len(splits)} splits, as {shown}: name the files of those to take, as in "
            f"--source '{os.path.join(source, sources.printable(splits[0]))}*{_SUFFIX}', or of all with "
            f"'{os.path.join(source, '**', '*' + _SUFFIX)}'"
        )
    return files
