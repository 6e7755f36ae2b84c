"""Where a picture's bytes lie, in a folder or within a tar that is not unpacked, and every file of either."""

import functools
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

from lrfr_jax.errors import UserError, reason_of
from lrfr_jax.pictures import other_formats

# What people give instead of a tar, by its first bytes: what it is, and what to do.
_NO_TARS = {
    b"\x1f\x8b": "compressed by gzip, it must be an uncompressed tar: unpack it with gunzip",
    b"BZh": "compressed by bzip2, it must be an uncompressed tar: unpack it with bunzip2",
    b"\xfd7zXZ\0": "compressed by xz, it must be an uncompressed tar: unpack it with unxz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd, it must be an uncompressed tar: unpack it with unzstd",
    b"PK\x03\x04": "a zip: unpack it and give the folder",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive: unpack it and give the folder",
    b"Rar!": "a rar archive: unpack it and give the folder",
    b"\x0a\x23\xd7\xce": "a RecordIO file: give it to `python -m lrfr_jax.prepare recordio`",
    b"PAR1": "a Parquet file: give it to `python -m lrfr_jax.prepare parquet`",
    b"\x89HDF": "an HDF5 file, which is not read here: write its images into folders, one an identity",
    b"\xff\xfe": "UTF-16 text: save the list as UTF-8",
    b"\xfe\xff": "UTF-16 text: save the list as UTF-8",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself: run `git lfs pull`",
    b"<!DOCTYPE": "a web page, as a download that failed leaves it: download it again",
    b"<html": "a web page, as a download that failed leaves it: download it again",
}

# Why what a folder holds may not be known.
ENDLESS, CLOSED = "is a link to a folder that holds it", "is a folder that cannot be read: permission denied"


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


class StoredFile(NamedTuple):
    """A file of a folder or a tar: where it lies, why it may not be read, and what reads its first bytes."""

    file: SourceImage
    reason: str | None
    read_head: Callable[[], bytes]


def read_image(image: SourceImage) -> bytes:
    """Reads an image's bytes; safe in any number of threads."""
    path = image.source if image.offset is not None else os.path.join(image.source, image.path)
    with open(path, "rb") as file:
        file.seek(image.offset or 0)
        return file.read(image.size)


def files_of(source: str, *, flag: str) -> Iterator[StoredFile]:
    """Yields every file of a folder or of an uncompressed tar, which the user named with `flag`, at any depth.

    Raises:
      UserError: missing, no tar, or damaged.
    """
    if not os.path.exists(source):
        raise UserError(f"{flag} {source} does not exist: give a folder or a tar of images")
    yield from _of_folder(source) if os.path.isdir(source) else _of_tar(source, flag)


def walk(source: str) -> Iterator[tuple[str, str | None]]:
    """Yields the path of every file in a folder and in the folders that it links to.

    A link to a folder that holds it is not followed, as it would have no end: it is yielded with this reason. So is a
    folder that cannot be listed.
    """
    above, closed = {source: (os.path.realpath(source),)}, []
    for folder, subfolders, names in os.walk(source, followlinks=True, onerror=closed.append):
        passed = above.pop(folder)
        for name in list(subfolders):
            path = os.path.join(folder, name)
            is_link = os.path.islink(path)
            real = os.path.realpath(path) if is_link else os.path.join(passed[-1], name)
            if is_link and any(os.path.commonpath([real, one]) == real for one in passed):
                subfolders.remove(name)
                yield path, ENDLESS
            else:
                above[path] = (*passed, real)
        yield from ((os.path.join(folder, name), None) for name in names)
    yield from ((error.filename, CLOSED) for error in closed)


def file_size(path: str) -> tuple[int, str | None]:
    """Returns a file's size and None, or 0 and why nothing can be read from it."""
    try:
        status = os.stat(path)
    except OSError as error:
        if isinstance(error, PermissionError):
            return 0, "may not be read: permission denied"
        return 0, "is a link to nothing" if os.path.islink(path) else "does not exist"
    return (status.st_size, None) if stat.S_ISREG(status.st_mode) else (0, "is not a plain file")


def is_hidden(path: str) -> bool:
    """Whether a name of a path begins with a dot, or is what macOS puts beside files."""
    return any(part == "__MACOSX" or (part[:1] == "." and part not in (".", "..")) for part in path.split("/"))


def what_instead(path: str) -> str | None:
    """Says what a file is that is given as a tar and is none, with what to do; None if that is not known."""
    try:
        with open(path, "rb") as file:
            head = file.read(other_formats.HEAD_BYTES)
    except OSError:
        return None
    if other_formats.kind_of(head) is not None:
        return "a single picture: give the folder above its identity's folder"
    return next((what for start, what in _NO_TARS.items() if head.startswith(start)), None)


def _of_folder(source: str) -> Iterator[StoredFile]:
    for found, endless in walk(source):
        path = os.path.relpath(found, source).replace(os.sep, "/")
        size, reason = (0, endless) if endless else file_size(found)
        head = SourceImage(source, path, None, min(size, other_formats.HEAD_BYTES))
        yield StoredFile(head._replace(size=size), reason, functools.partial(read_image, head))


def _of_tar(source: str, flag: str) -> Iterator[StoredFile]:
    try:
        with tarfile.open(source, "r:") as tar:
            for member in (member for member in tar if not member.isdir()):
                tar.members = []  # it would keep a kilobyte for each image
                path = member.name.removeprefix("./")
                head = SourceImage(source, path, member.offset_data, min(member.size, other_formats.HEAD_BYTES))
                file = head._replace(size=member.size)
                yield StoredFile(file, _member_refusal(member), functools.partial(read_image, head))
    except (tarfile.TarError, OSError) as error:
        what = what_instead(source) or f"not a whole, uncompressed tar: {reason_of(error)}"
        raise UserError(f"{flag} {source} is {what}") from error


def _member_refusal(member: tarfile.TarInfo) -> str | None:
    if member.name.startswith("/") or ".." in member.name.split("/"):
        return "has a path that leaves the archive"
    if not member.isreg() or member.issparse():
        return "is a link or a device, not a plain file"
    return None
