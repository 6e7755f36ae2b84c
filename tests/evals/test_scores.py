"""QMagFace's score, its form of a set of images, and the line that is fitted, against values and slow loops."""

import numpy as np
import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.evals import scores
from lrfr_jax.evals.scores import Line, Score

R100 = scores.QMAG_LINES["iresnet100"]


@pytest.mark.parametrize(
    ("cosine", "quality", "expected"),
    [(0.4, 20, -0.141152), (0.4, 30, -0.411728), (0.7, 30, 0.7), (0.1, 15, -0.872531)],
)
def test_qmag_has_the_official_values(cosine, quality, expected):
    found = Score("qmag", R100).of(np.array([cosine]), np.array([float(quality)]))
    np.testing.assert_allclose(found, [expected], atol=1e-6)


def test_constants_meet_the_cosine_where_they_should():
    met = {name: line.alpha / line.beta for name, line in scores.QMAG_LINES.items()}
    assert met == pytest.approx({"iresnet18": 0.6863, "iresnet50": 0.6357, "iresnet100": 0.6149}, abs=5e-5)
    cosines = np.linspace(-1, 1, 21)
    for line in scores.QMAG_LINES.values():
        found = scores.qmag(cosines, np.full(21, 25.0), line=line)
        above = cosines >= line.alpha / line.beta
        np.testing.assert_array_equal(found[above], cosines[above])
        assert (found[~above] < cosines[~above]).all()


def test_quality_zero_and_the_score_cosine_change_nothing():
    cosines = np.linspace(-1, 1, 5)
    np.testing.assert_array_equal(scores.qmag(cosines, np.zeros(5), line=R100), cosines)
    np.testing.assert_array_equal(scores.COSINE.of(cosines, np.full(5, 30.0)), cosines)


def test_it_is_symmetric_and_not_monotone_over_pairs_of_different_quality():
    np.testing.assert_array_equal(scores.worse(np.array([1.0, 5.0]), np.array([2.0])), [[1.0], [2.0]])
    lower, higher = Score("qmag", R100).of(np.array([0.3, 0.4]), np.array([5.0, 30.0]))
    assert lower > higher


def test_a_set_of_images_has_the_official_form():
    features = np.array([[3.0, 4.0], [0.0, 10.0], [1.0, 0.0]])
    found, lengths = scores.pooled(features, np.linalg.norm(features, axis=1), np.array([0, 0, 1]))
    np.testing.assert_allclose(found, [[1.033623, 8.268982], [1, 0]], atol=1e-6)
    np.testing.assert_allclose(lengths, [8.333333, 1], atol=1e-6)


@pytest.mark.parametrize(
    ("given", "fitted", "backbone", "expected"),
    [
        (Line(1, 2), Line(3, 4), "iresnet50", Line(1, 2)),
        (None, Line(3, 4), "iresnet50", Line(3, 4)),
        (None, None, "iresnet50", Line(0.065984, 0.103799)),
    ],
)
def test_given_constants_come_before_fitted_ones_and_these_before_the_backbones(given, fitted, backbone, expected):
    assert scores.score_of("qmag", given=given, fitted=fitted, backbone=backbone) == Score("qmag", expected)


def test_missing_and_idle_constants_are_told():
    with pytest.raises(UserError, match=r"no constants for mobilefacenet .* --fit_qmag SET"):
        scores.score_of("qmag", given=None, fitted=None, backbone="mobilefacenet")
    with pytest.raises(UserError, match="do nothing with the score cosine"):
        scores.score_of("cosine", given=R100, fitted=None, backbone="iresnet50")
    assert scores.score_of("cosine", given=None, fitted=R100, backbone="iresnet50") == scores.COSINE


def test_names_tell_constants_apart():
    assert str(scores.COSINE) == "cosine"
    assert str(Score("qmag", R100)) == "qmag(0.077428, 0.125926)"


def drawn_pairs(count, seed=0):
    """Cosines of genuine pairs grow with quality, those of impostors do not."""
    draw = np.random.default_rng(seed)
    is_same = np.arange(count) < count // 4
    qualities = draw.uniform(5, 30, count)
    cosines = np.where(is_same, 0.2 + 0.02 * qualities, 0.0) + draw.normal(0, 0.15, count)
    return np.clip(cosines, -1, 1), qualities, is_same


def slow_fit(cosines, qualities, is_same, rates, axis):
    """As the released code goes about it: every threshold of the ROC, point by point."""
    slopes = np.linspace(-0.5 / qualities.max(), 0.5 / qualities.max(), 20)
    points = []
    for rate in np.geomspace(*rates, 50):
        best = (np.inf, None, None)
        for slope in slopes:
            values = cosines + slope * qualities
            genuine, impostors = values[is_same], values[~is_same]
            allowed = [(np.mean(genuine >= t), t) for t in genuine if np.mean(impostors >= t) < rate]
            tpr, threshold = max(allowed, default=(0.0, np.inf))
            if 1 - tpr < best[0]:
                best = (1 - tpr, slope, threshold)
        points.append(best[1:])
    slopes, thresholds = np.array(points).T
    thresholds = 1 / (1 + np.exp(-thresholds)) if axis == "released_sigmoid" else thresholds
    beta, intercept = np.polyfit(thresholds, slopes, 1)
    return -intercept, beta


def test_fewer_impostors_than_the_rate_match():
    values, is_same = np.array([0.9, 0.6, 0.4, 0.8, 0.5, 0.3, 0.1]), np.arange(7) < 3
    lost, thresholds = scores._lost_and_threshold(values, is_same, np.array([0.2, 0.25, 0.26, 0.51, 1.0]))
    np.testing.assert_allclose(lost, [2 / 3, 2 / 3, 1 / 3, 0, 0])
    np.testing.assert_allclose(thresholds, [0.9, 0.9, 0.6, 0.4, 0.4])


@pytest.mark.parametrize("axis", ["raw", "released_sigmoid"])
def test_the_line_is_that_of_a_slow_search(axis):
    pairs, rates = drawn_pairs(160), (6 / 120, 36 / 120)  # at the ends, a count of the 120 impostors is the rate itself
    np.testing.assert_allclose(
        scores.fit_line(*pairs, rates=rates, axis=axis), slow_fit(*pairs, rates, axis), rtol=1e-6
    )


def test_a_fitted_line_helps_where_quality_tells():
    cosines, qualities, is_same = drawn_pairs(40_000)
    line = scores.fit_line(cosines, qualities, is_same, rates=(1e-3, 1e-1), axis="raw")

    def accepted(values):
        return np.mean(values[is_same] > np.quantile(values[~is_same], 0.999))

    test, quality, _ = drawn_pairs(40_000, seed=1)
    assert accepted(scores.qmag(test, quality, line=line)) > accepted(test) + 0.005


@pytest.mark.parametrize(
    ("count", "rates", "sentence"),
    [
        (400, (1e-5, 1e-2), "100 genuine and 300 impostor pairs are too few .* from 1e-05 on, which take 100,000"),
        (400, (0.1, 0.01), "must rise"),
        (400, (0.0, 0.1), "must rise and lie between 0 and 1"),
    ],
)
def test_a_set_too_small_for_the_rates_is_told(count, rates, sentence):
    with pytest.raises(UserError, match=sentence):
        scores.fit_line(*drawn_pairs(count), rates=rates, axis="raw")


def test_pairs_that_show_no_line_are_told():
    is_same = np.repeat([True, False], 20)
    cosines = np.where(is_same, 0.5, 0.0)
    with pytest.raises(UserError, match="show no line"):
        scores.fit_line(cosines, np.zeros(40), is_same, rates=(0.1, 0.5), axis="raw")
