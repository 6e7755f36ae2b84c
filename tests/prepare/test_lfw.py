import pathlib

import numpy as np
import pytest

from lrfr_jax.data import face_sets, records
from lrfr_jax.prepare import lfw
from lrfr_jax.prepare.__main__ import main
from lrfr_jax.prepare.lists import pairs_file
from tests.prepare import bin_writer

_FOLDS, _PER_KIND = 10, 2
_PAIRS = 2 * _FOLDS * _PER_KIND
# Each fold has two persons of its own, of three images each; a twenty-first person is in no pair.
_PERSONS = [f"p{number:02d}" for number in range(21)]
_COUNTS = {"folds": 10, "pairs": 40, "images": 63, "identities": 21, "images in pairs": 50, "identities in pairs": 20}


def _lines():
    lines = [f"{_FOLDS}\t{_PER_KIND}"]
    for fold in range(_FOLDS):
        first, second = _PERSONS[2 * fold : 2 * fold + 2]
        lines += [f"{first}\t1\t2", f"{second}\t1\t2", f"{first}\t1\t{second}\t3", f"{first}\t2\t{second}\t1"]
    return lines


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Writes faces and pairs with made-up official counts; returns the arguments that name them."""
    monkeypatch.setattr(lfw, "OFFICIAL", _COUNTS)
    rng = np.random.default_rng(1)
    for name in _PERSONS:
        (tmp_path / "faces" / name).mkdir(parents=True)
        for number in (1, 2, 3):
            encoded = records.encode_image(rng.integers(256, size=(112, 112, 3), dtype=np.uint8), quality=50)
            (tmp_path / "faces" / name / f"{name}_{number:04d}.jpg").write_bytes(encoded)
    (tmp_path / "pairs.txt").write_text("\n".join(_lines()))
    (tmp_path / "avg_sizes.csv").write_text(",".join(str(1 + place % 112) for place in range(2 * _PAIRS)))
    return ["--source", str(tmp_path / "faces"), "--pairs", str(tmp_path / "pairs.txt")]


def _open(tmp_path, name):
    opened = face_sets.open_test_set(str(tmp_path / "sets"), name)
    images = [record["image"] for record in opened.source]
    return opened, [(images[first], images[second]) for first, second in opened.protocol.pairs]


def test_a_folder_and_a_bin_file_of_the_same_images_make_the_same_set(tmp_path, files):
    target = ["--data_dir", str(tmp_path / "sets"), "--sizes", str(tmp_path / "avg_sizes.csv")]
    main(["lfw", *files, *target, "--name", "folder"])
    opened, stored = _open(tmp_path, "folder")
    fields = [line.split("\t") for line in _lines()[1:]]
    names = [(f[0], f[1], f[0] if len(f) == 3 else f[2], f[-1]) for f in fields]
    paths = [(f"{a}/{a}_{int(i):04d}.jpg", f"{b}/{b}_{int(j):04d}.jpg") for a, i, b, j in names]
    images = [(tmp_path / "faces" / path).read_bytes() for pair in paths for path in pair]
    assert stored == list(zip(images[::2], images[1::2], strict=True))
    (tmp_path / "other.bin").write_bytes(bin_writer.write(images, opened.protocol.is_same.tolist(), (2, 1, "numpy 1")))
    main(["bin", "--source", str(tmp_path / "other.bin"), *target, "--name", "bin"])
    from_bin, stored_from_bin = _open(tmp_path, "bin")
    assert stored_from_bin == stored
    assert len(from_bin.source) == len(opened.source) == 50
    for field in ("is_same", "fold"):
        np.testing.assert_array_equal(getattr(from_bin.protocol, field), getattr(opened.protocol, field))
    np.testing.assert_array_equal(from_bin.protocol.sizes["avg_sizes"], opened.protocol.sizes["avg_sizes"])
    assert (opened.path / "identities.txt").read_text().splitlines() == _PERSONS[:20]


def test_sizes_belong_to_the_pairs_of_all_folds(tmp_path, files, capsys):
    sizes = ["--sizes", str(tmp_path / "avg_sizes.csv")]
    main(["pairs", *files, *sizes, "--data_dir", str(tmp_path / "sets"), "--name", "two", "--folds", "2,10"])
    opened, _ = _open(tmp_path, "two")
    rows = np.arange(2 * _PAIRS).reshape(-1, 2)[[4, 5, 6, 7, 36, 37, 38, 39]]
    np.testing.assert_array_equal(opened.protocol.sizes["avg_sizes"], 1 + rows % 112)
    with pytest.raises(SystemExit):
        main(["pairs", *files, "--data_dir", str(tmp_path / "sets"), "--name", "two", "--folds", "2,10"])
    assert "was prepared with sizes={'avg_sizes': " in capsys.readouterr().err


def test_other_counts_are_named_and_mark_the_set(tmp_path, files, capsys):
    command = ["lfw", *files, "--data_dir", str(tmp_path / "sets"), "--name", "lfw"]
    (tmp_path / "faces/p20/p20_0003.jpg").unlink()
    with pytest.raises(SystemExit):
        main(command)
    assert "as lfw has 62 images (official: 63): get the whole set" in capsys.readouterr().err
    assert not (tmp_path / "sets").exists()
    main([*command, "--allow_partial"])
    assert _open(tmp_path, "lfw")[0].is_partial
    main([*command, "--allow_partial"])
    assert "is complete already" in capsys.readouterr().out


def test_an_image_of_a_pair_may_not_be_missing_from_a_partial_set(tmp_path, files, capsys):
    (tmp_path / "faces/p00/p00_0002.jpg").unlink()
    with pytest.raises(SystemExit):
        main(["lfw", *files, "--data_dir", str(tmp_path / "sets"), "--name", "lfw", "--allow_partial"])
    assert "pairs.txt line 2 names p00/p00_0002, which" in capsys.readouterr().err


def test_the_official_counts_are_those_of_the_real_file():
    path = pathlib.Path(__file__).resolve().parents[3] / "shared" / "data" / "lfw_pairs.txt"
    if not path.exists():
        pytest.skip("LFW's pairs.txt is not on this machine")
    real = pairs_file.parse_pairs(path.read_text(), path=str(path))
    stems = {stem for pair in real for stem in (pair.first, pair.second)}
    assert lfw.OFFICIAL["pairs"] == len(real)
    assert lfw.OFFICIAL["images in pairs"] == len(stems)
    assert lfw.OFFICIAL["identities in pairs"] == len({stem.split("/")[0] for stem in stems})
