"""Thresholds accept the share of impostor pairs that they claim, and none is claimed that the data cannot show."""

import dataclasses
import pathlib

import numpy as np
import pytest

from lrfr_jax.data import face_sets, protocol_arrays
from lrfr_jax.errors import UserError
from lrfr_jax.evals import calibration, carried_over, evaluation, metrics, protocols, verification
from lrfr_jax.evals.means import Mean
from lrfr_jax.evals.verification import VerificationResult
from tests.evals.test_thresholds import entry

RNG = np.random.default_rng(0)


def result(genuine, impostors):
    """A set whose similarities are drawn; one comparison is enough to copy."""
    is_same = np.repeat([True, False], [genuine, impostors])
    accuracy = metrics.KFoldAccuracy(np.ones(1), np.ones(1), 1.0, 0.0)
    template = verification.Comparison("hr_hr", 112, 112, accuracy, (0.0, 1.0), 0.5, (0.0, 1.0), {}, {}, np.zeros(1))
    comparisons = tuple(
        dataclasses.replace(template, mode=mode, resolution=size, cosines=RNG.normal(is_same * 0.5, 0.1))
        for mode, size in (("hr_hr", 112), ("hr_lr", 14), ("sizes_low", 112))
    )
    rules = protocols.PROTOCOLS["insightface"]
    asked = evaluation.Evaluation(made_set(is_same), "insightface", rules, (14,))
    return evaluation.SetResult(asked, VerificationResult(10, 1.0, is_same, comparisons), {})


def made_set(is_same):
    protocol = protocol_arrays.VerificationProtocol(
        np.zeros((len(is_same), 2), int), is_same, np.zeros(len(is_same), int)
    )
    return face_sets.TestSet("made", "verification", pathlib.Path("made"), [], protocol, is_partial=False)


@pytest.mark.parametrize(
    ("impostors", "fars"),
    [(3000, [0.1, 0.01]), (1000, [0.1, 0.01]), (999, [0.1]), (100, [0.1]), (100_000, [0.1, 0.01, 0.001, 0.0001])],
)
def test_rates_are_those_that_ten_pairs_show(impostors, fars):
    found = calibration.thresholds_of({"made": result(50, impostors)})
    assert [one.far for one in found if one.mode == "hr_hr"] == fars
    assert {(one.mode, one.resolution) for one in found} == {("hr_hr", 112), ("hr_lr", 14)}


def test_thresholds_keep_their_rates():
    made = result(500, 3000)
    for one in calibration.thresholds_of({"made": made}):
        comparison = next(c for c in made.outcome.comparisons if c.mode == one.mode)
        impostors, genuine = (comparison.cosines[made.outcome.is_same == kind] for kind in (False, True))
        accepted = np.mean(impostors > one.threshold)
        assert one.far - 1 / 3000 < accepted <= one.far  # as near as a score that occurs can come
        assert one.far_low < accepted < one.far_high
        assert one.tar == np.mean(genuine > one.threshold)
        assert (one.impostor_pairs, one.set, one.protocol, one.fusion) == (3000, "made", "insightface", "sum")


def test_too_few_pairs_are_refused():
    with pytest.raises(UserError, match="verification set with at least 100 impostor pairs"):
        calibration.thresholds_of({"made": result(50, 99)})
    with pytest.raises(UserError, match="nothing to calibrate on"):
        calibration.thresholds_of({"gallery": dataclasses.replace(result(50, 999), outcome=[])})
    for few in ({}, {"made": np.repeat([True, False], [50, 99])}):
        with pytest.raises(UserError, match="nothing to calibrate on"):
            calibration.check(few)
    calibration.check({"few": np.zeros(9, bool), "made": np.zeros(100, bool)})


def test_cells_of_a_matrix_give_the_thresholds_of_hr_lr_and_lr_lr():
    made = result(50, 100)
    full, lower, _ = made.outcome.comparisons
    cells = [(112, 112), (112, 14), (14, 112), (14, 14)]
    matrix = tuple(
        dataclasses.replace(lower, mode="matrix", first_resolution=a, resolution=b, cosines=RNG.normal(0, 0.1, 150))
        for a, b in cells
    )
    outcome = dataclasses.replace(made.outcome, comparisons=(full, *matrix))
    found = calibration.thresholds_of({"made": dataclasses.replace(made, outcome=outcome)})
    assert [(one.mode, one.resolution) for one in found] == [("hr_hr", 112), ("hr_lr", 14), ("lr_lr", 14)]
    for one, cell in zip(found[1:], (matrix[1], matrix[3]), strict=True):
        assert np.mean(cell.cosines[~made.outcome.is_same] > one.threshold) == 0.1


def test_calibrations_stand_side_by_side_and_the_same_pairs_replace():
    first = calibration.merge([], [entry("hr_hr", 112), entry("hr_lr", 14)])
    assert {one.calibration for one in first} == {1}
    again = calibration.merge(first, [entry("hr_hr", 112, threshold=0.5)])
    assert [(one.mode, one.threshold, one.calibration) for one in again] == [("hr_lr", 0.3, 1), ("hr_hr", 0.5, 2)]
    for change in ({"fusion": "none"}, {"set": "own"}, {"digest": "1"}, {"protocol": "released"}, {"far": 0.1}):
        added = [dataclasses.replace(entry("hr_hr", 112), **change)]
        assert calibration.merge(first, added)[:2] == first
        assert len(calibration.merge(first, added)) == 3


def test_centered_thresholds_go_with_the_means_they_were_measured_by():
    def of(set, **changes):
        return dataclasses.replace(entry("hr_hr", 112, set=set), **changes)

    def mean(set):
        return Mean.of(np.zeros(2, np.float32), resolution=112, fusion="sum", set=set, digest="", images=4)

    first = calibration.merge([], [of("lfw"), of("lfw", centering="per_resolution")], means=[mean("lfw")])
    assert len(first) == 2
    second = [of("own"), of("own", centering="per_resolution")]
    found = calibration.merge(first, second, means=[mean("own")])
    assert [(one.set, one.centering) for one in found] == [
        ("lfw", "none"),
        ("own", "none"),
        ("own", "per_resolution"),
    ]
    without = calibration.merge(found, [of("other", fusion="none")])
    assert [one.set for one in without] == ["lfw", "own", "own", "other"]


def test_a_calibration_tries_the_other_centering_and_keeps_the_means_of_the_largest_set():
    made = result(50, 100)
    tried = calibration.with_other_centering(made.evaluation)
    assert [one.centering for one in tried.also] == ["per_resolution"]
    centered = dataclasses.replace(tried, rules=tried.also[0])
    assert [one.centering for one in calibration.with_other_centering(centered).also] == ["none"]
    listed = dataclasses.replace(tried.rules, size_lists=("avg",))
    assert calibration.with_other_centering(dataclasses.replace(made.evaluation, rules=listed)).also == ()

    def of(images, value):
        outcome = dataclasses.replace(made.outcome, means={14: np.full(2, value, np.float32)})
        pairs = np.arange(images).reshape(-1, 2)
        protocol = protocol_arrays.VerificationProtocol(pairs, np.ones(len(pairs), bool), np.zeros(len(pairs), int))
        test_set = dataclasses.replace(made.evaluation.test_set, protocol=protocol)
        asked = dataclasses.replace(centered, test_set=test_set)
        return dataclasses.replace(made, also=(evaluation.SetResult(asked, outcome, {}),))

    found = calibration.means_of({"small": of(4, 0.1), "large": of(8, 0.2), "other": of(6, 0.3)})
    assert [(one.set, one.images, one.resolution) for one in found] == [("large", 8, 14)]
    np.testing.assert_array_equal(found[0].vector, np.full(2, 0.2, np.float32))


def shifted(result, by):
    """The same pairs with other similarities, as people of another origin have."""
    comparisons = tuple(dataclasses.replace(one, cosines=one.cosines + by) for one in result.outcome.comparisons)
    return dataclasses.replace(result, outcome=dataclasses.replace(result.outcome, comparisons=comparisons))


def test_thresholds_are_measured_on_the_impostors_of_other_sets():
    one = result(50, 1000)
    other = shifted(one, 0.05)
    carried = carried_over.measure({"one": one, "other": other, "few": result(5, 9)})
    assert set(carried) == {"one", "other", "few"}
    row = next(r for r in carried["other"] if (r["set"], r["mode"], r["far"]) == ("one", "hr_lr", 0.1))
    low, high = (r.outcome.by_mode["hr_lr", 14].cosines[~r.outcome.is_same] for r in (one, other))
    assert row["threshold"] == metrics.strictest_threshold(low, 0.1)
    assert row["accepted"] == np.mean(high > row["threshold"])
    assert row["far_low"] < row["accepted"] < row["far_high"]
    assert row["accepted"] > 0.15
    assert {r["set"] for r in carried["few"]} == {"one", "other"}
    table = "\n".join(carried_over.table(carried_over.kept_in({name: {} for name in carried}, carried)))
    assert f"| one | other | HR-LR | 14 | 0.1 | {row['threshold']:.4f} | -0.050 | {row['accepted']:.2g} (" in table
    assert "| one | few | HR-HR | 112 | 0.1 |" in table
    assert carried_over.measure({"one": one}) == {}
    assert carried_over.table({}) == []
    kept = carried_over.kept_in({"one": {"kind": "x"}, "alone": {}}, carried)
    assert kept == {"one": {"kind": "x", "carried_over": carried["one"]}, "alone": {}}


def test_thresholds_of_another_reading_are_not_carried_over():
    one = result(50, 1000)
    other = dataclasses.replace(one.evaluation.rules, fusion="concat")
    summed = dataclasses.replace(one, evaluation=dataclasses.replace(one.evaluation, rules=other))
    assert carried_over.measure({"one": one, "other": summed}) == {}
