"""What transformers compute token by token: patches, linear layers, LayerNorm, activations."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lrfr_jax.models import layers

LAYER_NORM_EPSILON = 1e-5  # PyTorch's default, in the published weights of all of them.


class PatchEmbed(nn.Module):
    """Square patches, each through one linear layer: a convolution with bias, as a product over the patches' pixels.

    Attributes:
      dim: length of a token.
      patch: side of a patch in pixels.
      stride: pixels from patch to patch, which divide the image's sides; zeros above and left of the image make up for
        patches that are larger.
      dtype: of the product.
      kernel_init: of its weights [patch, patch, 3, dim].
    """

    dim: int
    patch: int
    stride: int
    dtype: str
    kernel_init: Callable = layers.linear_init

    @property
    def padding(self) -> int:
        """Rows of zeros above the image, and columns left of it."""
        return self.patch - self.stride

    @nn.compact
    def __call__(self, images: Float[Array, "batch height width 3"]) -> Float[Array, "batch tokens dim"]:
        kernel = self.param("kernel", self.kernel_init, (self.patch, self.patch, 3, self.dim))
        bias = self.param("bias", nn.initializers.zeros, (self.dim,))
        rows, columns = (side // self.stride for side in images.shape[1:3])
        pad = (self.padding, 0)
        x = jnp.pad(images.astype(self.dtype), ((0, 0), pad, pad, (0, 0)))
        x = _windows(x, rows, patch=self.patch, stride=self.stride, axis=1)
        x = _windows(x, columns, patch=self.patch, stride=self.stride, axis=3)
        x = x.transpose(0, 1, 3, 2, 4, 5).reshape(images.shape[0], rows * columns, -1)
        tokens = x @ kernel.reshape(-1, self.dim).astype(self.dtype)
        return tokens + bias.astype(self.dtype)[None, None]


def _windows(x: Array, count: int, *, patch: int, stride: int, axis: int) -> Array:
    """Replaces an axis by `count` windows of `patch` entries, `stride` from one to the next."""
    if patch == stride:
        return x.reshape(*x.shape[:axis], count, patch, *x.shape[axis + 1 :])
    starts = jnp.arange(count)[:, None] * stride + jnp.arange(patch)[None]
    return jnp.take(x, starts, axis=axis)


@jax.custom_vjp
def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    r"""The exact GELU; its gradient keeps x alone.

    .. math:: y = x\,\Phi(x) = \tfrac12 x\,(1 + \mathrm{erf}(x / \sqrt 2)), \quad y' = \Phi(x) + x\,\varphi(x)

    References:
      Hendrycks and Gimpel 2016, arXiv 1606.08415.
    """
    return x * _normal_share(x)


def _normal_share(x: Array) -> Array:
    return 0.5 + 0.5 * jax.lax.erf(x * 0.5**0.5)


def _gelu_backward(x: Array, gradient: Array) -> tuple[Array]:
    density = jnp.exp(-0.5 * x * x) * (2 * jnp.pi) ** -0.5
    return (gradient * (_normal_share(x) + x * density),)


gelu.defvjp(lambda x: (gelu(x), x), _gelu_backward)


class Gelu(nn.Module):
    """`gelu`, as a layer."""

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return gelu(x)


class Relu6(nn.Module):
    """x, at least 0 and at most 6."""

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.clip(x, 0, 6)


@jax.custom_vjp
def product(x: Float[Array, "*shape inner"], kernel: Float[Array, "inner outer"]) -> Float[Array, "*shape outer"]:
    """x @ kernel; on a CPU the kernel's gradient is a product with a transposed copy of x.

    The derived one is a product over the first axis of both, in which XLA's compiler was not seen to take its fast
    kernel for CPUs: a quarter more time with jax 0.10, a tenth with 0.12, which is within the spread.
    """
    return x @ kernel


def _product_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    rows, rows_gradient = (array.reshape(-1, array.shape[-1]) for array in (x, gradient))
    columns = jax.lax.platform_dependent(
        rows, cpu=lambda rows: jax.lax.optimization_barrier(rows.T), default=lambda rows: rows.T
    )
    return gradient @ kernel.T, columns @ rows_gradient


product.defvjp(lambda x, kernel: (product(x, kernel), (x, kernel)), _product_backward)


def dense(size: int, *, use_bias: bool, dtype: str, kernel_init: Callable, name: str) -> nn.Dense:
    """flax's linear layer over the last axis, by `product`."""

    def multiply(x, kernel, dimensions, **_):
        return product(x, kernel)

    settings = {"use_bias": use_bias, "dtype": dtype, "kernel_init": kernel_init}
    return nn.Dense(size, **settings, dot_general=multiply, name=name)


def layer_norm(dtype: str, *, name: str) -> nn.LayerNorm:
    """LayerNorm over the last axis, with statistics in at least float32."""
    return nn.LayerNorm(epsilon=LAYER_NORM_EPSILON, dtype=dtype, use_fast_variance=False, name=name)
