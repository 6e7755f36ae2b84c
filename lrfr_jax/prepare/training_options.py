"""What the kinds that make training sets share: whom to take, what a bad image does, what the set remembers of it."""

import argparse
import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from lrfr_jax.errors import UserError
from lrfr_jax.pictures import sources
from lrfr_jax.pictures.sources import Problem


class Selection(NamedTuple):
    """Names of the identities to take (None: all) and of those to leave out."""

    only: frozenset[str] | None
    excluded: frozenset[str]

    def takes(self, identity: str) -> bool:
        return identity not in self.excluded and (self.only is None or identity in self.only)


def add_arguments(add: Callable) -> None:
    """Declares the shared options; `add` is the parser's `add_argument`."""
    add("--shards", type=int, default=8, help="files to spread the set over")
    add(
        "--exclude_identities",
        action="append",
        metavar="FILE",
        help="identities to leave out, one a line (identities.txt of a test set); may be repeated",
    )
    add("--only_identities", metavar="FILE", help="identities to take, one a line; the others are left out")
    add(
        "--licence", metavar="TEXT", help="under which the images may be used; it goes into the cards of trained models"
    )
    add(
        "--on_error",
        choices=("error", "skip"),
        default="error",
        help="what a bad image does: end the command with nothing written, or be left out and listed in skipped.txt",
    )


def read_selection(arguments: argparse.Namespace) -> Selection:
    """Reads the lists of identities that the command line names.

    Raises:
      UserError: a list cannot be read, or is empty.
    """
    path = arguments.only_identities
    only = None if path is None else read_names(path, flag="--only_identities")
    excluded = [read_names(path, flag="--exclude_identities") for path in arguments.exclude_identities or ()]
    return Selection(only, frozenset().union(*excluded))


def read_names(path: str, *, flag: str) -> frozenset[str]:
    """Reads the names of identities, one a line, from a file that the user named with `flag`.

    Raises:
      UserError: it cannot be read, or is empty.
    """
    names = {line.strip() for line in sources.read_text(path, flag=flag).splitlines()} - {""}
    if not names:
        raise UserError(f"{flag} {path} is empty: it must name one identity a line")
    return frozenset(names)


def to_remember(arguments: argparse.Namespace, selection: Selection) -> dict[str, Any]:
    """The shared options as a set keeps them, to tell whether it was made with the same ones."""
    return {
        "shards": arguments.shards,
        "on_error": arguments.on_error,
        "licence": arguments.licence,
        "exclude_identities": digest(selection.excluded) if arguments.exclude_identities else None,
        "only_identities": digest(selection.only) if arguments.only_identities else None,
    }


def as_error(problem: Problem) -> UserError:
    """What ends the command under `--on_error error`."""
    return UserError(f"{problem.where} {problem.reason} (--on_error skip leaves such images out)")


def nothing_left(problems: Sequence[Problem], selection: Selection) -> UserError:
    """What ends the command where no image is left to write."""
    if selection.excluded or selection.only is not None:
        return UserError("no identity is left after --exclude_identities and --only_identities: check these lists")
    first = problems[0]
    return UserError(f"not one of the {len(problems)} images can be used, the first: {first.where} {first.reason}")


def skipped_note(problems: Iterable[Problem]) -> dict[str, str]:
    """The note that names every image left out."""
    return {"skipped.txt": "".join(f"{problem.where} {problem.reason}\n" for problem in problems)}


def digest(names: Iterable[str]) -> str:
    """What a set keeps of a list of names, in whatever order."""
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()
