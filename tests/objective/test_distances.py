import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrfr_jax.objective import distances

LOGEXP = distances.logexp_distance


@pytest.fixture
def pairs():
    x, y = np.random.default_rng(2).normal(size=(2, 8, 16)).astype(np.float32)
    return distances.unit_length(jnp.asarray(x)), distances.unit_length(jnp.asarray(y))


def in_double(test):
    @functools.wraps(test)
    def wrapped(*args, **kwargs):
        with jax.enable_x64(True):
            return test(*args, **kwargs)

    return wrapped


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
    paper = functools.partial(distances.pair_distance, y=y, reduction="paper", **settings)
    check(paper, g[f"paper_p{p}"].mean(), g[f"paper_p{p}_grad_x_of_mean"])
    released = functools.partial(distances.pair_distance, y=y, reduction="released", **settings)
    check(released, g[f"released_p{p}"], g[f"released_p{p}_grad_x"])
    np.testing.assert_allclose(LOGEXP(x, y, p=p), g[f"paper_p{p}"], rtol=1e-6)
    np.testing.assert_allclose(distances.l1_distance(x, y), g["l1"], rtol=1e-6)
    np.testing.assert_allclose(distances.l2_distance(x, y), g["l2"], rtol=1e-6)


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
    together = distances.logexp_distance_released(x, y, p=1)
    np.testing.assert_allclose(together * 8, LOGEXP(x.reshape(1, -1), y.reshape(1, -1), p=1)[0] * 128, rtol=1e-5)
    alone = distances.logexp_distance_released(x[:1], y[:1], p=1)
    np.testing.assert_allclose(alone, LOGEXP(x[:1], y[:1], p=1)[0] * 16, rtol=1e-6)


def test_derivatives_per_dimension_as_in_figure_4():
    d = jnp.array([[0.25, -0.5, 1.75]])
    slopes = {
        name: jax.grad(lambda x, f=function: f(x, jnp.zeros_like(x)).sum())(d) * 3
        for name, function in distances.DISTANCES.items()
        if name != "logexp"
    }
    np.testing.assert_allclose(slopes["l1"], [[1, -1, 1]], rtol=1e-6)
    np.testing.assert_allclose(slopes["l2"], d, rtol=1e-6)
    np.testing.assert_allclose(slopes["smooth_l1"], [[0.25, -0.5, 1]], rtol=1e-6)
    expected = [0.25**2 / 2, 0.5**2 / 2, 1.75 - 0.5]
    np.testing.assert_allclose(distances.smooth_l1_distance(d, jnp.zeros_like(d)), [np.mean(expected)], rtol=1e-6)


@pytest.mark.parametrize(
    "distance",
    [
        distances.l1_distance,
        distances.l2_distance,
        distances.smooth_l1_distance,
        *(functools.partial(LOGEXP, p=p) for p in (1, 1.25, 2)),
        *(functools.partial(distances.logexp_distance_released, p=p) for p in (1, 1.25, 2)),
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
    expected = distances.DISTANCES[distance](*pairs, **exponent).mean()
    actual = distances.pair_distance(*pairs, distance=distance, p=p, reduction="paper")
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
        distances.pair_distance(*pairs, **{"distance": "logexp", "p": 1, "reduction": "paper"} | change)


def test_unit_length_and_its_gradient_at_zero(pairs):
    features = 7 * pairs[0] * jnp.arange(1, 9)[:, None]
    np.testing.assert_allclose(jnp.linalg.norm(distances.unit_length(features), axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(distances.unit_length(features), pairs[0], rtol=1e-5)
    zero = jnp.zeros((1, 4))
    np.testing.assert_array_equal(distances.unit_length(zero), 0)
    assert jnp.isfinite(jax.grad(lambda f: distances.unit_length(f).sum())(zero)).all()
