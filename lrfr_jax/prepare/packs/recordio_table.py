"""All records of a .rec file as a table: which are images, what their labels are, and which cannot be used.

The checking processes import this module, so it imports neither TFDS nor jax.
"""

import contextlib
import itertools
import multiprocessing
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int32, Int64
from tqdm import tqdm

from lrfr_jax.errors import UserError
from lrfr_jax.pictures.sources import Problem, num_workers
from lrfr_jax.prepare.packs import recordio_file, recordio_header
from lrfr_jax.prepare.packs.recordio_file import RecordIOError
from lrfr_jax.prepare.packs.recordio_header import NO_LABEL
from lrfr_jax.prepare.sets.pixel_options import PixelOptions
from lrfr_jax.prepare.sets.training_options import Selection, as_error

_HEADER_LABELS = 2  # of a header and of an identity's record
_CHUNK = 256  # records per task of a checking process; some MB, so that what is mapped at a time stays small
_IN_PROCESS = 1024  # up to so many records, starting processes takes longer than checking


class Layout(NamedTuple):
    """Where the records lie, in the order of the file; `stop` is where the next one starts; a header is of no kind."""

    path: str
    keys: Int64[np.ndarray, " records"]
    offsets: Int64[np.ndarray, " records"]
    stops: Int64[np.ndarray, " records"]
    is_image: Bool[np.ndarray, " records"]
    is_identity: Bool[np.ndarray, " records"]

    def name(self, row: int) -> str:
        return f"{self.path} key {self.keys[row]} (byte {self.offsets[row]})"


class Checked(NamedTuple):
    """What reading every record has shown: the images' labels, whether they can be used, and who cannot."""

    labels: Int32[np.ndarray, " records"]
    is_usable: Bool[np.ndarray, " records"]
    problems: list[Problem]


class _Task(NamedTuple):
    path: str
    offsets: np.ndarray
    stops: np.ndarray
    is_image: np.ndarray
    is_identity: np.ndarray
    selection: Selection
    pixels: PixelOptions


class _Result(NamedTuple):
    """`broken` is (record of the task, what breaks the format); `faults` are the images that cannot be used."""

    labels: np.ndarray
    ranges: np.ndarray
    faults: list[tuple[int, str]]
    broken: tuple[int, str] | None


def read_layout(rec: str, idx: str | None) -> Layout:
    """Finds all records and tells images from the header and the identities.

    Without an .idx file (None) the records are walked one after the other, and their ids are the keys.

    Raises:
      UserError: one of the files breaks its format, or the header announces other records than there are.
    """
    size = os.path.getsize(rec)
    if not size:
        raise UserError(f"{rec} is empty: it must hold records")
    if idx is None:
        with _naming(rec):
            # One number after the other into an array: a list of them would take eight times the memory.
            flat = np.fromiter(itertools.chain.from_iterable(recordio_file.scan_records(rec, size)), np.int64)
        keys, offsets = flat[::2].copy(), flat[1::2].copy()
        repeated = recordio_file.repeated_key(keys)
        if repeated is not None:
            raise UserError(f"{rec} holds several records with the id {repeated}: its .idx file is needed to read it")
    else:
        with _naming(idx):
            keys, offsets = recordio_file.read_index(idx)
            recordio_file.check_index(keys, offsets, size)
    stops = np.append(offsets[1:], size)
    return _with_kinds(Layout(rec, keys, offsets, stops, np.ones(len(keys), bool), np.zeros(len(keys), bool)))


def check_records(layout: Layout, *, selection: Selection, pixels: PixelOptions, on_error: str) -> Checked:
    """Reads every record and decodes the images of the selected identities, on all cores.

    Raises:
      UserError: a record breaks the format, the records contradict each other, or an image that is selected cannot be
        used and `on_error` is "error".
    """
    labels = np.full(len(layout.keys), NO_LABEL, np.int32)
    ranges = np.zeros((len(layout.keys), 2), np.float32)
    is_usable, problems = layout.is_image.copy(), []
    starts = range(0, len(layout.keys), _CHUNK)
    columns = layout.offsets, layout.stops, layout.is_image, layout.is_identity
    tasks = (
        _Task(layout.path, *(column[rows] for column in columns), selection, pixels)
        for rows in (slice(start, start + _CHUNK) for start in starts)
    )
    with (
        _mapped(tasks, in_process=len(layout.keys) <= _IN_PROCESS) as results,
        tqdm(total=len(layout.keys), desc="check", unit=" records", disable=None) as bar,
    ):
        for start, result in zip(starts, results, strict=True):
            if result.broken:
                raise UserError(f"{layout.name(start + result.broken[0])} {result.broken[1]}")
            found = [Problem(layout.name(start + row), reason) for row, reason in result.faults]
            if found and on_error == "error":
                raise as_error(found[0])
            problems += found
            is_usable[[start + row for row, _ in result.faults]] = False
            labels[start : start + _CHUNK], ranges[start : start + _CHUNK] = result.labels, result.ranges
            bar.update(len(result.labels))
    if not layout.is_image.all():
        _check_identities(layout, labels, ranges)
    return Checked(labels, is_usable, problems)


def read_images(layout: Layout, rows: Int64[np.ndarray, " images"]) -> Iterator[bytes]:
    """Reads the images of some rows of the table, in order, some MB at a time.

    Raises:
      UserError: the file changed since it was checked.
    """
    for chunk in (rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)):
        for record in recordio_file.read_records(layout.path, layout.offsets[chunk], layout.stops[chunk]):
            if isinstance(record, RecordIOError):
                raise UserError(f"{layout.path} was changed since it was checked: a record {record}")
            yield record.image


def _with_kinds(layout: Layout) -> Layout:
    """Says which records are images: all, or those that a header at key 0 announces; the rest are identities."""
    row_of_key = np.argsort(layout.keys, kind="stable")
    keys = layout.keys[row_of_key]

    def is_identity(key: int) -> bool:
        return _holds_range(_read(layout, int(row_of_key[key])))

    if keys[0] != 0:
        return layout
    header = _read(layout, int(row_of_key[0]))
    following = _read(layout, int(row_of_key[1])) if len(keys) > 1 else None
    if not _is_header(header, following, len(keys), is_identity):
        return layout
    with _naming(layout.name(int(row_of_key[0]))):
        if keys[-1] != len(keys) - 1:
            missing = int(np.argmax(keys != np.arange(len(keys))))
            raise RecordIOError(f"is a header, below which no key may be missing, and there is no key {missing}")
        first = recordio_header.first_identity_key(*header.labels, len(keys), is_identity)
    layout.is_image[row_of_key[first:]] = layout.is_image[row_of_key[0]] = False
    layout.is_identity[row_of_key[first:]] = True
    return layout


def _is_header(
    record: recordio_file.Record,
    following: recordio_file.Record | None,
    num_keys: int,
    is_identity: Callable[[int], bool],
) -> bool:
    """Whether the record at key 0 is a header, which some writers give a picture as a placeholder.

    Writers of landmarks give every image several labels, so a picture with several is no header by that alone.
    """
    if len(record.labels) < _HEADER_LABELS or record.image_size == 0 or following is None:
        return _holds_range(record)
    if len(following.labels) < _HEADER_LABELS or is_identity(num_keys - 1):
        return True
    first, classes = record.labels
    return bool(np.float32(first) == np.float32(num_keys)) and classes > 1  # beside a label stands a flag of 0 or 1


def _read(layout: Layout, row: int) -> recordio_file.Record:
    place = slice(row, row + 1)
    record = next(recordio_file.read_records(layout.path, layout.offsets[place], layout.stops[place]))
    if isinstance(record, RecordIOError):
        raise UserError(f"{layout.name(row)} {record}")
    return record


def _check_identities(layout: Layout, labels: np.ndarray, ranges: np.ndarray) -> None:
    row_of_key = np.argsort(layout.keys, kind="stable")
    first = int(layout.is_image.sum()) + 1
    wrong = recordio_header.check_ranges(ranges[row_of_key[first:]], labels[row_of_key[:first]])
    if wrong:
        raise UserError(f"{layout.name(int(row_of_key[first + wrong[0]]))} {wrong[1]}")


def _holds_range(record: recordio_file.Record) -> bool:
    return len(record.labels) == _HEADER_LABELS and record.image_size == 0


def _check(task: _Task) -> _Result:
    """Reads the records of a task, and decodes the images among them that are selected."""
    count = len(task.offsets)
    labels, ranges, faults = np.full(count, NO_LABEL, np.int32), np.zeros((count, 2), np.float32), []
    for row, record in enumerate(recordio_file.read_records(task.path, task.offsets, task.stops)):
        if isinstance(record, RecordIOError):
            return _Result(labels, ranges, faults, (row, str(record)))
        if task.is_image[row]:
            labels[row], fault = _check_image(record, task.selection, task.pixels)
            faults += [(row, fault)] if fault else []
        elif task.is_identity[row] and _holds_range(record):
            ranges[row] = record.labels
        elif task.is_identity[row]:
            reason = "holds no range of keys, though the header announces an identity's record"
            return _Result(labels, ranges, faults, (row, reason))
    return _Result(labels, ranges, faults, None)


def _check_image(record: recordio_file.Record, selection: Selection, pixels: PixelOptions) -> tuple[int, str | None]:
    """Returns the label and what is wrong with the image; the images of others are not decoded."""
    try:
        label = recordio_file.exact_label(record.labels[0])
    except ValueError as error:
        return NO_LABEL, str(error)
    if not selection.takes(str(label)):
        return label, None
    if record.image_size > len(record.image):
        return label, f"has {record.image_size} bytes, more than an aligned face can have"
    try:
        pixels.check(record.image)
    except ValueError as error:
        return label, str(error)
    return label, None


@contextlib.contextmanager
def _mapped(tasks: Iterator[_Task], *, in_process: bool) -> Iterator[Iterator[_Result]]:
    """Opens the results of the tasks in their order, from several processes if there is much to do."""
    with contextlib.ExitStack() as stack:
        if in_process:
            yield map(_check, tasks)
        else:  # processes, as parsing holds the interpreter lock; spawned, as forked ones inherit threads' locks
            pool = stack.enter_context(multiprocessing.get_context("spawn").Pool(num_workers()))
            yield pool.imap(_check, tasks)


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
    """Makes a break of the format the user's error, which begins with the name of the file or record."""
    try:
        yield
    except RecordIOError as error:
        raise UserError(f"{name} {error}") from error
    except OSError as error:
        raise UserError(f"{name} cannot be read: {error}") from error
