"""Faces as they come: a folder or a tar of `<identity>/<image>`, listed without extraction and checked before use."""

import functools
import hashlib
import multiprocessing.pool
import os
import pathlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from tqdm import tqdm

from lrfr_jax.data import records
from lrfr_jax.errors import UserError
from lrfr_jax.pictures import other_formats, stored_files
from lrfr_jax.pictures.stored_files import SourceImage, StoredFile, read_image, walk

# What a name alone promises: a file that holds no picture after all is then a problem. All other files are looked into.
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif", ".jp2", ".j2k"),
    *(".avif", ".ppm", ".pgm", ".pbm", ".pnm"),
    # These are pictures, too, and nothing here decodes them: who has them must hear of it.
    *(".heic", ".heif", ".jxl", ".tga", ".pcx", ".psd", ".dng", ".nef", ".cr2", ".cr3", ".arw"),
)
# What may well lie beside pictures: it is counted, and no reason to warn.
_USUAL_SUFFIXES = (
    *(".txt", ".json", ".csv", ".tsv", ".lst", ".md", ".html", ".xml", ".yaml", ".yml", ".log", ".cls", ".pts"),
    *(".py", ".npy", ".npz", ".mat", ".pdf", ".db", ".ini", ".tar", ".zip", ".gz"),
)
# What to do with a folder that holds files of these suffixes and no picture.
_ADVICE = {
    ".tar": "give tars themselves, several as 'name-{000..099}.tar'",
    ".rec": "packs of RecordIO are read by `python -m lrfr_jax.prepare recordio`",
    ".bin": "verification sets as .bin are read by `python -m lrfr_jax.prepare bin`",
    ".lst": "give the list itself, which lies above its images",
    ".zip": "unpack archives and give the folder",
    ".gz": "unpack archives and give the folder, or an uncompressed tar",
    ".parquet": "Parquet is read by `python -m lrfr_jax.prepare parquet`",
    ".mdb": "an LMDB is read by `python -m lrfr_jax.prepare lmdb`",
}
MAX_IMAGE_BYTES = 16 * 2**20  # an aligned face takes some kB: whatever exceeds this is no such image
NO_PICTURE = "is no picture"
# Control characters, surrogates, line and paragraph separators: what cannot stand within one line of text.
_NO_TEXT = ("Cc", "Cs", "Zl", "Zp")
_CHUNK = 64  # images per task of the checking threads; keeps the overhead of a task small beside its work


class Problem(NamedTuple):
    """A file that cannot be used, and why."""

    where: str
    reason: str


class Found(NamedTuple):
    """What a folder or a tar holds.

    Attributes:
      images: by their paths below it.
      problems: images that may not be read: links, devices, paths that leave the archive, files over the size cap.
      others: the paths of all files that are no images, or hidden.
      beside: files of the suffixes that were asked for, by their paths.
    """

    images: dict[str, SourceImage]
    problems: list[Problem]
    others: list[str]
    beside: dict[str, SourceImage]


class Listed(NamedTuple):
    """Images in order, those that may not be read, and all files that are no images: see `Found`."""

    images: list[SourceImage]
    problems: list[Problem]
    others: list[Problem]


def list_images(source: str) -> Listed:
    """Lists the images of a folder or a tar, sorted by identity, then naturally by name (2 before 10).

    Images lie at `<identity>/<image>`, or all of them at `<root>/<identity>/<image>` under one root.

    Raises:
      UserError: missing, not an uncompressed tar, damaged, without identities, or with images at different depths.
    """
    return arrange(source, find_images(source))


def arrange(source: str, found: Found) -> Listed:
    """Checks the layout of images by their paths, and sorts them: see `list_images`."""
    _check_layout(source, found)
    ordered = sorted(found.images.values(), key=lambda image: (image.identity, natural(image.path)))
    return Listed(ordered, found.problems, passed_over(source, found.others))


def find_images(source: str, *, beside: tuple[str, ...] = (), flag: str = "--source") -> Found:
    """Finds the images of a folder or a tar at any depth: files with the suffix of an image, and those that hold one.

    Args:
      source: the folder or tar.
      beside: suffixes of files that are wanted, too.
      flag: how the user named the source.

    Raises:
      UserError: missing, not an uncompressed tar, or damaged.
    """
    found = Found({}, [], [], {})
    for stored in stored_files.files_of(source, flag=flag):
        file = stored.file
        is_beside = bool(beside) and file.path.lower().endswith(beside)
        if stored_files.is_hidden(file.path) or not (is_beside or _is_image(stored)):
            found.others.append(printable(file.path))
        elif reason := refusal(file) or stored.reason:
            found.problems.append(Problem(f"{source}/{printable(file.path)}", reason))
        else:  # a path that occurs twice in a tar: the later one counts, as in extraction
            (found.beside if is_beside else found.images)[file.path] = file
    return found


def passed_over(source: str, others: Iterable[str]) -> list[Problem]:
    """The files of a source that are no images, as they are listed."""
    return [Problem(f"{source}/{path}", NO_PICTURE) for path in others]


def are_passed_over(others: Sequence[Problem]) -> str:
    """Says how many files are no images; starts with a comma, or is empty."""
    if not others:
        return ""
    return f", {len(others)} other file{'s' if len(others) > 1 else ''} passed over, as {others[0].where}"


def unexpected(others: Iterable[str]) -> list[str]:
    """Those of the files that are no images which do not usually lie beside images."""
    return [path for path in others if not (stored_files.is_hidden(path) or path.lower().endswith(_USUAL_SUFFIXES))]


def refusal(image: SourceImage) -> str | None:
    """Says why a file with such a path and size may not be read, or None."""
    if printable(image.path) != image.path:
        return "has characters in its path that are no text"
    if image.size > MAX_IMAGE_BYTES:
        return f"has {image.size} bytes, more than the {MAX_IMAGE_BYTES} that an image may have"
    return None


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


def _is_image(stored: StoredFile) -> bool:
    """Whether a file has the name of an image, or holds one; a folder that is not looked into may hold some."""
    is_named = stored.file.path.lower().endswith(IMAGE_SUFFIXES)
    if is_named or stored.reason in (stored_files.ENDLESS, stored_files.CLOSED):
        return True
    try:
        return stored.reason is None and other_formats.kind_of(stored.read_head()) is not None
    except (OSError, ValueError):
        return False


def why_none(found: Found) -> str:
    """Why a source holds no image that may be read; starts with a space, or is empty."""
    if found.problems:
        return f" that may be read (the first {found.problems[0].reason})"
    if not found.others:
        return ", as it is empty"
    suffixes = {os.path.splitext(path)[1].lower() for path in found.others}
    advice = next((f": {text}" for suffix, text in _ADVICE.items() if suffix in suffixes), "")
    return f", the first of {len(found.others)} files that are no pictures is {found.others[0]}{advice}"


def _check_layout(source: str, found: Found) -> None:
    images = found.images
    if not images:
        raise UserError(f"--source {source} holds no <identity>/<image>{why_none(found)}")
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
