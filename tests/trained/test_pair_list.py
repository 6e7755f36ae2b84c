"""Pairs as csv: what each column means, and what a wrong line gets."""

import numpy as np
import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.trained import pair_list


@pytest.fixture
def read(tmp_path):
    def write_and_read(*lines):
        (tmp_path / "pairs.csv").write_bytes("\n".join(lines).encode())
        return pair_list.read(str(tmp_path / "pairs.csv"))

    return write_and_read


def test_images_are_listed_once(read):
    listed = read("first,second", "a b.png,b.png", '"c,1.png",a b.png')
    assert listed.images == ["a b.png", "b.png", "c,1.png"]
    np.testing.assert_array_equal(listed.pairs, [[0, 1], [2, 0]])
    assert listed.is_same is None


def test_spaces_after_commas_belong_to_no_column(read):
    listed = read(
        "first, second, is_same , fold",
        "a b.png, b.png, 1, 2",
        " c.png , a b.png , 0 , 2 ",
        '"c,1.png", "d,2.png", 1, 2',
    )
    assert listed.images == ["a b.png", "b.png", "c.png", "c,1.png", "d,2.png"]
    np.testing.assert_array_equal(listed.is_same, [True, False, True])
    np.testing.assert_array_equal(listed.fold, [2, 2, 2])


def test_truth_and_folds_in_any_order_of_columns(read):
    listed = read("\ufefffold,is_same,second,first", "3,1,b,a", "4,0,c,a", "4,True,c,b", "3, no ,d,a")
    np.testing.assert_array_equal(listed.is_same, [True, False, True, False])
    np.testing.assert_array_equal(listed.fold, [3, 4, 4, 3])
    np.testing.assert_array_equal(listed.pairs, [[0, 1], [0, 2], [1, 2], [0, 3]])


def test_without_folds_each_kind_is_dealt_out(read):
    listed = read("first,second,is_same", *[f"a{i},b{i},{int(i < 25)}" for i in range(40)])
    counts = [
        [np.sum((listed.fold == fold) & (listed.is_same == kind)) for fold in range(10)] for kind in (True, False)
    ]
    assert set(counts[0]) == {2, 3}
    assert set(counts[1]) == {1, 2}


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([], "the first line of .*pairs.csv must name its columns"),
        (["a.png,b.png"], "must name its columns, first,second .*: it is 'a.png,b.png'"),
        (["first,second,label", "a,b,1"], "first,second,label"),
        (["first,second,fold", "a,b,1"], "first,second,fold"),
        (["first,second,second", "a,b,b"], "first,second,second"),
        (["first,second"], "names no pairs"),
        (["first,second", "a,b", "a"], "line 3 must have a value for each column"),
        (["first,second", "a,b,c"], "line 2 must have a value for each column"),
        (["first,second", "a,"], "line 2 must have a value for each column"),
        (["first,second,is_same", "a,b,2"], "line 2: is_same is '2', it must be 1 or 0"),
        (["first,second,is_same,fold", "a,b,1,x"], "line 2: fold is 'x', it must be a whole number"),
        (["first,second", 'a,"b'], "cannot be read as csv"),
        (["first,second,is_same", "a,b,1", "b,a,0"], "says of b and a both that they show one person and that they do"),
        (["first,second,is_same", "a,a,0"], "says that a and a, one picture, show different persons"),
    ],
)
def test_bad_lines_are_named(read, lines, sentence):
    with pytest.raises(UserError, match=sentence):
        read(*lines)


def test_binary_is_no_csv(tmp_path):
    (tmp_path / "pairs.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read as csv"):
        pair_list.read(str(tmp_path / "pairs.csv"))
