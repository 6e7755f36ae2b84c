import numpy as np
import pytest

from lrfr_jax.evals.fusion import FUSIONS, fuse, unit

FEATURES = np.random.default_rng(0).normal(size=(2, 30, 2, 8)).astype(np.float32)


def cos(x, y):
    return np.sum(unit(x) * unit(y), axis=-1)


def similarity(name, features=FEATURES):
    return cos(*map(FUSIONS[name], features))


def test_concat_is_the_mean_of_the_cosines_of_equal_orientation():
    np.testing.assert_allclose(similarity("concat"), cos(*FEATURES).mean(axis=1), atol=1e-12)


@pytest.mark.parametrize("name", ["sum", "norm_weighted"])
def test_sum_adds_raw_features_before_the_length_is_taken(name):
    x, y = FEATURES.astype(np.float64)
    np.testing.assert_allclose(similarity(name), cos(x[:, 0] + x[:, 1], y[:, 0] + y[:, 1]), atol=1e-12)
    # AdaFace's words: unit vectors, weighted by their norms, added.
    weighted = [np.linalg.norm(f, axis=-1, keepdims=True) * unit(f) for f in (x, y)]
    np.testing.assert_allclose(similarity(name), cos(*(w.sum(axis=1) for w in weighted)), atol=1e-12)
    assert np.abs(similarity(name) - similarity("concat")).max() > 0.05


def test_unit_sum_gives_both_orientations_the_same_weight():
    x, y = map(unit, FEATURES)
    np.testing.assert_allclose(similarity("unit_sum"), cos(x[:, 0] + x[:, 1], y[:, 0] + y[:, 1]), atol=1e-12)
    rescaled = FEATURES * np.array([1, 5], np.float32)[:, None]
    np.testing.assert_allclose(similarity("unit_sum"), similarity("unit_sum", rescaled), atol=1e-6)
    assert np.abs(similarity("sum") - similarity("sum", rescaled)).max() > 0.05


def test_no_flip_ignores_the_mirrored_image():
    changed = FEATURES.copy()
    changed[:, :, 1] = 7
    np.testing.assert_array_equal(similarity("none"), similarity("none", changed))
    np.testing.assert_allclose(similarity("none"), cos(*FEATURES)[:, 0], atol=1e-12)


@pytest.mark.parametrize("name", FUSIONS)
def test_orientations_may_be_swapped_and_chunks_do_not_show(name, monkeypatch):
    if name != "none":
        np.testing.assert_allclose(similarity(name), similarity(name, FEATURES[:, :, ::-1]), atol=1e-12)
    monkeypatch.setattr("lrfr_jax.evals.fusion._CHUNK", 7)
    fused = fuse(FEATURES[0], fusion=name)
    assert fused.dtype == np.float32
    np.testing.assert_allclose(fused, FUSIONS[name](FEATURES[0]), atol=1e-7)


def test_a_zero_vector_stays_zero():
    np.testing.assert_array_equal(unit(np.array([[0.0, 0.0], [3.0, 4.0]])), [[0, 0], [0.6, 0.8]])
