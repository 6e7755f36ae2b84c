import io
import re
import tarfile
import types

import cv2
import numpy as np
import pytest

from lrfr_jax.data import builders, face_sets, records, synthetic
from lrfr_jax.pictures import sources
from lrfr_jax.prepare.__main__ import main


def _face(value):
    return records.encode_image(np.full((112, 112, 3), value, np.uint8), quality=90)


def _source(root, files):
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return str(root)


def _prepare(tmp_path, *flags, name="faces", shards="2"):
    main(["folder", "--name", name, "--data_dir", str(tmp_path / "sets"), "--shards", shards, *flags])


def _refused(capsys, tmp_path, *flags, **options):
    """Runs a command that must fail; returns its one line. Nothing may be left behind."""
    with pytest.raises(SystemExit) as status:
        _prepare(tmp_path, *flags, **options)
    lines = capsys.readouterr().err.strip().splitlines()
    assert status.value.code == 1
    assert len(lines) == 1
    assert not list(tmp_path.glob("sets/*/*"))
    return lines[0]


@pytest.fixture
def two_sources(tmp_path):
    first = _source(tmp_path / "one", {"b/2.jpg": _face(2), "b/10.jpg": _face(10), "a/1.jpg": _face(1)})
    second = _source(tmp_path / "two", {"root/b/1.jpg": _face(50), "root/c/1.jpg": _face(60)})
    return ["--source", first, "--source", second]


def _content(tmp_path, name="faces"):
    opened = face_sets.open_training_set(str(tmp_path / "sets"), name)
    pixels = [int(records.decode_image(record["image"])[0, 0, 0]) for record in opened.source]
    return list(zip([record["label"] for record in opened.source], pixels, strict=True)), opened.num_identities


def test_sources_are_merged_sorted_by_identity_and_naturally_within(tmp_path, two_sources, capsys):
    _prepare(tmp_path, *two_sources)
    assert _content(tmp_path) == ([(0, 1), (1, 2), (1, 10), (1, 50), (2, 60)], 3)
    summary = capsys.readouterr().out
    assert summary.startswith("5 images of 3 identities, 0 skipped, 1 name joined across sources, 2 shards, ")


def test_a_picture_of_another_format_is_stored_as_png_and_what_is_passed_over_is_named(tmp_path, capsys):
    face = synthetic.render_face(0, 0, seed=0)
    bitmap, tiff = (cv2.imencode(suffix, face[..., ::-1])[1].tobytes() for suffix in (".bmp", ".tif"))
    files = {"a/0.bmp": bitmap, "b/0": tiff, "c/0.jfif": _face(9), "c/notes.txt": b"-", "c/.x.jpg": b"-"}
    source = _source(tmp_path / "one", files)
    _prepare(tmp_path, "--source", source)
    assert "3 images of 3 identities, 0 skipped, 2 other files passed over, as " in capsys.readouterr().out
    stored = face_sets.open_training_set(str(tmp_path / "sets"), "faces").source
    for place in range(2):
        assert stored[place]["image"].startswith(b"\x89PNG")
        np.testing.assert_array_equal(records.decode_image(stored[place]["image"]), face)
    assert stored[2]["image"] == _face(9)
    lines = (tmp_path / "sets/faces/1.0.0/skipped.txt").read_text().splitlines()
    assert sorted(lines) == [f"{source}/c/.x.jpg is no picture", f"{source}/c/notes.txt is no picture"]


def test_a_number_in_a_list_of_identities_needs_its_source_where_numbers_are_told_apart(tmp_path, capsys):
    sources = [_source(tmp_path / name, {"7/1.jpg": _face(1), "8/1.jpg": _face(2)}) for name in ("one", "two")]
    flags = [flag for source in sources for flag in ("--source", source)]
    (tmp_path / "out.txt").write_text("7\n")
    flags += ["--exclude_identities", str(tmp_path / "out.txt")]
    assert "--exclude_identities names 7, which is someone else in each of one, two" in _refused(
        capsys, tmp_path, *flags
    )
    (tmp_path / "out.txt").write_text("two/7\n")
    _prepare(tmp_path, *flags)
    assert (tmp_path / "sets/faces/1.0.0/label.labels.txt").read_text().split() == ["one/7", "one/8", "two/8"]


def test_the_licence_is_kept(tmp_path, two_sources):
    _prepare(tmp_path, *two_sources)
    _prepare(tmp_path, *two_sources, "--licence", "research only", name="licensed")
    found = [face_sets.open_training_set(str(tmp_path / "sets"), name).licence for name in ("faces", "licensed")]
    assert found == ["", "research only"]


def test_identities_are_chosen_and_labels_stay_without_gaps(tmp_path, two_sources):
    (tmp_path / "b.txt").write_text("b\nunknown\n")
    _prepare(tmp_path, *two_sources, "--exclude_identities", str(tmp_path / "b.txt"), name="without")
    assert _content(tmp_path, "without") == ([(0, 1), (1, 60)], 2)
    (tmp_path / "bc.txt").write_text("b\nunknown\nc\n")
    _prepare(tmp_path, *two_sources, "--only_identities", str(tmp_path / "bc.txt"), name="only")
    assert _content(tmp_path, "only") == ([(0, 2), (0, 10), (0, 50), (1, 60)], 2)
    (tmp_path / "e.txt").write_text("d\n")
    both = [flag for name in ("b.txt", "e.txt") for flag in ("--exclude_identities", str(tmp_path / name))]
    _source(tmp_path / "two", {"root/d/1.jpg": _face(70)})
    _prepare(tmp_path, *two_sources, *both, name="a", shards="1")
    assert _content(tmp_path, "a") == ([(0, 1), (1, 60)], 2)


def test_names_are_compared_as_check_does_and_the_summary_says_how_many_occur(tmp_path, capsys):
    files = {"Ann B/1.jpg": _face(1), "cid/1.jpg": _face(2), "7/1.jpg": _face(3), "é.f/1.jpg": _face(4)}
    files["8/1.jpg"] = _face(5)
    source = ["--source", _source(tmp_path / "one", files)]
    (tmp_path / "names.txt").write_text("ann_b\nC'id\n07\nÉF\nunknown\n")
    _prepare(tmp_path, *source, "--exclude_identities", str(tmp_path / "names.txt"), name="without", shards="1")
    assert _content(tmp_path, "without") == ([(0, 3), (1, 5)], 2)
    assert "0 skipped, 3 of 5 excluded names occur, 1 shards" in capsys.readouterr().out
    _prepare(tmp_path, *source, "--only_identities", str(tmp_path / "names.txt"), name="only")
    assert _content(tmp_path, "only") == ([(0, 1), (1, 2), (2, 4)], 3)
    assert "0 skipped, 3 of 5 wanted names occur, 2 shards" in capsys.readouterr().out
    (tmp_path / "names.txt").write_text("nobody\n")
    _prepare(tmp_path, *source, "--exclude_identities", str(tmp_path / "names.txt"), name="all")
    assert "0 skipped, 0 of 1 excluded names occur, 2 shards" in capsys.readouterr().out


def test_names_are_refused_where_all_identities_are_integers(tmp_path, capsys):
    _source(tmp_path, {"x/1.jpg": _face(1), "x/2.jpg": _face(2), "x/3.jpg": _face(3)})
    (tmp_path / "train.lst").write_text("0\t10\tx/1.jpg\n1\t9\tx/2.jpg\n1\t11\tx/3.jpg\n")
    source = ["--source", str(tmp_path / "train.lst")]
    (tmp_path / "names.txt").write_text("9\nAnn_Example\n")
    line = _refused(capsys, tmp_path, *source, "--exclude_identities", str(tmp_path / "names.txt"))
    assert "names.txt names 'Ann_Example': the identities of these sources are integers, as in 17" in line
    (tmp_path / "names.txt").write_text("9\n")
    _prepare(tmp_path, *source, "--exclude_identities", str(tmp_path / "names.txt"), shards="1")
    assert _content(tmp_path) == ([(0, 1), (1, 3)], 2)
    assert "1 of 1 excluded names occur" in capsys.readouterr().out


def test_images_of_an_identity_are_limited_after_sources_are_merged(tmp_path, two_sources, capsys):
    _source(tmp_path / "two", {"root/c/2.jpg": b"text", "root/d/1.jpg": _face(70), "root/d/2.jpg": _face(80)})
    limits = ["--on_error", "skip", "--min_images", "2", "--max_images"]
    _prepare(tmp_path, *two_sources, *limits, "2", name="two")
    assert _content(tmp_path, "two") == ([(0, 2), (0, 10), (1, 70), (1, 80)], 2)  # b/10 is before b/1 of source two
    assert capsys.readouterr().out.startswith("4 images of 2 identities, 1 skipped")  # so c has one image left
    _prepare(tmp_path, *two_sources, *limits, "3", name="three")
    assert _content(tmp_path, "three")[0][:3] == [(0, 2), (0, 10), (0, 50)]
    with pytest.raises(SystemExit):
        _prepare(tmp_path, *two_sources, *limits, "2", name="three")
    assert "was prepared with max_images=3, not max_images=2" in capsys.readouterr().err


def test_a_bad_image_ends_the_command_or_is_skipped_and_listed(tmp_path, capsys):
    whole = _face(5)
    wrong_size = b"".join(
        [whole[: whole.index(b"\xff\xc0") + 5], bytes([0, 99]), whole[whole.index(b"\xff\xc0") + 7 :]]
    )
    bad = {"a/2.jpg": b"text", "a/3.jpg": whole[:-30], "a/4.jpg": wrong_size, "z/1.jpg": b""}
    source = ["--source", _source(tmp_path / "one", {"a/1.jpg": _face(1), "b/1.jpg": _face(2), **bad})]
    assert "a/2.jpg is not an image" in _refused(capsys, tmp_path, *source)
    _prepare(tmp_path, *source, "--on_error", "skip")
    assert _content(tmp_path) == ([(0, 1), (1, 2)], 2)
    assert "2 images of 2 identities, 4 skipped" in capsys.readouterr().out
    lines = (tmp_path / "sets/faces/1.0.0/skipped.txt").read_text().splitlines()
    for line, (path, reason) in zip(
        lines, zip(bad, ("not an image", "truncated", "112x99, not 112x112", "an empty file"), strict=True), strict=True
    ):
        assert path in line
        assert reason in line


def test_what_needs_no_decoding_is_told_before_it(tmp_path, two_sources, capsys, monkeypatch):
    monkeypatch.setattr(sources, "unusable", None)  # must not be reached
    (tmp_path / "b.txt").write_text("b\n")
    one = "training set faces would have 1 identity, and nothing to tell apart"
    assert one in _refused(capsys, tmp_path, *two_sources, "--only_identities", str(tmp_path / "b.txt"))
    assert one in _refused(capsys, tmp_path, *two_sources, "--min_images", "2")
    assert "--shards must be at most the number of images, 5; it is 6" in _refused(
        capsys, tmp_path, *two_sources, shards="6"
    )
    monkeypatch.setattr(builders.shutil, "disk_usage", lambda path: types.SimpleNamespace(free=1000))
    assert "GB free, 5 images take " in _refused(capsys, tmp_path, *two_sources)


def test_a_second_run_changes_nothing_and_other_arguments_are_refused(tmp_path, two_sources, capsys):
    _prepare(tmp_path, *two_sources)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.glob("sets/**/*")}
    _prepare(tmp_path, *two_sources)
    assert "is complete already" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        _prepare(tmp_path, *two_sources, shards="3")
    assert "was prepared with shards=2, not shards=3: choose another --name" in capsys.readouterr().err
    (tmp_path / "one/b/2.jpg").write_bytes(_face(77))
    with pytest.raises(SystemExit):
        _prepare(tmp_path, *two_sources)
    assert "was prepared with sources=" in capsys.readouterr().err
    assert files == {path: path.stat().st_mtime_ns for path in tmp_path.glob("sets/**/*")}


def test_each_bad_input_is_one_sentence_and_writes_nothing(tmp_path, two_sources, capsys):
    (tmp_path / "all.txt").write_text("a\nb\nc\n")
    (tmp_path / "blank.txt").write_text("\n")
    skip = ["--on_error", "skip"]
    all_bad = ["--source", _source(tmp_path / "bad", {"a/1.jpg": b"text", "b/1.jpg": b""}), *skip]
    exclude = [*two_sources, "--exclude_identities"]
    cases = [
        (("--source", str(tmp_path / "none")), {}, "none does not exist"),
        (all_bad, {}, "not one of the 2 images can be used"),
        ([*exclude, str(tmp_path / "none.txt")], {}, "--exclude_identities .*none.txt cannot be read"),
        ([*exclude, str(tmp_path / "blank.txt")], {}, "blank.txt is empty"),
        ([*exclude, str(tmp_path / "all.txt")], {}, "no identity is left"),
        ([*two_sources, "--min_images", "4"], {}, "no identity has 4 images or more: lower --min_images"),
        ([*two_sources, "--max_images", "0"], {}, "--max_images must be at least 1, it is 0"),
        (two_sources, {"name": "../up"}, "--name '../up' must consist"),
        (two_sources, {"shards": "0"}, "--shards must be at least 1"),
        (two_sources, {"shards": "6"}, "--shards must be at most the number of images, 5"),
    ]
    for flags, options, sentence in cases:
        line = _refused(capsys, tmp_path, *flags, **options)
        assert re.search(sentence, line), line


def _tar(path, files):
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def test_numbers_of_lists_shards_and_folders_stay_apart_and_are_sorted_as_such(tmp_path, capsys):
    root = tmp_path / "listed"
    _source(root, {"x/1.jpg": _face(1), "x/2.jpg": _face(2)})
    (root / "train.lst").write_text("0\t10\tx/1.jpg\n1\t9\tx/2.jpg\n2\t9\tx/none.jpg\n")
    _tar(tmp_path / "s-0.tar", {"a.jpg": _face(3), "a.cls": b"10", "b.jpg": _face(4), "b.json": b'{"label": 2}'})
    _tar(tmp_path / "s-1.tar", {"a.jpg": _face(5), "a.cls": b"9"})
    named = _source(tmp_path / "named", {"9/1.jpg": _face(6), "n/1.jpg": _face(7)})
    flags = [
        flag for path in (root / "train.lst", tmp_path / "s-{0..1}.tar", named) for flag in ("--source", str(path))
    ]
    assert "train.lst line 3: x/none.jpg does not exist" in _refused(capsys, tmp_path, *flags)
    _prepare(tmp_path, *flags, "--on_error", "skip")
    assert _content(tmp_path) == ([(0, 7), (1, 6), (2, 4), (3, 5), (4, 3), (5, 2), (6, 1)], 7)
    names = (tmp_path / "sets/faces/1.0.0/label.labels.txt").read_text().split()
    assert names == ["n", "named/9", "s/2", "s/9", "s/10", "train/9", "train/10"]
    assert ", the numbers of train, s, named kept apart (shards of one set: 'name-{000" in capsys.readouterr().out
    assert (
        tmp_path / "sets/faces/1.0.0/skipped.txt"
    ).read_text() == f"{root}/train.lst line 3: x/none.jpg does not exist\n"
    _source(root, {"x/2.jpg": _face(200)})
    with pytest.raises(SystemExit):
        _prepare(tmp_path, *flags, "--on_error", "skip")
    assert "was prepared with sources=" in capsys.readouterr().err
