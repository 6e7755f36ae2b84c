"""Damaged Parquet and LMDB files: `pytest -m slow -s tests/prepare/test_streamed_fuzz.py` reads 100,000 of each.

In a process of their own, as pyarrow could end it, and as a test's shape checks slow it 30 times.
"""

import io
import json
import pathlib
import pickle
import subprocess
import sys
import tempfile

import msgpack
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.prepare.packs import lmdb_samples, parquet_file
from lrfr_jax.prepare.packs.parquet_file import Columns
from tests.prepare import lmdb_writer

_FEW, _MANY = 500, 100_000
_PAGE = 4096
_NUMBERS = (b"\xff", b"\0", b"\x7f", b"\x80", b"\x01")
_SIZES = (3, 50, 200, 700, 3000)


def _of_parquet(rng):
    """Small files of each compression, page format and kind of columns."""
    images = [rng.bytes(size) for size in _SIZES]
    info = {"features": {"label": {"names": ["a", "b"], "_type": "ClassLabel"}}}
    names = pa.array(["a", "b", "a", "c", "a"])
    for labels in (pa.array([0, 1, 0, -1, None]), names, names.dictionary_encode()):
        for column in (images, [{"bytes": image, "path": "x.jpg"} for image in images]):
            table = pa.table({"image": column, "label": labels})
            table = table.replace_schema_metadata({"huggingface": json.dumps({"info": info})})
            for compression in ("snappy", "none", "gzip", "zstd", "lz4", "brotli"):
                for options in (
                    {},
                    {"data_page_version": "2.0"},
                    {"use_dictionary": False, "write_page_checksum": True},
                ):
                    stream = io.BytesIO()
                    pq.write_table(table, stream, row_group_size=2, compression=compression, **options)
                    yield stream.getvalue()


def _of_lmdb(rng):
    """Small files of each layout, of one page and of several."""
    images = [b"\xff\xd8\xff" + rng.bytes(size) for size in _SIZES]
    for count in (3, 40):
        many = [images[place % len(images)] for place in range(count)]
        for dumps in (msgpack.dumps, pickle.dumps, lambda value: pickle.dumps(value, 0)):
            pairs = {b"%d" % place: dumps((image, place)) for place, image in enumerate(many)}
            yield lmdb_writer.to_bytes(pairs | {b"__len__": dumps(count)})
        yield lmdb_writer.to_bytes({b"%d/1" % place: image for place, image in enumerate(many)})
        messages = [lmdb_writer.datum(image, place, encoded=place % 2) for place, image in enumerate(many)]
        yield lmdb_writer.to_bytes({b"%08d" % place: message for place, message in enumerate(messages)})


def _read_parquet(path):
    file = parquet_file.open_file(path, Columns(None, None))
    return sum(1 for _ in file.read(np.arange(len(file.owners))))


def _read_lmdb(path):
    file = lmdb_samples.open_file(path)
    return sum(1 for _ in file.read(np.arange(len(file.owners))))


def _place_in_parquet(content, rng):
    """Mostly in the footer, whose length stands before the last four bytes."""
    footer = int.from_bytes(content[-8:-4], "little") + 8
    low = max(len(content) - footer, 0) if rng.random() < 0.6 else 0
    return int(rng.integers(low, len(content) + 1))


def _place_in_lmdb(content, rng):
    """Mostly in the first bytes of a page, or where a value begins."""
    page = int(rng.integers(len(content) // _PAGE + 1)) * _PAGE
    return min(len(content), page + int(rng.integers(160 if rng.random() < 0.7 else _PAGE)))


def _mutate(content, start, other, rng):
    """Flips, overwrites, cuts out, repeats, cuts off or exchanges a stretch."""
    end = min(len(content), start + int(rng.geometric(0.2)))
    head, middle, tail = content[:start], content[start:end], content[end:]
    kind = rng.integers(8)
    if kind <= 2:
        middle = bytes(value ^ 1 << int(rng.integers(8)) for value in middle)
    elif kind == 3:
        middle = rng.bytes(len(middle))
    elif kind == 4:
        middle = _NUMBERS[rng.integers(len(_NUMBERS))] * len(middle)
    elif kind == 5:
        middle = middle * int(rng.integers(20))
    elif kind == 6:
        tail = b""
    else:
        tail = other[start + len(middle) :] if rng.random() < 0.5 else other[int(rng.integers(len(other))) :]
    return head + middle + tail


_KINDS = {
    "parquet": (_of_parquet, _read_parquet, _place_in_parquet),
    "lmdb": (_of_lmdb, _read_lmdb, _place_in_lmdb),
}


def _fuzz(kind, count, seed=0):
    make, read, place = _KINDS[kind]
    rng = np.random.default_rng(seed)
    seeds, outcomes = list(make(rng)), {"read": 0, "refused": 0}
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "x"
        for content in seeds:
            path.write_bytes(content)
            assert read(str(path)) >= 2
        for number in range(count):
            content, other = (seeds[rng.integers(len(seeds))] for _ in range(2))
            for _ in range(rng.integers(1, 4)):
                content = _mutate(content, place(content, rng), other, rng)
            path.write_bytes(content)
            try:
                read(str(path))
                outcomes["read"] += 1
            except UserError:
                outcomes["refused"] += 1
            except Exception as error:
                raise AssertionError(f"input {number}") from error
    print(f"{kind}: {outcomes}")
    assert min(outcomes.values()) > count / 100


def _run(kind, count):
    root = pathlib.Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "tests.prepare.test_streamed_fuzz", kind, str(count)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=3600)
    print(f"\n{count} inputs, {done.stdout}{done.stderr}")
    assert done.returncode == 0


@pytest.mark.parametrize("kind", list(_KINDS))
def test_damaged_files_are_read_or_refused(kind):
    _run(kind, _FEW)


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(_KINDS))
def test_many_damaged_files_are_read_or_refused(kind):
    _run(kind, _MANY)


if __name__ == "__main__":
    _fuzz(sys.argv[1], int(sys.argv[2]))
