"""The folder of a report, made before the work that it reports on: hours later it would be too late."""

import contextlib
import pathlib
import tempfile
from collections.abc import Iterator

from lrfr_jax.errors import UserError


def make(folder: pathlib.Path, *, flag: str) -> None:
    """Makes a folder that the user named with `flag`, and tries whether files can be written into it.

    Raises:
      UserError: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(f"{flag} {folder} cannot be written: {error}") from error


@contextlib.contextmanager
def made_for_a_report(folder: pathlib.Path, *, flag: str) -> Iterator[None]:
    """Makes a folder as `make` does, and removes it where it was made for nothing."""
    is_new = not folder.exists()
    make(folder, flag=flag)
    try:
        yield
    finally:
        if is_new:
            with contextlib.suppress(OSError):  # it holds a report
                folder.rmdir()
