import re
import struct
import types

import numpy as np
import pytest

from lrfr_jax.data import builders, face_sets, records
from lrfr_jax.prepare.__main__ import main
from lrfr_jax.prepare.packs import recordio_table
from tests.make_recordio import FIRST, frame, labeled, part, with_header, write


def _face(value):
    return records.encode_image(np.full((112, 112, 3), value, np.uint8), quality=90)


def _prepare(tmp_path, source, *flags, name="faces", shards="2"):
    common = ["--name", name, "--data_dir", str(tmp_path / "sets"), "--shards", shards]
    main(["recordio", "--source", str(source), *common, *flags])


def _refused(capsys, tmp_path, source, *flags):
    """Runs a command that must fail; returns its one line. Nothing may be left behind."""
    with pytest.raises(SystemExit) as status:
        _prepare(tmp_path, source, *flags)
    lines = capsys.readouterr().err.strip().splitlines()
    assert status.value.code == 1
    assert len(lines) == 1
    assert not list(tmp_path.glob("sets/*/*"))
    return lines[0]


def _content(tmp_path, name="faces"):
    """Labels and gray values in the order of the set, and the number of identities."""
    opened = face_sets.open_training_set(str(tmp_path / "sets"), name)
    pixels = [int(records.decode_image(record["image"])[0, 0, 0]) for record in opened.source]
    return list(zip([record["label"] for record in opened.source], pixels, strict=True)), opened.num_identities


def _note(tmp_path, note, name="faces"):
    return (tmp_path / "sets" / name / "1.0.0" / note).read_text().splitlines()


_IDENTITIES = [(30, [_face(1), _face(2)]), (7, [_face(3)]), (700, [_face(4), _face(5), _face(6)])]
_WRITTEN = ([(1, 1), (1, 2), (0, 3), (2, 4), (2, 5), (2, 6)], 3)


def _plain(first_key=0, label=float):
    """A pack without header: every key is an image."""
    images = [(identity, face) for identity, faces in _IDENTITIES for face in faces]
    return [(key, frame(labeled(label(value), key, face))) for key, (value, face) in enumerate(images, first_key)]


def _header_first(pack):
    return [pack[-1], *pack[:-1]]


@pytest.mark.parametrize("idx", [True, False])
@pytest.mark.parametrize(
    "pack",
    [
        with_header(_IDENTITIES),
        _header_first(with_header(_IDENTITIES)),
        _plain(),
        _plain(first_key=20),
        _plain(label=lambda label: (label, 1)),  # as the writers with landmarks do: label, aligned
    ],
)
def test_every_layout_gives_the_same_set(tmp_path, capsys, pack, idx):
    rec = write(tmp_path / "pack", pack)
    if not idx:
        (tmp_path / "pack" / "train.idx").unlink()
    _prepare(tmp_path, rec.parent)
    assert _content(tmp_path) == _WRITTEN
    out = capsys.readouterr().out
    assert out.startswith("6 images of 3 identities, 0 skipped, 2 shards, ")
    assert ("without an .idx file" in out) != idx
    assert _note(tmp_path, "labels.csv") == ["original,label,images", "7,0,1", "30,1,2", "700,2,3"]
    assert _note(tmp_path, "skipped.txt") == []


def _counted(placeholder, labels=(7, 3), images=None):
    """Record 0 is [images + 1, classes], as converters write it for InsightFace's newer reader."""
    header = (0, frame(labeled(labels, 0, placeholder)))
    return [header, *(images or _plain(first_key=1))]


@pytest.mark.parametrize("idx", [True, False])
@pytest.mark.parametrize(
    "pack",
    [
        _counted(b""),
        _counted(_face(0)),
        _counted(b"", labels=(7, 3, 0, 0)),
        _header_first([*_counted(_face(6))[1:], _counted(_face(6))[0]]),
        _counted(_face(0), images=_plain(first_key=1, label=lambda label: (label, 1))),
        [(0, frame(labeled((7, 10), 0, _face(0)))), *with_header(_IDENTITIES)[:-1]],
    ],
    ids=["empty", "picture", "more labels", "the last image again", "images with flags", "identities"],
)
def test_a_header_of_counts_is_no_image(tmp_path, capsys, pack, idx):
    rec = write(tmp_path / "pack", pack)
    if not idx:
        (tmp_path / "pack" / "train.idx").unlink()
    _prepare(tmp_path, rec.parent)
    assert _content(tmp_path) == _WRITTEN
    assert capsys.readouterr().out.startswith("6 images of 3 identities, 0 skipped, 2 shards")


@pytest.mark.parametrize("placeholder", [b"", _face(0)], ids=["empty", "picture"])
@pytest.mark.parametrize("labels", [(6, 3), (8, 3), (7.5, 3)])
def test_a_header_of_other_counts_is_refused_and_its_picture_never_taken(tmp_path, capsys, placeholder, labels):
    rec = write(tmp_path / "pack", _counted(placeholder, labels=labels))
    line = _refused(capsys, tmp_path, rec, "--on_error", "skip")
    assert re.search(r"key 0 \(byte 0\) (announces images at keys 1 to|has the labels)", line)


def test_identities_that_stand_in_several_records_are_one(tmp_path):
    twice = [(30, [_face(1)]), (7, [_face(3)]), (30, [_face(2)]), (700, [_face(4), _face(5), _face(6)])]
    rec = write(tmp_path / "pack", with_header(twice))
    for classes in (3, 4, 701):  # labels, records of identities, labels up to the largest
        (tmp_path / "pack/property").write_text(f"{classes},112,112\n")
        _prepare(tmp_path, rec, name=f"of_{classes}")
        assert _content(tmp_path, f"of_{classes}") == ([(1, 1), (0, 3), (1, 2), (2, 4), (2, 5), (2, 6)], 3)


def test_an_index_in_another_order_is_read(tmp_path):
    rec = write(tmp_path / "pack", _plain())
    idx = tmp_path / "pack" / "train.idx"
    idx.write_text("".join(reversed(idx.read_text().splitlines(keepends=True))))
    _prepare(tmp_path, rec.parent)
    assert _content(tmp_path) == _WRITTEN


def test_a_pack_of_one_label_is_refused_and_says_where_the_labels_may_be(tmp_path, capsys):
    rec = write(tmp_path / "pack", [(key, frame(labeled(0, key, _face(key)))) for key in range(4)])
    line = _refused(capsys, tmp_path, rec)
    assert "train.rec has the label 0: there is one identity, and nothing to tell apart; if the persons stand" in line
    (tmp_path / "seven.txt").write_text("7\n")
    rec = write(tmp_path / "pack", _plain())
    line = _refused(capsys, tmp_path, rec, "--only_identities", str(tmp_path / "seven.txt"))
    assert "training set faces would have 1 identity, and nothing to tell apart" in line


def test_what_needs_no_decoding_is_told_before_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(recordio_table, "check_records", None)  # must not be reached
    rec = write(tmp_path / "pack", _plain())
    line = _refused(capsys, tmp_path, rec, "--shards", "7")
    assert "--shards must be at most the number of images, 6; it is 7" in line
    (tmp_path / "pack/property").write_text("3,96,112")
    assert "says that images have 112x96 pixels" in _refused(capsys, tmp_path, rec)
    (tmp_path / "pack/property").unlink()
    monkeypatch.setattr(builders.shutil, "disk_usage", lambda path: types.SimpleNamespace(free=1000))
    assert "has 1e-06 GB free, 6 images take " in _refused(capsys, tmp_path, rec)
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit):
        _prepare(tmp_path, rec, "--data_dir", str(tmp_path / "file"))
    assert f"--data_dir {tmp_path}/file cannot be written: {tmp_path}/file is no folder" in capsys.readouterr().err


def test_several_packs_keep_their_identities_apart(tmp_path, capsys):
    first = write(tmp_path / "emore", with_header(_IDENTITIES))
    second = write(tmp_path / "own", [(k, frame(labeled(7, k, _face(20 + k)))) for k in range(2)], name="train")
    third = write(tmp_path / "other/own", [(k, frame(labeled(30, k, _face(30 + k)))) for k in range(2)])
    flags = ["--source", str(second.parent), "--source", str(third)]
    _prepare(tmp_path, first, *flags)
    content = [*_WRITTEN[0], (3, 20), (3, 21), (4, 30), (4, 31)]
    assert _content(tmp_path) == (content, 5)
    wanted = ["pack,original,label,images", "emore,7,0,1", "emore,30,1,2", "emore,700,2,3", "own,7,3,2", "own_2,30,4,2"]
    assert _note(tmp_path, "labels.csv") == wanted
    out = capsys.readouterr().out
    assert out.startswith("10 images of 5 identities (3 of emore, 1 of own, 1 of own_2), 0 skipped, 2 shards, ")
    (tmp_path / "some.txt").write_text("emore/7\nown_2/30\nown/30\n")
    _prepare(tmp_path, first, *flags, "--only_identities", str(tmp_path / "some.txt"), name="some")
    assert _content(tmp_path, "some") == ([(0, 3), (1, 30), (1, 31)], 2)
    assert "2 of 3 wanted names occur" in capsys.readouterr().out
    _prepare(tmp_path, first, *flags, "--exclude_identities", str(tmp_path / "some.txt"), name="rest")
    assert _content(tmp_path, "rest") == ([(0, 1), (0, 2), (1, 4), (1, 5), (1, 6), (2, 20), (2, 21)], 3)
    (tmp_path / "some.txt").write_text("7\n")
    with pytest.raises(SystemExit):
        _prepare(tmp_path, first, *flags, "--only_identities", str(tmp_path / "some.txt"), name="bare")
    assert "names '7': of several packs, write an identity as PACK/LABEL, as in emore/17" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        _prepare(tmp_path, first, "--source", str(first.parent), name="twice")
    assert "emore is given twice" in capsys.readouterr().err


def test_images_that_hold_the_magic_number_are_whole_again(tmp_path):
    face = _face(9)
    comment = b"\x0a\x23\xd7\xce" * 9
    for shift in range(4):
        segment = b"\xff\xfe" + struct.pack(">H", 2 + shift + len(comment)) + bytes(shift) + comment
        pack = [(0, frame(labeled(0, 0, face[:2] + segment + face[2:]))), (1, frame(labeled(1, 1, face)))]
        assert (pack[0][1].count(b"\x0a\x23\xd7\xce") > 10) or len(pack[0][1]) > len(face) + 70
        rec = write(tmp_path / f"pack{shift}", pack)
        _prepare(tmp_path, rec, name=f"set{shift}", shards="1")
        source = face_sets.open_training_set(str(tmp_path / "sets"), f"set{shift}").source
        assert source[0]["image"] == face[:2] + segment + face[2:]


def test_several_processes_check_as_one_does(tmp_path, monkeypatch):
    monkeypatch.setattr(recordio_table, "_IN_PROCESS", 4)
    monkeypatch.setattr(recordio_table, "_CHUNK", 4)
    pack = with_header([*_IDENTITIES, (800, [b"no image", _face(7)])])
    rec = write(tmp_path / "pack", pack)
    _prepare(tmp_path, rec, "--on_error", "skip")
    assert _content(tmp_path) == ([*_WRITTEN[0], (3, 7)], 4)
    place = len(b"".join(record for _, record in pack[:6]))
    (line,) = _note(tmp_path, "skipped.txt")
    assert line.startswith(f"{rec} key 7 (byte {place}) is not an image in a known format (JPEG, PNG, WebP")


def test_identities_are_chosen_by_their_integers(tmp_path, capsys):
    bad = [(1, [b"no image"])]  # of an identity that is left out: nobody looks at it
    rec = write(tmp_path / "pack", with_header([*_IDENTITIES, *bad]))
    (tmp_path / "some.txt").write_text("7\n700\n5\n")
    (tmp_path / "one.txt").write_text("1\n")
    _prepare(tmp_path, rec, "--only_identities", str(tmp_path / "some.txt"), name="only")
    assert _content(tmp_path, "only") == ([(0, 3), (1, 4), (1, 5), (1, 6)], 2)
    _prepare(tmp_path, rec, "--exclude_identities", str(tmp_path / "one.txt"), name="rest")
    assert _content(tmp_path, "rest") == _WRITTEN
    only, rest = capsys.readouterr().out.splitlines()
    assert "0 skipped, 2 of 3 wanted names occur, " in only
    assert "0 skipped, 1 of 1 excluded names occur, " in rest
    one_by_one = [flag for name in ("some", "one") for flag in ("--exclude_identities", str(tmp_path / f"{name}.txt"))]
    with pytest.raises(SystemExit):
        _prepare(tmp_path, rec, *one_by_one, name="rest")
    assert "was prepared with exclude_identities=" in capsys.readouterr().err
    (tmp_path / "one.txt").write_text("Ann_Example\n007\n")
    with pytest.raises(SystemExit):
        _prepare(tmp_path, rec, "--exclude_identities", str(tmp_path / "one.txt"), name="names")
    assert "one.txt names '007': the identities of a .rec file are integers" in capsys.readouterr().err
    (tmp_path / "one.txt").write_text("12345\n")
    with pytest.raises(SystemExit):
        _prepare(tmp_path, rec, "--only_identities", str(tmp_path / "one.txt"), name="nobody")
    assert "no identity is left" in capsys.readouterr().err


def test_bad_images_and_labels_end_the_command_or_are_skipped_and_listed(tmp_path, capsys):
    huge = _face(1) + bytes(2**24)
    bad = [(2, _face(1)[:-40]), (2, b""), (-2, _face(1)), (1.5, _face(1)), (float("nan"), _face(1)), (2**24, _face(1))]
    bad = [frame(labeled(label, 0, content)) for label, content in [*bad, (2, huge)]]
    pack = [*_plain(), *enumerate(bad, 6)]
    rec = write(tmp_path / "pack", pack)
    line = _refused(capsys, tmp_path, rec)
    assert re.search(r"train.rec key 6 \(byte \d+\) is truncated.*--on_error skip leaves such images out", line)
    _prepare(tmp_path, rec, "--on_error", "skip")
    assert "6 images of 3 identities, 7 skipped" in capsys.readouterr().out
    assert _content(tmp_path) == _WRITTEN
    reasons = [
        "is truncated",
        "is an empty",
        "label -2.0,",
        "label 1.5,",
        "label nan,",
        "label 16777216.0,",
        "more than",
    ]
    for (key, reason), line in zip(enumerate(reasons, 6), _note(tmp_path, "skipped.txt"), strict=True):
        assert f"train.rec key {key} (byte " in line
        assert reason in line
    only_bad = write(tmp_path / "bad", list(enumerate(bad)))
    assert "not one of the 7 images can be used, the first: " in _refused(
        capsys, tmp_path / "other", only_bad, "--on_error", "skip"
    )


def test_a_second_run_changes_nothing_and_another_pack_is_noticed(tmp_path, capsys):
    rec = write(tmp_path / "pack", _plain())
    _prepare(tmp_path, rec.parent)
    _prepare(tmp_path, rec.parent)
    assert "is complete already" in capsys.readouterr().out
    write(tmp_path / "pack", _plain(first_key=3))
    with pytest.raises(SystemExit):
        _prepare(tmp_path, rec.parent)
    assert "was prepared with source=" in capsys.readouterr().err


def _replaced(pack, index, record):
    return [(key, record if place == index else old) for place, (key, old) in enumerate(pack)]


_PACK = with_header(_IDENTITIES)  # images 0 to 5, identities 6 to 8, header 9
_BROKEN = {
    "magic": (_replaced(_plain(), 2, b"\x00" + _plain()[2][1][1:]), r"key 2 \(byte \d+\) has 0023d7ce where"),
    "reaches into the next": (
        _replaced(_plain(), 2, part(_plain()[2][1][8:], length=2**20)),
        r"key 2 \(byte \d+\) claims 1048576 bytes",
    ),
    "ends early": (
        _replaced(_plain(), 2, part(labeled(7, 2, _face(3)), length=400)),
        r"key 2 \(byte \d+\) ends \d+ bytes before the next one",
    ),
    "parts": (_replaced(_plain(), 2, part(_plain()[2][1][8:], FIRST)), r"key 2 \(byte \d+\) is cut off"),
    "labels": (
        _replaced(_plain(), 2, part(struct.pack("<IfQQ", 999, 0, 1, 0) + b"x" * 40)),
        r"key 2 \(byte \d+\) claims 999 labels",
    ),
    "header counts": (_replaced(_PACK, 9, frame(labeled((7, 2**30), 0, b""))), "announces keys 0 to 1073741823, the"),
    "header first": (_replaced(_PACK, 9, frame(labeled((8, 10), 0, b""))), "key 0 .* from key 8 on, key 7 is one, too"),
    "header NaN": (
        _replaced(_PACK, 9, frame(labeled((float("nan"), 10), 0, b""))),
        r"key 0 \(byte \d+\) has the labels",
    ),
    "identity is image": (_replaced(_PACK, 6, frame(labeled(7, 7, _face(1)))), "key 7 .* holds no range of keys"),
    "identity range": (
        _replaced(_PACK, 7, frame(labeled((3, 99), 8, b""))),
        "key 8 .* names images 3.0 to 99.0, the file",
    ),
    "identity mixes": (_replaced(_PACK, 6, frame(labeled((1, 4), 7, b""))), "key 8 .* names images that another"),
    "label in a range": (
        _replaced(_PACK, 1, frame(labeled(31, 2, _face(2)))),
        "key 7 .* names images of several identities, with labels 30 and 31",
    ),
    "missing key": ([*_PACK[:2], *_PACK[3:]], "key 0 .* is a header, below which no key may be missing, .* no key 3"),
}


@pytest.mark.parametrize("case", _BROKEN)
def test_each_break_of_the_format_is_one_sentence(tmp_path, capsys, case):
    pack, sentence = _BROKEN[case]
    line = _refused(capsys, tmp_path, write(tmp_path / "pack", pack))
    assert re.search(rf"error: .*train\.rec .*{sentence}", line), line


def test_each_bad_file_beside_the_records_is_one_sentence(tmp_path, capsys):
    rec = write(tmp_path / "pack", _plain())
    idx, good = tmp_path / "pack" / "train.idx", (tmp_path / "pack" / "train.idx").read_text()
    lines = good.splitlines(keepends=True)
    size = rec.stat().st_size
    for text, sentence in [
        (good.replace("\t0\n", "\tzero\n"), "train.idx has at line 1 no"),
        (good + f"9\t{size}\n", f"train.idx points behind the {size} bytes"),
        (good + lines[-1], "train.idx points to a place to which another line points: key 5"),
        ("".join(lines[:2] + lines[3:]), r"key 1 \(byte \d+\) ends \d+ bytes before the next one that the .idx file"),
        ("".join(lines[1:]), "does not list the record at byte 0"),
        ("", "train.idx is empty"),
    ]:
        idx.write_text(text)
        line = _refused(capsys, tmp_path, rec.parent)
        assert re.search(sentence, line), line
    idx.write_text(good)
    for text, sentence in [
        ("3,112", "property must hold `classes,height,width`"),
        ("3,112,112\n" * 40, "property must hold"),
        ("3,96,112\n", "says that images have 112x96 pixels, 112x112 are needed"),
        ("4,112,112\n", "says that there are 4 classes, the records have 3 labels up to 700"),
        ("3,112,112\n7\n", "says that there are 7 images, the records are 6"),
    ]:
        (tmp_path / "pack" / "property").write_text(text)
        line = _refused(capsys, tmp_path, rec.parent)
        assert re.search(sentence, line), line
    shuffled = "701, 112,112 \n6\nshuffled\n2019-03-26 10:12:33.105\n"  # as InsightFace's shuffler leaves it
    for name, text in [("count", "3,112,112"), ("largest", "701,112,112\n6\n"), ("shuffled", shuffled)]:
        (tmp_path / "pack" / "property").write_text(text)
        _prepare(tmp_path, rec.parent, name=name)
        assert _content(tmp_path, name) == _WRITTEN


def test_each_bad_source_is_one_sentence(tmp_path, capsys):
    rec = write(tmp_path / "pack", _plain())
    (tmp_path / "pack" / "train.idx").rename(tmp_path / "pack" / "other.idx")
    (tmp_path / "empty.rec").touch()
    for source, sentence in [
        (tmp_path / "none", "must be a .rec file, or a folder with train.rec in it"),
        (tmp_path, "must be a .rec file, or a folder with train.rec in it"),
        (tmp_path / "pack" / "other.idx", "must be a .rec file"),
        (tmp_path / "empty.rec", "empty.rec is empty"),
    ]:
        assert sentence in _refused(capsys, tmp_path, source)
    rec.write_bytes(rec.read_bytes() * 2)
    assert "several records with the id 0: its .idx file is needed" in _refused(capsys, tmp_path, rec)
    rec.write_bytes(rec.read_bytes()[:-4])
    assert re.search(r"train.rec has at byte \d+ a record that claims", _refused(capsys, tmp_path, rec))
