"""The kernel's gradient as one matrix product and XLA's own are one function."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrfr_jax.models import convolution

WIDE = convolution.PRODUCT_FROM_CHANNELS


def arrays(height, width, size, channels):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(3, height, width, channels)), jnp.float32)
    return x, jnp.asarray(rng.normal(size=(size, size, channels, 5)), jnp.float32)


@pytest.mark.parametrize(
    ("height", "width", "size", "stride", "channels"),
    [
        (7, 6, 3, 1, WIDE),
        (6, 7, 5, 1, WIDE),
        (7, 6, 3, 1, WIDE - 1),  # left to XLA
        (8, 8, 3, 2, 4),
        (7, 9, 3, 2, 4),
        (9, 8, 5, 2, WIDE),
        (5, 4, 1, 1, 4),
        (5, 4, 1, 2, 4),
    ],
)
def test_the_gradients_are_those_of_xlas_convolution(height, width, size, stride, channels):
    x, kernel = arrays(height, width, size, channels)
    # The tests run on a CPU, where the kernel's gradient is a product.
    value, pull_back = jax.vjp(functools.partial(convolution.conv, stride=stride), x, kernel)
    expected, expected_pull_back = jax.vjp(functools.partial(convolution._convolve, stride=stride), x, kernel)
    np.testing.assert_array_equal(value, expected)
    gradient = jnp.asarray(np.random.default_rng(1).normal(size=value.shape), jnp.float32)
    for found, wanted in zip(pull_back(gradient), expected_pull_back(gradient), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize(
    ("size", "stride", "channels", "convolutions"),
    # The input's gradient is a convolution in any case.
    [(3, 1, WIDE, 1), (3, 1, WIDE - 1, 2), (3, 2, 4, 1), (1, 1, 4, 1)],
)
def test_a_cpus_program_has_a_product_where_it_pays(size, stride, channels, convolutions):
    x, kernel = arrays(7, 7, size, channels)

    def gradients(x, kernel, gradient):
        return jax.vjp(functools.partial(convolution.conv, stride=stride), x, kernel)[1](gradient)

    gradient = convolution.conv(x, kernel, stride)
    program = jax.jit(gradients).lower(x, kernel, gradient).as_text()
    assert program.count("stablehlo.convolution") == convolutions
    assert program.count("stablehlo.dot_general") == 2 - convolutions


def test_other_devices_keep_xlas_gradient():
    x, kernel = arrays(7, 7, 3, WIDE)
    gradient = convolution.conv(x, kernel, 1)
    gradients = jax.jit(lambda *given: jax.vjp(functools.partial(convolution.conv, stride=1), *given[:2])[1](given[2]))
    program = jax.export.export(gradients, platforms=["cuda"])(x, kernel, gradient).mlir_module()
    assert program.count("stablehlo.convolution") == 2
    assert "dot_general" not in program


def test_half_precision_stays():
    x, kernel = (array.astype(jnp.bfloat16) for array in arrays(7, 6, 3, WIDE))
    value, pull_back = jax.vjp(functools.partial(convolution.conv, stride=1), x, kernel)
    assert [value.dtype, *(array.dtype for array in pull_back(value))] == [jnp.bfloat16] * 3
