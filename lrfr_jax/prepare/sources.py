"""Faces as they come: a folder or a tar of `<identity>/<image>`, listed without extraction and checked before use."""

import hashlib
import multiprocessing.pool
import os
import pathlib
import re
import tarfile
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tqdm import tqdm

from lrfr_jax.data import records
from lrfr_jax.errors import UserError

_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
_MAX_IMAGE_BYTES = 16 * 2**20  # an aligned face takes some kB: whatever exceeds this is no such image
_CHUNK = 64  # images per task of the checking threads; keeps the overhead of a task small beside its work


class SourceImage(NamedTuple):
    """Where one image's bytes lie: a file of its own (offset None), or a stretch of a tar."""

    source: str
    path: str
    offset: int | None
    size: int

    @property
    def identity(self) -> str:
        return self.path.split("/")[-2]

    @property
    def name(self) -> str:
        """`<identity>/<image>`, without the folder above it."""
        return "/".join(self.path.split("/")[-2:])


class Problem(NamedTuple):
    """An image that cannot be used, and why."""

    where: str
    reason: str


def list_images(source: str) -> tuple[list[SourceImage], list[Problem]]:
    """Lists the images of a folder or a tar, sorted by identity, then naturally by name (2 before 10).

    Images lie at `<identity>/<image>`, or all of them at `<root>/<identity>/<image>` under one root. Hidden files and
    files without an image's suffix are passed over.

    Returns:
      The images, and those that may not be read: links, devices, paths that leave the archive, files over the size cap.

    Raises:
      UserError: missing, not an uncompressed tar, damaged, without identities, or with images at different depths.
    """
    if not os.path.exists(source):
        raise UserError(f"--source {source} does not exist: give a folder or a tar of <identity>/<image>")
    images, problems = {}, []
    for image, reason in _walk_folder(source) if os.path.isdir(source) else _walk_tar(source):
        if image.size > _MAX_IMAGE_BYTES:
            reason = f"has {image.size} bytes, more than an aligned face can have"
        if not image.path.isprintable():
            reason = "has characters in its path that are no text"
        if reason:
            printable = image.path.encode("ascii", "backslashreplace").decode()
            problems.append(Problem(f"{source}/{printable}", reason))
        else:
            images[image.path] = image  # a path that occurs twice in a tar: the later one counts, as in extraction
    _check_layout(source, images)
    return sorted(images.values(), key=lambda image: (image.identity, _natural(image.path))), problems


def read_image(image: SourceImage) -> bytes:
    """Reads an image's bytes; safe in any number of threads."""
    path = image.source if image.offset is not None else os.path.join(image.source, image.path)
    with open(path, "rb") as file:
        file.seek(image.offset or 0)
        return file.read(image.size)


def unusable(images: Sequence[SourceImage]) -> Iterator[Problem | None]:
    """Decodes every image on all cores; yields, in order, what is wrong with each, or None."""
    with multiprocessing.pool.ThreadPool(num_workers()) as pool:
        yield from tqdm(
            pool.imap(_problem, images, chunksize=_CHUNK), total=len(images), desc="check", unit=" images", disable=None
        )


def fingerprint(source: str) -> str:
    """Digest of a source's sizes and times (of the tar, or of every file in the folder), to notice that it changed."""
    if os.path.isdir(source):
        paths = [os.path.join(folder, name) for folder, _, names in os.walk(source) for name in names]
    else:
        paths = [source]
    digest = hashlib.sha256()
    for path in sorted(paths):
        stat = os.lstat(path)
        digest.update(f"{os.path.relpath(path, source)} {stat.st_size} {stat.st_mtime_ns}\n".encode(errors="replace"))
    return digest.hexdigest()


def read_text(path: str, *, flag: str) -> str:
    """Reads a text file that the user named with `flag`."""
    try:
        return pathlib.Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{flag} {path} cannot be read as text: {error}") from error


def num_workers() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _problem(image: SourceImage) -> Problem | None:
    try:
        records.decode_image(read_image(image))
    except (ValueError, OSError) as error:
        return Problem(f"{image.source}/{image.path}", str(error))
    return None


def _is_image(path: str) -> bool:
    parts = path.split("/")
    hidden = any(part == "__MACOSX" or (part[:1] == "." and part not in (".", "..")) for part in parts)
    return not hidden and path.lower().endswith(_IMAGE_SUFFIXES)


def _walk_folder(source: str) -> Iterator[tuple[SourceImage, str | None]]:
    for folder, _, names in os.walk(source):
        for name in names:
            path = os.path.relpath(os.path.join(folder, name), source).replace(os.sep, "/")
            if not _is_image(path):
                continue
            try:
                size, reason = os.stat(os.path.join(folder, name)).st_size, None
            except OSError:
                size, reason = 0, "is a link to nothing"
            yield SourceImage(source, path, None, size), reason


def _walk_tar(source: str) -> Iterator[tuple[SourceImage, str | None]]:
    try:
        with tarfile.open(source, "r:") as tar:
            images = (member for member in tar if _is_image(member.name) and not member.isdir())
            for member in images:
                tar.members = []  # it would keep a kilobyte for each image
                path = member.name.removeprefix("./")
                yield SourceImage(source, path, member.offset_data, member.size), _refusal(member)
    except (tarfile.TarError, OSError) as error:
        raise UserError(f"--source {source} is not a whole, uncompressed tar: {error}") from error


def _refusal(member: tarfile.TarInfo) -> str | None:
    if member.name.startswith("/") or ".." in member.name.split("/"):
        return "has a path that leaves the archive"
    if not member.isreg() or member.issparse():
        return "is a link or a device, not a plain file"
    return None


def _check_layout(source: str, images: dict[str, SourceImage]) -> None:
    if not images:
        raise UserError(f"--source {source} holds no <identity>/<image> ending in {', '.join(_IMAGE_SUFFIXES)}")
    depths = {path.count("/"): path for path in images}
    if len(depths) > 1 or min(depths) not in (1, 2):
        raise UserError(
            f"--source {source} has images at {' and at '.join(sorted(depths.values()))}: "
            "all must lie at <identity>/<image>, or all at <root>/<identity>/<image>"
        )
    roots = sorted({path.split("/")[0] for path in images}) if 2 in depths else []
    if len(roots) > 1:
        raise UserError(
            f"--source {source} has several roots, {roots[0]} and {roots[1]}: give each as its own --source"
        )


def _natural(name: str) -> list[str | int]:
    """Splits off the numbers; text and numbers alternate, so that two keys can always be compared."""
    return [int(part) if place % 2 else part for place, part in enumerate(re.split(r"([0-9]+)", name))]
