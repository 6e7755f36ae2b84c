"""What the values of an LMDB mean: images with labels in one of four layouts, told by their first bytes."""

import functools
import io
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgpack
import numpy as np
from jaxtyping import Int64, Shaped

from lrfr_jax.errors import UserError
from lrfr_jax.files import inert_pickle
from lrfr_jax.files.inert_pickle import Refused
from lrfr_jax.pictures import other_formats, sources
from lrfr_jax.prepare.lists.path_lists import label_of
from lrfr_jax.prepare.packs import bin_file, datum, lmdb_file, streamed
from lrfr_jax.prepare.packs.streamed import StreamedFile

_MAX_VALUE_BYTES = sources.MAX_IMAGE_BYTES + 4096  # an image with its label around it
_TRIED = 16  # values of which one must tell the layout
_LENGTH_KEY = b"__len__"
_PICKLE_STARTS, _PAIR_OF_MSGPACK = (b"\x80", b"("), b"\x92"
_PAGE_BYTES = 4096  # of most files; values on one of them come in the order of their keys
_SHOWN = 60  # characters of a key that a sentence repeats
_LONGEST = 16  # items of what msgpack holds: two are expected


class Layout(NamedTuple):
    """How a value is read.

    Attributes:
      is_of: whether a value begins as in this layout.
      parse: (key, value) -> (identity, image file), or `ValueError` with a message that starts with a verb.
      decode: what reads the length under `__len__`, which this layout must have; None without one.
    """

    is_of: Callable[[bytes], bool]
    parse: Callable[[bytes, bytes], tuple[str, bytes]]
    decode: Callable[[bytes], Any] | None


def open_file(path: str) -> StreamedFile:
    """Reads whose images an LMDB holds. Rows are in the order in which the file holds them, on a page in that of keys.

    Raises:
      UserError: as in `lmdb_file.list_values`, values of no known layout, or not as many as `__len__` says.
    """
    values = lmdb_file.list_values(path)
    with open(path, "rb") as file:
        is_note = np.fromiter((_is_note(_key(file, value)) for value in values), bool, len(values))
        length = next((value for value in values[is_note] if _key(file, value) == _LENGTH_KEY), None)
        rows = values[~is_note]
        rows = rows[np.argsort(rows["offset"] // _PAGE_BYTES, kind="stable")]
        layout = _layout_of(path, file, rows)
        if layout.decode is not None:
            _check_length(path, file, length, layout, len(rows))
        identities = (found if isinstance(found, ValueError) else found[0] for found in _samples(file, rows, layout))
        names, owners, faults = streamed.owners_of(identities, len(rows))
    where = functools.partial(_where, path, rows)
    read = functools.partial(_read, path, rows, layout)
    return StreamedFile(path, names, owners, faults, int(rows["size"].sum()), read, where)


def _layout_of(path: str, file: io.BufferedIOBase, rows: Shaped[np.ndarray, " rows"]) -> Layout:
    if not len(rows):
        raise UserError(f"{path} holds no images: it is empty")
    for row in rows[:_TRIED]:
        head = _stretch(file, int(row["offset"]), min(int(row["size"]), other_formats.HEAD_BYTES))
        for layout in _LAYOUTS:
            if layout.is_of(head):
                return layout
    head = _stretch(file, int(rows[0]["offset"]), min(int(rows[0]["size"]), 8))
    raise UserError(
        f"{_where(path, rows, 0)} begins with {head!r}, as no known layout does: a value must be an image file under a "
        "key <identity>/<image>, msgpack or a pickle of (image file, label), or Caffe's Datum"
    )


def _check_length(path: str, file: io.BufferedIOBase, length: Any, layout: Layout, count: int) -> None:
    if length is None:
        raise UserError(
            f"{path} has no key {_LENGTH_KEY.decode()}, which its writer puts last: it was not written to its end, "
            "write it again"
        )
    try:
        said = layout.decode(_stretch(file, int(length["offset"]), min(int(length["size"]), _SHOWN)))
    except ValueError:
        said = None
    if said != count or isinstance(said, bool):
        raise UserError(
            f"{path} has {count} values, and its key {_LENGTH_KEY.decode()} says another number: it was not written to "
            "its end, or is damaged; write it again"
        )


def _samples(
    file: io.BufferedIOBase, rows: Shaped[np.ndarray, " rows"], layout: Layout
) -> Iterator[tuple[str, bytes] | ValueError]:
    for row in rows:
        try:
            if row["size"] > _MAX_VALUE_BYTES:
                raise ValueError(f"has {row['size']} bytes, more than an image and its label may have")
            key, value = _key(file, row), _stretch(file, int(row["offset"]), int(row["size"]))
            yield layout.parse(key, value)
        except ValueError as reason:
            yield reason


def _read(
    path: str, rows: Shaped[np.ndarray, " rows"], layout: Layout, places: Int64[np.ndarray, " some"]
) -> Iterator[bytes | ValueError]:
    with open(path, "rb") as file:
        for found in _samples(file, rows[places], layout):
            yield found if isinstance(found, ValueError) else found[1]


def _where(path: str, rows: Shaped[np.ndarray, " rows"], row: int) -> str:
    with open(path, "rb") as file:
        key = _key(file, rows[row]).decode("utf-8", "backslashreplace")
    return f"{path}, key {sources.printable(key)[:_SHOWN]},"


def _is_note(key: bytes) -> bool:
    return key.startswith(b"__") and key.endswith(b"__")


def _key(file: io.BufferedIOBase, value: np.void) -> bytes:
    return _stretch(file, int(value["key_offset"]), int(value["key_size"]))


def _stretch(file: io.BufferedIOBase, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


def _of_msgpack(value: bytes) -> Any:
    try:
        return msgpack.unpackb(value, raw=True, strict_map_key=False, max_array_len=_LONGEST, max_map_len=_LONGEST)
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
        raise ValueError("is damaged msgpack") from error


def _of_pickle(value: bytes) -> Any:
    try:
        return inert_pickle.read(io.BytesIO(value), size=len(value), dialect=bin_file.DIALECT)
    except Refused as reason:
        raise ValueError(str(reason)) from reason


def _pair(decode: Callable[[bytes], Any], _key: bytes, value: bytes) -> tuple[str, bytes]:
    match decode(value):
        case (bytes(image) | bin_file.Array(bin_file.Dtype(b"u1"), bytes(image)), label):
            label = label.decode("utf-8", "replace") if isinstance(label, bytes) else label
            return _identity(label), image
    raise ValueError("holds something else than an image file and a label")


def _labeled_datum(_key: bytes, value: bytes) -> tuple[str, bytes]:
    image, label = datum.parse(value)
    return _identity(label), image


def _named_by_key(key: bytes, value: bytes) -> tuple[str, bytes]:
    parts = key.decode("utf-8", "replace").split("/")
    if len(parts) < 2:
        raise ValueError("is an image under a key that names no identity: it must be <identity>/<image>")
    return _identity(parts[-2]), value


def _identity(label: Any) -> str:
    identity = label_of(label)
    if identity is None:
        raise ValueError("has a label that is neither a name nor an integer from 0 on")
    return identity


def _is_picture(head: bytes) -> bool:
    return other_formats.kind_of(head) is not None


_LAYOUTS = (
    Layout(_is_picture, _named_by_key, None),
    Layout(lambda head: head.startswith(_PAIR_OF_MSGPACK), functools.partial(_pair, _of_msgpack), _of_msgpack),
    Layout(lambda head: head.startswith(_PICKLE_STARTS), functools.partial(_pair, _of_pickle), _of_pickle),
    Layout(datum.starts, _labeled_datum, None),
)
