import numpy as np
import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.prepare.lists import mat_lists
from tests.prepare.layouts import cells, mat

_NAMES = ["1_1.jpg", "1_2.jpg", "20_1.jpg"]


def _file(tmp_path, content, name="list.mat"):
    (tmp_path / name).write_bytes(content)
    return str(tmp_path / name)


def _read(tmp_path, **variables):
    return mat_lists.read_faces(_file(tmp_path, mat(**variables)), names="names", ids="ids")


@pytest.mark.parametrize("ids", [np.array([[1.0], [1], [20]]), np.array([[1, 1, 20]], np.uint16)])
@pytest.mark.parametrize("names", [cells(_NAMES), cells(_NAMES).T, np.array(_NAMES)])
def test_names_and_identities_of_every_form(tmp_path, names, ids):
    listed, identities = _read(tmp_path, names=names, ids=ids)
    assert listed == _NAMES
    assert identities.tolist() == [1, 1, 20]
    assert identities.dtype == np.int64


def test_pairs_keep_their_rows(tmp_path):
    rows = [["a.jpg", "b.jpg"], ["c.jpg", "a.jpg"]]
    assert mat_lists.read_names(_file(tmp_path, mat(pairs=cells(rows))), "pairs", columns=2).tolist() == rows


@pytest.mark.parametrize(
    ("names", "ids", "sentence"),
    [
        (cells(_NAMES), [1, 1], "names has 3 entries, ids has 2"),
        (cells(_NAMES), [1, 1, 0.5], "ids must hold the number of an identity"),
        (cells(_NAMES), [1, 1, np.nan], "ids must hold"),
        (cells(_NAMES), [1, 1, np.inf], "ids must hold"),
        (cells(_NAMES), [1, 1, -1], "ids must hold"),
        (cells(_NAMES), cells(["1", "1", "2"]), "ids must hold"),
        (cells(["1.jpg", "2.jpg", "1.jpg"]), [1, 2, 1], "names holds 1.jpg 2 times"),
        (cells(["1.jpg", "../2.jpg", "3.jpg"]), [1, 2, 3], r"holds '../2.jpg', which is no name of a file"),
        (cells(["1.jpg", "a\\2.jpg", "3.jpg"]), [1, 2, 3], "which is no name of a file"),
        (cells(["1.jpg", "..", "3.jpg"]), [1, 2, 3], "which is no name of a file"),
        (cells(["1.jpg", "a\n", "3.jpg"]), [1, 2, 3], "which is no name of a file"),
        (cells(["1.jpg", "", "3.jpg"]), [1, 2, 3], "holds '', which is no name of a file"),
        (np.ones((3, 1)), [1, 2, 3], "which is no name of a file"),
    ],
)
def test_a_bad_list_is_named(tmp_path, names, ids, sentence):
    with pytest.raises(UserError, match=sentence):
        _read(tmp_path, names=names, ids=np.array(ids))


def test_a_wrong_key_and_a_wrong_shape_are_named(tmp_path):
    path = _file(tmp_path, mat(probe_set=cells(_NAMES), probe_ids=np.ones(3)))
    with pytest.raises(UserError, match=r"has no gallery_set, it has probe_ids, probe_set"):
        mat_lists.read_names(path, "gallery_set", columns=1)
    with pytest.raises(UserError, match=r"probe_set has shape \(3, 1\), it must be a list of 2 image names a row"):
        mat_lists.read_names(path, "probe_set", columns=2)


def test_a_list_is_found_at_any_depth_and_must_be_unambiguous(tmp_path, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    with pytest.raises(UserError, match=r"holds no list.mat: give the folder .* as --lists"):
        mat_lists.find_list(str(tmp_path), "list.mat")
    (tmp_path / "a").symlink_to(elsewhere)
    for folder, content in (("b", b"1"), ("a/deep", b"1")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "list.mat").write_bytes(content)
    assert mat_lists.find_list(str(tmp_path), "list.mat") == str(tmp_path / "a/deep/list.mat")
    (tmp_path / "b/list.mat").write_bytes(b"2")
    with pytest.raises(UserError, match=r"list.mat and .*list.mat differ"):
        mat_lists.find_list(str(tmp_path), "list.mat")
