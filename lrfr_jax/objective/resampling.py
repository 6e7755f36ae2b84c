"""Shrinking and enlarging on device by kernels of OpenCV, another one for each image of a batch, and as A-SKD does."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

BYTE_MAX = 255
KERNELS = ("nearest", "linear", "area", "cubic", "lanczos4")
NEAREST, LINEAR, AREA, CUBIC, LANCZOS4 = range(len(KERNELS))
# The slope of OpenCV's bicubic kernel at distance 1; Pillow's and `jax.image.resize`'s is -0.5.
CUBIC_SLOPE = -0.75
# Source pixels that the widest kernel (Lanczos) reads, counted from the one below the place that is read.
REACH = tuple(range(-3, 5))
# A-SKD's blur of 5x5: its sigmas (0.1, 2.0) are those of x and y, and 0.1 leaves a row as it is.
BLUR_REACH, BLUR_SIGMA = 2, 2.0


def _weights(kernel: Int[Array, " batch"], offset: Float[Array, "batch rows"]) -> Float[Array, "batch rows taps"]:
    """How much each source pixel of `REACH` counts, seen from a place that lies `offset` above pixel 0."""
    d = jnp.abs(jnp.asarray(REACH, jnp.float32)[None, None] - offset[..., None])
    linear = jnp.maximum(1 - d, 0)
    a = CUBIC_SLOPE
    near, far = ((a + 2) * d - (a + 3)) * d**2 + 1, a * (((d - 5) * d + 8) * d - 4)
    cubic = jnp.where(d <= 1, near, jnp.where(d < 2, far, 0))
    window = jnp.where(d < 4, jnp.sinc(d) * jnp.sinc(d / 4), 0)
    lanczos = window / jnp.sum(window, axis=-1, keepdims=True)
    kernel = kernel[:, None, None]
    return jnp.where(kernel == CUBIC, cubic, jnp.where(kernel == LANCZOS4, lanczos, linear))


def operators(
    kernel: Int[Array, " batch"], before: Int[Array, " batch"], after: Int[Array, " batch"], *, largest: int
) -> Float[Array, "batch largest largest"]:
    r"""Matrices that bring one axis from `before` pixels to `after`, as `cv2.resize` computes them: no antialias.

    .. math:: W_{ij} = k(x_i - j), \quad x_i = (i + \tfrac12)\,n / n' - \tfrac12

    with n pixels before and n' after; what a kernel reads beyond the border is the pixel of the border. 'nearest' reads
    pixel floor(i n / n'), where OpenCV's float64 falls one pixel short at a few sizes (58 of 112 is one). 'area'
    averages what lies under the new pixel where it shrinks; where it enlarges it is linear with places of its own, as
    in OpenCV. Equal sizes give the identity. Built from the formula, so that sizes may differ from image to image at
    the cost of one matrix each: those of all sizes would take 50 MB on every device.

    Args:
      kernel: a place in `KERNELS`, for each image.
      before, after: side lengths in pixels, 1 to `largest`.
      largest: rows and columns of the matrices; those beyond the sizes are zero.

    References:
      OpenCV 4, modules/imgproc/src/resize.cpp.
    """
    n, m, by_area = before[:, None], after[:, None], kernel[:, None] == AREA
    row, column = jnp.arange(largest)[None], jnp.arange(largest)
    # Whole numbers as far as they go: a place that is a whole pixel must not land a rounding error below it.
    numerator, corner = (2 * row + 1) * n - m, row * n // m
    beyond = jnp.maximum((row + 1) * n - (corner + 1) * m, 0) / n
    at_corner = by_area | (kernel[:, None] == NEAREST)
    first = jnp.where(at_corner, corner, numerator // (2 * m))
    offset = jnp.where(at_corner, jnp.where(by_area, beyond, 0), numerator % (2 * m) / (2 * m))
    read = jnp.clip(first[..., None] + jnp.asarray(REACH)[None, None], 0, n[..., None] - 1)
    is_read = read[..., None] == column[None, None, None]
    matrix = jnp.sum(jnp.where(is_read, _weights(kernel, offset)[..., None], 0), axis=2)

    n, m, row, column = n[..., None], m[..., None], row[..., None], column[None, None]
    overlap = jnp.minimum((row + 1) * n, (column + 1) * m) - jnp.maximum(row * n, column * m)
    matrix = jnp.where(by_area[..., None] & (m <= n), jnp.maximum(overlap, 0) / n, matrix)
    return jnp.where(row < m, matrix, 0)


def shrink_and_enlarge(
    images: UInt8[Array, "batch size size channels"] | Float[Array, "batch size size channels"],
    sides: Int[Array, " batch"],
    *,
    down: Int[Array, " batch"],
    up: Int[Array, " batch"],
) -> Float[Array, "batch size size channels"]:
    """Brings each image to its own side length and back, by a kernel of its own each way; bytes in between, as cv2 has.

    Args:
      images: square, values in 0..255.
      sides: in pixels, 1 to the image's own side.
      down, up: places in `KERNELS`.

    Returns:
      float32 images of whole values in 0..255; one grey level beside OpenCV's, which adds up in fixed point, at most on
      a few pixels.
    """
    size = images.shape[1]
    full = jnp.full(sides.shape, size)
    pixels = jnp.transpose(jnp.asarray(images, jnp.float32), (0, 3, 1, 2))
    for matrix in (operators(down, full, sides, largest=size), operators(up, sides, full, largest=size)):
        # HIGHEST: with TF32 or bfloat16 products the sums round to other grey levels.
        pixels = jnp.einsum("bchw,bvw->bchv", pixels, matrix, precision=jax.lax.Precision.HIGHEST)
        pixels = jnp.einsum("bchw,bvh->bcvw", pixels, matrix, precision=jax.lax.Precision.HIGHEST)
        pixels = jnp.clip(jnp.floor(pixels + 1 / 2), 0, BYTE_MAX)
    return jnp.transpose(pixels, (0, 2, 3, 1))


@functools.cache
def nearest_and_blur_operators(
    sizes: tuple[int, ...], *, image_size: int
) -> tuple[Float[np.ndarray, "sizes image_size image_size"], Float[np.ndarray, "sizes image_size image_size"]]:
    """Matrices for the rows and for the columns of an image that bring it to each size and back as A-SKD does."""
    place = np.arange(image_size)
    columns = np.stack([np.eye(image_size)[(place * size // image_size) * image_size // size] for size in sizes])
    offsets = np.arange(-BLUR_REACH, BLUR_REACH + 1)
    window = np.exp(-0.5 * (offsets / BLUR_SIGMA) ** 2)
    reflected = np.abs(place[:, None] + offsets)
    reflected = np.minimum(reflected, 2 * (image_size - 1) - reflected)
    blur = (np.eye(image_size)[reflected] * (window / window.sum())[:, None]).sum(axis=1)
    return (blur @ columns).astype(np.float32), columns.astype(np.float32)


def nearest_and_blur(
    images: UInt8[Array, "batch size size channels"] | Float[Array, "batch size size channels"],
    resolutions: Int[Array, " batch"],
    *,
    sizes: tuple[int, ...],
) -> Float[Array, "batch size size channels"]:
    r"""Low resolution as A-SKD's released code makes it: nearest pixels down and up, then a blur along the columns.

    .. math:: i \to \lfloor \lfloor i\,r/n \rfloor\, n/r \rfloor

    It was meant as a blur of 5x5 with a sigma drawn from 0.1 to 2; the two became the sigmas of x and y, and the
    blur a vertical one with the weights .152469, .221841, .251379, .221841, .152469. Borders are reflected, nothing is
    rounded.

    Args:
      images: square, at least 3 pixels, values in any range.
      resolutions: of each image, one of `sizes`; another one gives an image of NaN.
      sizes: all that may occur.

    References:
      gist-ailab/teaching-where-to-look, noise.py; torch.nn.functional.interpolate, mode 'nearest'.
    """
    matches = resolutions[:, None] == jnp.asarray(sizes)[None, :]
    index = jnp.argmax(matches, axis=-1)
    rows, columns = nearest_and_blur_operators(tuple(sizes), image_size=images.shape[1])
    pixels = jnp.transpose(jnp.asarray(images, jnp.float32), (0, 3, 1, 2))
    # HIGHEST: a nearest pixel is to be that pixel.
    precision = jax.lax.Precision.HIGHEST
    pixels = jnp.einsum("bchw,bvw->bchv", pixels, jnp.asarray(columns)[index], precision=precision)
    pixels = jnp.einsum("bchw,bvh->bcvw", pixels, jnp.asarray(rows)[index], precision=precision)
    return jnp.where(matches.any(axis=-1)[:, None, None, None], jnp.transpose(pixels, (0, 2, 3, 1)), jnp.nan)
