import functools
import io
import os
import tarfile

import cv2
import numpy as np
import pytest

from lrfr_jax.data import records
from lrfr_jax.errors import UserError
from lrfr_jax.pictures import resize, sources


def _face(value=0):
    return records.encode_image(np.full((112, 112, 3), value, np.uint8), quality=90)


def _folder(root, files):
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return str(root)


def _tar(path, files, members=()):
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in members:
            tar.addfile(member)
    return str(path)


def _link(name, kind):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    return member


_FILES = {"b/10.jpg": _face(1), "b/2.jpg": _face(2), "a/x.PNG": _face(3), "a/notes.txt": b"-", "a/.hidden.jpg": b"-"}


@pytest.mark.parametrize("top", ["", "root/"])
def test_folder_and_tar_list_and_read_the_same(tmp_path, top):
    files = {top + path: content for path, content in _FILES.items()}
    for source in (_folder(tmp_path / "faces", files), _tar(tmp_path / "faces.tar", files)):
        images, problems, _ = sources.list_images(source)
        assert [image.name for image in images] == ["a/x.PNG", "b/2.jpg", "b/10.jpg"]
        assert [image.identity for image in images] == ["a", "b", "b"]
        assert [sources.read_image(image) for image in images] == [_face(3), _face(2), _face(1)]
        assert problems == []
        others = sources.list_images(source).others
        assert sorted(others) == [(f"{source}/{top}a/{name}", "is no picture") for name in (".hidden.jpg", "notes.txt")]


def _as(suffix, value):
    return cv2.imencode(suffix, np.full((112, 112, 3), value, np.uint8))[1].tobytes()


def test_a_picture_is_known_by_its_name_or_by_its_content(tmp_path):
    files = {"a/1.bmp": _as(".bmp", 1), "a/2.TIF": _as(".tif", 2), "a/3.jfif": _face(3), "a/4.JPE": _face(4)}
    files |= {"b/5": _face(5), "b/6.dat": _as(".tif", 6), "b/7.jpg.bak": _face(7), "b/8.avi": b"RIFF1234AVI LIST"}
    files |= {"b/9.heic": b"-", "b/10.txt": b""}
    for source in (_folder(tmp_path / "faces", files), _tar(tmp_path / "faces.tar", files)):
        images, problems, others = sources.list_images(source)
        taken = ["a/1.bmp", "a/2.TIF", "a/3.jfif", "a/4.JPE", "b/5", "b/6.dat", "b/7.jpg.bak", "b/9.heic"]
        assert [image.name for image in images] == taken
        assert sorted(other.where for other in others) == [f"{source}/b/10.txt", f"{source}/b/8.avi"]
        assert problems == []
        decode = functools.partial(resize.decode, resize=False)
        bad = [problem and problem.reason for problem in sources.unusable(images, decode=decode)]
        assert bad[:7] == [None] * 7
        assert bad[7].startswith("is not an image in a known format")
    assert sources.unexpected(["b/10.txt", ".x/1.jpg", "b/8.avi", "Thumbs.db"]) == ["b/8.avi"]


def test_pipes_and_dead_links_are_not_looked_into(tmp_path):
    source = _folder(tmp_path / "faces", {"a/1.jpg": _face()})
    os.mkfifo(tmp_path / "faces/a/pipe")
    os.mkfifo(tmp_path / "faces/a/pipe.png")
    os.symlink("nowhere", tmp_path / "faces/a/dead")
    images, problems, others = sources.list_images(source)
    assert [image.path for image in images] == ["a/1.jpg"]
    assert problems == [(f"{source}/a/pipe.png", "is not a plain file")]
    assert sorted(other.where for other in others) == [f"{source}/a/dead", f"{source}/a/pipe"]


def test_a_folder_that_cannot_be_listed_is_a_problem(tmp_path, monkeypatch):
    source = _folder(tmp_path / "faces", {"a/1.jpg": _face(), "b/2.jpg": _face()})
    scan = os.scandir

    def refusing(path):
        if os.fspath(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    images, problems, _ = sources.list_images(source)
    assert [image.path for image in images] == ["a/1.jpg"]
    assert problems == [(f"{source}/b", "is a folder that cannot be read: permission denied")]


def test_what_is_given_instead_of_a_tar_is_told(tmp_path):
    for content, what in {
        b"PK\x03\x04" + bytes(600): "a zip: unpack it and give the folder",
        b"\x0a\x23\xd7\xce" + bytes(600): "a RecordIO file: give it to",
        b"\xff\xfe0\0": "UTF-16 text: save the list as UTF-8",
        _face(): "a single picture",
    }.items():
        (tmp_path / "given").write_bytes(content)
        with pytest.raises(UserError, match=f"--source {tmp_path}/given is {what}"):
            sources.list_images(str(tmp_path / "given"))
    shards = _folder(tmp_path / "shards", {"s-0.tar": b"", "s-1.tar": b""})
    with pytest.raises(
        UserError, match=r"the first of 2 files that are no pictures is s-.* give tars themselves, several as"
    ):
        sources.list_images(shards)
    with pytest.raises(UserError, match=r"packs of RecordIO are read by `python -m lrfr_jax.prepare recordio`"):
        sources.list_images(_folder(tmp_path / "pack", {"train.rec": b"", "train.idx": b""}))


def test_the_later_of_two_tar_members_with_one_path_counts(tmp_path):
    path = _tar(tmp_path / "faces.tar", {"a/1.jpg": _face(1)})
    with tarfile.open(path, "a") as tar:
        member = tarfile.TarInfo("a/1.jpg")
        member.size = len(_face(9))
        tar.addfile(member, io.BytesIO(_face(9)))
    images, _, _ = sources.list_images(path)
    assert [sources.read_image(image) for image in images] == [_face(9)]


def test_links_devices_and_leaving_paths_are_problems(tmp_path):
    members = [_link("a/s.jpg", tarfile.SYMTYPE), _link("a/h.jpg", tarfile.LNKTYPE), _link("a/d.jpg", tarfile.CHRTYPE)]
    files = {"a/1.jpg": _face(), "../a/up.jpg": _face(), "/a/root.jpg": _face(), "a/new\nline.jpg": _face()}
    images, problems, _ = sources.list_images(_tar(tmp_path / "faces.tar", files, members))
    assert [image.path for image in images] == ["a/1.jpg"]
    reasons = {problem.where.rsplit("/", 1)[1]: problem.reason for problem in problems}
    assert {name for name, reason in reasons.items() if "link or a device" in reason} == {"s.jpg", "h.jpg", "d.jpg"}
    assert {name for name, reason in reasons.items() if "leaves the archive" in reason} == {"up.jpg", "root.jpg"}
    assert len(reasons) == 6
    assert all(problem.where.isprintable() for problem in problems)


def test_files_over_the_cap_and_dead_links_are_problems(tmp_path):
    source = _folder(tmp_path / "faces", {"a/1.jpg": _face()})
    with open(tmp_path / "faces/a/huge.jpg", "wb") as file:
        file.truncate(2**25)
    os.symlink(tmp_path / "nowhere", tmp_path / "faces/a/dead.jpg")
    images, problems, _ = sources.list_images(source)
    assert [image.path for image in images] == ["a/1.jpg"]
    assert sorted(problem.reason.split()[0] for problem in problems) == ["has", "is"]


def test_links_to_folders_are_followed_but_not_to_those_that_hold_them(tmp_path):
    source = _folder(tmp_path / "faces", {"a/1.jpg": _face(1)})
    _folder(tmp_path / "elsewhere", {"2.jpg": _face(2)})
    _folder(tmp_path / "cycle", {"3.jpg": _face(3)})
    os.symlink(tmp_path / "elsewhere", tmp_path / "faces/b")
    before = sources.fingerprint(source)
    os.symlink(tmp_path / "cycle", tmp_path / "faces/c")
    for link, target in {
        "faces/a/up": "faces",
        "faces/a/top": "",
        "faces/a/.hidden": "faces",
        "cycle/x": "faces",
    }.items():
        os.symlink(tmp_path / target, tmp_path / link)
    images, problems, _ = sources.list_images(source)
    assert [image.path for image in images] == ["a/1.jpg", "b/2.jpg", "c/3.jpg"]
    assert [sources.read_image(image) for image in images] == [_face(1), _face(2), _face(3)]
    assert sorted(problems) == [
        (f"{source}/{link}", "is a link to a folder that holds it") for link in ("a/top", "a/up", "c/x")
    ]
    with_links = sources.fingerprint(source)
    (tmp_path / "elsewhere/2.jpg").write_bytes(b"other")
    assert len({before, with_links, sources.fingerprint(source)}) == 3


def test_names_in_any_script_and_with_any_space_are_no_problem(tmp_path):
    names = ["mac 10.00\u202fAM.png", "nb\u00a0sp.png", "wide\u3000space.png", "zero\u200cwidth.png"]
    bad = ["control\x07.png", "next\x85line.png", "line\u2028.png", "paragraph\u2029.png", "byte\udcff\u3000.png"]
    source = _folder(tmp_path / "faces", {f"a/{name}": _face() for name in names + bad})
    images, problems, _ = sources.list_images(source)
    assert sorted(image.path for image in images) == sorted(f"a/{name}" for name in names)
    assert sorted(problem.where.rsplit("/", 1)[1] for problem in problems) == [
        "byte\\udcff\u3000.png", r"control\x07.png", r"line\u2028.png", r"next\x85line.png", r"paragraph\u2029.png"
    ]  # fmt: skip


def test_every_image_is_decoded_and_results_keep_the_order(tmp_path):
    names = [f"a/{i}.jpg" for i in range(150)]
    files = {name: _face(i) if i % 7 else b"no image" for i, name in enumerate(names)}
    images, _, _ = sources.list_images(_folder(tmp_path / "faces", files))
    results = list(sources.unusable(images))
    assert [problem is not None for problem in results] == [i % 7 == 0 for i in range(150)]
    assert results[7].where.endswith("a/7.jpg")
    assert "is not an image" in results[7].reason


def test_a_bad_source_has_its_sentence(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        sources.list_images(str(tmp_path / "none"))
    with pytest.raises(UserError, match="holds no <identity>/<image>"):
        sources.list_images(_folder(tmp_path / "empty", {"a/notes.txt": b"-"}))
    with pytest.raises(UserError, match=r"has images at 1.jpg: all must lie at"):
        sources.list_images(_folder(tmp_path / "flat", {"1.jpg": _face()}))
    with pytest.raises(UserError, match=r"has images at a/1.jpg and at b/c/1.jpg"):
        sources.list_images(_folder(tmp_path / "mixed", {"a/1.jpg": _face(), "b/c/1.jpg": _face()}))
    with pytest.raises(UserError, match="several roots, train and val"):
        sources.list_images(_folder(tmp_path / "roots", {"train/a/1.jpg": _face(), "val/b/1.jpg": _face()}))


def test_a_compressed_or_truncated_tar_is_an_error(tmp_path):
    path = _tar(tmp_path / "faces.tar", {f"a/{i}.jpg": os.urandom(5000) for i in range(3)})
    whole = (tmp_path / "faces.tar").read_bytes()
    for length in (7000, 5000, 300):
        (tmp_path / "cut.tar").write_bytes(whole[:length])
        with pytest.raises(UserError, match="not a whole, uncompressed tar"):
            sources.list_images(str(tmp_path / "cut.tar"))
    with tarfile.open(tmp_path / "faces.tar.gz", "w:gz") as tar:
        tar.add(path)
    with pytest.raises(UserError, match="is compressed by gzip, it must be an uncompressed tar: unpack it with gunzip"):
        sources.list_images(str(tmp_path / "faces.tar.gz"))


def test_the_fingerprint_notices_every_change(tmp_path):
    folder, tar = _folder(tmp_path / "faces", _FILES), _tar(tmp_path / "faces.tar", _FILES)
    before = [sources.fingerprint(source) for source in (folder, tar)]
    assert before == [sources.fingerprint(source) for source in (folder, tar)]
    (tmp_path / "faces/b/2.jpg").rename(tmp_path / "faces/b/3.jpg")
    _tar(tmp_path / "faces.tar", {**_FILES, "c/1.jpg": _face()})
    assert not set(before) & {sources.fingerprint(source) for source in (folder, tar)}


def test_a_text_file_that_cannot_be_read_is_named_with_its_flag(tmp_path):
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\xfa")
    for name in ("none.txt", "bad.txt"):
        with pytest.raises(UserError, match=rf"--pairs .*{name} cannot be read as text"):
            sources.read_text(str(tmp_path / name), flag="--pairs")


def test_a_byte_order_mark_is_not_part_of_the_text(tmp_path):
    (tmp_path / "names.txt").write_bytes(b"\xef\xbb\xbfann\n")
    assert sources.read_text(str(tmp_path / "names.txt"), flag="--pairs") == "ann\n"
