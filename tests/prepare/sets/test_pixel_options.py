import numpy as np
import pytest

from lrfr_jax.data import face_sets, records, synthetic
from lrfr_jax.pictures import photos, resize
from lrfr_jax.prepare.__main__ import main
from tests.make_recordio import frame, labeled, write
from tests.prepare import bin_writer, layouts

_FACES = [records.encode_image(synthetic.render_face(i // 2, i % 2, seed=0), quality=90) for i in range(8)]
_SMALL = [layouts.face(i // 2, i % 2, size=(20, 24)) for i in range(8)]


def _folder(root, faces):
    for place, face in enumerate(faces):
        path = root / f"p{place // 2}" / f"p{place // 2}_{place % 2 + 1:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(face)
    return root


def _source(kind, root, faces):
    """Writes eight faces of four persons as the kind reads them; returns the options that name them."""
    if kind == "recordio":
        return ["--source", str(write(root, [(k, frame(labeled(k // 2, k, face))) for k, face in enumerate(faces)]))]
    if kind == "bin":
        root.mkdir()
        (root / "some.bin").write_bytes(bin_writer.write(faces * 5, [True, False] * 10, (3, 4, "strings")))
        return ["--source", str(root / "some.bin")]
    flags = ["--source", str(_folder(root / "faces", faces))]
    if kind == "pairs":
        lines = ["p0\t1\t2", "p0\t1\tp1\t1", "p2\t1\t2", "p2\t2\tp3\t1"]
        (root / "pairs.txt").write_text("\n".join(["2\t1", *lines]))
        flags += ["--pairs", str(root / "pairs.txt")]
    return flags


def _prepared(tmp_path, kind, flags, name):
    shards = ["--shards", "1"] if kind in ("folder", "recordio") else []
    main([kind, *flags, *shards, "--name", name, "--data_dir", str(tmp_path / "sets")])
    is_training = face_sets.list_sets(str(tmp_path / "sets"))[name] == "training"
    open_set = face_sets.open_training_set if is_training else face_sets.open_test_set
    return [record["image"] for record in open_set(str(tmp_path / "sets"), name).source]


_KINDS = ("folder", "recordio", "gallery", "pairs", "bin")


@pytest.mark.parametrize("kind", _KINDS)
def test_bgr_exchanges_red_and_blue_without_loss_and_rgb_keeps_the_bytes(tmp_path, capsys, kind):
    flags = _source(kind, tmp_path / "source", _FACES)
    kept = _prepared(tmp_path, kind, flags, "kept")
    exchanged = _prepared(tmp_path, kind, [*flags, "--order", "bgr"], "exchanged")
    assert set(kept) <= set(_FACES)
    for before, after in zip(kept, exchanged, strict=True):
        np.testing.assert_array_equal(records.decode_image(after), records.decode_image(before)[..., ::-1])
    with pytest.raises(SystemExit):
        _prepared(tmp_path, kind, flags, "exchanged")
    assert "was prepared with order=bgr, not order=None" in capsys.readouterr().err


@pytest.mark.parametrize("kind", _KINDS)
def test_pictures_of_other_sizes_are_refused_or_brought_to_size(tmp_path, capsys, kind):
    flags = _source(kind, tmp_path / "source", _SMALL)
    if kind == "recordio":
        (tmp_path / "source/property").write_text("4,24,20")
        with pytest.raises(SystemExit):
            _prepared(tmp_path, kind, flags, "small")
        assert "says that images have 20x24 pixels" in capsys.readouterr().err
        (tmp_path / "source/property").rename(tmp_path / "property")
    with pytest.raises(SystemExit):
        _prepared(tmp_path, kind, flags, "small")
    assert "is 20x24, not 112x112: align the faces" in capsys.readouterr().err
    if kind == "recordio":
        (tmp_path / "property").rename(tmp_path / "source/property")
    stored = _prepared(tmp_path, kind, [*flags, "--resize"], "resized")
    wanted = {resize.to_face_size(photos.decode_photo(encoded)).tobytes() for encoded in _SMALL}
    assert {records.decode_image(encoded).tobytes() for encoded in stored} <= wanted


def test_raw_exchanges_the_colors_of_a_prepared_set(tmp_path):
    flags = _source("folder", tmp_path / "source", _FACES)
    kept = _prepared(tmp_path, "folder", flags, "kept")
    raw = ["--source", str(tmp_path / "sets/kept"), "--order", "bgr"]
    for before, after in zip(kept, _prepared(tmp_path, "raw", [*raw, "--shards", "1"], "raw"), strict=True):
        np.testing.assert_array_equal(records.decode_image(after), records.decode_image(before)[..., ::-1])
