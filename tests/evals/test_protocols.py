import numpy as np
import pytest

from lrfr_jax.evals.protocols import PROTOCOLS, unit

FEATURES = np.random.default_rng(0).normal(size=(2, 30, 2, 8)).astype(np.float32)


def similarity(name, features=FEATURES):
    protocol = PROTOCOLS[name]
    return protocol.cosines(protocol.score(*map(protocol.fuse, features)))


def cos(x, y):
    return np.sum(unit(x) * unit(y), axis=-1)


def test_released_is_the_mean_of_the_cosines_of_equal_orientation():
    x, y = FEATURES
    # The released denominator is ||[u, v]||^2 + 1e-5 = 2 + 1e-5.
    np.testing.assert_allclose(similarity("released"), (cos(x, y)[:, 0] + cos(x, y)[:, 1]) / (2 + 1e-5), atol=1e-12)


def test_insightface_adds_raw_features_before_the_length_is_taken():
    x, y = FEATURES.astype(np.float64)
    np.testing.assert_allclose(similarity("insightface"), cos(x[:, 0] + x[:, 1], y[:, 0] + y[:, 1]), atol=1e-12)
    assert np.abs(similarity("insightface") - similarity("released")).max() > 0.05


def test_no_flip_ignores_the_mirrored_image():
    changed = FEATURES.copy()
    changed[:, :, 1] = 7
    np.testing.assert_array_equal(similarity("insightface_no_flip"), similarity("insightface_no_flip", changed))
    np.testing.assert_allclose(similarity("insightface_no_flip"), cos(*FEATURES)[:, 0], atol=1e-12)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_orientations_may_be_swapped_and_lengths_do_not_matter_unless_flips_are_added(name):
    if name != "insightface_no_flip":
        np.testing.assert_allclose(similarity(name), similarity(name, FEATURES[:, :, ::-1]), atol=1e-12)
    np.testing.assert_allclose(similarity(name), similarity(name, 3 * FEATURES), atol=1e-6)
    rescaled = similarity(name, FEATURES * np.array([1.0, 5.0])[:, None].astype(np.float32))
    assert np.allclose(similarity(name), rescaled, atol=1e-6) == (name != "insightface")


def test_grids_are_the_published_ones():
    np.testing.assert_array_equal(-PROTOCOLS["insightface"].thresholds, np.arange(0, 4, 0.01))
    np.testing.assert_array_equal(PROTOCOLS["released"].thresholds, np.arange(-1, 1, 0.005))
    assert {protocol.ties for protocol in PROTOCOLS.values()} == {"strictest"}


def test_a_zero_vector_stays_zero():
    np.testing.assert_array_equal(unit(np.array([[0.0, 0.0], [3.0, 4.0]])), [[0, 0], [0.6, 0.8]])
