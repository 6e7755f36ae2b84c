"""Convolutions whose kernel gradient, on a CPU, is one matrix product: XLA's own takes up to three times as long."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# With fewer input channels the rows of shifted copies are so short that making them costs what the product saves.
PRODUCT_FROM_CHANNELS = 32


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def conv(
    x: Float[Array, "batch height width channels"], kernel: Float[Array, "size size channels out"], stride: int
) -> Float[Array, "batch h w out"]:
    r"""A convolution with a square kernel of odd size, padded by size // 2 on every side.

    .. math:: y_{vud} = \textstyle\sum_{ijc} k_{ijcd}\, x_{sv + i - h,\; su + j - h,\; c}, \quad h = \lfloor K/2 \rfloor

    The padding is explicit because 'SAME' pads only the bottom and the right at stride 2, unlike PyTorch. The kernel's
    gradient is a matrix product on a CPU, XLA's own elsewhere.
    """
    return _convolve(x, kernel, stride)


def _convolve(x, kernel, stride):
    border = (len(kernel) // 2,) * 2
    dimensions = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), (border, border), dimension_numbers=dimensions)


def _forward(x, kernel, stride):
    return _convolve(x, kernel, stride), (x, kernel)


def _backward(stride, saved, gradient):
    x, kernel = saved
    (x_gradient,) = jax.vjp(lambda x: _convolve(x, kernel, stride), x)[1](gradient)

    def own(x, gradient):
        return jax.vjp(lambda kernel: _convolve(x, kernel, stride), kernel)[1](gradient)[0]

    product = functools.partial(_kernel_gradient, size=len(kernel), stride=stride)
    on_cpu = own if stride == 1 and len(kernel) > 1 and x.shape[-1] < PRODUCT_FROM_CHANNELS else product
    return x_gradient, jax.lax.platform_dependent(x, gradient, cpu=on_cpu, default=own)


conv.defvjp(_forward, _backward)


def _kernel_gradient(x, gradient, *, size, stride):
    """One product over all positions: of shifted columns with shifted rows, with a stride of patches with positions."""
    channels, out = x.shape[-1], gradient.shape[-1]
    if stride == 1:
        # Each side is copied as often as the kernel is long, where patches would be its square.
        product = _over_positions(_rows_behind_each_other(gradient, size), _columns_side_by_side(x, size))
        return product.reshape(size, out, size, channels).transpose(0, 2, 3, 1)
    product = _over_positions(gradient, _patches(x, size, stride))
    return product.reshape(out, size, size, channels).transpose(1, 2, 3, 0)


def _over_positions(a, b):
    return a.reshape(-1, a.shape[-1]).T @ b.reshape(-1, b.shape[-1])


def _columns_side_by_side(x, size):
    """[..., column, (j, channel)]: of the column j - size // 2 further right, zeros outside."""
    half, columns = size // 2, x.shape[2]
    x = jnp.pad(x, ((0, 0), (0, 0), (half, half), (0, 0)))
    return jnp.concatenate([x[:, :, j : j + columns] for j in range(size)], axis=-1)


def _rows_behind_each_other(gradient, size):
    """[..., row, column, (i, channel)]: of the row i - size // 2 further up, zeros outside."""
    half, rows = size // 2, gradient.shape[1]
    gradient = jnp.pad(gradient, ((0, 0), (half, half), (0, 0), (0, 0)))
    return jnp.concatenate([gradient[:, size - 1 - i :][:, :rows] for i in range(size)], axis=-1)


def _patches(x, size, stride):
    """[..., row, column, (i, j, channel)]: what the kernel sees at each position of the result."""
    half, (rows, columns) = size // 2, x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (half, half), (half, half), (0, 0)))
    shifts = [(i, j) for i in range(size) for j in range(size)]
    return jnp.concatenate([x[:, i : i + rows : stride, j : j + columns : stride] for i, j in shifts], axis=-1)


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
        return conv(x.astype(self.dtype), kernel.astype(self.dtype), self.stride)
