"""What the kinds that make training sets share: whom to take, what a bad image does, what the set remembers of it."""

import argparse
import dataclasses
import functools
import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from lrfr_jax.errors import UserError
from lrfr_jax.pictures import sources
from lrfr_jax.pictures.sources import Problem
from lrfr_jax.prepare.sets import pixel_options


@functools.lru_cache(maxsize=1024)  # the images of an identity mostly follow each other
def compared_name(name: str) -> str:
    """A name as two sets compare it: its letters and digits, small; as it is written where it has no letter."""
    words = re.sub(r"[\W_]+", "", name).lower()
    return words if has_letter(name) else name


def has_letter(name: str) -> bool:
    """Whether a name is more than a number, or SOURCE/NUMBER: another set's 17 is someone else."""
    return any(map(str.isalpha, name.rpartition("/")[2]))


@dataclasses.dataclass(frozen=True)
class Selection:
    """Names of the identities to take (None: all) and of those to leave out, as they are written."""

    only: frozenset[str] | None
    excluded: frozenset[str]

    def takes(self, identity: str) -> bool:
        only, excluded = self._compared
        name = compared_name(identity)
        return name not in excluded and (only is None or name in only)

    @functools.cached_property
    def _compared(self) -> tuple[frozenset[str] | None, frozenset[str]]:
        only = None if self.only is None else frozenset(map(compared_name, self.only))
        return only, frozenset(map(compared_name, self.excluded))


def add_arguments(add: Callable) -> None:
    """Declares the shared options; `add` is the parser's `add_argument`."""
    add("--shards", type=int, default=8, help="files to spread the set over")
    add(
        "--exclude_identities",
        action="append",
        metavar="FILE",
        help="identities to leave out, one a line (identities.txt of a test set), whatever their capitals and "
        "punctuation; may be repeated",
    )
    add("--only_identities", metavar="FILE", help="identities to take, named likewise; the others are left out")
    add(
        "--licence", metavar="TEXT", help="under which the images may be used; it goes into the cards of trained models"
    )
    add(
        "--on_error",
        choices=("error", "skip"),
        default="error",
        help="what a bad image does: end the command with nothing written, or be left out and listed in skipped.txt",
    )
    pixel_options.add_arguments(add)


def add_limits(add: Callable, *, order: str) -> None:
    """Declares `--min_images` and `--max_images`; `order` is that of the images within a source."""
    add(
        "--min_images",
        type=int,
        metavar="N",
        help="leave out identities with fewer images, counted over all sources; without it, none",
    )
    add(
        "--max_images",
        type=int,
        metavar="N",
        help=f"take the first N images of an identity: in the order of the sources, within one {order}; without it, "
        "all",
    )


def check_limits(arguments: argparse.Namespace) -> None:
    """Raises `UserError` if one of the limits is less than 1."""
    for flag, limit in (("--min_images", arguments.min_images), ("--max_images", arguments.max_images)):
        if limit is not None and limit < 1:
            raise UserError(f"{flag} must be at least 1, it is {limit}")


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


def check_integers(arguments: argparse.Namespace, selection: Selection, *, of: str) -> None:
    """Refuses names where identities are integers: they would leave nobody out, without a word.

    Args:
      of: whose identities they are, for the sentence.

    Raises:
      UserError: a list names something else than an integer.
    """
    lists = {
        f"--only_identities {arguments.only_identities}": selection.only or (),
        f"--exclude_identities {', '.join(arguments.exclude_identities or ())}": selection.excluded,
    }
    for name, identities in lists.items():
        for identity in sorted(identities):
            if not is_integer(identity):
                raise UserError(f"{name} names {identity!r}: the identities of {of} are integers, as in 17")


def is_integer(identity: str) -> bool:
    """Whether an identity is an integer from 0 on, as labels are written."""
    return re.fullmatch(r"0|[1-9][0-9]*", identity, re.ASCII) is not None


def occurring(selection: Selection, identities: Iterable[str]) -> str:
    """Says how many of the listed names are among all identities of the sources; starts with a comma, or is empty."""
    found = set(map(compared_name, identities))
    lists: dict[str, Collection[str]] = {"excluded": selection.excluded, "wanted": selection.only or ()}
    counts = {kind: sum(compared_name(name) in found for name in names) for kind, names in lists.items()}
    return "".join(f", {counts[kind]} of {len(names)} {kind} names occur" for kind, names in lists.items() if names)


def to_remember(arguments: argparse.Namespace, selection: Selection) -> dict[str, Any]:
    """The shared options as a set keeps them, to tell whether it was made with the same ones."""
    return {
        "shards": arguments.shards,
        "on_error": arguments.on_error,
        "licence": arguments.licence,
        "exclude_identities": digest(selection.excluded) if arguments.exclude_identities else None,
        "only_identities": digest(selection.only) if arguments.only_identities else None,
        **pixel_options.read(arguments).remembered(),
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


def too_few(arguments: argparse.Namespace) -> UserError:
    """What ends the command where no identity has as many images as `--min_images` asks for."""
    return UserError(f"no identity has {arguments.min_images or 1} images or more: lower --min_images")


def skipped_note(problems: Iterable[Problem]) -> dict[str, str]:
    """The note that names every image left out."""
    return {"skipped.txt": "".join(f"{problem.where} {problem.reason}\n" for problem in problems)}


def digest(names: Iterable[str]) -> str:
    """What a set keeps of a list of names, in whatever order."""
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()
