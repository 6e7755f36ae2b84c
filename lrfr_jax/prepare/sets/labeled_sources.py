"""Several sources of labeled images as one: folders, tars, lists, and tars of webdataset."""

import collections
import itertools
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from lrfr_jax.errors import UserError
from lrfr_jax.pictures import sources, stored_files
from lrfr_jax.pictures.sources import Problem
from lrfr_jax.pictures.stored_files import SourceImage
from lrfr_jax.prepare.lists import path_lists
from lrfr_jax.prepare.packs import webdataset_tars
from lrfr_jax.prepare.sets import training_options

_HEAD_BYTES = 512  # a tar has zero bytes in so many, a text has none
_SHARDS = re.compile(r"(.*)\{([0-9]{1,9})\.\.([0-9]{1,9})\}(.*)", re.DOTALL)
# Suffixes that were the only ones once: a set of such images remembers no others, as it did then.
_ONCE_ALONE = (".jpg", ".jpeg", ".png", ".webp")
_SUFFIXES = (".tar", ".lst", ".txt", ".csv")  # that a source's name does without


class LabeledImages(NamedTuple):
    """What several sources hold.

    Attributes:
      images: those of all sources in turn.
      problems: images that may not be read.
      others: files that are no images.
      fingerprints: [path, fingerprint] of each source.
      joined: how many names stand for identities of several sources.
      told_apart: names of the sources whose identities are numbers; none where only one has such identities.
    """

    images: list[SourceImage]
    problems: list[Problem]
    others: list[Problem]
    fingerprints: list[list[str]]
    joined: int
    told_apart: list[str]


def add_source(add: Callable) -> None:
    """Declares `--source`, which may be repeated; `list_all` reads it."""
    add(
        "--source",
        required=True,
        action="append",
        help="112x112 pictures in a folder or uncompressed tar of <identity>/<image>, or of <root>/<identity>/<image>; "
        "in a tar of webdataset, KEY.jpg with its identity in KEY.cls, KEY.txt or as `label` in KEY.json, also "
        "name-{000..099}.tar; or in a list that lies above its images, of lines `index<TAB>label<TAB>path`, "
        "`flag<TAB>path<TAB>label`, or `path label` with a space, tab or comma between. May be repeated: identities of "
        "one name are one, numbers of several sources are not",
    )


def list_all(given: Sequence[str]) -> LabeledImages:
    """Lists the images of several sources, each of which `expand` and `list_images` read.

    Equal names in several sources are one identity. Numbers say nothing beyond their source: where several sources have
    identities without a letter, these are called SOURCE/NUMBER. Shards of one pattern are one source.

    Raises:
      UserError: as in these two, or a source is given twice.
    """
    groups = [list(expand(source)) for source in given]
    paths = [path for group in groups for path in group]
    _check_once(paths)
    of_group = [[(path, list_images(path)) for path in group] for group in groups]
    fingerprints = [[path, fingerprint(path, listed.images)] for group in of_group for path, listed in group]
    images = [[image for _, listed in group for image in listed.images] for group in of_group]
    identities = [{image.identity for image in of_one} for of_one in images]
    named = [{identity for identity in of_one if training_options.has_letter(identity)} for of_one in identities]
    numbered = [place for place, of_one in enumerate(identities) if of_one - named[place]]
    told_apart = names_of(given) if len(numbered) > 1 else []
    for place in numbered if told_apart else ():
        images[place] = [_with_source(image, told_apart[place]) for image in images[place]]
    return LabeledImages(
        [image for of_one in images for image in of_one],
        [problem for group in of_group for _, listed in group for problem in listed.problems],
        [other for group in of_group for _, listed in group for other in listed.others],
        fingerprints,
        sum(count > 1 for count in collections.Counter(itertools.chain(*named)).values()),
        [told_apart[place] for place in numbered] if told_apart else [],
    )


def in_words(listed: LabeledImages) -> str:
    """Says what became of identities of several sources, and of files that are no images; starts with a comma."""
    joined = f", {listed.joined} name{'s' if listed.joined != 1 else ''} joined across sources"
    apart = f", the numbers of {', '.join(listed.told_apart)} kept apart (shards of one set: 'name-{{000..099}}.tar')"
    return (
        (joined if listed.joined else "")
        + (apart if listed.told_apart else "")
        + sources.are_passed_over(listed.others)
    )


def to_remember(listed: LabeledImages) -> dict[str, object]:
    """What a set keeps of its sources, to tell whether it was made of the same images by the same names."""
    once_unknown = sum(not image.path.lower().endswith(_ONCE_ALONE) for image in listed.images)
    return {
        "sources": listed.fingerprints,
        "numbers_of": listed.told_apart or None,
        "other_suffixes": once_unknown or None,
    }


def check_numbers(names: Collection[str], listed: LabeledImages, *, flag: str) -> None:
    """Refuses a number among the names that the user gave with `flag`, where numbers of several sources are told apart.

    Raises:
      UserError: it would be nobody, or two persons.
    """
    for name in sorted(names):
        of_a_source = name.startswith(tuple(f"{source}/" for source in listed.told_apart))
        if listed.told_apart and not (of_a_source or training_options.has_letter(name)):
            raise UserError(
                f"{flag} names {name}, which is someone else in each of {', '.join(listed.told_apart)}: write "
                f"{listed.told_apart[0]}/{name}"
            )


def by_identity(images: Iterable[SourceImage]) -> dict[str, list[SourceImage]]:
    """Groups images by identity: the identities in the order of names, 2 before 10, the images in theirs."""
    groups: dict[str, list[SourceImage]] = {}
    for image in images:
        groups.setdefault(image.identity, []).append(image)
    return {name: groups[name] for name in sorted(groups, key=lambda name: (sources.natural(name), name))}


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


def list_images(source: str) -> sources.Listed:
    """Lists the images of a folder, tar or list; what it is, and where identities stand, is seen from its content.

    A text is a list, which `path_lists.read` reads; a tar is one of webdataset if `webdataset_tars.list_samples` finds
    labels beside its images. All else is laid out as `sources.list_images` says.

    Returns:
      The images, those of lists in their order and others sorted; those that may not be read; and files that are none.

    Raises:
      UserError: as in `sources.list_images`, or a list with a line of another form.
    """
    if os.path.isfile(source) and _is_text(source):
        what = stored_files.what_instead(source)
        if what:
            raise UserError(f"--source {source} is {what}")
        return path_lists.read(source)
    if os.path.isdir(source):
        return sources.list_images(source)
    found = sources.find_images(source, beside=webdataset_tars.BESIDE)
    samples = webdataset_tars.list_samples(source, found)
    if samples is not None:
        return samples
    prefix = len(f"{source}/")
    unread = [problem for problem in found.problems if problem.where.lower().endswith(webdataset_tars.BESIDE)]
    kept = [problem for problem in found.problems if problem not in unread]
    others = [*found.others, *found.beside, *(problem.where[prefix:] for problem in unread)]
    return sources.arrange(source, found._replace(problems=kept, others=others))


def fingerprint(source: str, images: list[SourceImage]) -> str:
    """Digest of a source's sizes and times, as `sources.fingerprint`; for a list also those of its images."""
    return sources.fingerprint(
        source, [os.path.join(image.source, image.path) for image in images if image.source != source]
    )


def _named(source: str) -> str:
    """A source's path without the numbers of its shards and without suffix."""
    match = _SHARDS.fullmatch(source)
    path = os.path.abspath(source)
    if match and not os.path.exists(source):
        path = os.path.abspath(match[1].rstrip("-_.") + match[4]) if match[1].rstrip("-_./") else path
    stem, suffix = os.path.splitext(path)
    return stem if suffix.lower() in _SUFFIXES else path


def _with_source(image: SourceImage, name: str) -> SourceImage:
    is_named = training_options.has_letter(image.identity)
    return image if is_named else image._replace(label=f"{name}/{image.identity}")


def _check_once(paths: Sequence[str]) -> None:
    seen: set[str] = set()
    for path in paths:
        real = os.path.realpath(path)
        if real in seen:
            raise UserError(f"--source {path} is given twice: its images would count twice")
        seen.add(real)


def _is_text(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return b"\0" not in file.read(_HEAD_BYTES)
    except OSError:  # the reader of tars says why
        return False
