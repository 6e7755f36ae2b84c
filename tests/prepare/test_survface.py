import numpy as np
import pytest

from lrfr_jax.data import face_sets, protocol_arrays
from lrfr_jax.pictures import photos, resize
from lrfr_jax.prepare import survface
from lrfr_jax.prepare.__main__ import main
from tests.prepare import layouts
from tests.prepare.layouts import cells, face, mat

_GALLERY = [("7_cam1_1.jpg", 1), ("7_cam2_1.jpg", 1), ("11_cam1_1.jpg", 2)]
_MATED = [("11_cam3_9.jpg", 2), ("7_cam3_1.jpg", 1), ("7_cam1_1.jpg", 1)]  # a name that the gallery has, too
_UNMATED = ["5_cam1_1.jpg", "7_cam1_1.jpg"]
_SAME = [[f"{k}_cam1_1.jpg", f"{k}_cam2_1.jpg"] for k in range(11)]
_OTHER = [[f"{k}_cam1_1.jpg", f"{k + 1}_cam2_1.jpg"] for k in range(10)]
_PAIR_IMAGES = sorted({name for pair in _SAME + _OTHER for name in pair})
_TEST, _PAIRS = "QMUL-SurvFace/Face_Identification_Test_Set", "QMUL-SurvFace/Face_Verification_Test_Set"


def _small(person, k):
    return face(person, k, size=(20 + person, 24 + k))


def _stored(person, k):
    return resize.encode_png(resize.to_face_size(photos.decode_photo(_small(person, k))))


@pytest.fixture
def source(tmp_path, monkeypatch):
    """The layout on disk, with the official counts set to what it holds; image k of list number p shows person p."""
    counts = {"GALLERY": 3, "GALLERY_IDENTITIES": 2, "MATED_PROBES": 3, "UNMATED_PROBES": 2, "TRAINING_IMAGES": 4}
    for name, count in (counts | {"TRAINING_IDENTITIES": 2}).items():
        monkeypatch.setattr(survface, name, count)
    files = {}
    lists = {"gallery": [n for n, _ in _GALLERY], "mated_probe": [n for n, _ in _MATED], "unmated_probe": _UNMATED}
    for person, (folder, names) in enumerate(lists.items()):
        files |= {f"{_TEST}/{folder}/{name}": _small(person, k) for k, name in enumerate(names)}
    for key, faces in (("gallery", _GALLERY), ("mated_probe", _MATED)):
        listed = {f"{key}_set": cells([name for name, _ in faces]), f"{key}_ids": np.array([i for _, i in faces])}
        files[f"{_TEST}/{key}_img_ID_pairs.mat"] = mat(**listed)
    files |= {f"{_PAIRS}/verification_images/{name}": _small(3, k) for k, name in enumerate(_PAIR_IMAGES)}
    files[f"{_PAIRS}/positive_pairs_names.mat"] = mat(positive_pairs_names=cells(_SAME))
    files[f"{_PAIRS}/negative_pairs_names.mat"] = mat(negative_pairs_names=cells(_OTHER))
    files |= {f"QMUL-SurvFace/training_set/{i}/{i}_cam1_{k}.jpg": _small(i, k) for i in (4, 8) for k in (1, 2)}
    return layouts.write(tmp_path / "source", files)


def _make(tmp_path, source, *flags):
    main(["survface", "--source", source, "--data_dir", str(tmp_path / "sets"), "--name", "set", *flags])
    return face_sets.open_test_set(str(tmp_path / "sets"), "set")


def _refused(capsys, *command):
    with pytest.raises(SystemExit) as status:
        _make(*command)
    assert status.value.code == 1
    return capsys.readouterr().err


def test_mated_and_unmated_probes_are_one_list(tmp_path, source, capsys):
    opened = _make(tmp_path, source)
    assert capsys.readouterr().out.startswith("3 gallery images, 5 probes, 2 identities, complete")
    protocol, images = opened.protocol, [record["image"] for record in opened.source]
    assert [images[place] for place in protocol.gallery] == [_stored(0, k) for k in range(3)]
    assert [images[place] for place in protocol.probes] == [_stored(1, k) for k in range(3)] + [
        _stored(2, k) for k in range(2)
    ]
    assert protocol.gallery_labels.tolist() == [1, 1, 2]
    assert protocol.probe_labels.tolist() == [2, 1, 1, protocol_arrays.DISTRACTOR, protocol_arrays.DISTRACTOR]
    assert not opened.is_partial


def test_pairs_are_in_ten_balanced_folds(tmp_path, source, capsys, monkeypatch):
    error = _refused(capsys, tmp_path, source, "--part", "verification")
    assert "has 11 matched pairs (official: 5320), 10 mismatched pairs (official: 5320)" in error
    opened = _make(tmp_path, source, "--part", "verification", "--allow_partial")
    assert opened.is_partial
    protocol, images = opened.protocol, [record["image"] for record in opened.source]
    place = {name: k for k, name in enumerate(_PAIR_IMAGES)}
    for pair, names in zip(protocol.pairs, _SAME + _OTHER, strict=True):
        assert [images[member] for member in pair] == [_stored(3, place[name]) for name in names]
    assert protocol.is_same.tolist() == [True] * 11 + [False] * 10
    assert protocol.fold.tolist() == [1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, *range(1, 11)]


def test_a_pair_without_both_images_is_left_out(tmp_path, source, capsys):
    for name in ("0_cam1_1.jpg", "3_cam2_1.jpg"):
        (tmp_path / "source" / _PAIRS / "verification_images" / name).unlink()
    error = _refused(capsys, tmp_path, source, "--part", "verification")
    assert "negative_pairs_names.mat: names 0_cam1_1.jpg, which the source does not hold" in error
    opened = _make(tmp_path, source, "--part", "verification", "--allow_partial")
    assert "17 pairs in 9 folds, 20 images, 2 left out, partial" in capsys.readouterr().out
    assert opened.protocol.is_same.tolist() == [True] * 9 + [False] * 8
    assert opened.protocol.fold.tolist() == [1, 2, 4, 5, 6, 7, 8, 9, 10, 2, 4, 5, 6, 7, 8, 9, 10]


def test_the_training_part(tmp_path, source):
    flags = ["--data_dir", str(tmp_path / "sets"), "--name", "training", "--part", "training"]
    main(["survface", "--source", source, *flags])
    opened = face_sets.open_training_set(str(tmp_path / "sets"), "training")
    wanted = [(_stored(i, k), label) for label, i in enumerate((4, 8)) for k in (1, 2)]
    assert [(record["image"], record["label"]) for record in opened.source] == wanted


def test_bad_lists_end_the_command(tmp_path, source, capsys):
    path = tmp_path / "source" / _TEST / "mated_probe_img_ID_pairs.mat"
    path.write_bytes(mat(probe_set=cells(["a.jpg"]), probe_ids=np.ones(1)))
    assert "has no mated_probe_set, it has probe_ids, probe_set" in _refused(capsys, tmp_path, source)
    path.unlink()
    assert "holds no mated_probe_img_ID_pairs.mat" in _refused(capsys, tmp_path, source)
    (tmp_path / "source" / _PAIRS / "positive_pairs_names.mat").write_bytes(mat(positive_pairs_names=cells(["a.jpg"])))
    error = _refused(capsys, tmp_path, source, "--part", "verification")
    assert "positive_pairs_names has shape (1, 1), it must be a list of 2 image names a row" in error
    error = _refused(capsys, tmp_path, source, "--part", "training", "--lists", source)
    assert "leave it out with --part training" in error
    assert "--lists nowhere does not exist" in _refused(capsys, tmp_path, source, "--lists", "nowhere")
