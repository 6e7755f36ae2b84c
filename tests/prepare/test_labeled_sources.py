import io
import re
import tarfile

import numpy as np
import pytest

from lrfr_jax.data import records
from lrfr_jax.errors import UserError
from lrfr_jax.pictures import sources
from lrfr_jax.prepare import labeled_sources


def _face(value=0):
    return records.encode_image(np.full((112, 112, 3), value, np.uint8), quality=90)


def _folder(root, files):
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)


def _list(root, text):
    root.mkdir(exist_ok=True)
    (root / "train.lst").write_text(text)
    return str(root / "train.lst")


def _tar(path, files):
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return str(path)


def _labels(images):
    return [(image.path, image.identity) for image in images]


@pytest.mark.parametrize(
    "text",
    [
        "0\t7.000000\ta/1.jpg\n1\t7\tb c/2.png\n2\t30\ta/3.JPG\n",  # im2rec
        "5\t7\t0.1\t0.2\t./a/1.jpg\r\n6\t7\t0\t0\tb c/2.png\r\n\r\n9\t30\t0\t0\ta/../a/3.JPG",  # several labels
        "1\ta/1.jpg\t7\n1\tb c/2.png\t7\n1\t{root}/a/3.JPG\t30\t0\t0\t9\t9\n",  # InsightFace, with a box behind
    ],
)
def test_lists_of_each_form_are_read(tmp_path, text):
    _folder(tmp_path / "faces", {"a/1.jpg": _face(1), "b c/2.png": _face(2), "a/3.JPG": _face(3)})
    images, problems = labeled_sources.list_images(_list(tmp_path / "faces", text.format(root=tmp_path / "faces")))
    assert _labels(images) == [("a/1.jpg", "7"), ("b c/2.png", "7"), ("a/3.JPG", "30")]
    assert [sources.read_image(image) for image in images] == [_face(1), _face(2), _face(3)]
    assert problems == []


def test_files_of_a_list_that_cannot_be_read_are_problems_with_their_line(tmp_path):
    _folder(tmp_path / "faces", {"1.jpg": _face(1), "d.jpg/x": b"", "huge.jpg": bytes(2**24 + 1)})
    _folder(tmp_path, {"out.jpg": _face(), "up.jpg": _face()})
    names = [
        "none.jpg",
        "../out.jpg",
        f"{tmp_path}/up.jpg",
        "d.jpg",
        "huge.jpg",
        "..2.jpg",
        "1.jpg",
        "a\x07" * 250,
        "\x00",
    ]
    text = "".join(f"{i}\t{i}\t{name.removesuffix('.jpg')}.jpg\n" for i, name in enumerate(names))
    images, problems = labeled_sources.list_images(_list(tmp_path / "faces", text))
    assert _labels(images) == [("1.jpg", "6")]
    where = f"{tmp_path}/faces/train.lst line "
    assert [(problem.where.removeprefix(where)[:12], problem.reason.split(":")[0]) for problem in problems] == [
        ("1: none.jpg", "does not exist"),
        ("2: ../out.jp", "lies outside the list's folder"),
        ("3: ../up.jpg", "lies outside the list's folder"),
        ("4: d.jpg", "is not a plain file"),
        ("5: huge.jpg", "has 16777217 bytes, more than the 16777216 that an image may have"),
        ("6: ..2.jpg", "does not exist"),
        ("8: a\\x07a\\x0", "has characters in its path that are no text"),
        ("9: \\x00.jpg", "has characters in its path that are no text"),
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "train.lst is empty"),
        ("0 7 a.jpg\n", "line 1 must be `index<TAB>label<TAB>path`, the label an integer: it is ['0 7 a.jpg']"),
        ("0\t7\ta.jpg\n1\t7\n", "line 2 must be `index<TAB>label<TAB>path`"),
        ("1\ta.jpg\t7\n1\t7\tb.jpg\n", "line 2 must be `flag<TAB>path<TAB>label`"),
        ("0\t7.5\ta.jpg\n", "line 1 must be"),
        ("0\t-7\ta.jpg\n", "line 1 must be"),
        ("0\tnan\ta.jpg\n", "line 1 must be"),
        ("0\t7\ta.txt\n", "line 1 must be"),
        ("0\t7\ta.jpg\n\n1\t8\t./a.jpg\n", "line 3 names a.jpg again, after line 1"),
    ],
)
def test_a_bad_list_is_an_error_with_its_line(tmp_path, text, sentence):
    with pytest.raises(UserError, match=re.escape(sentence)):
        labeled_sources.list_images(_list(tmp_path, text))


def test_the_fingerprint_of_a_list_notices_its_images(tmp_path):
    _folder(tmp_path, {"1.jpg": _face(1), "2.jpg": _face(2)})
    path = _list(tmp_path, "0\t7\t1.jpg\n1\t7\t2.jpg\n")
    images, _ = labeled_sources.list_images(path)
    before = labeled_sources.fingerprint(path, images)
    assert before == labeled_sources.fingerprint(path, images)
    _folder(tmp_path, {"2.jpg": _face(200)})
    assert before != labeled_sources.fingerprint(path, images)


def test_a_tar_of_webdataset_gives_each_image_the_class_beside_it(tmp_path):
    files = {
        "10.jpg": _face(1),
        "10.cls": b"\xef\xbb\xbf7\n",  # with a byte order mark
        "9.left.png": _face(2),
        "9.json": b'{"label": "Ann Example", "score": 1.5}',
        "sub/9.jpg": _face(3),
        "sub/9.json": '{"label": "30\u3000"}'.encode(),
        "10.json": b"not looked at: the class comes first",
        "__meta__.json": b"{}",
        "10.txt": b"-",
    }
    images, problems = labeled_sources.list_images(_tar(tmp_path / "shard.tar", files))
    assert _labels(images) == [("9.left.png", "Ann Example"), ("10.jpg", "7"), ("sub/9.jpg", "30\u3000")]
    assert [sources.read_image(image) for image in images] == [_face(2), _face(1), _face(3)]
    assert problems == []


def test_samples_without_a_usable_class_are_problems(tmp_path):
    jsons = [b"{", b"[]", b'{"name": 1}', b'{"label": true}', b'{"label": 1.5}', b'{"label": -1}', b'{"label": ""}']
    jsons += [b"[" * 60000, b'{"label": "a\\nb"}', b'{"label": 7' + b" " * 2**16 + b"}"]
    bad = {f"{i}.{end}": content for i, c in enumerate(jsons) for end, content in [("jpg", _face()), ("json", c)]}
    lone = {"no.jpg": _face(), "no_image.cls": b"7", "twice.jpg": _face(), "twice.png": _face(), "twice.cls": b"7"}
    path = _tar(tmp_path / "shard.tar", {**bad, **lone, "bytes.jpg": _face(), "bytes.cls": b"\xff"})
    images, problems = labeled_sources.list_images(path)
    assert _labels(images) == [("twice.jpg", "7")]
    reasons = {problem.where.rpartition("/")[2]: problem.reason for problem in problems}
    assert len(problems) == len(reasons) == len(jsons) + 4
    assert all("beside it" in reasons[f"{i}.jpg"] for i in range(len(jsons)))
    assert "more than a class needs" in reasons["9.jpg"]
    assert (reasons["no.jpg"], reasons["no_image.cls"]) == ("has no .cls or .json beside it", "has no image beside it")
    assert reasons["twice.png"].startswith("has the name of twice.jpg")
    assert "bytes.cls beside it without a label" in reasons["bytes.jpg"]
    _, problems = labeled_sources.list_images(_tar(tmp_path / "bad.tar", {"1.jpg": _face(), "1.cls": b""}))
    assert ["1.cls beside it whose label is neither" in problem.reason for problem in problems] == [True]


def test_a_tar_without_classes_is_one_of_folders_whatever_else_it_holds(tmp_path):
    files = {"a/1.jpg": _face(1), "a/1.json": b'{"pose": 3}', "info.json": b"{", "lone.cls": b"7"}
    path = _tar(tmp_path / "faces.tar", files)
    with tarfile.open(path, "a") as tar:
        for name in ("a/2.jpg", "a/2.json"):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, "1.jpg"
            tar.addfile(member)
    images, problems = labeled_sources.list_images(path)
    assert _labels(images) == [("a/1.jpg", "a")]
    assert [problem.where for problem in problems] == [f"{path}/a/2.jpg"]
    _folder(tmp_path / "faces", {"a/1.jpg": _face(1)})
    assert _labels(labeled_sources.list_images(str(tmp_path / "faces"))[0]) == [("a/1.jpg", "a")]


def test_a_pattern_of_shards_is_expanded_and_each_must_exist(tmp_path):
    for number in (8, 9, 10):
        (tmp_path / f"s-{number:03d}.tar").touch()
    found = list(labeled_sources.expand(f"{tmp_path}/s-{{008..010}}.tar"))
    assert found == [f"{tmp_path}/s-{number}.tar" for number in ("008", "009", "010")]
    assert list(labeled_sources.expand("plain")) == ["plain"]
    with pytest.raises(UserError, match=r"needs .*s-011.tar, which does not exist"):
        list(labeled_sources.expand(f"{tmp_path}/s-{{009..999999999}}.tar"))
    with pytest.raises(UserError, match="counts down"):
        list(labeled_sources.expand(f"{tmp_path}/s-{{010..009}}.tar"))
    (tmp_path / "s-{1..2}.tar").touch()
    assert list(labeled_sources.expand(f"{tmp_path}/s-{{1..2}}.tar")) == [f"{tmp_path}/s-{{1..2}}.tar"]
