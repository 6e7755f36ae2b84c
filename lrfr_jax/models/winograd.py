"""3x3 convolutions by Winograd's F(2x2, 3x3): 16 products for a 2x2 tile of results, where the sums have 36.

Input, kernel and result are transformed along rows, then along columns; in between a convolution is one matrix product
for each of the 16 pairs of a row and a column. Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks"
(arXiv 1509.09308), section 4.1, have the transforms as matrices.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def conv(
    x: Float[Array, "batch height width channels"], kernel: Float[Array, "3 3 channels out"]
) -> Float[Array, "batch height width out"]:
    r"""A 3x3 convolution with stride 1, padded by one on every side.

    .. math:: y = A^T \big[(G k G^T) \odot (B^T x B)\big] A, \quad \odot \text{ a matrix product over channels}

    In float32 its rounding errors are of the size of a direct sum's.
    """
    rows, columns = x.shape[1:3]
    tiles = _tiles(x, _of_input, side=4)
    products = (_flat(tiles) @ _flat(_both_ways(_of_kernel, kernel))).reshape(*tiles.shape[:-1], -1)
    of_rows = [_to_result(*of_column) for of_column in products]
    whole_rows = [jnp.stack(_to_result(*row), axis=3) for row in zip(*of_rows, strict=True)]
    results = jnp.stack(whole_rows, axis=2)  # [image, tile, row, tile, column, out]
    batch, height, _, width, _, out = results.shape
    return results.reshape(batch, 2 * height, 2 * width, out)[:, :rows, :columns]


def kernel_gradient(
    x: Float[Array, "batch height width channels"], gradient: Float[Array, "batch height width out"]
) -> Float[Array, "3 3 channels out"]:
    r"""The gradient of `conv`'s kernel, from its input and its result's gradient.

    .. math:: \partial k = G^T \big[(B^T x B) \odot (A\, \partial y\, A^T)\big] G, \quad \odot \text{ over positions}
    """
    tiles = _tiles(x, _of_input, side=4)
    gradients = _tiles(gradient, _of_result_gradient, side=2)
    products = _flat(tiles).mT @ _flat(gradients)
    return _both_ways(_to_kernel_gradient, products.reshape(4, 4, x.shape[-1], -1))


def _tiles(x: jax.Array, transform: Callable[..., list[jax.Array]], *, side: int) -> jax.Array:
    """[v, u, image, tile, tile, channel]: tiles of `side` positions transformed, u along rows and v along columns."""
    border = side // 2 - 1
    borders = [(border, border + size % 2) for size in x.shape[1:3]]
    by_rows = jnp.stack(transform(*_of_each_tile(jnp.pad(x, ((0, 0), *borders, (0, 0))), axis=1, side=side)))
    # Without the barrier the compiler computes each row's transform for every column again.
    return jnp.stack(transform(*_of_each_tile(jax.lax.optimization_barrier(by_rows), axis=3, side=side)))


def _both_ways(transform: Callable[..., list[jax.Array]], kernel: jax.Array) -> jax.Array:
    """Transforms along the first two axes and lets them change places, as columns come first in tiles."""
    along_first = jnp.stack(transform(*kernel))
    return jnp.stack(transform(*along_first.swapaxes(0, 1)))


def _flat(transformed):
    return transformed.reshape(16, -1, transformed.shape[-1])


def _of_each_tile(x, *, axis, side):
    """[i]: of each tile the i-th row or column; tiles are `side` long and begin two apart."""
    last = x.shape[axis] - side
    return [jax.lax.slice_in_dim(x, i, i + last + 1, stride=2, axis=axis) for i in range(side)]


def _of_input(a, b, c, d):  # B^T
    return [a - c, b + c, c - b, b - d]


def _of_kernel(a, b, c):  # G
    return [a, (a + b + c) / 2, (a - b + c) / 2, c]


def _to_result(a, b, c, d):  # A^T
    return [a + b + c, b - c - d]


def _of_result_gradient(a, b):  # A
    return [a, a + b, a - b, -b]


def _to_kernel_gradient(a, b, c, d):  # G^T
    return [a + (b + c) / 2, (b - c) / 2, (b + c) / 2 + d]
