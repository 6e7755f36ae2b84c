"""The forms that a CPU's program gives a convolution and XLA's own are one function."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrfr_jax.models import convolution

WIDE, MIDDLE = convolution.RESULT_FROM_CHANNELS, convolution.KERNEL_GRADIENT_FROM_CHANNELS
# Size, stride, input channels, channels of the result; convolutions among the three products of a CPU's program.
FORMS = [
    (3, 1, WIDE, WIDE, 0),
    (3, 1, WIDE, WIDE - 1, 2),
    (3, 1, WIDE - 1, WIDE, 2),
    (3, 1, MIDDLE, MIDDLE, 2),
    (3, 1, MIDDLE - 1, MIDDLE, 3),
    (5, 1, WIDE, WIDE, 3),
    (3, 2, 4, 5, 2),
    (5, 2, WIDE, WIDE, 2),
    (1, 1, 4, 5, 2),
    (1, 2, 4, 5, 2),
]


def arrays(size, channels, out):
    """Images of an odd and an even side, and a kernel."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(3, 7, 6, channels)), jnp.float32)
    return x, jnp.asarray(rng.normal(size=(size, size, channels, out)), jnp.float32)


def all_three(x, kernel, gradient, *, stride, form=convolution.conv):
    value, pull_back = jax.vjp(functools.partial(form, stride=stride), x, kernel)
    return value, *pull_back(gradient)


@pytest.mark.parametrize(("size", "stride", "channels", "out"), [form[:4] for form in FORMS])
def test_values_and_gradients_are_those_of_xlas_convolution(size, stride, channels, out):
    x, kernel = arrays(size, channels, out)
    value = convolution._convolve(x, kernel, stride)
    gradient = jnp.asarray(np.random.default_rng(1).normal(size=value.shape), jnp.float32)
    given = x, kernel, gradient  # on a CPU, as all tests
    forms = convolution.conv, convolution._convolve
    found, expected = (jax.jit(functools.partial(all_three, stride=stride, form=form))(*given) for form in forms)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=3e-4)


@pytest.mark.parametrize(("size", "stride", "channels", "out", "convolutions"), FORMS)
def test_a_cpus_program_has_products_where_they_pay(size, stride, channels, out, convolutions):
    x, kernel = arrays(size, channels, out)
    gradient = convolution._convolve(x, kernel, stride)
    program = jax.jit(functools.partial(all_three, stride=stride))
    on_cpu = program.lower(x, kernel, gradient).as_text()
    assert on_cpu.count("stablehlo.convolution") == convolutions
    assert on_cpu.count("stablehlo.dot_general") == 3 - convolutions
    elsewhere = jax.export.export(program, platforms=["cuda"])(x, kernel, gradient).mlir_module()
    assert elsewhere.count("stablehlo.convolution") == 3
    assert "dot_general" not in elsewhere


def test_half_precision_stays_and_is_not_for_winograd():
    x, kernel = (array.astype(jnp.bfloat16) for array in arrays(3, WIDE, WIDE))
    value, pull_back = jax.vjp(functools.partial(convolution.conv, stride=1), x, kernel)
    assert [value.dtype, *(array.dtype for array in pull_back(value))] == [jnp.bfloat16] * 3
    program = jax.jit(functools.partial(convolution.conv, stride=1)).lower(x, kernel)
    assert "dot_general" not in program.as_text()
