import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrfr_jax import losses

LOGEXP = losses.logexp_distance


@pytest.fixture
def cosines():
    return jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (12, 20)), jnp.float32)


@pytest.fixture
def labels():
    return jnp.asarray(np.random.default_rng(1).integers(0, 20, 12), jnp.int32)


@pytest.fixture
def pairs():
    x, y = np.random.default_rng(2).normal(size=(2, 8, 16)).astype(np.float32)
    return losses.unit_length(jnp.asarray(x)), losses.unit_length(jnp.asarray(y))


def in_double(test):
    @functools.wraps(test)
    def wrapped(*args, **kwargs):
        with jax.enable_x64(True):
            return test(*args, **kwargs)

    return wrapped


def margin_logits(name):
    """The whole matrix of logits, of the rule for the label's cosine."""

    def logits(cosines, labels, **settings):
        own = losses.MARGINS[name](jnp.take_along_axis(cosines, labels[:, None], axis=1), **settings)
        at_label = jax.nn.one_hot(labels, cosines.shape[1], dtype=bool)
        return jnp.where(at_label, own, settings["scale"] * cosines)

    return logits


def mean_loss(margin_logits, cosines, labels, **settings):
    return jnp.mean(losses.cross_entropy(margin_logits(cosines, labels, **settings), labels))


@pytest.mark.parametrize("name", ["cosface", "arcface", "arcface_straight_through"])
def test_margin_zero_is_softmax(name, cosines, labels):
    np.testing.assert_array_equal(losses.softmax_target(cosines, scale=48.0, margin=0), 48 * cosines)
    logits = margin_logits(name)(cosines, labels, scale=48.0, margin=0.0)
    np.testing.assert_allclose(logits, 48 * cosines, atol=2e-5)


@pytest.mark.parametrize("name", ["cosface", "arcface", "arcface_straight_through"])
def test_whole_matrices_follow_the_rule_for_the_label(name, cosines, labels):
    settings = {"scale": 48.0, "margin": 0.4}
    gradient = {"gradient": "straight_through" if "through" in name else "exact"} if "arcface" in name else {}
    whole = losses.arcface_logits if gradient else losses.cosface_logits
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
    assert (losses.cross_entropy(large, labels) > losses.cross_entropy(small, labels)).all()


@in_double
def test_cosface_golden(golden):
    g = golden("cosface")
    labels = jnp.asarray(g["labels"])

    def loss(features, centers):
        cosines = losses.unit_length(features) @ losses.unit_length(centers).T
        logits = losses.cosface_logits(cosines, labels, scale=float(g["scale"]), margin=float(g["margin"]))
        return jnp.mean(losses.cross_entropy(logits, labels)), logits

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
        return jax.grad(functools.partial(losses.MARGINS[name], scale=1.0, margin=0.5))(cosine)

    np.testing.assert_allclose(slope("arcface"), exact, atol=1e-3)
    np.testing.assert_allclose(slope("arcface_straight_through"), 1, atol=1e-6)


@pytest.mark.parametrize("name", list(losses.MARGINS))
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
    np.testing.assert_allclose(losses.cross_entropy(20 * cosines, labels), expected, atol=1e-5)
    missing = losses.cross_entropy(cosines[:3], jnp.array([-1, 20, 19]))
    np.testing.assert_array_equal(jnp.isnan(missing), [True, True, False])


@in_double
@pytest.mark.parametrize("p", [1, 2])
def test_distance_golden(golden, p):
    g = golden("distance")
    x, y = jnp.asarray(g["x"]), jnp.asarray(g["y"])

    def check(distance, value, gradient):
        actual = jax.value_and_grad(distance)(x)
        np.testing.assert_allclose(actual[0], value, rtol=1e-6)
        np.testing.assert_allclose(actual[1], gradient, rtol=0, atol=1e-8)

    settings = {"distance": "logexp", "p": p}
    paper = functools.partial(losses.pair_distance, y=y, reduction="paper", **settings)
    check(paper, g[f"paper_p{p}"].mean(), g[f"paper_p{p}_grad_x_of_mean"])
    released = functools.partial(losses.pair_distance, y=y, reduction="released", **settings)
    check(released, g[f"released_p{p}"], g[f"released_p{p}_grad_x"])
    np.testing.assert_allclose(LOGEXP(x, y, p=p), g[f"paper_p{p}"], rtol=1e-6)
    np.testing.assert_allclose(losses.l1_distance(x, y), g["l1"], rtol=1e-6)
    np.testing.assert_allclose(losses.l2_distance(x, y), g["l2"], rtol=1e-6)


@pytest.mark.parametrize("p", [1, 1.5, 2, 3.0])
def test_logexp_formula_bounds_and_equality_at_one_dimension(p, pairs):
    x, y = pairs
    powers = np.abs(np.asarray(x, np.float64) - np.asarray(y, np.float64)) ** p
    value = LOGEXP(x, y, p=p)
    np.testing.assert_allclose(value, np.log(1 + (np.exp(powers) - 1).sum(axis=1)) / (p * 16), rtol=1e-5)
    assert (powers.max(axis=1) <= p * 16 * value + 1e-6).all()
    assert (p * 16 * value <= powers.sum(axis=1) + 1e-6).all()
    np.testing.assert_allclose(p * LOGEXP(x[:, :1], y[:, :1], p=p), powers[:, 0], rtol=1e-5)


@pytest.mark.parametrize(
    ("p", "difference", "value"),
    [
        (1, (1, 0), 0.5),
        (1, (1, 1), np.log(2 * np.e - 1) / 2),
        (1, (np.log(2), np.log(2)), np.log(3) / 2),
        (2, (1, 1), 0.372470),
    ],
)
def test_logexp_closed_forms(p, difference, value):
    difference = jnp.asarray([difference], jnp.float32)
    np.testing.assert_allclose(LOGEXP(difference, jnp.zeros_like(difference), p=p), [value], rtol=1e-6)


def test_logexp_keeps_its_digits_for_close_pairs():
    x = jnp.full((1, 4), 1e-4)
    np.testing.assert_allclose(LOGEXP(x, jnp.zeros_like(x), p=2), [4 * 1e-8 / 8], rtol=1e-5)


def test_released_couples_the_pairs(pairs):
    x, y = pairs
    together = losses.logexp_distance_released(x, y, p=1)
    np.testing.assert_allclose(together * 8, LOGEXP(x.reshape(1, -1), y.reshape(1, -1), p=1)[0] * 128, rtol=1e-5)
    alone = losses.logexp_distance_released(x[:1], y[:1], p=1)
    np.testing.assert_allclose(alone, LOGEXP(x[:1], y[:1], p=1)[0] * 16, rtol=1e-6)


def test_derivatives_per_dimension_as_in_figure_4():
    d = jnp.array([[0.25, -0.5, 1.75]])
    slopes = {
        name: jax.grad(lambda x, f=function: f(x, jnp.zeros_like(x)).sum())(d) * 3
        for name, function in losses.DISTANCES.items()
        if name != "logexp"
    }
    np.testing.assert_allclose(slopes["l1"], [[1, -1, 1]], rtol=1e-6)
    np.testing.assert_allclose(slopes["l2"], d, rtol=1e-6)
    np.testing.assert_allclose(slopes["smooth_l1"], [[0.25, -0.5, 1]], rtol=1e-6)
    expected = [0.25**2 / 2, 0.5**2 / 2, 1.75 - 0.5]
    np.testing.assert_allclose(losses.smooth_l1_distance(d, jnp.zeros_like(d)), [np.mean(expected)], rtol=1e-6)


@pytest.mark.parametrize(
    "distance",
    [
        losses.l1_distance,
        losses.l2_distance,
        losses.smooth_l1_distance,
        *(functools.partial(LOGEXP, p=p) for p in (1, 1.25, 2)),
        *(functools.partial(losses.logexp_distance_released, p=p) for p in (1, 1.25, 2)),
    ],
)
def test_equal_embeddings_have_no_gradient_and_distances_are_symmetric(distance, pairs):
    x, y = pairs
    np.testing.assert_array_equal(jax.grad(lambda x: distance(x, y).sum())(y), 0)
    np.testing.assert_array_equal(distance(y, y), 0)
    np.testing.assert_array_equal(distance(x, y), distance(y, x))


@pytest.mark.parametrize(("distance", "p"), [("l1", 1), ("l2", 2), ("smooth_l1", 1.0), ("logexp", 1.5)])
def test_pair_distance_is_the_mean(distance, p, pairs):
    exponent = {"p": p} if distance == "logexp" else {}
    expected = losses.DISTANCES[distance](*pairs, **exponent).mean()
    actual = losses.pair_distance(*pairs, distance=distance, p=p, reduction="paper")
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"distance": "l3"}, "distance='l3' is unknown"),
        ({"reduction": "sum"}, "reduction='sum' is unknown"),
        ({"distance": "l1", "p": 2}, "set p to 1"),
        ({"distance": "l2"}, "set p to 2"),
        ({"distance": "l1", "reduction": "released"}, "exists for logexp only"),
        ({"p": 0.5}, "p=0.5 is below 1"),
    ],
)
def test_pair_distance_refuses(change, sentence, pairs):
    with pytest.raises(ValueError, match=sentence):
        losses.pair_distance(*pairs, **{"distance": "logexp", "p": 1, "reduction": "paper"} | change)


def test_margins_refuse(cosines, labels):
    with pytest.raises(ValueError, match=r"margin=0\.4 has no meaning for softmax"):
        losses.softmax_target(cosines, scale=1.0, margin=0.4)
    with pytest.raises(ValueError, match="gradient='none' is unknown"):
        losses.arcface_logits(cosines, labels, scale=1.0, margin=0.4, gradient="none")


def test_unit_length_and_its_gradient_at_zero(pairs):
    features = 7 * pairs[0] * jnp.arange(1, 9)[:, None]
    np.testing.assert_allclose(jnp.linalg.norm(losses.unit_length(features), axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(losses.unit_length(features), pairs[0], rtol=1e-5)
    zero = jnp.zeros((1, 4))
    np.testing.assert_array_equal(losses.unit_length(zero), 0)
    assert jnp.isfinite(jax.grad(lambda f: losses.unit_length(f).sum())(zero)).all()
