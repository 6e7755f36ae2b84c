import numpy as np
import pytest

from lrfr_jax.data import face_sets, protocol_arrays, records
from lrfr_jax.pictures import photos, resize
from lrfr_jax.prepare import tinyface
from lrfr_jax.prepare.__main__ import main
from tests.prepare import layouts
from tests.prepare.layouts import cells, face, mat

# The three folders use the same file names; the lists are not in the order of the names.
_GALLERY = [("9_1.jpg", 9), ("10_2.jpg", 10), ("10_1.jpg", 10), ("2_1.jpg", 2)]
_PROBES = [("2_1.jpg", 2), ("10_1.jpg", 10), ("9_1.jpg", 9), ("9_2.jpg", 9), ("10_7.jpg", 10)]
_DISTRACTORS = ["10_1.jpg", "2_1.jpg", "distractor_1.jpg"]
_SIZE = {"Gallery_Match": (24, 31), "Probe": (18, 20), "Gallery_Distractor": (112, 112)}


def _list(names, faces):
    return mat(**{f"{names}_set": cells([name for name, _ in faces]), f"{names}_ids": np.array([i for _, i in faces])})


def _layout(root="tinyface"):
    """Every picture is another one: image number k of generated person p is the k-th of list number p."""
    files = {}
    for person, (folder, names) in enumerate(_names().items()):
        for k, name in enumerate(names):
            files[f"{root}/Testing_Set/{folder}/{name}"] = face(person, k, size=_SIZE[folder])
    files[f"{root}/Testing_Set/gallery_match_img_ID_pairs.mat"] = _list("gallery", _GALLERY)
    files[f"{root}/Testing_Set/probe_img_ID_pairs.mat"] = _list("probe", _PROBES)
    files |= {
        f"{root}/Training_Set/{i}/{i}_{k}.jpg": face(50 + i, k, size=(30, 40)) for i in (3, 12) for k in (1, 2, 3)
    }
    return files


def _names():
    listed = {"Gallery_Match": [name for name, _ in _GALLERY], "Probe": [name for name, _ in _PROBES]}
    return listed | {"Gallery_Distractor": _DISTRACTORS}


@pytest.fixture
def source(tmp_path, monkeypatch):
    """The layout on disk, with the official counts set to what it holds."""
    counts = {"GALLERY_MATCHES": 4, "DISTRACTORS": 3, "PROBES": 5, "IDENTITIES": 3}
    for name, count in (counts | {"TRAINING_IMAGES": 6, "TRAINING_IDENTITIES": 2}).items():
        monkeypatch.setattr(tinyface, name, count)
    layouts.write(tmp_path / "source", _layout())
    return tmp_path / "source/tinyface"


def _make(tmp_path, source, *flags, name="set"):
    main(["tinyface", "--source", str(source), "--data_dir", str(tmp_path / "sets"), "--name", name, *flags])
    return face_sets.open_test_set(str(tmp_path / "sets"), name)


def _refused(capsys, tmp_path, source, *flags):
    with pytest.raises(SystemExit) as status:
        _make(tmp_path, source, *flags, name="bad")
    assert status.value.code == 1
    assert not list(tmp_path.glob("sets/bad/*"))
    return capsys.readouterr().err


def _expected(person, places, folder):
    encoded = [face(person, k, size=_SIZE[folder]) for k in places]
    return [picture if folder == "Gallery_Distractor" else _resized(picture) for picture in encoded]


def _damage(path):
    path.write_bytes(path.read_bytes()[:-40])


def _resized(encoded):
    return resize.encode_png(resize.to_face_size(photos.decode_photo(encoded)))


def test_each_record_is_the_image_that_the_lists_name(tmp_path, source, capsys):
    opened = _make(tmp_path, source, "--resize")
    assert capsys.readouterr().out.startswith("7 gallery images, 5 probes, 3 identities, complete")
    protocol, images = opened.protocol, [record["image"] for record in opened.source]
    gallery = _expected(0, range(4), "Gallery_Match") + _expected(2, range(3), "Gallery_Distractor")
    assert [images[place] for place in protocol.gallery] == gallery
    assert [images[place] for place in protocol.probes] == _expected(1, range(5), "Probe")
    assert protocol.gallery_labels.tolist() == [9, 10, 10, 2, *[protocol_arrays.DISTRACTOR] * 3]
    assert protocol.probe_labels.tolist() == [2, 10, 9, 9, 10]
    assert protocol.groups == ("",)
    assert protocol.probe_groups.tolist() == [0] * 5
    assert not opened.is_partial


def test_aligned_copies_with_other_suffixes_use_the_lists_of_the_originals(tmp_path, source):
    for folder, names in _names().items():
        files = {f"{folder}/{name[:-4]}.png": layouts.flat(len(folder), k, 0) for k, name in enumerate(names)}
        layouts.write(tmp_path / "aligned", files)
    opened = _make(tmp_path, tmp_path / "aligned", "--lists", str(source))
    colors = [layouts.color(opened.source[int(place)]["image"]) for place in opened.protocol.probes]
    assert colors == [(len("Probe"), k, 0) for k in range(5)]
    assert not opened.is_partial


def test_missing_and_bad_images_end_the_command_or_make_the_set_partial(tmp_path, source, capsys):
    (source / "Testing_Set/Probe/10_1.jpg").unlink()
    error = _refused(capsys, tmp_path, source, "--resize")
    assert "probe_img_ID_pairs.mat: names 10_1.jpg, which the source does not hold (--allow_partial leaves" in error
    _damage(source / "Testing_Set/Gallery_Match/9_1.jpg")
    opened = _make(tmp_path, source, "--resize", "--allow_partial")
    assert capsys.readouterr().out.startswith("6 gallery images, 4 probes, 3 identities, 2 left out, partial")
    assert opened.is_partial
    assert opened.protocol.gallery_labels.tolist() == [10, 10, 2, *[protocol_arrays.DISTRACTOR] * 3]
    assert opened.protocol.probe_labels.tolist() == [2, 9, 9, 10]
    images = [opened.source[int(place)]["image"] for place in opened.protocol.probes]
    assert images == _expected(1, (0, 2, 3, 4), "Probe")
    skipped = (opened.path / "skipped.txt").read_text()
    assert "names 10_1.jpg" in skipped
    assert "Gallery_Match/9_1.jpg is truncated" in skipped
    _make(tmp_path, source, "--resize", "--allow_partial")
    assert "is complete already" in capsys.readouterr().out


def test_a_bad_image_alone_makes_a_set_partial(tmp_path, source, capsys):
    _damage(source / "Testing_Set/Gallery_Distractor/2_1.jpg")
    _damage(source / "Training_Set/3/3_2.jpg")
    assert "2_1.jpg is truncated" in _refused(capsys, tmp_path, source, "--resize")
    opened = _make(tmp_path, source, "--resize", "--allow_partial")
    assert opened.is_partial
    assert [opened.source[place]["image"] for place in (4, 5)] == _expected(2, (0, 2), "Gallery_Distractor")
    flags = ["--data_dir", str(tmp_path / "sets"), "--part", "training", "--name", "training", "--resize"]
    main(["tinyface", "--source", str(source), *flags, "--allow_partial"])
    assert "5 images of 2 identities, 1 left out, partial" in capsys.readouterr().out
    assert face_sets.open_training_set(str(tmp_path / "sets"), "training").licence == "non-commercial research"
    folder = face_sets.folder_of(str(tmp_path / "sets"), "training")
    assert face_sets.read_prepared(folder)["arguments"]["partial"]


def test_unaligned_images_need_resize(tmp_path, source, capsys):
    error = _refused(capsys, tmp_path, source)
    assert "Gallery_Match/9_1.jpg is 24x31, not 112x112: align the faces with" in error


def test_counts_that_are_not_official_are_told(tmp_path, source, capsys, monkeypatch):
    monkeypatch.setattr(tinyface, "DISTRACTORS", 153_428)
    error = _refused(capsys, tmp_path, source, "--resize")
    assert "has 3 distractors (official: 153428): get the whole set, or go on with --allow_partial" in error
    assert _make(tmp_path, source, "--resize", "--allow_partial").is_partial


def test_two_copies_of_a_folder_are_refused(tmp_path, source, capsys):
    layouts.write(tmp_path / "source", {"aligned/Probe/1_1.jpg": face(0, 0)})
    layouts.write(source, {"Testing_Set/Probe/thumbnails/2_1.jpg": face(0, 0)})  # is not in the folder itself
    error = _refused(capsys, tmp_path, source.parent, "--resize")
    assert "has both source/aligned/Probe and source/tinyface/Testing_Set/Probe" in error
    assert len(_make(tmp_path, source, "--resize").protocol.probes) == 5
    layouts.write(source, {"Testing_Set/Probe/2_1.png": face(0, 0)})
    assert "holds both" in _refused(capsys, tmp_path, source, "--resize")
    assert "has no folder Probe" in _refused(
        capsys, tmp_path, source / "Testing_Set/Gallery_Match", "--lists", str(source)
    )


def test_the_training_part(tmp_path, source, capsys):
    flags = ["--source", str(source), "--data_dir", str(tmp_path / "sets"), "--name", "training", "--part", "training"]
    main(["tinyface", *flags, "--resize"])
    assert capsys.readouterr().out.startswith("6 images of 2 identities, complete")
    opened = face_sets.open_training_set(str(tmp_path / "sets"), "training")
    wanted = [(_resized(face(50 + i, k, size=(30, 40))), label) for label, i in enumerate((12, 3)) for k in (1, 2, 3)]
    assert [(record["image"], record["label"]) for record in opened.source] == wanted  # in the order of names
    assert records.image_size(opened.source[0]["image"]) == (112, 112)
    error = _refused(capsys, tmp_path, source, "--part", "training", "--lists", str(source))
    assert "leave it out with --part training" in error
    (source / "Training_Set/3/3_1.jpg").unlink()
    error = _refused(capsys, tmp_path, source, "--part", "training", "--resize")
    assert "has 5 training images (official: 6)" in error
