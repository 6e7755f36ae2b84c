"""Random dressings of a batch: which resolution each image gets, and which way round it is seen."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8

from lrfr_jax import image_ops
from lrfr_jax.errors import UserError

# What each random draw is folded with; a new purpose takes the next number.
RESOLUTION, HR_FLIP, LR_FLIP, BORDER_COIN, BORDER_WIDTHS = range(5)
FLIPS = ("shared", "independent", "none")


def sample_resolutions(
    rng: PRNGKeyArray, batch_size: int, *, sizes: tuple[int, ...], ratios: tuple[float | int, ...]
) -> Int[Array, " batch"]:
    """Draws a resolution for each image, `sizes[i]` with probability `ratios[i] / sum(ratios)`.

    Raises:
      UserError: the ratios do not fit the sizes.

    References:
      Ling et al. 2022, arXiv 2302.05621, Sec. 4.1: sizes (7, 14, 20), ratios (1, 1, 2).
    """
    valid = len(ratios) == len(sizes) > 0 and all(math.isfinite(ratio) and ratio >= 0 for ratio in ratios)
    if not valid or sum(ratios) == 0:
        raise UserError(
            f"augment.ratios={ratios} does not fit augment.sizes={sizes}: "
            "give one ratio per size, none negative and not all 0"
        )
    return jax.random.choice(rng, jnp.asarray(sizes), (batch_size,), p=jnp.asarray(ratios, jnp.float32))


def random_borders(
    rng: PRNGKeyArray, batch_size: int, *, probability: float | int, largest: int
) -> Int[Array, "batch 4"]:
    """Draws the widths of black bands at the four sides of each image, uniform in 0..largest pixels, or none at all.

    Some sets (PubFig) have such bands around most faces: a network that has never seen them elsewhere learns the set.
    """
    has_borders = jax.random.bernoulli(jax.random.fold_in(rng, BORDER_COIN), probability, (batch_size, 1))
    widths = jax.random.randint(jax.random.fold_in(rng, BORDER_WIDTHS), (batch_size, 4), 0, largest + 1)
    return jnp.where(has_borders, widths, 0)


def make_views(
    rng: PRNGKeyArray,
    images: UInt8[Array, "batch size size channels"],
    *,
    sizes: tuple[int, ...],
    ratios: tuple[float | int, ...],
    rounding: str,
    flip: str,
    border_probability: float | int,
    border_largest: int,
) -> tuple[Float[Array, "batch size size channels"], ...]:
    """Dresses each image as the high-resolution view and, unless `sizes` is empty, as a low-resolution one.

    Args:
      rng: key of this batch; equal keys give equal views.
      images: as stored, 0..255.
      sizes: resolutions of the low-resolution view; () for the high-resolution view alone.
      ratios: how often each of the sizes is drawn, in any unit; () with `sizes=()`.
      rounding: 'uint8' (as Pillow) or 'none', see `image_ops.degrade`.
      flip: 'shared' (one coin per image, both views the same way round), 'independent' (a coin per view, as in the
        released code: half of the pairs are mirrored) or 'none'.
      border_probability: share of the images whose borders are erased in both views, see `random_borders`.
      border_largest: the widest band in pixels, less than half of the image; 0 with `border_probability=0`.

    Returns:
      (hr_view, lr_view) or (hr_view,), normalized to [-1, 1].

    Raises:
      UserError: an unknown name, or sizes and ratios that do not fit.

    References:
      Ling et al. 2022, arXiv 2302.05621, Sec. 3.3; hurricanelx/LRFR, train_webface_pair.py.
    """
    if flip not in FLIPS:
        raise UserError(f"augment.flip={flip!r} is unknown: choose one of {', '.join(FLIPS)}")
    if rounding not in image_ops.ROUNDINGS:
        raise UserError(f"augment.rounding={rounding!r} is unknown: choose one of {', '.join(image_ops.ROUNDINGS)}")
    outside = [size for size in sizes if not 1 <= size <= images.shape[1]]
    if outside:
        raise UserError(f"augment.sizes={sizes} holds {outside}: give side lengths from 1 to {images.shape[1]} pixels")
    if not 0 <= border_probability <= 1 or not 0 <= border_largest < images.shape[1] / 2:
        raise UserError(
            f"augment.border_probability={border_probability} must be in [0, 1] and augment.border_largest="
            f"{border_largest} pixels in 0..{(images.shape[1] - 1) // 2}"
        )
    if (border_probability == 0) != (border_largest == 0):
        raise UserError(
            f"augment.border_probability={border_probability} and augment.border_largest={border_largest} must both be "
            "0, or neither"
        )
    batch_size = images.shape[0]
    if border_probability:
        widths = random_borders(rng, batch_size, probability=border_probability, largest=border_largest)
        images = image_ops.erase_borders(images, widths)
    hr_coin = jax.random.bernoulli(jax.random.fold_in(rng, HR_FLIP), shape=(batch_size,))
    lr_coin = jax.random.bernoulli(jax.random.fold_in(rng, LR_FLIP), shape=(batch_size,))
    never = jnp.zeros((batch_size,), bool)
    coins = {"shared": (hr_coin, hr_coin), "independent": (hr_coin, lr_coin), "none": (never, never)}[flip]

    hr_view = image_ops.normalize(image_ops.flip(images, coins[0]))
    if not sizes and not ratios:
        return (hr_view,)
    resolutions = sample_resolutions(jax.random.fold_in(rng, RESOLUTION), batch_size, sizes=sizes, ratios=ratios)
    degraded = image_ops.degrade(images, resolutions, sizes=sizes, rounding=rounding)
    return hr_view, image_ops.normalize(image_ops.flip(degraded, coins[1]))
