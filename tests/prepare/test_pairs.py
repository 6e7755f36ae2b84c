import numpy as np
import pytest

from lrfr_jax.data import face_sets, records
from lrfr_jax.errors import UserError
from lrfr_jax.prepare import pairs
from lrfr_jax.prepare.__main__ import main

# Two folds with two pairs of each kind; a and b are in fold 1, c and d in fold 2.
_LINES = ["2\t2", "a\t1\t2", "b\t2\t1", "a\t1\tb\t1", "b\t2\ta\t3", "c\t1\t2", "d\t1\t2", "c\t1\td\t2", "d\t1\tc\t2"]
_TEXT = "\n".join(_LINES) + "\n"
_NUMBERS = {"a": (1, 2, 3, 4), "b": (1, 2), "c": (1, 2), "d": (1, 2), "e": (1,)}


@pytest.fixture
def command(tmp_path):
    """Writes a folder of faces, each of its own gray, and a pairs file; returns the flags that name them."""
    gray = 0
    for name, numbers in _NUMBERS.items():
        (tmp_path / "faces" / name).mkdir(parents=True)
        for number in numbers:
            gray += 10
            encoded = records.encode_image(np.full((112, 112, 3), gray, np.uint8), quality=90)
            (tmp_path / "faces" / name / f"{name}_{number:04d}.jpg").write_bytes(encoded)
    (tmp_path / "pairs.txt").write_text(_TEXT)
    source, file = str(tmp_path / "faces"), str(tmp_path / "pairs.txt")
    return ["pairs", "--source", source, "--pairs", file, "--data_dir", str(tmp_path / "sets")]


def _stored_pairs(tmp_path, name):
    """Reads a set back as pairs of file contents."""
    opened = face_sets.open_test_set(str(tmp_path / "sets"), name)
    images = [record["image"] for record in opened.source]
    return [(images[first], images[second]) for first, second in opened.protocol.pairs], opened


def test_stored_pairs_are_the_images_that_the_file_names(tmp_path, command, capsys):
    main([*command, "--name", "all"])
    stored, opened = _stored_pairs(tmp_path, "all")
    parsed = pairs.parse_pairs(_TEXT, path="pairs.txt")
    faces = tmp_path / "faces"
    expected = [tuple((faces / f"{stem}.jpg").read_bytes() for stem in (pair.first, pair.second)) for pair in parsed]
    assert stored == expected
    np.testing.assert_array_equal(opened.protocol.is_same, [True, True, False, False] * 2)
    np.testing.assert_array_equal(opened.protocol.fold, [1] * 4 + [2] * 4)
    assert len(opened.source) == 9  # a_0004 and e_0001 are in no pair
    assert capsys.readouterr().out.startswith("8 pairs in 2 folds, 9 images of 4 identities")


def test_chosen_folds_keep_their_numbers_images_and_identities(tmp_path, command, capsys):
    main([*command, "--name", "second", "--folds", "2"])
    _, opened = _stored_pairs(tmp_path, "second")
    assert set(opened.protocol.fold.tolist()) == {2}
    assert len(opened.source) == 4
    assert (tmp_path / "sets/second/1.0.0/identities.txt").read_text() == "c\nd\n"
    main([*command, "--name", "second", "--folds", "2"])
    assert "is complete already" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*command, "--name", "second", "--folds", "1"])
    assert "was prepared with folds=[2], not folds=[1]" in capsys.readouterr().err


def test_names_may_hold_spaces_and_fields_may_be_parted_by_spaces():
    assert pairs.parse_pairs("1 1\nA B\t1\t12\nA B\t1\tC\t2\n", path="p")[0].second == "A B/A B_0012"
    assert pairs.parse_pairs("1 1\na 1 2\na 1 b 2\n\n", path="p")[1].second == "b/b_0002"


@pytest.mark.parametrize(
    ("place", "line", "sentence"),
    [
        (0, "2", "line 1 must be"),
        (0, "2\tx", "line 1 must be"),
        (0, "0\t2", "line 1 must be"),
        (0, "3\t2", "has 8 pairs, its first line announces 12"),
        (1, "a\t1\tb\t2", "line 2 must be name<TAB>i<TAB>j, a matched pair: it is"),
        (3, "a\t1\t2", "line 4 must be name<TAB>i<TAB>name<TAB>j, a mismatched pair"),
        (3, "a\t1\ta\t2", "line 4 stands among the mismatched pairs but names a twice"),
        (5, "c\t1\tsecond", "line 6 must number its images with integers"),
    ],
)
def test_a_bad_line_is_named(place, line, sentence):
    with pytest.raises(UserError, match=sentence):
        pairs.parse_pairs("\n".join([*_LINES[:place], line, *_LINES[place + 1 :]]), path="pairs.txt")


def test_an_empty_file_and_an_unknown_fold_are_named():
    with pytest.raises(UserError, match="line 1 must be"):
        pairs.parse_pairs("", path="pairs.txt")
    with pytest.raises(UserError, match="--folds names fold 3, the pairs file has 1 to 2"):
        pairs.choose_folds(pairs.parse_pairs(_TEXT, path="pairs.txt"), [2, 3])


def _refused(capsys, command):
    with pytest.raises(SystemExit) as status:
        main([*command, "--name", "bad"])
    assert status.value.code == 1
    return capsys.readouterr().err


def test_missing_ambiguous_and_bad_images_end_the_command(tmp_path, command, capsys):
    image = tmp_path / "faces/c/c_0002.jpg"
    encoded = image.read_bytes()
    image.unlink()
    assert "pairs.txt line 6 names c/c_0002, which" in _refused(capsys, command)
    image.write_bytes(encoded[:-20])
    assert "c/c_0002.jpg is truncated: the file ends before the image does; every image" in _refused(capsys, command)
    image.write_bytes(encoded)
    image.with_suffix(".png").write_bytes(encoded)
    assert "holds both c/c_0002.jpg and c/c_0002.png" in _refused(capsys, command)
    assert not list(tmp_path.glob("sets/*/*"))


def test_folds_that_are_no_numbers_are_a_usage_error(command, capsys):
    with pytest.raises(SystemExit):
        main([*command, "--name", "bad", "--folds", "one"])
    assert "must be fold numbers with commas between" in capsys.readouterr().err
