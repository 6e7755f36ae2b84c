import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrfr_jax.objective import distances, margins


@pytest.fixture
def cosines():
    return jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (12, 20)), jnp.float32)


@pytest.fixture
def labels():
    return jnp.asarray(np.random.default_rng(1).integers(0, 20, 12), jnp.int32)


def in_double(test):
    @functools.wraps(test)
    def wrapped(*args, **kwargs):
        with jax.enable_x64(True):
            return test(*args, **kwargs)

    return wrapped


def margin_logits(name):
    """The whole matrix of logits, of the rule for the label's cosine."""

    def logits(cosines, labels, **settings):
        own = margins.MARGINS[name](jnp.take_along_axis(cosines, labels[:, None], axis=1), **settings)
        at_label = jax.nn.one_hot(labels, cosines.shape[1], dtype=bool)
        return jnp.where(at_label, own, settings["scale"] * cosines)

    return logits


def mean_loss(margin_logits, cosines, labels, **settings):
    return jnp.mean(margins.cross_entropy(margin_logits(cosines, labels, **settings), labels))


@pytest.mark.parametrize("name", ["cosface", "arcface", "arcface_straight_through"])
def test_margin_zero_is_softmax(name, cosines, labels):
    np.testing.assert_array_equal(margins.softmax_target(cosines, scale=48.0, margin=0), 48 * cosines)
    logits = margin_logits(name)(cosines, labels, scale=48.0, margin=0.0)
    np.testing.assert_allclose(logits, 48 * cosines, atol=2e-5)


@pytest.mark.parametrize("name", ["cosface", "arcface", "arcface_straight_through"])
def test_whole_matrices_follow_the_rule_for_the_label(name, cosines, labels):
    settings = {"scale": 48.0, "margin": 0.4}
    gradient = {"gradient": "straight_through" if "through" in name else "exact"} if "arcface" in name else {}
    whole = margins.arcface_logits if gradient else margins.cosface_logits
    of_whole = jax.value_and_grad(functools.partial(mean_loss, whole))(cosines, labels, **settings, **gradient)
    of_rule = jax.value_and_grad(functools.partial(mean_loss, margin_logits(name)))(cosines, labels, **settings)
    chex.assert_trees_all_close(of_whole, of_rule, rtol=1e-5)


@pytest.mark.parametrize("name", ["cosface", "arcface"])
def test_margin_changes_only_the_labels_logit_and_raises_the_loss(name, cosines, labels):
    cosines = cosines.clip(-0.8, 1)  # ArcFace without a guard rewards beyond theta + m = pi
    small, large = (margin_logits(name)(cosines, labels, scale=8.0, margin=margin) for margin in (0.1, 0.4))
    at_label = np.asarray(jax.nn.one_hot(labels, 20, dtype=bool))
    np.testing.assert_array_equal(np.asarray(large)[~at_label], np.asarray(8 * cosines)[~at_label])
    if name == "cosface":
        expected = 8 * np.asarray(cosines, np.float64)[at_label] - 8 * 0.4
    else:
        expected = 8 * np.cos(np.arccos(np.asarray(cosines, np.float64)[at_label]) + 0.4)
    np.testing.assert_allclose(np.asarray(large)[at_label], expected, atol=1e-5)
    assert (margins.cross_entropy(large, labels) > margins.cross_entropy(small, labels)).all()


@in_double
def test_cosface_golden(golden):
    g = golden("cosface")
    labels = jnp.asarray(g["labels"])

    def loss(features, centers):
        cosines = distances.unit_length(features) @ distances.unit_length(centers).T
        logits = margins.cosface_logits(cosines, labels, scale=float(g["scale"]), margin=float(g["margin"]))
        return jnp.mean(margins.cross_entropy(logits, labels)), logits

    arguments = jnp.asarray(g["features"]), jnp.asarray(g["class_centers"])
    (value, logits), gradients = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(*arguments)
    np.testing.assert_allclose(logits, g["logits"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(value, g["loss"], rtol=1e-6)
    np.testing.assert_allclose(gradients[0], g["grad_features"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(gradients[1], g["grad_class_centers"], rtol=0, atol=1e-6)


@in_double
@pytest.mark.parametrize(
    ("name", "logits", "gradient"),
    [
        ("arcface_straight_through", "logits", "grad_straight_through"),
        ("arcface", "logits_exact", "grad_exact"),
    ],
)
def test_arcface_golden(golden, name, logits, gradient):
    g = golden("arcface")
    settings = {"scale": float(g["scale"]), "margin": float(g["margin"])}
    cosines, labels = jnp.asarray(g["cosines"]), jnp.asarray(g["labels"])
    np.testing.assert_allclose(margin_logits(name)(cosines, labels, **settings), g[logits], rtol=0, atol=1e-6)
    value, slope = jax.value_and_grad(functools.partial(mean_loss, margin_logits(name)))(cosines, labels, **settings)
    np.testing.assert_allclose(value, g["loss"], rtol=1e-6)
    np.testing.assert_allclose(slope, g[gradient], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("cosine", "exact"), [(0.6, 1.237), (0.95, 2.336), (-0.9, -0.112)])
def test_arcface_gradients_differ_as_published(cosine, exact):
    def slope(name):
        return jax.grad(functools.partial(margins.MARGINS[name], scale=1.0, margin=0.5))(cosine)

    np.testing.assert_allclose(slope("arcface"), exact, atol=1e-3)
    np.testing.assert_allclose(slope("arcface_straight_through"), 1, atol=1e-6)


@pytest.mark.parametrize("name", list(margins.MARGINS))
def test_margins_are_finite_at_the_ends(name):
    cosines = jnp.array([[1, -1], [-1, 1], [1 + 1e-6, 0]], jnp.float32)
    labels = jnp.zeros(3, jnp.int32)
    margin = 0 if name == "softmax" else 0.5
    value, slope = jax.value_and_grad(functools.partial(mean_loss, margin_logits(name)))(
        cosines, labels, scale=64, margin=margin
    )
    assert jnp.isfinite(value)
    assert jnp.isfinite(slope).all()


def test_cross_entropy_formula_and_missing_label(cosines, labels):
    logits = 20 * np.asarray(cosines, np.float64)
    expected = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(12), labels]
    np.testing.assert_allclose(margins.cross_entropy(20 * cosines, labels), expected, atol=1e-5)
    missing = margins.cross_entropy(cosines[:3], jnp.array([-1, 20, 19]))
    np.testing.assert_array_equal(jnp.isnan(missing), [True, True, False])


def test_margins_refuse(cosines, labels):
    with pytest.raises(ValueError, match=r"margin=0\.4 has no meaning for softmax"):
        margins.softmax_target(cosines, scale=1.0, margin=0.4)
    with pytest.raises(ValueError, match="gradient='none' is unknown"):
        margins.arcface_logits(cosines, labels, scale=1.0, margin=0.4, gradient="none")
