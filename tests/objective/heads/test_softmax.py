import jax.numpy as jnp
import numpy as np
import pytest

from tests.objective.heads.toy import T0, close, dense_losses, in_double, make


@in_double
def test_softmax_of_scaled_cosines():
    losses, _, slopes = dense_losses(make("softmax", scale=8.0), T0)
    close(losses, [0.0883584], digits=7)
    close(slopes["cosines"], [[-0.676538, 0.664369, 0.012168]])


@in_double
@pytest.mark.parametrize("bias", [True, False])
def test_linear_softmax_is_the_softmax_of_products(bias):
    head = make("linear_softmax", bias=bias)
    assert (head.normalize, head.bias) == ("none", "per_identity" if bias else "none")
    products, numbers = np.array([[3.0, -1.0, 40.0], [2.0, 2.5, 0.0]]), np.array([0.5, -0.2, 0.1])
    logits = products + numbers if bias else products
    losses, _, slopes = dense_losses(head, products, labels=[0, 1], bias=numbers if bias else None)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(losses, -np.log(probabilities[[0, 1], [0, 1]]), rtol=1e-12)
    expected = probabilities - np.eye(3)[[0, 1]]
    np.testing.assert_allclose(slopes["cosines"], expected, atol=1e-12)
    if bias:
        np.testing.assert_allclose(slopes["bias"], expected.sum(axis=0), atol=1e-12)


def test_bias_starts_at_zero():
    assert make("linear_softmax").first_bias(10575) == 0


@pytest.mark.parametrize("scale", [0, -1.0, float("nan")])
def test_softmax_refuses_the_scale(scale):
    with pytest.raises(ValueError, match=f"scale={scale} must be above 0"):
        make("softmax", scale=scale)


def test_margin_zero_is_softmax():
    cosines = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (12, 20)), jnp.float32)
    expected = dense_losses(make("softmax", scale=48.0), cosines)[0]
    for name in ("cosface", "arcface"):
        losses = dense_losses(make(name, scale=48.0, margin=0.0), cosines)[0]
        np.testing.assert_allclose(losses, expected, atol=5e-5)
