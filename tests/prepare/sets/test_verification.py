import re

import numpy as np
import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.prepare.sets import verification


def _read(tmp_path, text, name="avg_sizes.csv", *, num_pairs=2):
    (tmp_path / name).write_text(text)
    return verification.read_sizes([str(tmp_path / name)], num_pairs=num_pairs)


def test_a_list_of_sizes_is_kept_by_its_stem_two_for_each_pair(tmp_path):
    found = _read(tmp_path, "112,7,1, 112\n")
    assert list(found) == ["avg_sizes"]
    np.testing.assert_array_equal(found["avg_sizes"], [[112, 7], [1, 112]])
    assert verification.read_sizes(None, num_pairs=2) == {}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("112,7,1", "has 3 values, 2 pairs need 4"),
        ("112,7,1,112,", "has 5 values, 2 pairs need 4"),
        ("", "has 1 values, 2 pairs need 4"),
        ("112,7\n1,112", "has 3 values, 2 pairs need 4"),
        ("112,7,,112", "value 3 is '', not a whole number of pixels in 1..112"),
        ("112,7.5,1,112", "value 2 is '7.5'"),
        ("112,7,0,112", "value 3 is '0'"),
        ("112,7,1,113", "value 4 is '113'"),
        ("112,-7,1,112", "value 2 is '-7'"),
        ("112,\u0667,1,112", "value 2 is '\u0667'"),
    ],
)
def test_a_bad_list_of_sizes_has_its_sentence(tmp_path, text, sentence):
    with pytest.raises(UserError, match=rf"--sizes .*avg_sizes\.csv.*{re.escape(sentence)}"):
        _read(tmp_path, text)


def test_lists_that_are_missing_or_share_a_stem_are_refused(tmp_path):
    _read(tmp_path, "112,7,1,112")
    paths = [str(tmp_path / "avg_sizes.csv"), str(tmp_path / "avg_sizes.txt")]
    with pytest.raises(UserError, match=r"--sizes .*avg_sizes\.txt cannot be read"):
        verification.read_sizes(paths, num_pairs=2)
    (tmp_path / "avg_sizes.txt").write_text("1,1,1,1")
    with pytest.raises(UserError, match="--sizes names two files avg_sizes"):
        verification.read_sizes(paths, num_pairs=2)


def test_a_set_remembers_what_its_lists_held(tmp_path):
    one, other = _read(tmp_path, "112,7,1,112"), _read(tmp_path, "112,7,1,111")
    assert verification.describe_sizes(one) == verification.describe_sizes(dict(one))
    assert verification.describe_sizes(one) != verification.describe_sizes(other)
    assert verification.describe_sizes({}) is None
