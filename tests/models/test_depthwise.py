"""Shifted sums and XLA's grouped convolution are one function, forward and backward."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrfr_jax.models import depthwise


@pytest.mark.parametrize(
    ("height", "width", "size", "stride"), [(7, 6, 3, 1), (8, 8, 3, 2), (7, 9, 3, 2), (9, 8, 5, 2)]
)
def test_shifted_sums_equal_the_grouped_convolution(height, width, size, stride):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(3, height, width, 4)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(size, size, 1, 4)), jnp.float32)
    # The tests run on a CPU, where this is the form of shifted sums.
    value, pull_back = jax.vjp(functools.partial(depthwise.depthwise_conv, stride=stride), x, kernel)
    expected, expected_pull_back = jax.vjp(functools.partial(depthwise._grouped_conv, stride=stride), x, kernel)
    np.testing.assert_allclose(value, expected, atol=1e-5)
    gradient = jnp.asarray(rng.normal(size=value.shape), jnp.float32)
    for found, wanted in zip(pull_back(gradient), expected_pull_back(gradient), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_each_channel_has_its_own_kernel():
    x = jnp.zeros((1, 5, 5, 2)).at[0, 2, 2].set(1.0)
    kernel = jnp.arange(18.0).reshape(3, 3, 1, 2)
    # A convolution without turning, as everywhere in deep learning: the impulse shows the kernel turned by 180 degrees.
    np.testing.assert_array_equal(depthwise.depthwise_conv(x, kernel, 1)[0, 1:4, 1:4], kernel[::-1, ::-1, 0])
