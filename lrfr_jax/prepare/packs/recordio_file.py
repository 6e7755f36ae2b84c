"""MXNet's RecordIO, byte by byte: the records of a .rec file and the keys of its .idx file, or what is wrong with them.

A record is `magic | cflag (3 bits), length (29 bits) | data | zeros up to a multiple of 4`, little-endian. Where the
data hold the magic number at a multiple of 4, the writer leaves these four bytes out and begins a new part: cflag 1
opens a record of several parts, 2 goes on, 3 closes it; 0 is a record of one part. The data of an image are
`flag, label, id, id2`, then `flag` float32 labels (which count instead of the one before), then the image's file.

References:
  dmlc-core, include/dmlc/recordio.h (records); MXNet, recordio.py (IRHeader, .idx).
"""

import array
import contextlib
import mmap
import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from lrfr_jax.pictures.sources import MAX_IMAGE_BYTES

MAGIC = struct.pack("<I", 0xCED7230A)
ALIGNMENT = 4  # every part of a record starts at a multiple of it
EXACT_FLOAT32 = 2**24  # float32 holds every integer below it, and beyond it not all

_PART = struct.Struct("<4sI")  # magic, cflag and length
_LENGTH_BITS = 29
_WHOLE, _OPENS, _GOES_ON, _CLOSES = range(4)  # cflag
_IMAGE_HEADER = struct.Struct("<IfQQ")  # flag, label, id, id2
_LABEL = struct.Struct("<f")
_KEPT_LABELS = 2  # an image's label is the first; header and identity records hold two
_INDEX_LINE = re.compile(rb"([0-9]{1,18})[ \t]+([0-9]{1,18})\s*")  # 18 digits stay below 2^63
_LONGEST_INDEX_LINE = 64  # bytes; two numbers need less
_SCAN_WINDOW = 2**26  # bytes after which a scan maps anew, which gives the pages before it back


class RecordIOError(ValueError):
    """Bytes that break the format; the message goes on where the record's name ends ("is", "has", "claims")."""


class Record(NamedTuple):
    """One record. `labels` has one or two numbers; `image` ends at MAX_IMAGE_BYTES, `image_size` counts on."""

    key: int
    labels: tuple[float, ...]
    image: bytes
    image_size: int
    end: int


@contextlib.contextmanager
def window(path: str, start: int, stop: int) -> Iterator[tuple[mmap.mmap, int]]:
    """Maps the bytes from `start` to `stop` of a file of any size; yields (buffer, place of `start` in it).

    Memory for the pages that were read is given back at the end.
    """
    before = start % mmap.ALLOCATIONGRANULARITY
    try:
        with open(path, "rb") as file:
            mapping = mmap.mmap(file.fileno(), stop - start + before, access=mmap.ACCESS_READ, offset=start - before)
    except OSError as error:
        raise RecordIOError(f"cannot be read: {error}") from error
    except ValueError as error:
        raise RecordIOError("cannot be read: the file is shorter than it was at the start") from error
    with mapping:
        yield mapping, before


def read_record(buffer: bytes | mmap.mmap, position: int, limit: int) -> Record:
    """Reads the record that starts at `position`; its parts must end at `limit` at the latest.

    Keeps no more than MAX_IMAGE_BYTES of the data, whatever the record claims.

    Raises:
      RecordIOError: no record starts here, it does not end before `limit`, its parts are out of order, or its data are
        too short for their header or labels.
    """
    payload, size, end = _join_parts(buffer, position, limit)
    if size < _IMAGE_HEADER.size:
        raise RecordIOError(f"holds {size} bytes, fewer than the {_IMAGE_HEADER.size} of an image record's header")
    num_labels, label, key, _ = _IMAGE_HEADER.unpack_from(payload)
    start = _IMAGE_HEADER.size + num_labels * _LABEL.size
    if start > size:
        raise RecordIOError(f"claims {num_labels} labels, its {size} bytes do not hold them")
    labels = (label,)
    if num_labels:
        kept = range(min(num_labels, _KEPT_LABELS))
        labels = tuple(_LABEL.unpack_from(payload, _IMAGE_HEADER.size + i * _LABEL.size)[0] for i in kept)
    return Record(key, labels, bytes(memoryview(payload)[start : start + MAX_IMAGE_BYTES]), size - start, end)


def read_records(
    path: str, offsets: Int64[np.ndarray, " records"], stops: Int64[np.ndarray, " records"]
) -> Iterator[Record | RecordIOError]:
    """Reads records from `offsets` to `stops`, which ascend; one that breaks the format is the last, as its error."""
    start = int(offsets[0])
    try:
        with window(path, start, int(stops[-1])) as (buffer, before):
            for offset, stop in zip(
                (offsets - start + before).tolist(), (stops - start + before).tolist(), strict=True
            ):
                yield _read_whole(buffer, offset, stop)
    except RecordIOError as error:
        yield error


def scan_records(path: str, size: int) -> Iterator[tuple[int, int]]:
    """Walks a .rec file of `size` bytes from its start; yields (id, offset) of each record.

    Raises:
      RecordIOError: as `read_record`, or an id is no key; the message names the byte.
    """
    offset = 0
    while offset < size:
        try:
            for record_id, end in _scan_window(path, offset, size):
                yield record_id, offset
                offset = end
        except RecordIOError as error:
            raise RecordIOError(f"has at byte {offset} a record that {error}") from error


def read_index(path: str) -> tuple[Int64[np.ndarray, " records"], Int64[np.ndarray, " records"]]:
    """Reads the lines `key<TAB>offset` of an .idx file, in any order; returns keys and offsets by rising offsets.

    Raises:
      RecordIOError: a line is something else; the message names it.
    """
    keys, offsets = array.array("q"), array.array("q")
    with open(path, "rb") as file:
        for line in iter(lambda: file.readline(_LONGEST_INDEX_LINE), b""):
            match = _INDEX_LINE.fullmatch(line)
            if match is None:
                raise RecordIOError(f"has at line {len(keys) + 1} no `key<TAB>byte offset`: {line[:40]!r}")
            keys.append(int(match[1]))
            offsets.append(int(match[2]))
    columns = np.frombuffer(keys, np.int64), np.frombuffer(offsets, np.int64)
    if (columns[1][1:] >= columns[1][:-1]).all():  # as most are: no copy of what may be millions
        return columns
    order = np.argsort(columns[1], kind="stable")
    return columns[0][order], columns[1][order]


def check_index(keys: Int64[np.ndarray, " records"], offsets: Int64[np.ndarray, " records"], size: int) -> None:
    """Checks that an .idx file lists records from byte 0 on, inside the file, with unequal keys and places.

    Raises:
      RecordIOError: it does not; the message names the key.
    """
    if not len(keys):
        raise RecordIOError("is empty: it must have a line for each record")
    faults = [
        (offsets >= size, f"points behind the {size} bytes of the .rec file"),
        (offsets % ALIGNMENT != 0, f"points to no multiple of {ALIGNMENT}, where records start"),
        (np.diff(offsets, prepend=-1) == 0, "points to a place to which another line points"),
    ]
    for wrong, what in faults:
        if wrong.any():
            place = int(np.argmax(wrong))
            raise RecordIOError(f"{what}: key {keys[place]}, byte {offsets[place]}")
    if offsets[0] != 0:
        raise RecordIOError(f"does not list the record at byte 0, the first is at byte {offsets[0]}")
    repeated = repeated_key(keys)
    if repeated is not None:
        raise RecordIOError(f"lists key {repeated} more than once")


def repeated_key(keys: Int64[np.ndarray, " records"]) -> int | None:
    """Finds a key that occurs more than once."""
    ordered = np.sort(keys)
    equal = ordered[1:] == ordered[:-1]
    return int(ordered[1:][np.argmax(equal)]) if equal.any() else None


def exact_label(value: float) -> int:
    """Makes a float32 label an integer; raises ValueError where that is not exact."""
    if not 0 <= value < EXACT_FLOAT32 or value != int(value):  # NaN fails the first comparison
        raise ValueError(f"has the label {value}, not an integer from 0 to {EXACT_FLOAT32 - 1}")
    return int(value)


def _read_whole(buffer: mmap.mmap, offset: int, stop: int) -> Record:
    record = read_record(buffer, offset, stop)
    if record.end != stop:
        raise RecordIOError(f"ends {stop - record.end} bytes before the next one that the .idx file lists")
    return record


def _scan_window(path: str, start: int, size: int) -> Iterator[tuple[int, int]]:
    """Yields id and end of the records that start within one window."""
    with window(path, start, size) as (buffer, before):
        base, offset = start - before, start
        while offset < min(size, start + _SCAN_WINDOW):
            record = read_record(buffer, offset - base, size - base)
            if record.key >= 2**63:
                raise RecordIOError(f"has the id {record.key}, which is no key")
            offset = base + record.end
            yield record.key, offset


def _join_parts(buffer: bytes | mmap.mmap, position: int, limit: int) -> tuple[bytearray, int, int]:
    """Returns the data's start (as much as `read_record` needs), their whole size, and where the next record starts."""
    payload, size, is_first, cflag = bytearray(), 0, True, _OPENS
    while cflag in (_OPENS, _GOES_ON):
        if limit - position < _PART.size:
            raise RecordIOError(f"is cut off: {limit - position} bytes are left where {_PART.size} must follow")
        magic, word = _PART.unpack_from(buffer, position)
        cflag, length = word >> _LENGTH_BITS, word & (2**_LENGTH_BITS - 1)
        if magic != MAGIC:
            raise RecordIOError(f"has {magic.hex()} where the magic number {MAGIC.hex()} must stand")
        if cflag not in ((_WHOLE, _OPENS) if is_first else (_GOES_ON, _CLOSES)):
            where = "starts with" if is_first else "goes on with"
            raise RecordIOError(f"{where} a part of kind {cflag}, which cannot stand there")
        start = position + _PART.size
        position = start + length + -length % ALIGNMENT
        if position > limit:
            raise RecordIOError(
                f"claims {length} bytes, padded to a multiple of {ALIGNMENT}, where {limit - start} follow"
            )
        prefix = b"" if is_first else MAGIC
        size += len(prefix) + length
        room = MAX_IMAGE_BYTES + _IMAGE_HEADER.size - len(payload)
        payload += prefix[: max(room, 0)]
        payload += buffer[start : start + min(length, max(room - len(prefix), 0))]
        is_first = False
    return payload, size, position
