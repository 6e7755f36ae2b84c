"""Convolutions that, on a CPU, are matrix products wherever those are faster than XLA's own convolutions."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from lrfr_jax.models import winograd

# Of the results of convolutions, for policies of what a gradient has kept.
RESULT_NAME = "convolution"

# With fewer channels, of input or result, transforming costs what Winograd's products save.
RESULT_FROM_CHANNELS = 64
KERNEL_GRADIENT_FROM_CHANNELS = 32


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def conv(
    x: Float[Array, "batch height width channels"], kernel: Float[Array, "size size channels out"], stride: int
) -> Float[Array, "batch h w out"]:
    r"""A convolution with a square kernel of odd size, padded by size // 2 on every side.

    .. math:: y_{vud} = \textstyle\sum_{ijc} k_{ijcd}\, x_{sv + i - h,\; su + j - h,\; c}, \quad h = \lfloor K/2 \rfloor

    The padding is explicit because 'SAME' pads only the bottom and the right at stride 2, unlike PyTorch. On a CPU wide
    3x3 kernels of stride 1 go by `winograd`, and the gradient of a 1x1 or strided kernel is one matrix product.
    """
    return _forward(x, kernel, stride)[0]


def _forward(x, kernel, stride):
    direct = functools.partial(_convolve, stride=stride)
    on_cpu = winograd.conv if _is_for_winograd(kernel, stride, RESULT_FROM_CHANNELS) else direct
    return _by_platform(x, kernel, cpu=on_cpu, default=direct), (x, kernel)


def _by_platform(*arguments, cpu, default):
    return default(*arguments) if cpu is default else jax.lax.platform_dependent(*arguments, cpu=cpu, default=default)


def _convolve(x, kernel, stride):
    border = (len(kernel) // 2,) * 2
    dimensions = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), (border, border), dimension_numbers=dimensions)


def _is_for_winograd(kernel, stride, from_channels):
    # In half precision its sums and differences would cost digits.
    is_3x3 = stride == 1 and len(kernel) == 3 and jnp.finfo(kernel.dtype).bits >= 32
    return is_3x3 and min(kernel.shape[2:]) >= from_channels


def _backward(stride, saved, gradient):
    x, kernel = saved

    def of_input(kernel, gradient):
        return jax.vjp(lambda x: _convolve(x, kernel, stride), x)[1](gradient)[0]

    def of_kernel(x, gradient):
        return jax.vjp(lambda kernel: _convolve(x, kernel, stride), kernel)[1](gradient)[0]

    def of_input_by_winograd(kernel, gradient):
        return winograd.conv(gradient, kernel[::-1, ::-1].swapaxes(2, 3))

    is_wide = _is_for_winograd(kernel, stride, RESULT_FROM_CHANNELS)
    x_gradient = of_input_by_winograd if is_wide else of_input
    if _is_for_winograd(kernel, stride, KERNEL_GRADIENT_FROM_CHANNELS):
        kernel_gradient = winograd.kernel_gradient
    elif stride > 1 or len(kernel) == 1:
        kernel_gradient = functools.partial(_kernel_gradient, size=len(kernel), stride=stride)
    else:
        kernel_gradient = of_kernel
    return (
        _by_platform(kernel, gradient, cpu=x_gradient, default=of_input),
        _by_platform(x, gradient, cpu=kernel_gradient, default=of_kernel),
    )


conv.defvjp(_forward, _backward)


def _kernel_gradient(x, gradient, *, size, stride):
    """One product over all positions, of patches with the gradient."""
    patches = _patches(x, size, stride)
    product = gradient.reshape(-1, gradient.shape[-1]).T @ patches.reshape(-1, patches.shape[-1])
    return product.T.reshape(size, size, x.shape[-1], gradient.shape[-1])


def _patches(x, size, stride):
    """[..., row, column, (i, j, channel)]: what the kernel sees at each position of the result."""
    half, (rows, columns) = size // 2, (-(-side // stride) for side in x.shape[1:3])
    x = jnp.pad(x, ((0, 0), (half, half), (half, half), (0, 0)))
    shifts = [(i, j) for i in range(size) for j in range(size)]
    shifted = [x[:, i::stride, j::stride][:, :rows, :columns] for i, j in shifts]
    return jnp.concatenate(shifted, axis=-1)


class Conv(nn.Module):
    """`conv` with a kernel of its own, without bias."""

    channels: int
    kernel: int
    stride: int
    kernel_init: Callable
    dtype: str

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch h w out"]:
        shape = (self.kernel, self.kernel, x.shape[-1], self.channels)
        kernel = self.param("kernel", self.kernel_init, shape)
        return checkpoint_name(conv(x.astype(self.dtype), kernel.astype(self.dtype), self.stride), RESULT_NAME)
