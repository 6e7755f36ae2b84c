"""What a flag names: a folder of this machine (`pathlib`), or one in an object store (gs://, s3://: `etils.epath`).

Text becomes a path here and nowhere else: `pathlib.Path("gs://bucket/run")` would silently be the folder `gs:` of this
disk. An object store has no folders to make, cannot append to a file and cannot lock; a file is written whole.
"""

import contextlib
import functools
import importlib.util
import os
import pathlib
import re
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import fsspec
from etils import epath

from lrfr_jax.errors import UserError, reason_of

AnyPath = pathlib.Path | epath.Path
# The package behind each scheme; both come with the extra `remote`.
PACKAGES = {"gs": "gcsfs", "s3": "s3fs"}
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*):/+")


def of(text: str | os.PathLike) -> AnyPath:
    """Turns what a user wrote into a path; of a bucket it is made sure that it is there and may be listed.

    Raises:
      UserError: another scheme, a missing package, or a bucket that cannot be reached.
    """
    match = _SCHEME.match(text := os.fspath(text))
    if not match:
        return pathlib.Path(text)
    scheme, inside = match[1], text[match.end() :].rstrip("/")
    if scheme not in PACKAGES or not inside or not text.startswith(f"{scheme}://{inside}"):
        known = " or ".join(f"{scheme}://BUCKET/PATH" for scheme in PACKAGES)
        raise UserError(f"{text} is neither a folder of this machine nor {known}: write one of these")
    _reach(scheme, inside.partition("/")[0])
    return epath.Path(f"{scheme}://{inside}")


def is_remote(path: str | os.PathLike) -> bool:
    """Whether the path names something in an object store."""
    return bool(_SCHEME.match(os.fspath(path)))


def local(text: str | os.PathLike, what: str) -> pathlib.Path:
    """Turns what a user wrote into a path of this machine.

    Args:
      text: the path.
      what: the flag, for the sentence.

    Raises:
      UserError: it is in an object store.
    """
    if is_remote(text):
        raise UserError(f"{what} {os.fspath(text)} must be on this machine: copy it here, or mount the bucket")
    return pathlib.Path(text)


def require_local(options: Mapping[str, Any]) -> None:
    """Raises `UserError` if an option of a command, or a part of a comma-separated one, is in an object store."""
    for name, given in options.items():
        for value in given if isinstance(given, list | tuple) else [given]:
            for part in map(str.strip, str(value).split(",")) if isinstance(value, str | os.PathLike) else ():
                local(part, f"--{name}")


def check_folder(folder: AnyPath, *, flag: str = "--output") -> None:
    """Looks whether files can be put into a folder to make, before the work, which would be lost otherwise.

    Nothing is made, as bad input is to leave no trace. Of an object store nothing is known before.

    Raises:
      UserError: the folder, or one above it, is a file or may not be written; `flag` is how the user named it.
    """
    if is_remote(folder):
        return
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.exists(path))
    if not there.is_dir():
        raise UserError(f"{flag} cannot be written, as {there} is a file: name a folder, or a place in one")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{flag} cannot be written, as you may not write in {there}: get the right, or name another")


def check_file(path: AnyPath, *, flag: str = "--output") -> None:
    """Looks whether a file to make can be written, as `check_folder` does.

    Raises:
      UserError: it is a folder, or would lie below a file or in a folder that may not be written.
    """
    if is_remote(path):
        return
    if path.is_dir():
        raise UserError(f"{flag} {path} is a folder: name a file in it")
    check_folder(path.parent, flag=flag)


def absolute(path: str | os.PathLike) -> AnyPath:
    """Returns the path from the root of this machine, or of the object store, on."""
    path = of(path)
    return path if is_remote(path) else path.resolve()


def write_text(path: AnyPath, text: str) -> None:
    """Writes a file as `write_bytes` does, in UTF-8."""
    write_bytes(path, text.encode())


def write_bytes(path: AnyPath, content: bytes) -> None:
    """Writes a file whole or not at all, and the folders above it where there are such.

    Raises:
      UserError: an object store refuses it.
    """
    if is_remote(path):
        with _in_words(path):
            path.write_bytes(content)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def upload(folder: pathlib.Path, target: epath.Path, *, leave_out: str | None = None) -> None:
    """Copies all files of a local folder into one of an object store, over those of the same names, in no order.

    Args:
      folder: of this machine.
      target: in the object store.
      leave_out: name of a file of `folder` that is not copied.

    Raises:
      UserError: the object store refuses them.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / (leave_out or ""))
    with _in_words(target):
        _store(target).put([str(path) for path in files], [str(target / path.relative_to(folder)) for path in files])


def download(source: epath.Path, folder: pathlib.Path) -> None:
    """Copies all files below `source` into a local folder; none if there is nothing.

    Raises:
      UserError: they cannot be read.
    """
    with _in_words(source):
        names = [f"{source.parts[1]}://{name}" for name in _store(source).find(str(source))]
        inside = [epath.Path(name).relative_to(source) for name in names]
        _store(source).get(names, [str(folder / name) for name in inside])


def move(source: AnyPath, target: AnyPath) -> None:
    """Moves a folder to a place where nothing is; in an object store file by file, as it knows no folders."""
    names = _store(source).find(str(source))
    ends = [str(target / epath.Path(f"{source.parts[1]}://{name}").relative_to(source)) for name in names]
    _store(source).copy(names, ends)
    source.rmtree()


@contextlib.contextmanager
def at_hand(path: AnyPath, *names: str) -> Iterator[pathlib.Path]:
    """Gives a local folder that holds the named folders of `path`: `path` itself, or a copy that is removed again."""
    if not is_remote(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            download(path / name, pathlib.Path(folder) / name)
        yield pathlib.Path(folder)


def _store(path: epath.Path) -> fsspec.AbstractFileSystem:
    return fsspec.url_to_fs(str(path))[0]


@functools.cache
def _reach(scheme: str, bucket: str) -> None:
    """Finds out once per process whether a bucket can be used, before the first path in it is made."""
    package = PACKAGES[scheme]
    if importlib.util.find_spec(package) is None:
        raise UserError(f"{scheme}:// needs the package {package}: pip install -e '.[remote]'")
    if importlib.util.find_spec("tensorflow") and os.environ.get("EPATH_USE_TF") != "false":
        raise UserError(f"TensorFlow is installed and would take {scheme}:// over: set EPATH_USE_TF=false")
    # A listing kept from before would hide what other processes and orbax's own writers have written since.
    fsspec.config.conf.setdefault(scheme, {})["use_listings_cache"] = False
    name = f"{scheme}://{bucket}"
    with _in_words(name):
        fsspec.filesystem(scheme).info(name)


@contextlib.contextmanager
def _in_words(path: str | os.PathLike) -> Iterator[None]:
    """Tells what an object store answers; its clients raise their own errors, and those of two HTTP libraries."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{path} is not there: make the bucket first, or write its name right") from error
    except PermissionError as error:
        raise UserError(f"{path}: access denied ({reason_of(error)}): log in as one who may read and write") from error
    except Exception as error:
        raise UserError(
            f"{path} cannot be reached ({reason_of(error)}): look at the network and at the login"
        ) from error
