import re
import struct
import tracemalloc

import numpy as np
import pytest

from lrfr_jax.prepare.packs import recordio_file
from lrfr_jax.prepare.packs.recordio_file import RecordIOError, read_record
from tests.make_recordio import FIRST, LAST, MAGIC, MIDDLE, frame, labeled, part, write

_OFF_PLACE = b"\x00" + MAGIC  # not at a multiple of 4: no new part


def _read(data, position=0):
    return read_record(data, position, len(data))


@pytest.mark.parametrize(
    "content",
    [b"", b"1", b"four", b"abcde", MAGIC, MAGIC * 3, b"ab" + MAGIC + b"cd", b"four" + MAGIC + b"x", _OFF_PLACE * 9],
)
@pytest.mark.parametrize("label", [7, (3, 9), (5,), (4, 1, 2, 3)])
def test_the_content_and_labels_come_back_whatever_they_hold(content, label):
    data = frame(labeled(label, 12, content))
    before = frame(labeled(1, 1, b"before"))
    record = _read(before + data, len(before))
    assert record.image == content
    assert record.image_size == len(content)
    assert record.labels == ((label,) if isinstance(label, int) else label[:2])
    assert (record.key, record.end) == (12, len(before + data))


def test_a_record_of_several_parts_gets_the_magic_back_between_them():
    data = labeled(1, 1, b"four" + MAGIC + MAGIC + b"end")
    assert frame(data) == part(data[:28], FIRST) + part(b"", MIDDLE) + part(b"end", LAST)
    assert _read(frame(data)).image == data[24:]


_GOOD = frame(labeled(1, 1, b"content"))
_BROKEN = {
    "another magic": (b"\x0b" + _GOOD[1:], "has 0b23d7ce where the magic number 0a23d7ce must stand"),
    "length past the end": (
        part(b"x" * 24, length=2**29 - 1),
        "claims 536870911 bytes, padded to a multiple of 4, where 24 follow",
    ),
    "padding past the end": (_GOOD[:-1], "claims 31 bytes, padded to a multiple of 4, where 31 follow"),
    "cut in the header": (_GOOD[:6], "is cut off: 6 bytes are left where 8 must follow"),
    "starts with a middle": (part(b"x" * 24, MIDDLE), "starts with a part of kind 2"),
    "starts with an end": (part(b"x" * 24, LAST), "starts with a part of kind 3"),
    "no such kind": (part(b"x" * 24, 5), "starts with a part of kind 5"),
    "two starts": (part(b"x" * 24, FIRST) * 2, "goes on with a part of kind 1"),
    "whole after start": (part(b"x" * 24, FIRST) + _GOOD, "goes on with a part of kind 0"),
    "never closed": (part(b"x" * 24, FIRST) + part(b"", MIDDLE), "is cut off: 0 bytes"),
    "no header": (part(b"x" * 23), "holds 23 bytes, fewer than the 24"),
    "labels past the end": (part(struct.pack("<IfQQ", 3, 0, 1, 0) + b"x" * 11), "claims 3 labels"),
    "four billion labels": (part(struct.pack("<IfQQ", 2**32 - 1, 0, 1, 0)), "claims 4294967295 labels"),
}


@pytest.mark.parametrize("case", _BROKEN)
def test_every_break_of_the_format_is_named(case):
    data, sentence = _BROKEN[case]
    with pytest.raises(RecordIOError, match=re.escape(sentence)):
        _read(data)


def test_a_record_may_not_reach_into_the_next():
    with pytest.raises(RecordIOError, match="claims 31 bytes, padded to a multiple of 4, where 28 follow"):
        read_record(_GOOD + _GOOD, 0, 36)


def test_what_no_face_needs_is_counted_and_not_kept():
    parts = [b"x" * 2**23] * 4
    data = (
        part(labeled((1, 2), 1, parts[0]), FIRST) + b"".join(part(piece, MIDDLE) for piece in parts) + part(b"", LAST)
    )
    tracemalloc.start()
    record = _read(data)
    assert tracemalloc.get_traced_memory()[1] < 3 * recordio_file.MAX_IMAGE_BYTES
    tracemalloc.stop()
    assert record.image_size == 5 * 2**23 + 5 * len(MAGIC)
    assert len(record.image) <= recordio_file.MAX_IMAGE_BYTES
    assert record.image == (MAGIC.join([parts[0], *parts, b""]))[: len(record.image)]
    assert (record.labels, record.end) == ((1, 2), len(data))


@pytest.mark.parametrize("window", [1, 100, 2**26])
def test_a_walk_finds_every_record(tmp_path, monkeypatch, window):
    monkeypatch.setattr(recordio_file, "_SCAN_WINDOW", window)
    rec = write(tmp_path, [(key, frame(labeled(0, key, MAGIC * key))) for key in (5, 1, 9, 0)])
    size = rec.stat().st_size
    keys, offsets = recordio_file.read_index(str(tmp_path / "train.idx"))
    assert list(recordio_file.scan_records(str(rec), size)) == list(zip(keys, offsets, strict=True))
    rec.write_bytes(rec.read_bytes() + frame(labeled(0, 2**63, b"")))
    with pytest.raises(RecordIOError, match=f"has at byte {size} a record that has the id {2**63}, which is no key"):
        list(recordio_file.scan_records(str(rec), rec.stat().st_size))
    rec.write_bytes(rec.read_bytes()[: size - 4])
    with pytest.raises(RecordIOError, match=f"has at byte {offsets[-1]} a record that claims 24 bytes"):
        list(recordio_file.scan_records(str(rec), size - 4))


def test_windows_reach_beyond_four_gigabytes(tmp_path):
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(5 * 2**30)
        file.seek(5 * 2**30 - len(_GOOD))
        file.write(_GOOD)
    with recordio_file.window(str(tmp_path / "sparse"), 5 * 2**30 - len(_GOOD), 5 * 2**30) as (buffer, place):
        assert read_record(buffer, place, place + len(_GOOD)).image == b"content"
    with (
        pytest.raises(RecordIOError, match="the file is shorter than it was"),
        recordio_file.window(str(tmp_path / "sparse"), 0, 5 * 2**30 + 1),
    ):
        pass


@pytest.mark.parametrize("text", [b"0\t0\n7\t36\n", b"0 0\r\n7\t 36", b"00\t0 \n07\t036\n\n"[:-1], b"7\t36\n0\t0\n"])
def test_an_index_is_read(tmp_path, text):
    (tmp_path / "train.idx").write_bytes(text)
    keys, offsets = recordio_file.read_index(str(tmp_path / "train.idx"))
    assert (keys.tolist(), offsets.tolist()) == ([0, 7], [0, 36])


@pytest.mark.parametrize(
    "line", [b"\n", b"7", b"7\t", b"-7\t36", b"7\t3.6", b"7\t36\t1", b"seven\t36", b"7\t1" + b"0" * 18, b"\x00" * 200]
)
def test_a_bad_line_of_an_index_is_named(tmp_path, line):
    (tmp_path / "train.idx").write_bytes(b"0\t0\n" + line)
    with pytest.raises(RecordIOError, match="has at line 2 no `key<TAB>byte offset`"):
        recordio_file.read_index(str(tmp_path / "train.idx"))


@pytest.mark.parametrize(
    ("keys", "offsets", "sentence"),
    [
        ([], [], "is empty"),
        ([0, 7], [0, 100], "points behind the 100 bytes of the .rec file: key 7, byte 100"),
        ([0, 7], [0, 38], "points to no multiple of 4, where records start: key 7, byte 38"),
        ([0, 7, 8], [0, 40, 40], "points to a place to which another line points: key 8, byte 40"),
        ([0, 7], [4, 40], "does not list the record at byte 0"),
        ([7, 0, 7], [0, 36, 72], "lists key 7 more than once"),
    ],
)
def test_an_index_that_cannot_be_true_is_refused(keys, offsets, sentence):
    with pytest.raises(RecordIOError, match=re.escape(sentence)):
        recordio_file.check_index(np.array(keys, np.int64), np.array(offsets, np.int64), 100)


def test_labels_are_integers_that_float32_holds():
    assert [recordio_file.exact_label(value) for value in (0.0, -0.0, 5.0, 2.0**24 - 1)] == [0, 0, 5, 2**24 - 1]
    for value in (-1.0, 0.5, 2.0**24, float("nan"), float("inf"), -float("inf")):
        with pytest.raises(ValueError, match=f"has the label {value}, not an integer"):
            recordio_file.exact_label(value)
