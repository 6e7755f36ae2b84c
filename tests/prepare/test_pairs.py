import cv2
import numpy as np
import pytest

from lrfr_jax.data import face_sets, records
from lrfr_jax.errors import UserError
from lrfr_jax.pictures.stored_files import SourceImage
from lrfr_jax.prepare.__main__ import main
from lrfr_jax.prepare.lists import pairs_file
from lrfr_jax.prepare.sets import drawn_pairs
from lrfr_jax.trained import pair_list

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
    parsed = pairs_file.parse_pairs(_TEXT, path="pairs.txt")
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
    assert pairs_file.parse_pairs("1 1\nA B\t1\t12\nA B\t1\tC\t2\n", path="p")[0].second == "A B/A B_0012"
    assert pairs_file.parse_pairs("1 1\na 1 2\na 1 b 2\n\n", path="p")[1].second == "b/b_0002"


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
        pairs_file.parse_pairs("\n".join([*_LINES[:place], line, *_LINES[place + 1 :]]), path="pairs.txt")


def test_an_empty_file_and_an_unknown_fold_are_named():
    with pytest.raises(UserError, match="line 1 must be"):
        pairs_file.parse_pairs("", path="pairs.txt")
    with pytest.raises(UserError, match="--folds names fold 3, the pairs file has 1 to 2"):
        pairs_file.choose_folds(pairs_file.parse_pairs(_TEXT, path="pairs.txt"), [2, 3])


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


def test_a_csv_names_images_of_any_name(tmp_path, command, capsys):
    (tmp_path / "faces/a/a_0001.jpg").rename(tmp_path / "faces/a/first one.jpeg")
    (tmp_path / "pairs.txt").write_text(
        "first, second, is_same\na/first one.jpeg, a/a_0002\nb/b_0001.jpg, c/c_0001.jpg"
    )
    assert "must have a value for each column" in _refused(capsys, command)
    text = "first, second, is_same\na/first one.jpeg, a/a_0002, 1\nb/b_0001.jpg, c/c_0001.jpg, 0\n"
    (tmp_path / "pairs.txt").write_text(text)
    main([*command, "--name", "listed"])
    stored, opened = _stored_pairs(tmp_path, "listed")
    assert stored[0][0] == (tmp_path / "faces/a/first one.jpeg").read_bytes()
    assert stored[1][1] == (tmp_path / "faces/c/c_0001.jpg").read_bytes()
    assert opened.protocol.is_same.tolist() == [True, False]
    (tmp_path / "pairs.txt").write_text(text.replace("c_0001", "none"))
    assert "pairs.txt line 3 names c/none.jpg, which" in _refused(capsys, command)
    (tmp_path / "pairs.txt").write_text("first,second\na/a_0002.jpg,a/a_0003.jpg\n")
    assert "has no column is_same: add it" in _refused(capsys, command)


def _drawing(command, *flags):
    return [flag for flag in command if flag not in command[3:5]] + list(flags)


def test_pairs_are_drawn_by_a_seed_and_listed_beside_the_set(tmp_path, command, capsys):
    drawing = _drawing(command, "--matched", "4", "--mismatched", "6", "--folds", "2", "--seed", "3")
    main([*drawing, "--name", "one"])
    assert "10 pairs in 2 folds" in capsys.readouterr().out
    stored, opened = _stored_pairs(tmp_path, "one")
    listed = pair_list.read(str(tmp_path / "sets/one/1.0.0/pairs.csv"))
    faces = tmp_path / "faces"
    assert stored == [tuple((faces / listed.images[place]).read_bytes() for place in pair) for pair in listed.pairs]
    np.testing.assert_array_equal(opened.protocol.is_same, listed.is_same)
    np.testing.assert_array_equal(opened.protocol.fold, listed.fold)
    main([*drawing, "--name", "two"])
    assert _stored_pairs(tmp_path, "two")[0] == stored
    main([*drawing[:-1], "4", "--name", "three"])
    assert _stored_pairs(tmp_path, "three")[0] != stored
    command[command.index("--pairs") + 1] = str(tmp_path / "sets/one/1.0.0/pairs.csv")
    main([*command, "--name", "again"])
    assert _stored_pairs(tmp_path, "again")[0] == stored


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ([], "give --pairs FILE, or --matched N to draw pairs"),
        (["--matched", "4"], "--folds must be one number for drawn pairs, at most --matched 4"),
        (["--matched", "4", "--folds", "1,2"], "--folds must be one number"),
        (["--matched", "60", "--folds", "2"], "more than these faces allow, which is 6: ask for --matched 6"),
        (["--matched", "5", "--folds", "5"], "more than these faces allow, which is 0: ask for fewer --folds"),
    ],
)
def test_what_cannot_be_drawn_is_one_sentence(command, capsys, flags, sentence):
    assert sentence in _refused(capsys, _drawing(command, *flags))


def test_drawing_and_naming_pairs_exclude_each_other(command, capsys):
    assert "give one or the other" in _refused(capsys, [*command, "--matched", "4"])


@pytest.mark.parametrize(("matched", "mismatched"), [(200, 300), (37, 5)])
def test_folds_share_no_identity_and_no_two_pairs_are_alike(matched, mismatched):
    draw = np.random.default_rng(0)
    images = [
        SourceImage("", f"{name}/{image}.jpg", None, 0)
        for name in range(60)
        for image in range(draw.choice([1, 2, 3, 8, 40]))
    ]
    drawn = drawn_pairs.draw(images, matched=matched, mismatched=mismatched, folds=5, seed=0)
    assert [sum(pair.is_same for pair in drawn), sum(not pair.is_same for pair in drawn)] == [matched, mismatched]
    assert len({frozenset(pair[:2]) for pair in drawn}) == len(drawn)
    folds_of = {}
    for pair in drawn:
        names = [images[place].identity for place in pair[:2]]
        assert (names[0] == names[1]) == pair.is_same
        for name in names:
            folds_of.setdefault(name, set()).add(pair.fold)
    assert all(len(folds) == 1 for folds in folds_of.values())
    sizes = [sum(pair.fold == fold and pair.is_same for pair in drawn) for fold in range(1, 6)]
    assert max(sizes) - min(sizes) <= 1


def test_matched_pairs_are_spread_over_all_identities():
    images = [
        SourceImage("", f"{name}/{image}.jpg", None, 0) for name in range(8) for image in range(2 + 30 * (name < 2))
    ]
    drawn = drawn_pairs.draw(images, matched=10, mismatched=2, folds=2, seed=0)
    names = [images[pair.first].identity for pair in drawn if pair.is_same]
    assert set(names) == {str(name) for name in range(8)}
    assert max(map(names.count, names)) <= 3


def test_a_pair_of_every_two_images_can_be_had():
    images = [SourceImage("", f"{name}/{image}.jpg", None, 0) for name in "ab" for image in range(3)]
    drawn = drawn_pairs.draw(images, matched=6, mismatched=9, folds=1, seed=0)
    assert len({frozenset(pair[:2]) for pair in drawn}) == 15


@pytest.mark.parametrize("separator", [" ", "\t", ", "])
def test_lines_of_two_paths_and_their_truth_need_no_folders_by_identity(tmp_path, command, separator):
    for name in ("x.jpg", "y", "z.bmp"):
        image = np.full((112, 112, 3), 9 * len(name), np.uint8)
        suffix = name[1:] or ".jpg"
        (tmp_path / "faces" / name).write_bytes(cv2.imencode(suffix, image)[1].tobytes())
    rows = [("x.jpg", "y", "1"), ("y", "z.bmp", "0"), ("x.jpg", "a/a_0001.jpg", "-1")]
    (tmp_path / "pairs.txt").write_text("".join(separator.join(row) + "\n" for row in rows))
    main([*command, "--name", "flat"])
    stored, opened = _stored_pairs(tmp_path, "flat")
    assert opened.protocol.is_same.tolist() == [True, False, False]
    assert stored[0][0] == (tmp_path / "faces/x.jpg").read_bytes()
    assert not (tmp_path / "sets/flat/1.0.0/identities.txt").exists()


def test_a_bad_line_of_two_paths_is_named(command, capsys, tmp_path):
    (tmp_path / "pairs.txt").write_text("a/1.jpg a/2.jpg 1\n\na/1.jpg a/2.jpg 2\n")
    assert "pairs.txt line 3 must be two paths and 1 or 0" in _refused(capsys, command)
