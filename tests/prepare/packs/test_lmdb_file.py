import struct

import numpy as np
import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.prepare.packs import lmdb_file
from tests.prepare import lmdb_writer


def _items(count, sizes=(0, 1, 100, 1900, 1990, 2100, 4080, 9000)):
    random = np.random.default_rng(count)
    return {b"%d" % number: random.bytes(sizes[number % len(sizes)]) for number in range(count)}


def _content(path):
    with open(path, "rb") as file:
        content = file.read()
    return {
        content[key : key + key_size]: content[offset : offset + size]
        for offset, size, key, key_size in lmdb_file.list_values(path).tolist()
    }


@pytest.mark.parametrize("count", [0, 1, 5, 300])
@pytest.mark.parametrize("writer", ["ours", "library"])
def test_every_value_is_found_in_the_order_of_keys(tmp_path, count, writer):
    if writer == "library":
        pytest.importorskip("lmdb")
    write = lmdb_writer.write if writer == "ours" else lmdb_writer.write_by_library
    path, items = tmp_path / "x.lmdb", _items(count)
    write(path, items)
    found = _content(str(path))
    assert found == items
    assert list(found) == sorted(items)


def test_a_tree_of_three_levels_that_the_library_wrote(tmp_path):
    pytest.importorskip("lmdb")
    items = {b"%08d" % number + bytes(400): b"%d" % number for number in range(2000)}
    lmdb_writer.write_by_library(tmp_path / "x", items, in_folder=True)
    path = lmdb_file.find(str(tmp_path / "x"))
    assert path == str(tmp_path / "x/data.mdb")
    assert _content(path) == items


def test_a_source_without_a_file_is_told(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(UserError, match=r"x has no data.mdb: give the folder of an LMDB or its file"):
        lmdb_file.find(str(tmp_path / "x"))
    with pytest.raises(UserError, match=r"y does not exist: give"):
        lmdb_file.find(str(tmp_path / "y"))


def _overwritten(content, offset, form, *values):
    content = bytearray(content)
    struct.pack_into(form, content, offset, *values)
    return bytes(content)


_WHOLE = lmdb_writer.to_bytes(_items(60))
_ROOT = len(_WHOLE) - 4096  # where the root's page begins
_FIRST = struct.unpack_from("<H", _WHOLE, _ROOT + 16)[0] + _ROOT  # the root's first node
_SECOND = struct.unpack_from("<H", _WHOLE, _ROOT + 18)[0] + _ROOT
_LEAF = struct.unpack_from("<H", _WHOLE, _FIRST)[0]  # the first node's page

_FAR = lmdb_writer.to_bytes({b"a": bytes(9000)})  # a value on pages of its own, and behind them the leaf
_NODE = struct.unpack_from("<H", _FAR, 5 * 4096 + 16)[0] + 5 * 4096


def _far_away(last):
    """The value at page 90, in a file that says which page is its last."""
    return _overwritten(_overwritten(_FAR, _NODE + 9, "<Q", 90), 4096 + 136, "<Q", last)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is no LMDB, or cut off"),
        (_WHOLE[:4100], "is no LMDB, or cut off"),
        (bytes(9000), "is no LMDB .*: its first pages are none of it"),
        (b"\x1f\x8b" + bytes(9000), "is compressed by gzip"),
        (_overwritten(_WHOLE, 20, "<I", 2), "is of LMDB's data format 2, known is 1: copy it with mdb_copy"),
        (_overwritten(_WHOLE, 40, "<I", 4095), "has a page size of 4095"),
        (_WHOLE[: len(_WHOLE) // 2], "is cut off: pages of its tree lie behind its end"),
        (_WHOLE[:-4096], "is cut off"),
        (_overwritten(_WHOLE, _ROOT, "<Q", 7), "is damaged: a page"),
        (_overwritten(_WHOLE, _ROOT + 12, "<H", 9000), "is damaged: a page"),
        (_overwritten(_WHOLE, _ROOT + 16, "<H", 4095), "is damaged: a page"),
        (_overwritten(_WHOLE, _FIRST, "<H", 2**16 - 1), "is damaged: a page"),
        (_overwritten(_WHOLE, _FIRST, "<H", _ROOT // 4096), "is damaged: a page"),  # it is its own child
        (_overwritten(_WHOLE, _SECOND, "<H", _LEAF), "is damaged: a page"),  # two nodes have one child
        (_far_away(last=100), "is cut off: pages of its tree lie behind its end"),
        (_far_away(last=5), "is damaged: a page"),
        (_overwritten(_WHOLE, 4096 + 40 + 48 + 32, "<Q", 61), "says that it has 61 values, and has 60"),
    ],
)
def test_a_damaged_file_is_one_sentence(tmp_path, content, sentence):
    (tmp_path / "x.lmdb").write_bytes(content)
    with pytest.raises(UserError, match=f"x.lmdb {sentence}"):
        lmdb_file.list_values(str(tmp_path / "x.lmdb"))


def test_several_values_of_a_key_are_refused(tmp_path):
    lmdb = pytest.importorskip("lmdb")
    with lmdb.open(str(tmp_path / "x"), subdir=False, lock=False, max_dbs=2) as environment:
        environment.open_db(b"inner")
    with pytest.raises(UserError, match="holds several databases or several values of a key"):
        lmdb_file.list_values(str(tmp_path / "x"))
