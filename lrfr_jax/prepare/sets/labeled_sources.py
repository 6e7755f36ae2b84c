"""Several sources of labeled images as one: folders, tars, lists, and tars of webdataset."""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from lrfr_jax.errors import UserError
from lrfr_jax.pictures import sources, stored_files
from lrfr_jax.pictures.sources import Problem
from lrfr_jax.pictures.stored_files import SourceImage
from lrfr_jax.prepare.lists import path_lists
from lrfr_jax.prepare.packs import webdataset_tars
from lrfr_jax.prepare.sets import several_sources
from lrfr_jax.prepare.sets.several_sources import Joined

_HEAD_BYTES = 512  # a tar has zero bytes in so many, a text has none
# Suffixes that were the only ones once: a set of such images remembers no others, as it did then.
_ONCE_ALONE = (".jpg", ".jpeg", ".png", ".webp")


class LabeledImages(NamedTuple):
    """What several sources hold.

    Attributes:
      images: those of all sources in turn.
      problems: images that may not be read.
      others: files that are no images.
      fingerprints: [path, fingerprint] of each source.
      joined: which identities of the sources are the same.
    """

    images: list[SourceImage]
    problems: list[Problem]
    others: list[Problem]
    fingerprints: list[list[str]]
    joined: Joined


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
    """Lists the images of several sources, each of which `several_sources.expand` and `list_images` read.

    Their identities are joined by `several_sources.join`. Shards of one pattern are one source.

    Raises:
      UserError: as in these two, or a source is given twice.
    """
    groups = [list(several_sources.expand(source)) for source in given]
    paths = [path for group in groups for path in group]
    several_sources.check_once(paths)
    of_group = [[(path, list_images(path)) for path in group] for group in groups]
    fingerprints = [[path, fingerprint(path, listed.images)] for group in of_group for path, listed in group]
    images = [[image for _, listed in group for image in listed.images] for group in of_group]
    joined = several_sources.join(given, [{image.identity for image in of_one} for of_one in images])
    return LabeledImages(
        [_renamed(image, joined, place) for place, of_one in enumerate(images) for image in of_one],
        [problem for group in of_group for _, listed in group for problem in listed.problems],
        [other for group in of_group for _, listed in group for other in listed.others],
        fingerprints,
        joined,
    )


def to_remember(listed: LabeledImages) -> dict[str, object]:
    """What a set keeps of its sources, to tell whether it was made of the same images by the same names."""
    once_unknown = sum(not image.path.lower().endswith(_ONCE_ALONE) for image in listed.images)
    return {
        "sources": listed.fingerprints,
        "numbers_of": listed.joined.told_apart or None,
        "other_suffixes": once_unknown or None,
    }


def by_identity(images: Iterable[SourceImage]) -> dict[str, list[SourceImage]]:
    """Groups images by identity: the identities in the order of names, 2 before 10, the images in theirs."""
    groups: dict[str, list[SourceImage]] = {}
    for image in images:
        groups.setdefault(image.identity, []).append(image)
    return {name: groups[name] for name in sorted(groups, key=lambda name: (sources.natural(name), name))}


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


def _renamed(image: SourceImage, joined: Joined, place: int) -> SourceImage:
    return image._replace(label=joined.name(place, image.identity)) if joined.prefixes[place] else image


def _is_text(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return b"\0" not in file.read(_HEAD_BYTES)
    except OSError:  # the reader of tars says why
        return False
