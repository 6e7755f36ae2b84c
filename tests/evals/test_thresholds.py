"""Which threshold is for two faces, by their sizes; a record survives its json."""

import dataclasses
import functools

import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.evals import thresholds
from lrfr_jax.evals.reading import Reading
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
        (
            HELD[:1],
            (112, 20),
            None,
            r"not calibrated for HR-LR, only for fusion sum \(lfw: HR-HR 112 px\): evaluate it with --calibrate and",
        ),
    ],
)
def test_what_was_not_calibrated_is_told(held, sizes, far, sentence):
    with pytest.raises(UserError, match=sentence):
        thresholds.choose(held, sizes=sizes, far=far)


def test_thresholds_are_of_one_fusion():
    other = entry("hr_hr", 112, fusion="none")
    asked = {"reading": Reading("sum"), "calibrated_on": None}
    assert thresholds.of_rate([*HELD, other], far=0.01, **asked) == HELD
    for held, way in (
        ([], "`python -m lrfr_jax.evaluate --calibrate` makes them"),
        ([other], r"it is calibrated for fusion none \(lfw: HR-HR 112 px\)"),
    ):
        with pytest.raises(UserError, match=f"no thresholds for fusion sum: {way}"):
            thresholds.of_rate(held, far=0.01, **asked)
        assert thresholds.of_rate(held, far=None, **asked) == []
    with pytest.raises(UserError, match=r"--far 0\.3 was not calibrated for any pair, only "):
        thresholds.of_rate(HELD, far=0.3, **asked)
    with pytest.raises(
        UserError, match=r"not calibrated on own for fusion sum: it is calibrated for fusion sum \(lfw: "
    ):
        thresholds.of_rate(HELD, far=None, reading=Reading("sum"), calibrated_on="own")


def calibrated(number, *args, digest="", **kwargs):
    return dataclasses.replace(entry(*args, **kwargs), calibration=number, digest=digest)


def test_the_sets_of_the_last_calibration_decide_unless_one_is_named():
    lfw = [calibrated(1, "hr_hr", 112), calibrated(1, "hr_lr", 20)]
    own = [calibrated(2, "hr_hr", 112, set="own")]
    none = [calibrated(3, "hr_hr", 112, fusion="none")]
    held = [*lfw, *own, *none]
    in_use = functools.partial(thresholds.in_use, held, reading=Reading("sum"))
    assert in_use(calibrated_on=None) == own
    assert in_use(calibrated_on="lfw") == lfw
    assert thresholds.newest_fusion(held) == "none"
    reason = thresholds.with_others("too small", held, own)
    assert reason == (
        "too small; it is also calibrated for fusion sum (lfw: HR-HR 112 px, HR-LR 20 px); fusion none (lfw: HR-HR 112 "
        "px): see --calibrated_on, --fusion, --score and --centering"
    )
    # Sizes of earlier calls on the same pairs count on; those of other data under the same name do not.
    lower = calibrated(4, "hr_lr", 7)
    assert thresholds.in_use([*held, lower], reading=Reading("sum"), calibrated_on=None) == [*lfw, lower]
    other = calibrated(4, "hr_lr", 7, digest="f")
    assert thresholds.in_use([*held, other], reading=Reading("sum"), calibrated_on=None) == [other]


def test_thresholds_belong_to_a_score_with_its_constants_and_to_a_centering():
    plain, centered = entry("hr_hr", 112), dataclasses.replace(entry("hr_hr", 112), centering="per_resolution")
    scored = dataclasses.replace(entry("hr_hr", 112, threshold=-3.0), score="qmag(0.1, 0.2)")
    held = [plain, centered, scored]
    for one in held:
        assert thresholds.in_use(held, reading=one.reading, calibrated_on=None) == [one]
        assert thresholds.from_plain(dataclasses.asdict(one)) == one
    other = Reading("sum", score="qmag(0.1, 0.3)", centering="per_resolution")
    assert thresholds.in_use(held, reading=other, calibrated_on=None) == []
    assert thresholds.why_none([plain], reading=other) == (
        "this model has no thresholds for fusion sum, score qmag(0.1, 0.3), centering per_resolution: it is calibrated "
        "for fusion sum (lfw: HR-HR 112 px); `evaluate --calibrate --fusion sum --score qmag --centering "
        "per_resolution` adds others"
    )
    with pytest.raises(ValueError, match=r"a threshold is -3\.0"):
        thresholds.from_plain(dataclasses.asdict(plain) | {"threshold": -3.0})


def test_the_fusion_of_several_is_sum_and_of_none_unknown():
    assert thresholds.newest_fusion([]) is None
    both = [entry("hr_hr", 112), entry("hr_hr", 112, fusion="concat", set="xqlfw")]
    assert thresholds.newest_fusion(both) == "sum"
    assert thresholds.newest_fusion(both[1:]) == "concat"


@pytest.mark.parametrize(
    "change",
    [
        {"threshold": float("nan")},
        {"threshold": 30.0},
        {"far": 1.5},
        {"far": 0.0},
        {"mode": "matrix"},
        {"resolution": 0},
        {"resolution": 224},
    ],
)
def test_a_value_that_no_threshold_has_is_told(change):
    plain = dataclasses.asdict(HELD[0])
    assert thresholds.from_plain(plain) == HELD[0]
    with pytest.raises(ValueError, match="a threshold is"):
        thresholds.from_plain(plain | change)


def test_a_threshold_of_an_older_card_is_read():
    plain = dataclasses.asdict(HELD[0])
    del plain["digest"], plain["calibration"]
    assert thresholds.from_plain(plain) == HELD[0]


def test_the_range_over_all_sets_is_said_and_where_the_answer_depends_on_it():
    asked = entry("hr_lr", 14, threshold=0.3, set="lfw")
    known = [
        dataclasses.replace(entry("hr_lr", 14, threshold=0.9, set="other"), calibration=1),
        dataclasses.replace(entry("hr_lr", 14, threshold=0.5, set="other"), calibration=2),  # the last of it counts
        entry("hr_lr", 14, threshold=0.2, set="third"),
        entry("hr_lr", 14, far=0.1, threshold=0.01, set="third"),
        entry("hr_lr", 20, threshold=0.6, set="other"),
        entry("hr_lr", 14, threshold=0.7, set="fourth", fusion="none"),
        asked,
    ]
    found = thresholds.of_populations(known, asked)
    assert [(one.set, one.threshold) for one in found] == [("third", 0.2), ("lfw", 0.3), ("other", 0.5)]
    depends = "and the answer depends on which of them"
    for similarity, is_unsure in ((0.15, False), (0.25, True), (0.5, True), (0.51, False)):
        words = thresholds.in_words(similarity, asked, found)
        assert "of the 3 sets that it is calibrated on" in words
        assert "reach from 0.2000 (third) to 0.5000 (other)" in words
        assert (depends in words) == is_unsure
    assert "calibrated on" not in thresholds.in_words(0.4, asked, thresholds.of_populations([asked], asked))
