"""The one kind of error that is the user's to mend, how a command reports it, and what libraries raise instead."""

import contextlib
import sys
import tokenize
import zipfile
import zlib
from collections.abc import Iterator


class UserError(Exception):
    """Bad input: the message is one sentence that names the file, record or key and says what to do."""


# What numpy raises on a damaged npz file, and whoever reads it for an array that it lacks.
NPZ_ERRORS = (
    *(OSError, EOFError, ValueError, LookupError, TypeError, RuntimeError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)


def reason_of(error: Exception) -> str:
    """The first line of what a library's error says, at most 200 characters, to be told within a sentence."""
    return str(error).strip().split("\n")[0][:200].rstrip(".")


@contextlib.contextmanager
def one_sentence() -> Iterator[None]:
    """Turns a `UserError` into one line on stderr and exit status 1; every other error keeps its traceback."""
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(1)
