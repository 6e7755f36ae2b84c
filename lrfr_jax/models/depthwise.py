"""Depthwise convolution. XLA's own one takes 7 to 33 times as long on a CPU as sums of shifted images do."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from lrfr_jax.models.convolution import RESULT_NAME

kaiming_fan_in = nn.initializers.variance_scaling(2, "fan_in", "normal")


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def depthwise_conv(
    x: Float[Array, "batch height width channels"], kernel: Float[Array, "size size 1 channels"], stride: int
) -> Float[Array, "batch h w channels"]:
    r"""Convolves each channel with its own square kernel of odd size, padded by size // 2 on every side.

    .. math:: y_{vuc} = \textstyle\sum_{ij} k_{ijc}\, x_{sv + i - h,\; su + j - h,\; c}, \quad h = \lfloor K/2 \rfloor

    Forward and backward are shifted sums on a CPU, XLA's grouped convolution elsewhere.
    """
    shifted, grouped = (functools.partial(form, stride=stride) for form in (_shifted_conv, _grouped_conv))
    return jax.lax.platform_dependent(x, kernel, cpu=shifted, default=grouped)


def _forward(x, kernel, stride):
    return depthwise_conv(x, kernel, stride), (x, kernel)


def _backward(stride, saved, gradient):
    def grouped(x, kernel, gradient):
        return jax.vjp(functools.partial(_grouped_conv, stride=stride), x, kernel)[1](gradient)

    def shifted(x, kernel, gradient):
        return _input_gradient(x, kernel, gradient, stride), _kernel_gradient(x, kernel, gradient, stride)

    return jax.lax.platform_dependent(*saved, gradient, cpu=shifted, default=grouped)


depthwise_conv.defvjp(_forward, _backward)


def _padded(x: Float[Array, "batch height width channels"], size: int) -> Float[Array, "batch rows columns channels"]:
    border = (size // 2, size // 2)
    return jnp.pad(x, ((0, 0), border, border, (0, 0)))


def _grouped_conv(x, kernel, *, stride):
    half, channels = len(kernel) // 2, x.shape[-1]
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        ((half, half), (half, half)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=channels,
    )


def _shifted_conv(x, kernel, *, stride):
    size = len(kernel)
    rows, columns = ((length - 1) // stride * stride + 1 for length in x.shape[1:3])
    x = _padded(x, size)
    shifts = [(i, j) for i in range(size) for j in range(size)]
    return sum(x[:, i : i + rows : stride, j : j + columns : stride] * kernel[i, j][None, None] for i, j in shifts)


def _input_gradient(x, kernel, gradient, stride):
    """The gradient spread over the input's positions, convolved with the turned kernel."""
    spread = [
        (0, length - (count - 1) * stride - 1, stride - 1)
        for length, count in zip(x.shape[1:3], gradient.shape[1:3], strict=True)
    ]
    spread = jax.lax.pad(gradient, jnp.zeros((), gradient.dtype), ((0, 0, 0), *spread, (0, 0, 0)))
    return _shifted_conv(spread, kernel[::-1, ::-1], stride=1)


def _kernel_gradient(x, kernel, gradient, stride):
    """Products of shifted input and gradient, summed row by row of the image.

    A loop that adds whole rows, and one sum over the rest at the end: a sum over all positions at once leaves XLA's CPU
    compiler an inner loop of strided reads, eight times as slow.
    """
    size, (batch, rows, columns, channels) = len(kernel), gradient.shape
    x = _padded(x, size)
    span = (columns - 1) * stride + 1
    shifts = [(i, j) for i in range(size) for j in range(size)]

    def add_row(row, totals):
        above = jax.lax.dynamic_slice_in_dim(x, row * stride, size, axis=1)
        here = jax.lax.dynamic_index_in_dim(gradient, row, axis=1, keepdims=False)
        return tuple(
            total + above[:, i, j : j + span : stride] * here for total, (i, j) in zip(totals, shifts, strict=True)
        )

    zeros = (jnp.zeros((batch, columns, channels), x.dtype),) * len(shifts)
    totals = jax.lax.fori_loop(0, rows, add_row, zeros)
    return jnp.stack([total.sum(axis=(0, 1)) for total in totals]).reshape(kernel.shape)


class DepthwiseConv(nn.Module):
    """A square depthwise convolution without bias, padded by kernel // 2 on every side.

    With a `group_size` of g each channel reads all g of its group: the sum of g depthwise convolutions.
    """

    kernel: int
    stride: int
    dtype: str
    group_size: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch h w channels"]:
        size = self.group_size
        kernel = self.param("kernel", kaiming_fan_in, (self.kernel, self.kernel, size, x.shape[-1]))
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        read = [x] if size == 1 else [jnp.repeat(x[..., place::size], size, axis=-1) for place in range(size)]
        parts = [
            depthwise_conv(channels, kernel[:, :, place : place + 1], self.stride)
            for place, channels in enumerate(read)
        ]
        return checkpoint_name(sum(parts[1:], parts[0]), RESULT_NAME)
