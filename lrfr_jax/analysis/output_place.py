"""Where a command of the analysis writes: looked at before the work, which would be lost otherwise."""

import pathlib

from lrfr_jax.errors import UserError


def check_folder(folder: pathlib.Path) -> None:
    """Looks whether files can be put into a folder of `--output`; nothing is made, as bad input is to leave no trace.

    Raises:
      UserError: the folder, or one above it, is a file.
    """
    there = next((path for path in (folder, *folder.parents) if path.exists()), None)
    if there and not there.is_dir():
        raise UserError(f"--output cannot be written, as {there} is a file: name a folder, or a place in one")


def check_file(path: pathlib.Path) -> None:
    """Looks whether a file of `--output` can be written, as `check_folder` does.

    Raises:
      UserError: it is a folder, or would lie below a file.
    """
    if path.is_dir():
        raise UserError(f"--output {path} is a folder: name a file in it")
    check_folder(path.parent)
