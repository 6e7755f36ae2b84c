"""Faces as they come: a folder or a tar of `<identity>/<image>`, listed without extraction and checked before use."""

import functools
import hashlib
import multiprocessing.pool
import os
import pathlib
import re
import stat
import tarfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from tqdm import tqdm

from lrfr_jax.data import records
from lrfr_jax.errors import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
MAX_IMAGE_BYTES = 16 * 2**20  # an aligned face takes some kB: whatever exceeds this is no such image
# Control characters, surrogates, line and paragraph separators: what cannot stand within one line of text.
_NO_TEXT = ("Cc", "Cs", "Zl", "Zp")
_CHUNK = 64  # images per task of the checking threads; keeps the overhead of a task small beside its work


class SourceImage(NamedTuple):
    """Where one image's bytes lie: a file of its own (offset None), or a stretch of a tar.

    `label` is the identity where a list or a file beside the image says it; else it is the name of the image's folder.
    """

    source: str
    path: str
    offset: int | None
    size: int
    label: str | None = None

    @property
    def identity(self) -> str:
        return self.path.split("/")[-2] if self.label is None else self.label

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
    images, problems = find_images(source)
    return arrange(source, images), problems


def arrange(source: str, images: dict[str, SourceImage]) -> list[SourceImage]:
    """Checks the layout of images by their paths, and sorts them: see `list_images`."""
    _check_layout(source, images)
    return sorted(images.values(), key=lambda image: (image.identity, natural(image.path)))


def find_images(
    source: str, suffixes: tuple[str, ...] = IMAGE_SUFFIXES, *, flag: str = "--source"
) -> tuple[dict[str, SourceImage], list[Problem]]:
    """Finds the images (or files that end in `suffixes`) of a folder or a tar at any depth, by their paths below it.

    Result and errors as in `list_images`; `flag` is how the user named the source.
    """
    if not os.path.exists(source):
        raise UserError(f"{flag} {source} does not exist: give a folder or a tar of images")
    images, problems = {}, []
    walk = _walk_folder if os.path.isdir(source) else _walk_tar
    for image, reason in walk(source, suffixes, flag):
        reason = refusal(image) or reason
        if reason:
            problems.append(Problem(f"{source}/{printable(image.path)}", reason))
        else:
            images[image.path] = image  # a path that occurs twice in a tar: the later one counts, as in extraction
    return images, problems


def refusal(image: SourceImage) -> str | None:
    """Says why a file with such a path and size may not be read, or None."""
    if printable(image.path) != image.path:
        return "has characters in its path that are no text"
    if image.size > MAX_IMAGE_BYTES:
        return f"has {image.size} bytes, more than the {MAX_IMAGE_BYTES} that an image may have"
    return None


def read_image(image: SourceImage) -> bytes:
    """Reads an image's bytes; safe in any number of threads."""
    path = image.source if image.offset is not None else os.path.join(image.source, image.path)
    with open(path, "rb") as file:
        file.seek(image.offset or 0)
        return file.read(image.size)


def unusable(
    images: Sequence[SourceImage], *, decode: Callable[[bytes], Any] = records.decode_image
) -> Iterator[Problem | None]:
    """Decodes every image on all cores; yields, in order, what `decode` finds wrong (ValueError) with each, or None."""
    problem = functools.partial(_problem, decode=decode)
    with multiprocessing.pool.ThreadPool(num_workers()) as pool:
        yield from tqdm(
            pool.imap(problem, images, chunksize=_CHUNK), total=len(images), desc="check", unit=" images", disable=None
        )


def fingerprint(source: str, files: Iterable[str] = ()) -> str:
    """Digest of sizes and times, to notice a change: of the tar or every file in the folder, and of more `files`."""
    paths = [path for path, _ in walk(source)] if os.path.isdir(source) else [source]
    digest = hashlib.sha256()
    for path in sorted([*paths, *files]):
        status = os.lstat(path)
        line = f"{os.path.relpath(path, source)} {status.st_size} {status.st_mtime_ns}\n"
        digest.update(line.encode(errors="replace"))
    return digest.hexdigest()


def walk(source: str) -> Iterator[tuple[str, str | None]]:
    """Yields the path of every file in a folder and in the folders that it links to.

    A link to a folder that holds it is not followed, as it would have no end: it is yielded with this reason.
    """
    above = {source: (os.path.realpath(source),)}
    for folder, subfolders, names in os.walk(source, followlinks=True):
        passed = above.pop(folder)
        for name in list(subfolders):
            path = os.path.join(folder, name)
            is_link = os.path.islink(path)
            real = os.path.realpath(path) if is_link else os.path.join(passed[-1], name)
            if is_link and any(os.path.commonpath([real, one]) == real for one in passed):
                subfolders.remove(name)
                yield path, "is a link to a folder that holds it"
            else:
                above[path] = (*passed, real)
        yield from ((os.path.join(folder, name), None) for name in names)


def read_text(path: str, *, flag: str) -> str:
    """Reads a text file that the user named with `flag`."""
    try:
        return pathlib.Path(path).read_text(encoding="utf-8-sig")  # some editors put a byte order mark first
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{flag} {path} cannot be read as text: {error}") from error


def printable(path: str) -> str:
    """A path as one line of text, whatever it holds: what cannot stand in one is escaped."""
    if path.isprintable():
        return path
    return "".join(ascii(one)[1:-1] if unicodedata.category(one) in _NO_TEXT else one for one in path)


def file_size(path: str) -> tuple[int, str | None]:
    """Returns a file's size and None, or 0 and why nothing can be read from it."""
    try:
        status = os.stat(path)
    except OSError:
        return 0, "is a link to nothing" if os.path.islink(path) else "does not exist"
    return (status.st_size, None) if stat.S_ISREG(status.st_mode) else (0, "is not a plain file")


def natural(name: str) -> list[str | tuple[int, str]]:
    """Key that sorts 2 before 10; text and numbers alternate, so that two keys can always be compared."""
    parts = re.split(r"0*([0-9]+)", name)  # a number, without leading zeros, sorts by its length and then its digits
    return [(len(part), part) if place % 2 else part for place, part in enumerate(parts)]


def num_workers() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _problem(image: SourceImage, *, decode: Callable[[bytes], Any]) -> Problem | None:
    try:
        decode(read_image(image))
    except (ValueError, OSError) as error:
        return Problem(f"{image.source}/{image.path}", str(error))
    return None


def _is_wanted(path: str, suffixes: tuple[str, ...]) -> bool:
    return not _is_hidden(path) and path.lower().endswith(suffixes)


def _is_hidden(path: str) -> bool:
    return any(part == "__MACOSX" or (part[:1] == "." and part not in (".", "..")) for part in path.split("/"))


def _walk_folder(source: str, suffixes: tuple[str, ...], flag: str) -> Iterator[tuple[SourceImage, str | None]]:
    del flag  # a folder has no errors as a whole
    for file, endless in walk(source):
        path = os.path.relpath(file, source).replace(os.sep, "/")
        if endless and not _is_hidden(path):
            yield SourceImage(source, path, None, 0), endless
        elif _is_wanted(path, suffixes):
            size, reason = file_size(file)
            yield SourceImage(source, path, None, size), reason


def _walk_tar(source: str, suffixes: tuple[str, ...], flag: str) -> Iterator[tuple[SourceImage, str | None]]:
    try:
        with tarfile.open(source, "r:") as tar:
            wanted = (member for member in tar if _is_wanted(member.name, suffixes) and not member.isdir())
            for member in wanted:
                tar.members = []  # it would keep a kilobyte for each image
                path = member.name.removeprefix("./")
                yield SourceImage(source, path, member.offset_data, member.size), _member_refusal(member)
    except (tarfile.TarError, OSError) as error:
        raise UserError(f"{flag} {source} is not a whole, uncompressed tar: {error}") from error


def _member_refusal(member: tarfile.TarInfo) -> str | None:
    if member.name.startswith("/") or ".." in member.name.split("/"):
        return "has a path that leaves the archive"
    if not member.isreg() or member.issparse():
        return "is a link or a device, not a plain file"
    return None


def _check_layout(source: str, images: dict[str, SourceImage]) -> None:
    if not images:
        raise UserError(f"--source {source} holds no <identity>/<image> ending in {', '.join(IMAGE_SUFFIXES)}")
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
