import os
import pickle

import msgpack
import numpy as np
import pytest

from lrfr_jax.data import face_sets, records, synthetic
from tests.prepare import lmdb_writer, packed
from tests.prepare.packed import face

_GRAYS = [(7, 30), (7, 40), (2, 50), (10, 60)]
_NOTES = {"msgpack": msgpack.dumps, "pickle": pickle.dumps, "numpy's labels": pickle.dumps}


def _pairs(dumps, grays=_GRAYS, length=None, label=int):
    samples = {b"%d" % place: dumps((face(gray), label(one))) for place, (one, gray) in enumerate(grays)}
    return samples | {b"__len__": dumps(len(samples) if length is None else length), b"__keys__": dumps(list(samples))}


def _layouts():
    return {
        "msgpack": _pairs(msgpack.dumps),
        "msgpack of old": _pairs(lambda value: msgpack.packb(value, use_bin_type=False)),
        "pickle": _pairs(pickle.dumps),
        "pickle 2": _pairs(lambda value: pickle.dumps(value, 2)),
        "numpy's labels": _pairs(pickle.dumps, label=np.int64),
        "datum": {
            b"%08d_a.jpg" % place: lmdb_writer.datum(face(gray), one, encoded=1)
            for place, (one, gray) in enumerate(_GRAYS)
        },
        "keys": {b"root/%d/%d.jpg" % (one, place): face(gray) for place, (one, gray) in enumerate(_GRAYS)},
    }


@pytest.mark.parametrize("layout", list(_layouts()))
@pytest.mark.parametrize("writer", ["ours", "library"])
def test_each_layout_gives_its_images_and_labels(tmp_path, layout, writer, capsys):
    if writer == "library":
        pytest.importorskip("lmdb")
    write = lmdb_writer.write if writer == "ours" else lmdb_writer.write_by_library
    write(tmp_path / "x.lmdb", _layouts()[layout])
    packed.prepare(tmp_path, "lmdb", tmp_path / "x.lmdb")
    assert sorted(packed.content(tmp_path)) == sorted((str(one), gray) for one, gray in _GRAYS)
    names = (tmp_path / "sets/faces/1.0.0/label.labels.txt").read_text().split()
    assert names == ["2", "7", "10"]
    assert capsys.readouterr().out.startswith("4 images of 3 identities, 0 skipped, 1 file, 1 shards, ")


def test_raw_pixels_of_a_datum_are_kept_in_their_colors(tmp_path):
    faces = [synthetic.render_face(identity, 0, seed=0) for identity in range(2)]
    items = {b"%08d" % place: lmdb_writer.datum(lmdb_writer.planes(one), place) for place, one in enumerate(faces)}
    lmdb_writer.write(tmp_path / "x.lmdb", items)
    packed.prepare(tmp_path, "lmdb", tmp_path / "x.lmdb")
    stored = face_sets.open_training_set(str(tmp_path / "sets"), "faces").source
    by_label = {stored[place]["label"]: records.decode_image(stored[place]["image"]) for place in range(2)}
    for place, one in enumerate(faces):
        np.testing.assert_array_equal(by_label[place], one)


def test_several_packs_are_one_set_and_a_folder_is_read(tmp_path, capsys):
    (tmp_path / "one").mkdir()
    lmdb_writer.write(tmp_path / "one/data.mdb", {b"Ann/1": face(10), b"7/1": face(20)})
    lmdb_writer.write(tmp_path / "two.lmdb", {b"Ann/1": face(30), b"7/1": face(40)})
    packed.prepare(tmp_path, "lmdb", tmp_path / "one", tmp_path / "two.lmdb")
    assert sorted(packed.content(tmp_path)) == [("Ann", 10), ("Ann", 30), ("one/7", 20), ("two/7", 40)]
    assert ", 1 name joined across sources, the numbers of one, two kept apart" in capsys.readouterr().out


class _Runs:
    def __reduce__(self):
        return os.system, ("exit 3",)


_BAD = {
    "no length": (
        {key: value for key, value in _pairs(msgpack.dumps).items() if key != b"__len__"},
        "has no key __len__, which its writer puts last: it was not written to its end",
    ),
    "another length": (_pairs(msgpack.dumps, length=5), "has 4 values, and its key __len__ says another number"),
    "no length in it": (_pairs(pickle.dumps, length="4"), "has 4 values, and its key __len__ says another number"),
    "empty": ({}, "holds no images: it is empty"),
    "unknown": ({b"a": b"hello there"}, "key a, begins with b'hello th', as no known layout does"),
    "runs": (
        {b"0": pickle.dumps((_Runs(), 1)), b"__len__": pickle.dumps(1)},
        f"key 0, wants to use {os.system.__module__}.system, which images do not need (nothing was run)",
    ),
    "no pair": ({b"0": msgpack.dumps([1, 2]), b"__len__": b"\x01"}, "key 0, holds something else than an image file"),
    "cut msgpack": ({b"0": msgpack.dumps([b"abc", 2])[:-1], b"__len__": b"\x01"}, "key 0, is damaged msgpack"),
    "label": (_pairs(msgpack.dumps, label=lambda one: -1), "key 0, has a label that is neither a name nor an integer"),
    "no image": (_pairs(msgpack.dumps) | {b"1": msgpack.dumps([b"abc", 2])}, "key 1, is not an image in a known"),
    "no identity": ({b"1.jpg": face(1), b"2.jpg": face(2)}, "key 1.jpg, is an image under a key that names no"),
    "a stray value": ({b"a/1": face(1), b"b/1": face(2), b"c/length": b"17"}, "key c/length, is not an image in a"),
    "no label": ({b"a": lmdb_writer.datum(face(1), None, encoded=1)}, "key a, is a Datum without a label"),
}


@pytest.mark.parametrize("case", list(_BAD))
def test_each_bad_input_is_one_sentence_and_writes_nothing(tmp_path, case, capsys):
    items, sentence = _BAD[case]
    lmdb_writer.write(tmp_path / "x.lmdb", items)
    assert f"x.lmdb {sentence}".replace("lmdb key", "lmdb, key") in packed.refused(
        capsys, tmp_path, "lmdb", tmp_path / "x.lmdb"
    )


def test_bad_values_are_left_out_and_listed(tmp_path):
    items = {b"a/1": face(1), b"b/1": face(2), b"c/1": b"17", b"lone": face(3)}
    lmdb_writer.write(tmp_path / "x.lmdb", items)
    packed.prepare(tmp_path, "lmdb", tmp_path / "x.lmdb", flags=["--on_error", "skip"])
    assert sorted(packed.content(tmp_path)) == [("a", 1), ("b", 2)]
    lines = (tmp_path / "sets/faces/1.0.0/skipped.txt").read_text().splitlines()
    assert sorted(line.split(" is ")[0] for line in lines) == [
        f"{tmp_path}/x.lmdb, key {key}," for key in ("c/1", "lone")
    ]


def test_a_file_that_is_cut_off_is_told(tmp_path, capsys):
    whole = lmdb_writer.to_bytes({b"%d/1" % number: face(number) + bytes(3000) for number in range(100)})
    (tmp_path / "x.lmdb").write_bytes(whole[: len(whole) * 3 // 4])
    assert "x.lmdb is cut off: " in packed.refused(capsys, tmp_path, "lmdb", tmp_path / "x.lmdb")
