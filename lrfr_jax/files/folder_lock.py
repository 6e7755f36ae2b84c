"""Two processes never write into one folder: neither two runs into a workdir nor two preparations into a set."""

import contextlib
import fcntl
import os
import pathlib
from collections.abc import Iterator

from lrfr_jax.errors import UserError


@contextlib.contextmanager
def alone_in(folder: pathlib.Path) -> Iterator[None]:
    """Holds an advisory lock on the existing `folder`; it leaves no file and ends with the process, even by kill -9.

    A file system without such locks (some network mounts) gives no protection.

    Raises:
      UserError: another process holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process is writing into {folder}: wait for its end, or stop it") from None
        except OSError:
            pass
        yield
    finally:
        os.close(descriptor)
