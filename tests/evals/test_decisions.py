"""Decisions by calibrated thresholds, and the shares of pairs that they accept."""

import numpy as np
import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.evals import decisions
from tests.evals.test_thresholds import entry

HELD = [entry("hr_hr", 112, threshold=0.5), entry("hr_lr", 20, threshold=0.2)]


def decide(cosines, sizes):
    return decisions.decide(HELD, np.array(cosines), sizes=np.array(sizes), far=0.01)


def test_each_pair_is_decided_by_its_own_sizes_or_not_at_all():
    found = decide([0.6, 0.5, 0.3, 0.9, 0.3], [(112, 200), (112, 112), (112, 30), (112, 19), (112, 20)])
    assert found.is_decided.tolist() == [True, True, True, False, True]
    assert found.is_same.tolist() == [True, False, True, False, True]
    assert found.used == HELD


def test_comparisons_that_no_threshold_is_for_are_told_beforehand():
    decisions.check(HELD, resolutions=[(112, 112), (112, 20)], far=0.01)
    for resolutions, sentence in (([(112, 7)], "a face of 7 px is smaller"), ([(20, 20)], "not calibrated for LR-LR")):
        with pytest.raises(UserError, match=sentence):
            decisions.check(HELD, resolutions=resolutions, far=0.01)


def test_measured_rates_are_of_the_pairs_that_were_decided():
    """Brute force: 400 impostor pairs of which 60 are accepted, 100 genuine pairs of which 90 are."""
    is_same = np.repeat([True, False], [100, 400])
    cosines = np.where(np.arange(500) % 100 < np.where(is_same, 90, 15), 0.6, 0.4)
    found = decisions.decide(HELD, cosines, sizes=np.full((500, 2), 112), far=0.01)
    told = decisions.measured({"hr_hr_112": found}, is_same)["hr_hr_112"]
    assert (told["far"], told["impostor_pairs"], told["tar"], told["genuine_pairs"]) == (0.15, 400, 0.9, 100)
    # Wilson's interval of 60 of 400, by its formula written out.
    z, n, p = 1.959964, 400, 0.15
    middle, half = (p + z**2 / (2 * n)), z * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    expected = [(middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)]
    np.testing.assert_allclose(told["far_interval"], expected, atol=1e-6)
    text = decisions.table({"hr_hr_112": told}, {"hr_hr_112": found}, far=0.01)
    assert "HR-HR 112 px: FAR 15.00 % (11.83 to 18.83) of 400 impostor pairs, TAR 90.00 % (" in text
    assert "threshold 0.5000 from 3,000 impostor pairs of lfw, fusion sum" in text


@pytest.mark.parametrize(("count", "warned"), [(0, False), (1, False), (2, False), (40, True)])
def test_a_rate_that_is_not_kept_is_warned_of(count, warned):
    found = decisions.decide(HELD, np.where(np.arange(100) < count, 0.6, 0.4), sizes=np.full((100, 2), 112), far=0.01)
    told = decisions.measured({"hr_hr_112": found}, np.zeros(100, bool))
    assert told["hr_hr_112"]["tar"] is None
    warnings = list(decisions.warnings(told, {"hr_hr_112": found}, far=0.01))
    assert len(warnings) == warned
    if warned:
        assert "accept 40.00 % (30.94 to 49.80) of these impostor pairs, not 1.00 %" in warnings[0]


def test_a_rate_that_is_undercut_is_warned_of_too():
    held = [entry("hr_hr", 112, far=0.1, threshold=0.5)]
    found = decisions.decide(held, np.zeros(1000), sizes=np.full((1000, 2), 112), far=0.1)
    told = decisions.measured({"hr_hr_112": found}, np.zeros(1000, bool))
    assert "not 10.00 %" in next(decisions.warnings(told, {"hr_hr_112": found}, far=0.1))


def test_faces_that_are_too_small_are_counted():
    found = decide([0.9, 0.9], [(112, 7), (112, 112)])
    [warning] = decisions.warnings({}, {"hr_lr_20": found}, far=0.01)
    assert warning == "HR-LR 20 px: 1 pairs have no decision, as a face is smaller than anything calibrated"
    nothing = decide([0.9], [(112, 7)])
    told = decisions.measured({"hr_lr_20": nothing}, np.array([True]))
    assert "no pair was decided; no threshold" in decisions.table(told, {"hr_lr_20": nothing}, far=0.01)
