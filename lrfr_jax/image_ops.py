"""Deterministic operators on batches of images: normalize, flip, degrade. Nothing random, nothing learned."""

import concurrent.futures
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

IMAGE_SIZE = 112
# Half the range of a byte: maps 0..255 to [-1, 1].
HALF_RANGE = 127.5
BYTE_MAX = 255
ROUNDINGS = ("uint8", "none")
# ArcFace's template: x, y in pixels of the aligned 112x112 image, of the eye left in the image, the right one, the
# nose's tip, the mouth's corners.
FIVE_POINTS = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
# Pillow's BICUBIC (a = -0.5) and BILINEAR, by the names of `jax.image.resize`.
KERNELS = ("cubic", "linear")


def normalize(
    images: UInt8[Array, "batch height width channels"] | Float[Array, "batch height width channels"],
) -> Float[Array, "batch height width channels"]:
    """Maps pixel values 0..255 to float32 in [-1, 1], the range that every backbone takes: (x - 127.5) / 127.5."""
    return (jnp.asarray(images, jnp.float32) - HALF_RANGE) / HALF_RANGE


def flip(
    images: UInt8[Array, "batch height width channels"] | Float[Array, "batch height width channels"],
    flipped: Bool[Array, " batch"],
) -> UInt8[Array, "batch height width channels"] | Float[Array, "batch height width channels"]:
    """Mirrors left and right those images for which `flipped` is true."""
    return jnp.where(flipped[:, None, None, None], images[:, :, ::-1], images)


def erase_borders(
    images: UInt8[Array, "batch height width channels"], widths: Int[Array, "batch 4"]
) -> UInt8[Array, "batch height width channels"]:
    """Blackens bands of so many pixels along the top, the bottom, the left and the right of each image."""
    height, width = images.shape[1:3]
    rows, columns = jnp.arange(height)[None], jnp.arange(width)[None]
    top, bottom, left, right = (widths[:, side, None] for side in range(4))
    inner_rows = (rows >= top) & (rows < height - bottom)
    inner_columns = (columns >= left) & (columns < width - right)
    return jnp.where((inner_rows[:, :, None] & inner_columns[:, None, :])[..., None], images, 0)


def _resize_rows(size: int, to: int, kernel: str) -> Float[Array, "to size"]:
    shape, settings = (to, size), {"method": kernel, "antialias": True, "precision": jax.lax.Precision.HIGHEST}
    return jax.image.resize(jnp.eye(size), shape, **settings)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _operators(sizes: tuple[int, ...], image_size: int, kernel: str) -> tuple[list[Array], list[Array]]:
    down = [_resize_rows(image_size, size, kernel) for size in sizes]
    return down, [_resize_rows(size, image_size, kernel) for size in sizes]


@functools.cache
def resampling_operators(
    sizes: tuple[int, ...], *, image_size: int, kernel: str = "cubic"
) -> tuple[Float[np.ndarray, "sizes largest image_size"], Float[np.ndarray, "sizes image_size largest"]]:
    r"""Matrices that shrink one axis from `image_size` to each size (D), and that enlarge it again (U).

    They are what `jax.image.resize` makes of identity matrices. Its kernels widen when they shrink (antialias) and the
    bicubic one has a = -0.5, as Pillow's; cv2.INTER_CUBIC is another kernel. The rows of D and columns of U beyond a
    size are zero, up to the largest size.

    Args:
      sizes: side lengths in pixels.
      image_size: side length of the images.
      kernel: one of `KERNELS`.

    Raises:
      ValueError: no sizes, or one that is not in 1..image_size.
    """
    if not sizes or not all(1 <= size <= image_size for size in sizes):
        raise ValueError(f"sizes={sizes} must be one or more side lengths from 1 to {image_size} pixels")
    largest = max(sizes)
    down = np.zeros((len(sizes), largest, image_size), np.float32)
    up = np.zeros((len(sizes), image_size, largest), np.float32)
    # This is called while other programs are traced, on a mesh of devices or not. A thread of its own knows of neither,
    # and runs one small program; `jax.ensure_compile_time_eval` takes two seconds for each size, one by one operation.
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        operators = thread.submit(_operators, sizes, image_size, kernel).result()
    for index, (size, shrink, enlarge) in enumerate(zip(sizes, *operators, strict=True)):
        down[index, :size], up[index, :, :size] = shrink, enlarge
    return down, up


def degrade(
    images: UInt8[Array, "batch size size channels"] | Float[Array, "batch size size channels"],
    resolutions: Int[Array, " batch"],
    *,
    sizes: tuple[int, ...],
    rounding: str,
    kernel: str = "cubic",
) -> Float[Array, "batch size size channels"]:
    r"""Shrinks each image to its own resolution and enlarges it to its old size, both bicubic or both bilinear.

    .. math:: X' = U_r\,(D_r X D_r^T)\,U_r^T

    One set of shapes for all resolutions, so it compiles once and is free to differ from image to image. With 'uint8'
    every one of the four passes ends in whole values of 0..255: Pillow's result but for one pixel in thousands
    (bilinear: up to one in twelve, by a gray level, as many of its sums end in a half). With
    'none' the values are those of the formula and may leave 0..255 by some grey levels at edges.

    Args:
      images: square, values in 0..255.
      resolutions: side length in pixels that each image is reduced to; one of `sizes`. Inside jit, where it cannot be
        checked, any other one gives an image of NaN.
      sizes: all resolutions that may occur; the image's own side length is allowed and changes nothing.
      rounding: 'uint8' or 'none'.
      kernel: one of `KERNELS`.

    Returns:
      float32 images, still in 0..255.

    Raises:
      ValueError: a bad size, rounding or kernel, or (outside jit) a resolution that is not in `sizes`.

    References:
      Ling et al. 2022, arXiv 2302.05621, Sec. 3.3; Pillow, src/libImaging/Resample.c (order and rounding of passes).
    """
    if rounding not in ROUNDINGS:
        raise ValueError(f"rounding={rounding!r} is unknown: choose one of {', '.join(ROUNDINGS)}")
    if kernel not in KERNELS:
        raise ValueError(f"kernel={kernel!r} is unknown: choose one of {', '.join(KERNELS)}")
    if not isinstance(resolutions, jax.core.Tracer) and not np.isin(resolutions, sizes).all():
        raise ValueError(f"resolutions hold {set(np.asarray(resolutions).tolist()) - set(sizes)}: add to {sizes=}")
    down, up = resampling_operators(tuple(sizes), image_size=images.shape[1], kernel=kernel)
    matches = resolutions[:, None] == jnp.asarray(sizes)[None, :]
    index = jnp.argmax(matches, axis=-1)
    down, up = jnp.asarray(down)[index], jnp.asarray(up)[index]

    def resample(pixels, operator, axes):
        # HIGHEST: with TF32 or bfloat16 products the sums round to other grey levels.
        pixels = jnp.einsum(axes, pixels, operator, precision=jax.lax.Precision.HIGHEST)
        # Halves go up, as in Pillow.
        return jnp.clip(jnp.floor(pixels + 1 / 2), 0, BYTE_MAX) if rounding == "uint8" else pixels

    # Channels first meanwhile: both products are then plain batched matrix products, a third faster on a CPU.
    pixels = jnp.transpose(jnp.asarray(images, jnp.float32), (0, 3, 1, 2))
    for operator in (down, up):
        pixels = resample(pixels, operator, "bchw,bvw->bchv")
        pixels = resample(pixels, operator, "bchw,bvh->bcvw")
    pixels = jnp.transpose(pixels, (0, 2, 3, 1))
    return jnp.where(matches.any(axis=-1)[:, None, None, None], pixels, jnp.nan)


def structural_similarity(
    images: Float[Array, "batch height width channels"], others: Float[Array, "batch height width channels"]
) -> Float[Array, " batch"]:
    r"""Structural similarity of pairs of images, mean over channels and over all positions of the window; at most 1.

    .. math:: \frac{(2\mu_x\mu_y + C_1)(2\sigma_{xy} + C_2)}{(\mu_x^2 + \mu_y^2 + C_1)(\sigma_x^2 + \sigma_y^2 + C_2)}

    Moments are weighted by a Gaussian of 11x11 pixels with sigma 1.5; C1 = (0.01 * 255)^2, C2 = (0.03 * 255)^2.

    Args:
      images, others: values in 0..255.

    References:
      Wang et al. 2004, Image quality assessment: from error visibility to structural similarity.
    """
    reach, sigma, c1, c2 = 5, 1.5, (0.01 * BYTE_MAX) ** 2, (0.03 * BYTE_MAX) ** 2
    window = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)

    def operator(size: int) -> np.ndarray:
        """Slides the window along an axis where it lies inside: ten times as fast as a convolution on a CPU."""
        positions = size - 2 * reach
        rows = [np.pad(window / window.sum(), (i, positions - 1 - i)) for i in range(positions)]
        return np.stack(rows).astype(np.float32)

    down, across = operator(images.shape[1]), operator(images.shape[2])

    def blur(pixels: Float[Array, "batch height width channels"]) -> Float[Array, "batch rows columns channels"]:
        pixels = jnp.einsum("bhwc,rh->brwc", pixels, down, precision=jax.lax.Precision.HIGHEST)
        return jnp.einsum("brwc,kw->brkc", pixels, across, precision=jax.lax.Precision.HIGHEST)

    mean_x, mean_y = blur(images), blur(others)
    # Variances by the difference of moments: in float32 good to 1e-3 of a grey level squared, far below C2.
    var_x, var_y = blur(images**2) - mean_x**2, blur(others**2) - mean_y**2
    covariance = blur(images * others) - mean_x * mean_y
    ratio = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    ratio = ratio / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return ratio.mean(axis=(1, 2, 3))
