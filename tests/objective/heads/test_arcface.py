import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrfr_jax.objective import heads
from tests.objective.heads.toy import T0, close, dense_losses, in_double, make


def own_logit(cosine, **settings):
    return make("arcface", **settings).own(cosine, None, None, {})


@in_double
def test_values_and_gradient():
    close(own_logit(jnp.asarray([0.6]), scale=8.0), [1.144073])
    losses, _, slopes = dense_losses(make("arcface", scale=8.0), T0)
    close(losses, [1.5206941], digits=7)
    close(slopes["cosines"], [[-7.734077, 6.139078, 0.112441]])


@in_double
@pytest.mark.parametrize(
    ("gradient", "logits", "slopes"),
    [("straight_through", "logits", "grad_straight_through"), ("exact", "logits_exact", "grad_exact")],
)
def test_golden(golden, gradient, logits, slopes):
    g = golden("arcface")
    settings = {"scale": float(g["scale"]), "margin": float(g["margin"]), "gradient": gradient}
    cosines, labels = jnp.asarray(g["cosines"]), jnp.asarray(g["labels"])
    np.testing.assert_allclose(heads.arcface_logits(cosines, labels, **settings), g[logits], rtol=0, atol=1e-6)
    losses, _, of_sum = dense_losses(make("arcface", **settings), cosines, labels=labels)
    np.testing.assert_allclose(losses.mean(), g["loss"], rtol=1e-6)
    np.testing.assert_allclose(of_sum["cosines"] / len(labels), g[slopes], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("cosine", "exact"), [(0.6, 1.237), (0.95, 2.336), (-0.9, -0.112)])
def test_gradients_differ_as_published(cosine, exact):
    slope = {
        gradient: jax.grad(functools.partial(own_logit, scale=1.0, gradient=gradient))(cosine)
        for gradient in ("exact", "straight_through")
    }
    np.testing.assert_allclose(slope["exact"], exact, atol=1e-3)
    np.testing.assert_allclose(slope["straight_through"], 1, atol=1e-6)


# c_y, and the own cosine after the margin of 0.5 by each guard; pi - 0.5 has the cosine -0.8775826.
COS, SIN = np.cos(0.5), np.sin(0.5)
GUARDED = [
    (0.3, {"none": 0.3 * COS - np.sqrt(0.91) * SIN, "easy": None, "fallback": None}),
    (-0.2, {"none": -0.2 * COS - np.sqrt(0.96) * SIN, "easy": -0.2, "fallback": None}),
    (-0.8775826, {"none": -0.8775826 * COS - np.sqrt(1 - 0.8775826**2) * SIN, "easy": -0.8775826}),
    (-0.95, {"none": -0.95 * COS - np.sqrt(1 - 0.95**2) * SIN, "easy": -0.95, "fallback": -0.95 - 0.2397128}),
]


@in_double
@pytest.mark.parametrize(("cosine", "expected"), GUARDED)
@pytest.mark.parametrize("gradient", ["exact", "straight_through"])
def test_guards_beyond_pi(cosine, expected, gradient):
    for guard, value in expected.items():
        actual = own_logit(jnp.asarray([cosine]), scale=8.0, guard=guard, gradient=gradient)
        np.testing.assert_allclose(actual, [8 * (expected["none"] if value is None else value)], atol=1e-6)


def test_without_a_guard_the_loss_falls_again_beyond_pi():
    falling = own_logit(jnp.asarray([-1.0, -0.95, -0.8775826]), guard="none")
    assert falling[0] > falling[1] > falling[2]
    rising = own_logit(jnp.asarray([-1.0, -0.95, -0.8775826]), guard="fallback")
    assert rising[0] < rising[1] < rising[2]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"gradient": "none"}, "gradient='none' is unknown: choose exact or straight_through"),
        ({"guard": "hard"}, "guard='hard' is unknown: choose none, easy or fallback"),
        ({"scale": 0}, "scale=0 must be above 0"),
    ],
)
def test_refuses(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        make("arcface", **change)


def test_whole_matrix_refuses_an_unknown_gradient():
    with pytest.raises(ValueError, match="gradient='none' is unknown"):
        heads.arcface_logits(jnp.zeros((1, 2)), jnp.zeros(1, jnp.int32), scale=1.0, margin=0.4, gradient="none")
