"""Augmentations of a training image: AdaFace's crop on black, low resolution by any kernel and other light; gray.

Each is done to a random share of the batch; with the probability 0 nothing is computed.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8

from lrfr_jax.errors import UserError
from lrfr_jax.objective import resampling

BYTE_MAX = 255
# Boxes that are drawn before the whole image is taken, as in torchvision's RandomResizedCrop.
ATTEMPTS = 10
# Shares of red, green and blue in the grey of Pillow (ITU-R 601).
GREY = (0.299, 0.587, 0.114)
BRIGHTNESS, CONTRAST, SATURATION = range(3)

Images = UInt8[Array, "batch size size channels"] | Float[Array, "batch size size channels"]


def random_crop(
    rng: PRNGKeyArray,
    images: Images,
    *,
    probability: float | int,
    areas: tuple[float | int, ...],
    aspects: tuple[float | int, ...],
) -> Images:
    """Keeps a random box of some images at its place and size, on black.

    Args:
      rng: key of this batch; equal keys give equal images.
      images: values in 0..255.
      probability: share of the images that it is done to.
      areas, aspects: see `random_boxes`.

    Raises:
      UserError: a number that is out of its range.

    References:
      Kim et al. 2022, AdaFace, arXiv 2204.00964, Sec. 4.1; mk-minchul/AdaFace, dataset/augmenter.py.
    """
    _check_probability("crop", probability)
    _check_range("crop.areas", areas, largest=1)
    _check_range("crop.aspects", aspects, largest=math.inf)

    def crop(key: PRNGKeyArray, pixels: Images) -> Images:
        boxes = random_boxes(key, pixels.shape[0], size=pixels.shape[1], areas=areas, aspects=aspects)
        return keep_boxes(pixels, boxes)

    return _some(rng, images, probability, crop)


def random_low_resolution(
    rng: PRNGKeyArray, images: Images, *, probability: float | int, sides: tuple[float | int, ...]
) -> Images:
    """Brings some images to a random side length and back, each way by a kernel drawn from `resampling.KERNELS`.

    Args:
      rng, images, probability: see `random_crop`.
      sides: smallest and largest share u of the image's side; the side is int(u size), u uniform.

    Raises:
      UserError: a number that is out of its range.
    """
    _check_probability("low_resolution", probability)
    _check_range("low_resolution.sides", sides, largest=1)

    def reduce(key: PRNGKeyArray, pixels: Images) -> Images:
        batch_size, size = pixels.shape[:2]
        side_rng, kernel_rng = jax.random.split(key)
        share = jax.random.uniform(side_rng, (batch_size,), minval=sides[0], maxval=sides[1])
        down, up = jax.random.randint(kernel_rng, (2, batch_size), 0, len(resampling.KERNELS))
        lengths = jnp.clip((share * size).astype(jnp.int32), 1, size)
        return resampling.shrink_and_enlarge(pixels, lengths, down=down, up=up)

    return _some(rng, images, probability, reduce)


def random_light(rng: PRNGKeyArray, images: Images, *, probability: float | int, strength: float | int) -> Images:
    """Changes brightness, contrast and saturation of some images in a random order, see `change_light`.

    Args:
      rng, images, probability: see `random_crop`; the images are RGB.
      strength: the factors are uniform in 1 - strength .. 1 + strength; 0 to 1.

    Raises:
      UserError: a number that is out of its range.
    """
    _check_probability("light", probability)
    if not 0 <= strength <= 1:
        raise UserError(f"augment.light.strength={strength} must be in [0, 1]")

    def change(key: PRNGKeyArray, pixels: Images) -> Images:
        order_rng, factor_rng = jax.random.split(key)
        shape = (pixels.shape[0], 3)
        orders = jnp.argsort(jax.random.uniform(order_rng, shape), axis=1)
        factors = jax.random.uniform(factor_rng, shape, minval=1 - strength, maxval=1 + strength)
        return change_light(pixels, orders, factors)

    return _some(rng, images, probability, change)


def random_gray(rng: PRNGKeyArray, images: Images, *, probability: float | int) -> Images:
    """Makes some RGB images gray, three equal channels as Pillow's mode L.

    Args:
      rng, images, probability: see `random_crop`.

    Raises:
      UserError: a probability that is out of its range.

    References:
      Massoli, Amato, Falchi 2020, arXiv 1912.02851; fvmassoli/cross-resolution-face-recognition: probability 0.2.
    """
    _check_probability("gray", probability)

    def change(key: PRNGKeyArray, pixels: Float[Array, "batch size size 3"]) -> Float[Array, "batch size size 3"]:
        return jnp.broadcast_to(gray_of(pixels), pixels.shape)

    return _some(rng, images, probability, change)


def gray_of(images: Float[Array, "batch size size 3"]) -> Float[Array, "batch size size 1"]:
    """Each pixel's own gray, a whole value."""
    return jnp.round(sum(share * images[..., band, None] for band, share in enumerate(GREY)))


def random_boxes(
    rng: PRNGKeyArray,
    batch_size: int,
    *,
    size: int,
    areas: tuple[float | int, ...],
    aspects: tuple[float | int, ...],
) -> Int[Array, "batch 4"]:
    """Draws a box (top, left, height, width) inside each image, as torchvision's RandomResizedCrop does.

    Area and logarithm of width over height are uniform, and so is the place; the first of ten draws that fits into the
    image is taken, or else the whole image.

    Args:
      size: side length of the images in pixels.
      areas: smallest and largest share of the image's area.
      aspects: smallest and largest width over height.
    """
    area_rng, aspect_rng, top_rng, left_rng = jax.random.split(rng, 4)
    shape = (batch_size, ATTEMPTS)
    area = size**2 * jax.random.uniform(area_rng, shape, minval=areas[0], maxval=areas[1])
    aspect = jnp.exp(jax.random.uniform(aspect_rng, shape, minval=math.log(aspects[0]), maxval=math.log(aspects[1])))
    height, width = jnp.round(jnp.sqrt(area / aspect)), jnp.round(jnp.sqrt(area * aspect))
    fits = (height >= 1) & (height <= size) & (width >= 1) & (width <= size)
    first = jnp.argmax(fits, axis=1)[:, None]

    def side(lengths: Float[Array, "batch attempts"]) -> Int[Array, " batch"]:
        chosen = jnp.take_along_axis(lengths, first, axis=1)[:, 0]
        return jnp.where(fits.any(axis=1), chosen, size).astype(jnp.int32)

    height, width = side(height), side(width)
    top = jax.random.randint(top_rng, (batch_size,), 0, size - height + 1)
    left = jax.random.randint(left_rng, (batch_size,), 0, size - width + 1)
    return jnp.stack([top, left, height, width], axis=1)


def keep_boxes(images: Images, boxes: Int[Array, "batch 4"]) -> Images:
    """Blackens each image outside its box (top, left, height, width)."""
    place = jnp.arange(images.shape[1])[None]
    top, left, height, width = (boxes[:, side, None] for side in range(4))
    rows, columns = (place >= top) & (place < top + height), (place >= left) & (place < left + width)
    return jnp.where((rows[:, :, None] & columns[:, None, :])[..., None], images, 0)


def change_light(
    images: Float[Array, "batch size size 3"], orders: Int[Array, "batch 3"], factors: Float[Array, "batch 3"]
) -> Float[Array, "batch size size 3"]:
    r"""Changes brightness, contrast and saturation of each image one after the other, in its own order.

    .. math:: x \leftarrow \lfloor d + f\,(x - d) \rfloor

    clipped to 0..255, where d is black (brightness), the image's mean grey (contrast) or each pixel's own grey
    (saturation): Pillow's ImageEnhance.

    Args:
      images: RGB, whole values in 0..255.
      orders: what is done first, second and third: 0 brightness, 1 contrast, 2 saturation.
      factors: f of brightness, contrast and saturation; 1 changes nothing.
    """
    for turn in range(3):
        kind = orders[:, turn, None]
        factor = jnp.take_along_axis(factors, kind, axis=1)[:, :, None, None]
        kind = kind[:, :, None, None]
        grey = gray_of(images)
        mean = jnp.round(jnp.mean(grey, axis=(1, 2, 3), keepdims=True))
        origin = jnp.where(kind == BRIGHTNESS, 0, jnp.where(kind == CONTRAST, mean, grey))
        images = jnp.clip(jnp.floor(origin + factor * (images - origin)), 0, BYTE_MAX)
    return images


def _some(rng: PRNGKeyArray, images: Images, probability: float | int, change: Callable) -> Images:
    if not probability:
        return images
    coin_rng, rng = jax.random.split(rng)
    chosen = jax.random.bernoulli(coin_rng, probability, (images.shape[0],))
    images = jnp.asarray(images, jnp.float32)
    return jnp.where(chosen[:, None, None, None], change(rng, images), images)


def _check_probability(name: str, probability: float | int) -> None:
    if not 0 <= probability <= 1:
        raise UserError(f"augment.{name}.probability={probability} must be in [0, 1]")


def _check_range(name: str, pair: tuple[float | int, ...], *, largest: float | int) -> None:
    if len(pair) != 2 or not 0 < pair[0] <= pair[1] <= largest or math.isinf(pair[1]):
        bound = f"above 0 and at most {largest}" if math.isfinite(largest) else "above 0 and finite"
        raise UserError(f"augment.{name}={tuple(pair)} must be two numbers {bound}, the smaller one first")
