"""Winograd's form of a 3x3 convolution against the sums themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrfr_jax.models import winograd

# Whole tiles; half a tile at the bottom, at the right, at both; a map of one tile, one of a quarter.
SIDES = [(8, 6), (7, 6), (6, 7), (7, 7), (2, 2), (1, 1)]


def direct(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def arrays(height, width, channels=5, out=4):
    rng = np.random.default_rng(0)
    shapes = (3, height, width, channels), (3, 3, channels, out), (3, height, width, out)
    return [jnp.asarray(rng.normal(size=shape)) for shape in shapes]


@pytest.mark.parametrize(("height", "width"), SIDES)
def test_convolution(height, width):
    with jax.enable_x64(True):
        x, kernel, _ = arrays(height, width)
        np.testing.assert_allclose(jax.jit(winograd.conv)(x, kernel), direct(x, kernel), atol=1e-12)


@pytest.mark.parametrize(("height", "width"), SIDES)
def test_kernel_gradient(height, width):
    with jax.enable_x64(True):
        x, kernel, gradient = arrays(height, width)
        expected = jax.vjp(lambda kernel: direct(x, kernel), kernel)[1](gradient)[0]
        np.testing.assert_allclose(jax.jit(winograd.kernel_gradient)(x, gradient), expected, atol=1e-12)


def test_rounding_errors_are_of_a_direct_sums_size():
    with jax.enable_x64(True):
        x, kernel, gradient = arrays(14, 14, channels=128, out=128)
        exact, pull_back = jax.vjp(direct, x, kernel)
        exact_gradient = pull_back(gradient)[1]
        x, kernel, gradient = (array.astype(jnp.float32) for array in (x, kernel, gradient))
    # A direct sum of 1,152 products errs by 1e-6 of its largest result.
    for found, wanted in (
        (jax.jit(winograd.conv)(x, kernel), exact),
        (jax.jit(winograd.kernel_gradient)(x, gradient), exact_gradient),
    ):
        assert np.max(np.abs(found - np.asarray(wanted))) < 3e-6 * np.max(np.abs(wanted))


def test_sixteen_products_for_four_results():
    x, kernel, gradient = (jax.ShapeDtypeStruct(array.shape, jnp.float32) for array in arrays(8, 6))
    for function, arguments in ((winograd.conv, (x, kernel)), (winograd.kernel_gradient, (x, gradient))):
        program = jax.jit(function).lower(*arguments)
        products = [line for line in program.as_text().splitlines() if "stablehlo.dot_general" in line]
        assert len(products) == 1
        assert "convolution" not in program.as_text()
