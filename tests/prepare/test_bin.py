import cv2
import numpy as np
import pytest

from lrfr_jax.data import face_sets, records
from lrfr_jax.prepare import bin
from lrfr_jax.prepare.__main__ import main
from tests.prepare import bin_writer

_NUM_PAIRS = 20
_IS_SAME = [True, False] * 10
_RNG = np.random.default_rng(0)
_FACES = [records.encode_image(_RNG.integers(256, size=(112, 112, 3), dtype=np.uint8), quality=50) for _ in range(30)]
# The first face of pair 0 is also the first of every later pair from 11 on.
_IMAGES = [_FACES[0] if place > 20 and place % 2 == 0 else _FACES[place % 30] for place in range(2 * _NUM_PAIRS)]


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Returns a function that writes a .bin file and runs the command on it."""
    monkeypatch.setattr(bin, "OFFICIAL", {"lfw": _NUM_PAIRS, "calfw": _NUM_PAIRS})

    def run(*flags, file="faces.bin", images=_IMAGES, is_same=_IS_SAME, form=(2, 2, "strings"), name="test"):
        (tmp_path / file).write_bytes(bin_writer.write(images, is_same, form))
        arguments = ["--source", str(tmp_path / file), "--name", name, "--data_dir", str(tmp_path / "sets")]
        main(["bin", *arguments, *flags])
        return face_sets.open_test_set(str(tmp_path / "sets"), name)

    return run


def _pairs(opened):
    images = [record["image"] for record in opened.source]
    return [(images[first], images[second]) for first, second in opened.protocol.pairs]


@pytest.mark.parametrize("form", [(2, 0, "numpy 1"), (2, 2, "strings"), (3, 5, "numpy 2")], ids=str)
def test_the_set_holds_the_pairs_in_ten_folds_and_each_image_once(command, capsys, form):
    opened = command(form=form)
    assert _pairs(opened) == list(zip(_IMAGES[::2], _IMAGES[1::2], strict=True))
    assert len(opened.source) == len(set(_IMAGES)) < len(_IMAGES)
    np.testing.assert_array_equal(opened.protocol.is_same, _IS_SAME)
    np.testing.assert_array_equal(opened.protocol.fold, np.repeat(np.arange(1, 11), 2))
    assert not opened.is_partial
    assert not (opened.path / "identities.txt").exists()
    assert capsys.readouterr().out.startswith(f"20 pairs in 10 folds, {len(set(_IMAGES))} images, ")


def test_lists_of_sizes_are_stored_and_remembered(command, tmp_path, capsys):
    sizes = np.arange(1, 41).reshape(20, 2)
    path = tmp_path / "low_res_focus.csv"
    path.write_text(",".join(map(str, sizes.ravel())) + "\n")
    opened = command("--sizes", str(path))
    assert list(opened.protocol.sizes) == ["low_res_focus"]
    np.testing.assert_array_equal(opened.protocol.sizes["low_res_focus"], sizes)
    main(_again(opened, path))
    assert "is complete already" in capsys.readouterr().out
    path.write_text(",".join(["112"] * 40))
    with pytest.raises(SystemExit):
        main(_again(opened, path))
    assert "was prepared with sizes=" in capsys.readouterr().err


def _again(opened, sizes):
    data_dir = opened.path.parent.parent
    source = data_dir.parent / "faces.bin"
    names = ["--name", "test", "--data_dir", str(data_dir)]
    return ["bin", "--source", str(source), *names, "--sizes", str(sizes)]


def _refused(capsys, command, *flags, **content):
    with pytest.raises(SystemExit) as status:
        command(*flags, **content)
    assert status.value.code == 1
    return capsys.readouterr().err


def test_a_known_set_must_have_its_official_counts(command, capsys, tmp_path):
    assert not command(file="lfw.bin").is_partial
    all_same = [True] * 10 + [False] * 10
    sentence = _refused(capsys, command, file="lfw.bin", is_same=all_same)
    assert "lfw.bin as lfw has 0 folds with half of the pairs matched (official: 10)" in sentence
    assert not command(file="calfw.bin", is_same=all_same, name="calfw").is_partial
    fewer = dict(images=_IMAGES[:20], is_same=_IS_SAME[:10], name="fewer")
    sentence = _refused(capsys, command, "--set", "calfw", **fewer)
    assert "as calfw has 10 pairs (official: 20), 5 matched pairs (official: 10)" in sentence
    assert not (tmp_path / "sets/fewer").exists()
    assert command("--set", "calfw", "--allow_partial", **fewer).is_partial
    assert "it is partial" in capsys.readouterr().out
    assert not command(**{**fewer, "name": "free"}).is_partial


@pytest.mark.parametrize(("pairs", "sizes"), [(10, [1] * 10), (13, [2] * 3 + [1] * 7), (19, [2] * 9 + [1])])
def test_any_number_of_pairs_is_parted_as_insightface_does(command, pairs, sizes):
    opened = command(images=_IMAGES[: 2 * pairs], is_same=_IS_SAME[:pairs])
    np.testing.assert_array_equal(opened.protocol.fold, np.repeat(np.arange(1, 11), sizes))
    assert len(opened.protocol.pairs) == pairs


def test_fewer_pairs_than_folds_are_refused(command, capsys):
    sentence = _refused(capsys, command, images=_IMAGES[:18], is_same=_IS_SAME[:9])
    assert "has 9 pairs, fewer than the 10 folds" in sentence


def test_a_bad_image_ends_the_command_with_nothing_written(command, capsys, tmp_path):
    narrow = cv2.imencode(".png", np.zeros((112, 96, 3), np.uint8))[1].tobytes()
    for bad, sentence in (
        (_IMAGES[3][:-9], "image_000003 is truncated"),
        (b"", "image_000003 is an empty file"),
        (b"GIF89a", "image_000003 is not an image"),
        (narrow, "image_000003 is 96x112, not 112x112: align"),
    ):
        found = _refused(capsys, command, images=[*_IMAGES[:3], bad, *_IMAGES[4:]])
        assert f"faces.bin: {sentence}" in found
        assert "every image of a pair is needed" in found
    assert not list(tmp_path.glob("sets/*/*"))
