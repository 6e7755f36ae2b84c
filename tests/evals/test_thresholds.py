"""Which threshold is for two faces, by their sizes; a record survives its json."""

import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.evals import thresholds
from lrfr_jax.evals.thresholds import Threshold


def entry(mode, resolution, far=0.01, threshold=0.3, fusion="sum", set="lfw"):
    interval = {"far_low": 0.005, "far_high": 0.015, "tar": 0.9, "impostor_pairs": 3000}
    return Threshold(mode, resolution, far, threshold, **interval, set=set, protocol="insightface", fusion=fusion)


HELD = [entry("hr_hr", 112), *(entry(mode, r) for mode in ("hr_lr", "lr_lr") for r in (20, 7))]
HELD += [entry("hr_hr", 112, far=0.1)]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((112, 112), ("hr_hr", 112)),
        ((112, 20), ("hr_lr", 20)),
        ((30, 112), ("hr_lr", 20)),  # the order does not matter; 30 counts as 20
        ((112, 19), ("hr_lr", 7)),
        ((112, 7), ("hr_lr", 7)),
        ((111, 111), ("lr_lr", 20)),
        ((20, 8), ("lr_lr", 7)),
    ],
)
def test_sizes_choose_the_comparison(sizes, expected):
    chosen = thresholds.choose(HELD, sizes=sizes, far=0.01)
    assert (chosen.mode, chosen.resolution) == expected


def test_without_a_rate_the_lowest_and_of_several_sets_the_strictest():
    held = [*HELD, entry("hr_hr", 112, threshold=0.4, set="other")]
    assert thresholds.choose(held, sizes=(112, 112), far=None).set == "other"
    assert thresholds.choose(held, sizes=(112, 112), far=0.1).far == 0.1


def test_without_a_rate_it_is_the_lowest_that_was_calibrated_for_such_sizes():
    held = [*HELD, entry("hr_lr", 20, far=0.001)]
    chosen = [thresholds.choose(held, sizes=(112, size), far=None) for size in (20, 14)]
    assert [(one.far, one.resolution) for one in chosen] == [(0.001, 20), (0.01, 7)]
    with pytest.raises(UserError, match=r"a face of 6 px is smaller than anything .* for HR-LR \(7 px\)"):
        thresholds.choose(held, sizes=(112, 6), far=None)


@pytest.mark.parametrize(
    ("held", "sizes", "far", "sentence"),
    [
        (HELD, (112, 112), 0.001, "--far 0.001 was not calibrated for HR-HR, only 0.1, 0.01"),
        (
            HELD,
            (112, 6),
            0.01,
            r"a face of 6 px is smaller than anything .* for HR-LR \(7 px\)",
        ),
        (HELD, (112, 20), 0.1, "--far 0.1 was not calibrated for HR-LR, only 0.01"),
        (HELD[:1], (112, 20), None, "was not calibrated for HR-LR: evaluate it with --calibrate and --resolutions"),
    ],
)
def test_what_was_not_calibrated_is_told(held, sizes, far, sentence):
    with pytest.raises(UserError, match=sentence):
        thresholds.choose(held, sizes=sizes, far=far)


def test_thresholds_are_of_one_fusion():
    other = entry("hr_hr", 112, fusion="none")
    assert thresholds.of_fusion([*HELD, other], fusion="sum", far=0.01) == HELD
    for held in ([], [other]):
        with pytest.raises(UserError, match="no thresholds for fusion 'sum'"):
            thresholds.of_fusion(held, fusion="sum", far=0.01)
        assert thresholds.of_fusion(held, fusion="sum", far=None) == []
    with pytest.raises(UserError, match=r"--far 0\.3 was not calibrated for any pair, only "):
        thresholds.of_fusion(HELD, fusion="sum", far=0.3)
