import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.prepare.sets import official_counts


def test_official_counts_pass_and_others_are_all_told():
    right, wrong = {"probes": (3, 3), "pairs": (5, 5)}, {"probes": (3, 2), "pairs": (5, 5), "people": (1, 4)}
    assert not official_counts.check(right, allow_partial=False, what="set")
    assert not official_counts.check(right, allow_partial=True, what="set")
    assert official_counts.check(wrong, allow_partial=True, what="set")
    with pytest.raises(
        UserError, match=r"set has 2 probes \(official: 3\), 4 people \(official: 1\): .*--allow_partial"
    ):
        official_counts.check(wrong, allow_partial=False, what="set")
