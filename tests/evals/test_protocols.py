import dataclasses

import numpy as np
import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.evals import protocols
from lrfr_jax.evals.fusion import FUSIONS, unit
from lrfr_jax.evals.protocols import PROTOCOLS, VerificationRules

FEATURES = np.random.default_rng(0).normal(size=(2, 30, 2, 8)).astype(np.float32)
VERIFICATION = [name for name, rules in PROTOCOLS.items() if isinstance(rules, VerificationRules)]


def scores(name):
    rules = PROTOCOLS[name]
    return rules.scoring.score(*map(FUSIONS[rules.fusion], FEATURES))


def cos(x, y):
    return np.sum(unit(x) * unit(y), axis=-1)


def test_scores_are_the_published_ones():
    x, y = FEATURES.astype(np.float64)
    summed = [unit(x.sum(axis=1)), unit(y.sum(axis=1))]
    np.testing.assert_allclose(scores("insightface"), -np.sum((summed[0] - summed[1]) ** 2, axis=1), atol=1e-12)
    mean = cos(*FEATURES).mean(axis=1)
    # The released denominator is ||[u, v]||^2 + 1e-5 = 2 + 1e-5.
    np.testing.assert_allclose(scores("released"), 2 * mean / (2 + 1e-5), atol=1e-12)
    # scikit-learn's paired_cosine_distances is 1 - cos.
    np.testing.assert_allclose(scores("xqlfw"), -(1 - mean), atol=1e-12)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("name", VERIFICATION)
def test_figures_and_thresholds_are_cosines_whatever_is_fused(name, fusion):
    scoring, fused = PROTOCOLS[name].scoring, [FUSIONS[fusion](features) for features in FEATURES]
    np.testing.assert_allclose(scoring.cosines(scoring.score(*fused)), cos(*fused), atol=1.1e-5)


def test_grids_are_the_published_ones():
    np.testing.assert_array_equal(-PROTOCOLS["insightface"].scoring.thresholds, np.arange(0, 4, 0.01))
    np.testing.assert_array_equal(PROTOCOLS["released"].scoring.thresholds, np.arange(-1, 1, 0.005))
    np.testing.assert_array_equal(-PROTOCOLS["xqlfw"].scoring.thresholds, np.arange(0, 2, 0.001))
    assert {PROTOCOLS[name].scoring.ties for name in VERIFICATION} == {"strictest"}


def test_settings_replace_fields_and_reports_say_so():
    settings = {"protocol": "insightface", "resolutions": [7], "fusion": "none", "fars": [0.5]}
    rules = protocols.rules_of("lfw", "verification", settings)
    assert (rules.fusion, rules.fars) == ("none", (0.5,))
    assert protocols.description("insightface", rules) == "insightface, fusion=none"
    unchanged = protocols.rules_of("lfw", "verification", {"protocol": "xqlfw", "resolutions": ()})
    for field in dataclasses.fields(unchanged):
        assert getattr(unchanged, field.name) is getattr(PROTOCOLS["xqlfw"], field.name)
    assert protocols.description("xqlfw", unchanged) == "xqlfw"


def test_a_set_without_a_named_protocol_gets_its_own():
    assert protocols.default_protocol("verification", "xqlfw") == "xqlfw"
    assert protocols.default_protocol("verification", "pairs") == "insightface"
    assert protocols.default_protocol("identification", "survface") == "survface"
    assert protocols.default_protocol("identification", "gallery") == "gallery"
    assert protocols.default_protocol("verification", "survface") == "survface_verification"
    assert PROTOCOLS["survface_verification"].fars == (0.3, 0.1, 0.01, 0.001)
    assert protocols.default_protocol("templates", "ijb") == "ijb"


@pytest.mark.parametrize(
    ("kind", "change", "sentence"),
    [
        ("verification", {"protocol": "lfw"}, "protocol='lfw' is no protocol for a verification set: .*released"),
        ("identification", {"protocol": "released"}, "choose one of scface, tinyface, survface"),
        ("verification", {"ranks": (1,)}, "evals.faces.ranks is no setting of a verification set"),
        ("verification", {"fusion": "mean"}, "fusion='mean' is unknown: choose one of none, sum"),
        ("verification", {"comparisons": ["lr_hr"]}, "comparisons='lr_hr' is unknown"),
        ("verification", {"fars": (10,)}, "fars=.* not percent"),
        ("identification", {"protocol": "survface", "fpirs": (0,)}, "fpirs=.* not percent"),
    ],
)
def test_bad_settings_are_told(kind, change, sentence):
    with pytest.raises(UserError, match=sentence):
        protocols.rules_of("faces", kind, {"protocol": "insightface", "resolutions": ()} | change)
