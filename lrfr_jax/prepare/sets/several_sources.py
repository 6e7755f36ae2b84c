"""Several sources of one training set: what their names stand for, and which of their identities are the same."""

import argparse
import collections
import itertools
import os
import re
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from lrfr_jax.errors import UserError
from lrfr_jax.pictures import sources
from lrfr_jax.prepare.sets import training_options
from lrfr_jax.prepare.sets.training_options import Selection

_SHARDS = re.compile(r"(.*)\{([0-9]{1,9})\.\.([0-9]{1,9})\}(.*)", re.DOTALL)
# That a source's name does without.
_SUFFIXES = (".tar", ".lst", ".txt", ".csv", ".parquet", ".lmdb", ".mdb")


class Joined(NamedTuple):
    """What becomes of the identities of several sources.

    Attributes:
      joined: how many names stand for identities of several sources.
      prefixes: what stands before the numbers of each source; empty where they are not told apart.
    """

    joined: int
    prefixes: list[str]

    @property
    def told_apart(self) -> list[str]:
        """Names of the sources whose identities are numbers; none where only one has such identities."""
        return [prefix.removesuffix("/") for prefix in self.prefixes if prefix]

    def name(self, place: int, identity: str) -> str:
        """What the set calls an identity of the source at `place`."""
        return identity if training_options.has_letter(identity) else f"{self.prefixes[place]}{identity}"


def join(given: Sequence[str], identities: Sequence[Collection[str]]) -> Joined:
    """Joins equal names. Numbers say nothing beyond their source: those of several are called SOURCE/NUMBER.

    Args:
      given: the sources, as the user named them.
      identities: the names of each.
    """
    named = [{identity for identity in of_one if training_options.has_letter(identity)} for of_one in identities]
    numbered = [place for place, of_one in enumerate(identities) if len(named[place]) < len(set(of_one))]
    names = names_of(given)
    prefixes = [f"{name}/" if place in numbered and len(numbered) > 1 else "" for place, name in enumerate(names)]
    return Joined(sum(count > 1 for count in collections.Counter(itertools.chain(*named)).values()), prefixes)


def in_words(joined: Joined) -> str:
    """Says what became of identities of several sources; starts with a comma, or is empty."""
    names = f", {joined.joined} name{'s' if joined.joined != 1 else ''} joined across sources"
    apart = f", the numbers of {', '.join(joined.told_apart)} kept apart (shards of one set: 'name-{{000..099}}.tar')"
    return (names if joined.joined else "") + (apart if joined.told_apart else "")


def check_names(arguments: argparse.Namespace, selection: Selection, *, names: Collection[str], joined: Joined) -> None:
    """Refuses names of the command line that cannot be those of anybody here: they would leave nobody out, unsaid.

    Args:
      arguments: of the command line.
      selection: whom it leaves out, and whom alone it takes.
      names: all identities.
      joined: what became of them.

    Raises:
      UserError: numbers where the sources have names, or the other way round; see `check_numbers`.
    """
    for flag, given in (("--exclude_identities", selection.excluded), ("--only_identities", selection.only or ())):
        check_numbers(given, joined, flag=flag)
    if names and all(map(training_options.is_integer, names)):
        training_options.check_integers(arguments, selection, of="these sources")


def check_numbers(names: Collection[str], joined: Joined, *, flag: str) -> None:
    """Refuses a number among the names that the user gave with `flag`, where numbers of several sources are told apart.

    Raises:
      UserError: it would be nobody, or two persons.
    """
    for name in sorted(names):
        of_a_source = name.startswith(tuple(f"{source}/" for source in joined.told_apart))
        if joined.told_apart and not (of_a_source or training_options.has_letter(name)):
            raise UserError(
                f"{flag} names {name}, which is someone else in each of {', '.join(joined.told_apart)}: write "
                f"{joined.told_apart[0]}/{name}"
            )


def expand(source: str) -> Iterator[str]:
    """Yields the paths behind `name-{000000..000010}.tar`, numbers as wide as the first; another source as it is.

    Raises:
      UserError: one of them does not exist, or the numbers count down.
    """
    match = _SHARDS.fullmatch(source)
    if match is None or os.path.exists(source):
        yield source
        return
    before, first, last, after = match.groups()
    if int(first) > int(last):
        raise UserError(f"--source {source} counts down: write the smaller number first")
    for number in range(int(first), int(last) + 1):
        path = f"{before}{number:0{len(first)}d}{after}"
        if not os.path.exists(path):
            raise UserError(f"--source {source} needs {path}, which does not exist")
        yield path


def names_of(given: Sequence[str]) -> list[str]:
    """Short names that tell sources apart: as many last parts of their paths as it takes, without a suffix."""
    paths = [[part for part in _named(source).split(os.sep) if part] for source in given]
    for length in range(1, max(map(len, paths)) + 1):
        names = [sources.printable("/".join(parts[-length:])) for parts in paths]
        if len(set(names)) == len(names):
            return names
    return [f"{'/'.join(parts)}#{place}" for place, parts in enumerate(paths, 1)]  # such as a.tar and a.lst


def check_once(paths: Sequence[str]) -> None:
    """Raises `UserError` if a path is given twice."""
    seen: set[str] = set()
    for path in paths:
        real = os.path.realpath(path)
        if real in seen:
            raise UserError(f"--source {path} is given twice: its images would count twice")
        seen.add(real)


def _named(source: str) -> str:
    """A source's path without the numbers of its shards and without suffix."""
    match = _SHARDS.fullmatch(source)
    path = os.path.abspath(source)
    if match and not os.path.exists(source):
        path = os.path.abspath(match[1].rstrip("-_.") + match[4]) if match[1].rstrip("-_./") else path
    stem, suffix = os.path.splitext(path)
    return stem if suffix.lower() in _SUFFIXES else path
