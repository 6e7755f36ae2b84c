import io
import re
import tarfile

import cv2
import numpy as np
import pytest

from lrfr_jax.data import records
from lrfr_jax.errors import UserError
from lrfr_jax.pictures import sources
from lrfr_jax.prepare.sets import labeled_sources, several_sources


def _face(value=0):
    return records.encode_image(np.full((112, 112, 3), value, np.uint8), quality=90)


def _folder(root, files):
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)


def _folder_of(root, files):
    _folder(root, files)
    return str(root)


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
    images, problems, _ = labeled_sources.list_images(_list(tmp_path / "faces", text.format(root=tmp_path / "faces")))
    assert _labels(images) == [("a/1.jpg", "7"), ("b c/2.png", "7"), ("a/3.JPG", "30")]
    assert [sources.read_image(image) for image in images] == [_face(1), _face(2), _face(3)]
    assert problems == []


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("a/1.jpg 7\nb/2.bmp  7.0\nc 30\n", "7 7 30"),
        ("a/1.jpg,  7\n  b/2.bmp , Ann B\nc,30\n", "7 Ann B 30"),
        ('"a/1.jpg",x\r\n"b/2.bmp","x, y"\r\nc,0030', "x x, y 0030"),
        ("a/1.jpg\t7\nb/2.bmp\tAnn\nc\t30\n", "7 Ann 30"),
        ("7 a/1.jpg\n8 b/2.bmp\n9 c\n", "7 8 9"),
        ("0\t7\ta/1.jpg\n1\t8\tb/2.bmp\n2\t9\tc\n", "7 8 9"),
    ],
)
def test_lists_of_path_and_label_are_read_with_pictures_of_any_name(tmp_path, text, labels):
    bitmap = cv2.imencode(".bmp", np.zeros((112, 112, 3), np.uint8))[1].tobytes()
    _folder(tmp_path / "faces", {"a/1.jpg": _face(1), "b/2.bmp": bitmap, "c": _face(3)})
    images, problems, _ = labeled_sources.list_images(_list(tmp_path / "faces", text))
    assert [image.path for image in images] == ["a/1.jpg", "b/2.bmp", "c"]
    assert " ".join(image.identity for image in images) == labels
    assert problems == []


def test_a_path_may_hold_spaces_where_tab_or_comma_part_it_from_its_label(tmp_path):
    _folder(tmp_path, {"Ann B/1.jpg": _face()})
    for separator in ("\t", ",", ", "):
        images, _, _ = labeled_sources.list_images(_list(tmp_path, f"Ann B/1.jpg{separator}7\n"))
        assert _labels(images) == [("Ann B/1.jpg", "7")]


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
    images, problems, _ = labeled_sources.list_images(_list(tmp_path / "faces", text))
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
        ("0 7 a.jpg\n", "line 1 must be `flag<TAB>path<TAB>label` or `index<TAB>label<TAB>path` or `path<TAB>label`"),
        ("0\t7\ta.jpg\n1\t7\n", "line 2 must be `index<TAB>label<TAB>path`"),
        ("1\ta.jpg\t7\n1\t7\tb.jpg\n", "line 2 must be `flag<TAB>path<TAB>label`"),
        ("0\t7.5\ta.jpg\n", "line 1 must be"),
        ("0\t-7\ta.jpg\n", "line 1 must be"),
        ("0\tnan\ta.jpg\n", "line 1 must be"),
        ("0\t7\ta.txt\n", "line 1 must be"),
        ("path,label\na.jpg,7\n", "without a header, the path that of an image: it is 'path,label'"),
        ("a.jpg,7\nb.jpg 8\n", "line 2 must be `path,label`, the label a name or an integer from 0 on: it is"),
        ("a.jpg,7.5\n", "line 1 must be `path,label`"),
        ("a.jpg -1\n", "line 1 must be `path label`"),
        ("0\t7\ta.jpg\n\n1\t8\t./a.jpg\n", "line 3 names a.jpg again, after line 1"),
    ],
)
def test_a_bad_list_is_an_error_with_its_line(tmp_path, text, sentence):
    with pytest.raises(UserError, match=re.escape(sentence)):
        labeled_sources.list_images(_list(tmp_path, text))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (
            "version https://git-lfs.github.com/spec/v1\n",
            "a pointer of Git LFS, not the file itself: run `git lfs pull`",
        ),
        ("<!DOCTYPE html><title>Quota exceeded</title>", "a web page, as a download that failed leaves it"),
    ],
)
def test_what_stands_where_a_tar_should_is_told(tmp_path, content, what):
    (tmp_path / "faces.tar").write_text(content)
    with pytest.raises(UserError, match=f"faces.tar is {what}"):
        labeled_sources.list_images(str(tmp_path / "faces.tar"))


def test_the_fingerprint_of_a_list_notices_its_images(tmp_path):
    _folder(tmp_path, {"1.jpg": _face(1), "2.jpg": _face(2)})
    path = _list(tmp_path, "0\t7\t1.jpg\n1\t7\t2.jpg\n")
    images, _, _ = labeled_sources.list_images(path)
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
    images, problems, _ = labeled_sources.list_images(_tar(tmp_path / "shard.tar", files))
    assert _labels(images) == [("9.left.png", "Ann Example"), ("10.jpg", "7"), ("sub/9.jpg", "30\u3000")]
    assert [sources.read_image(image) for image in images] == [_face(2), _face(1), _face(3)]
    assert problems == []


def test_samples_without_a_usable_class_are_problems(tmp_path):
    jsons = [b"{", b"[]", b'{"name": 1}', b'{"label": true}', b'{"label": 1.5}', b'{"label": -1}', b'{"label": ""}']
    jsons += [b"[" * 60000, b'{"label": "a\\nb"}', b'{"label": 7' + b" " * 2**16 + b"}"]
    bad = {f"{i}.{end}": content for i, c in enumerate(jsons) for end, content in [("jpg", _face()), ("json", c)]}
    lone = {"no.jpg": _face(), "no_image.cls": b"7", "twice.jpg": _face(), "twice.png": _face(), "twice.cls": b"7"}
    path = _tar(tmp_path / "shard.tar", {**bad, **lone, "bytes.jpg": _face(), "bytes.cls": b"\xff"})
    images, problems, _ = labeled_sources.list_images(path)
    assert _labels(images) == [("twice.jpg", "7")]
    reasons = {problem.where.rpartition("/")[2]: problem.reason for problem in problems}
    assert len(problems) == len(reasons) == len(jsons) + 4
    assert all("beside it" in reasons[f"{i}.jpg"] for i in range(len(jsons)))
    assert "more than a class needs" in reasons["9.jpg"]
    assert (reasons["no.jpg"], reasons["no_image.cls"]) == ("has no .cls or .json beside it", "has no image beside it")
    assert reasons["twice.png"].startswith("has the name of twice.jpg")
    assert "bytes.cls beside it that cannot be read" in reasons["bytes.jpg"]
    _, problems, _ = labeled_sources.list_images(_tar(tmp_path / "bad.tar", {"1.jpg": _face(), "1.cls": b""}))
    assert ["1.cls beside it whose label is neither" in problem.reason for problem in problems] == [True]


def test_labels_are_taken_as_users_of_webdataset_write_them(tmp_path):
    files = {"0.jpg": _face(), "0.json": b'{"label": 3.0}', "1.jpg": _face(), "1.cls": b"3.0\n"}
    files |= {"2.jpg": _face(), "2.txt": b"3\n", "3.jpg": _face(), "3.txt": "Ann É".encode(), "4.txt": b"no image"}
    files |= {"5.jpg": _face(), "5.json": b'{"label": 5}', "5.txt": b"a face of someone"}
    images, problems, others = labeled_sources.list_images(_tar(tmp_path / "s.tar", files))
    assert _labels(images) == [("0.jpg", "3"), ("1.jpg", "3"), ("2.jpg", "3"), ("3.jpg", "Ann É"), ("5.jpg", "5")]
    assert problems == []
    assert [other.where for other in others] == [f"{tmp_path}/s.tar/4.txt"]


@pytest.mark.parametrize(
    ("beside", "reason"),
    [
        ({"json": b'{"identity": 3, "pose": 1}'}, "has a 0.json beside it without a key `label`: it has identity, p"),
        ({"json": b"[3]"}, "has a 0.json beside it that is no JSON object with a key `label`"),
        ({"json": b'{"label": 1.5}'}, "whose label is neither a name nor an integer from 0 on: it is 1.5"),
        ({"json": b'{"label": NaN}'}, "whose label is neither a name nor an integer from 0 on: it is nan"),
        ({"json": b'{"label": [3]}'}, "neither a name nor an integer from 0 on: it is [3]"),
        ({"txt": b"a\nb"}, "has a 0.txt beside it whose label is neither"),
        ({"json": b'{"identity": 3}', "txt": b"a caption"}, "without a key `label`"),
    ],
)
def test_a_tar_whose_samples_all_lack_a_label_has_the_reason_of_the_samples(tmp_path, beside, reason):
    files = {f"{i}.{end}": content for i in range(2) for end, content in ({"jpg": _face()} | beside).items()}
    images, problems, _ = labeled_sources.list_images(_tar(tmp_path / "s.tar", files))
    assert images == []
    assert [problem.where for problem in problems] == [f"{tmp_path}/s.tar/{i}.jpg" for i in range(2)]
    assert reason in problems[0].reason


def test_a_text_beside_an_image_in_a_folder_is_no_label(tmp_path):
    images, _, others = labeled_sources.list_images(_tar(tmp_path / "f.tar", {"a/1.jpg": _face(), "a/1.txt": b"9 9"}))
    assert _labels(images) == [("a/1.jpg", "a")]
    assert [other.where for other in others] == [f"{tmp_path}/f.tar/a/1.txt"]


def test_sources_are_called_by_what_tells_them_apart():
    given = ["x/casia/train.lst", "own/train.lst", "y/part-{000..031}.tar"]
    assert several_sources.names_of(given) == ["casia/train", "own/train", "y/part"]
    assert several_sources.names_of(["a/faces", "b/other"]) == ["faces", "other"]
    assert several_sources.names_of(["a.tar", "a.lst"])[0].endswith("a#1")


def test_numbers_of_several_sources_are_several_persons_and_names_are_one(tmp_path):
    files = {"0/1.jpg": _face(), "007-2/1.jpg": _face(), "Ann/1.jpg": _face()}
    first, second = _folder_of(tmp_path / "one", files), _folder_of(tmp_path / "two", files)
    both = labeled_sources.list_all([first, second])
    assert [image.identity for image in both.images] == [
        *("one/0", "one/007-2", "Ann", "two/0", "two/007-2", "Ann")
    ]  # fmt: skip
    assert (both.joined.joined, both.joined.told_apart) == (1, ["one", "two"])
    alone = labeled_sources.list_all([first, _folder_of(tmp_path / "three", {"Ann/1.jpg": _face()})])
    assert [image.identity for image in alone.images] == ["0", "007-2", "Ann", "Ann"]
    assert (alone.joined.joined, alone.joined.told_apart) == (1, [])
    with pytest.raises(UserError, match="two is given twice"):
        labeled_sources.list_all([first, second, f"{second}/../two"])
    several_sources.check_numbers(["Ann", "one/0"], both.joined, flag="--x")
    with pytest.raises(UserError, match="--x names 0, which is someone else in each of one, two: write one/0"):
        several_sources.check_numbers(["Ann", "0"], both.joined, flag="--x")


def test_shards_of_one_pattern_share_their_numbers(tmp_path):
    for shard in range(2):
        _tar(tmp_path / f"s-{shard}.tar", {"a.jpg": _face(), "a.cls": b"9"})
    one = labeled_sources.list_all([f"{tmp_path}/s-{{0..1}}.tar"])
    assert [image.identity for image in one.images] == ["9", "9"]
    two = labeled_sources.list_all([f"{tmp_path}/s-{shard}.tar" for shard in range(2)])
    assert [image.identity for image in two.images] == ["s-0/9", "s-1/9"]


def test_a_tar_without_classes_is_one_of_folders_whatever_else_it_holds(tmp_path):
    files = {"a/1.jpg": _face(1), "a/1.json": b'{"pose": 3}', "info.json": b"{", "lone.cls": b"7"}
    path = _tar(tmp_path / "faces.tar", files)
    with tarfile.open(path, "a") as tar:
        for name in ("a/2.jpg", "a/2.json"):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, "1.jpg"
            tar.addfile(member)
    images, problems, _ = labeled_sources.list_images(path)
    assert _labels(images) == [("a/1.jpg", "a")]
    assert [problem.where for problem in problems] == [f"{path}/a/2.jpg"]
    _folder(tmp_path / "faces", {"a/1.jpg": _face(1)})
    assert _labels(labeled_sources.list_images(str(tmp_path / "faces"))[0]) == [("a/1.jpg", "a")]


def test_a_pattern_of_shards_is_expanded_and_each_must_exist(tmp_path):
    for number in (8, 9, 10):
        (tmp_path / f"s-{number:03d}.tar").touch()
    found = list(several_sources.expand(f"{tmp_path}/s-{{008..010}}.tar"))
    assert found == [f"{tmp_path}/s-{number}.tar" for number in ("008", "009", "010")]
    assert list(several_sources.expand("plain")) == ["plain"]
    with pytest.raises(UserError, match=r"needs .*s-011.tar, which does not exist"):
        list(several_sources.expand(f"{tmp_path}/s-{{009..999999999}}.tar"))
    with pytest.raises(UserError, match="counts down"):
        list(several_sources.expand(f"{tmp_path}/s-{{010..009}}.tar"))
    (tmp_path / "s-{1..2}.tar").touch()
    assert list(several_sources.expand(f"{tmp_path}/s-{{1..2}}.tar")) == [f"{tmp_path}/s-{{1..2}}.tar"]
