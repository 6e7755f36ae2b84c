import numpy as np
import pytest

from lrfr_jax.data import face_sets, records
from lrfr_jax.prepare import xqlfw
from lrfr_jax.prepare.__main__ import main


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Writes two persons and a pairs file of ten folds with made-up official counts; returns the command."""
    monkeypatch.setattr(xqlfw, "OFFICIAL", {"folds": 10, "pairs": 20, "images in pairs": 3, "identities in pairs": 2})
    for name in ("a", "b", "c"):
        (tmp_path / "xqlfw_aligned_112" / name).mkdir(parents=True)
        for number in (1, 2):
            encoded = records.encode_image(np.full((112, 112, 3), 50 * number + ord(name), np.uint8), quality=90)
            (tmp_path / "xqlfw_aligned_112" / name / f"{name}_{number:04d}.jpg").write_bytes(encoded)
    (tmp_path / "xqlfw_pairs.txt").write_text("10\t1\n" + "a\t1\t2\na\t1\tb\t1\n" * 10)
    source, pairs = str(tmp_path / "xqlfw_aligned_112"), str(tmp_path / "xqlfw_pairs.txt")
    return ["xqlfw", "--source", source, "--pairs", pairs, "--name", "xqlfw", "--data_dir", str(tmp_path / "sets")]


def test_the_images_in_pairs_are_counted_and_stored(tmp_path, command, capsys, monkeypatch):
    main(command)
    opened = face_sets.open_test_set(str(tmp_path / "sets"), "xqlfw")
    assert len(opened.source) == 3
    np.testing.assert_array_equal(opened.protocol.is_same, [True, False] * 10)
    assert not opened.is_partial
    monkeypatch.setitem(xqlfw.OFFICIAL, "images in pairs", 7263)
    with pytest.raises(SystemExit):
        main(command)
    assert "has 3 images in pairs (official: 7263)" in capsys.readouterr().err


def test_a_zip_must_be_unpacked_first(tmp_path, command, capsys):
    (tmp_path / "aligned.ZIP").write_bytes(b"PK")
    with pytest.raises(SystemExit):
        main([*command, "--source", str(tmp_path / "aligned.ZIP")])
    assert "is a zip: unpack it" in capsys.readouterr().err
