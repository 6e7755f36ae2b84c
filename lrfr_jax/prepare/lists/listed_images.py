"""Images by their names and folders, as official lists give them."""

import os
from collections.abc import Iterable
from typing import NamedTuple

from lrfr_jax.errors import UserError
from lrfr_jax.pictures import sources
from lrfr_jax.pictures.sources import Problem
from lrfr_jax.pictures.stored_files import SourceImage
from lrfr_jax.prepare.lists import mat_lists


class Face(NamedTuple):
    """An image with its identity's number, and the place of its group in the protocol's groups."""

    image: SourceImage
    identity: int
    group: int = 0


class Found(NamedTuple):
    """The images below a source, and those that may not be read."""

    source: str
    images: list[SourceImage]
    problems: list[Problem]


def find(source: str) -> Found:
    """Lists the images below a source, in the order of their paths.

    Raises:
      UserError: as in `sources.find_images`.
    """
    found = sources.find_images(source)
    return Found(source, [found.images[path] for path in sorted(found.images)], found.problems)


def in_folder(found: Found, folder: str, *, depth: int = 1) -> list[SourceImage]:
    """The images in the one folder of that name; `depth` 2 takes those in the folders in it. The source itself counts.

    Raises:
      UserError: no or several folders of that name hold images.
    """
    top = os.path.basename(os.path.abspath(found.source))
    roots: dict[str, list[SourceImage]] = {}
    for image in found.images:
        parts = f"{top}/{image.path}".split("/")
        if len(parts) > depth and parts[-1 - depth] == folder:
            roots.setdefault("/".join(parts[:-depth]), []).append(image)
    if not roots:
        raise UserError(f"--source {found.source} has no folder {folder} with images in it: give the folder above it")
    if len(roots) > 1:
        first, second, *_ = roots
        raise UserError(f"--source {found.source} has both {first} and {second}: give the folder above one of them")
    return next(iter(roots.values()))


def look_up(
    names: Iterable[str], images: Iterable[SourceImage], *, path: str
) -> tuple[list[SourceImage | None], list[Problem]]:
    """Finds the image of each listed name, whatever its suffix (aligned copies may have another one).

    Args:
      names: file names, or their stems.
      path: the list, for the sentences.

    Returns:
      The image of each name, None where it is missing, and a problem for each of those.

    Raises:
      UserError: two images have one stem.
    """
    by_stem: dict[str, SourceImage] = {}
    for image in images:
        other = by_stem.setdefault(stem_of(image), image)
        if other is not image:
            raise UserError(f"{image.source} holds both {other.path} and {image.path}: leave one of them")
    chosen = [by_stem.get(name) or by_stem.get(os.path.splitext(name)[0]) for name in names]
    missing = [name for name, image in zip(names, chosen, strict=True) if image is None]
    return chosen, [Problem(f"{path}:", f"names {name}, which the source does not hold") for name in missing]


def stem_of(image: SourceImage) -> str:
    """The file's name without folders and suffix."""
    return os.path.splitext(os.path.basename(image.path))[0]


def read_mat(
    found: Found, folder: str, *, lists: str, name: str, names: str, ids: str
) -> tuple[list[Face], list[Problem]]:
    """The faces that a MATLAB list names in a folder, in its order, and a problem for each that is missing.

    Args:
      folder: name of the folder with the images.
      lists: where to look for the list.
      name: the list's file name.
      names, ids: its variables.

    Raises:
      UserError: as in `mat_lists.find_list`, `mat_lists.read_faces`, `in_folder` and `look_up`.
    """
    path = mat_lists.find_list(lists, name)
    listed, identities = mat_lists.read_faces(path, names=names, ids=ids)
    images, problems = look_up(listed, in_folder(found, folder), path=path)
    pairs = zip(images, identities.tolist(), strict=True)
    return [Face(image, identity) for image, identity in pairs if image is not None], problems
