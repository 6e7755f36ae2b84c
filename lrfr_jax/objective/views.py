"""Random dressings of a batch: which resolution each image gets in each view, and which way round it is seen."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8

from lrfr_jax import image_ops
from lrfr_jax.errors import UserError
from lrfr_jax.objective import augmentations

# What each random draw of the batch is folded with; a new purpose takes the next number, up to FIRST_OF_VIEWS.
BORDER_COIN, BORDER_WIDTHS, CROP, LOW_RESOLUTION, LIGHT = range(3, 8)
# A view's own draws; a new one takes the next place.
RESOLUTION, FLIP, CHOICE = range(3)
FIRST_OF_VIEWS, PLACES = 16, 16
# A high-resolution view and a low-resolution one were all once; their draws keep the numbers that they had.
FORMER = {(RESOLUTION, 1): 0, (FLIP, 0): 1, (FLIP, 1): 2}
FLIPS = ("shared", "independent", "none")

Images = UInt8[Array, "batch size size channels"] | Float[Array, "batch size size channels"]


@dataclasses.dataclass(frozen=True)
class View:
    """How one view of a batch is dressed, and what it counts.

    Attributes:
      sizes: resolutions in pixels that an image is brought to; the image's own one leaves it as it is.
      ratios: how often each size is drawn, in any unit.
      share: of the batch that is degraded, 0 without sizes; the other images stay as they are.
      weight: of the view in the classification loss.
    """

    sizes: tuple[int, ...]
    ratios: tuple[float | int, ...]
    share: float | int
    weight: float | int


def views_of(views: Mapping[str, Mapping[str, Any]]) -> dict[str, View]:
    """Reads the config's group `augment.views`, {name: rule}, in the order of the names.

    Raises:
      UserError: a rule that is none; the sentence names it.
    """
    known = [field.name for field in dataclasses.fields(View)]
    found = {}
    for name, rule in sorted(views.items()):
        here = f"augment.views.{name}"
        if set(rule) != set(known):
            raise UserError(f"{here} has the fields {', '.join(sorted(rule))}: give {', '.join(known)}, and no other")
        view = View(tuple(rule["sizes"]), tuple(rule["ratios"]), rule["share"], rule["weight"])
        ratios_fit = len(view.ratios) == len(view.sizes) and all(0 <= ratio < math.inf for ratio in view.ratios)
        if not ratios_fit or (view.sizes and not sum(view.ratios)):
            raise UserError(
                f"{here}.ratios={view.ratios} does not fit {here}.sizes={view.sizes}: give one ratio per size, none "
                "negative and not all 0"
            )
        if not 0 <= view.share <= 1 or (view.share > 0) != bool(view.sizes):
            raise UserError(f"{here}.share={view.share} must be above 0 and at most 1 with sizes, and 0 without any")
        if not 0 <= view.weight < math.inf:
            raise UserError(f"{here}.weight={view.weight} must be at least 0 and finite")
        found[name] = view
    if not any(view.weight for view in found.values()):
        raise UserError(f"augment.views gives {', '.join(found) or 'no view'} no weight: set one view's above 0")
    return found


def sample_resolutions(
    rng: PRNGKeyArray, batch_size: int, *, sizes: tuple[int, ...], ratios: tuple[float | int, ...]
) -> Int[Array, " batch"]:
    """Draws a resolution for each image, `sizes[i]` with probability `ratios[i] / sum(ratios)`.

    References:
      Ling et al. 2022, arXiv 2302.05621, Sec. 4.1: sizes (7, 14, 20), ratios (1, 1, 2).
    """
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
    views: Mapping[str, Mapping[str, Any]],
    rounding: str,
    flip: str,
    border_probability: float | int,
    border_largest: int,
    crop: Mapping[str, Any],
    low_resolution: Mapping[str, Any],
    light: Mapping[str, Any],
) -> tuple[Float[Array, "batch size size channels"], ...]:
    """Dresses each image as every view's rule says.

    What is done to the image itself, before it is dressed, is the same in all views: borders, crop, low resolution and
    light.

    Args:
      rng: key of this batch; equal keys give equal views.
      images: as stored, 0..255.
      views: {name: rule}, see `View`: a single view, a high- and a low-resolution one, or others.
      rounding: 'uint8' (as Pillow) or 'none', see `image_ops.degrade`.
      flip: 'shared' (one coin per image, all views the same way round), 'independent' (a coin per view, as in the
        released code: half of the pairs are mirrored) or 'none'.
      border_probability: share of the images whose borders are erased, see `random_borders`.
      border_largest: the widest band in pixels, less than half of the image; 0 with `border_probability=0`.
      crop, low_resolution, light: the arguments of `random_crop`, `random_low_resolution` and `random_light` of
        `augmentations`.

    Returns:
      The views in the order of their names ('hr', 'lr'), normalized to [-1, 1].

    Raises:
      UserError: an unknown name, or a number that is out of its range or does not fit the others.

    References:
      Ling et al. 2022, arXiv 2302.05621, Sec. 3.3; hurricanelx/LRFR, train_webface_pair.py.
    """
    batch_size = images.shape[0]
    rules = views_of(views)
    _check(rules, flip, rounding, batch_size=batch_size, image_size=images.shape[1])
    _check_borders(border_probability, border_largest, image_size=images.shape[1])
    if border_probability:
        widths = random_borders(rng, batch_size, probability=border_probability, largest=border_largest)
        images = image_ops.erase_borders(images, widths)
    images = augmentations.random_crop(jax.random.fold_in(rng, CROP), images, **crop)
    images = augmentations.random_low_resolution(jax.random.fold_in(rng, LOW_RESOLUTION), images, **low_resolution)
    images = augmentations.random_light(jax.random.fold_in(rng, LIGHT), images, **light)
    dressed = []
    for number, view in enumerate(rules.values()):
        pixels = _degraded(rng, images, view, number=number, rounding=rounding)
        if flip != "none":
            key = _draw(rng, FLIP, number if flip == "independent" else 0)
            pixels = image_ops.flip(pixels, jax.random.bernoulli(key, shape=(batch_size,)))
        dressed.append(image_ops.normalize(pixels))
    return tuple(dressed)


def _draw(rng: PRNGKeyArray, place: int, number: int) -> PRNGKeyArray:
    """The key of a view's own draw."""
    return jax.random.fold_in(rng, FORMER.get((place, number), FIRST_OF_VIEWS + PLACES * number + place))


def _degraded(rng: PRNGKeyArray, images: Images, view: View, *, number: int, rounding: str) -> Images:
    batch_size, full = images.shape[:2]
    lower = tuple(size for size in view.sizes if size < full)
    if not lower:
        return images
    key = _draw(rng, RESOLUTION, number)
    resolutions = sample_resolutions(key, batch_size, sizes=view.sizes, ratios=view.ratios)
    kept = []
    if len(lower) < len(view.sizes):
        kept.append(resolutions == full)
        resolutions = jnp.where(kept[0], lower[0], resolutions)
    if view.share < 1:
        places = jax.random.permutation(_draw(rng, CHOICE, number), batch_size)
        kept.append(places >= _number_degraded(view.share, batch_size))
    degraded = image_ops.degrade(images, resolutions, sizes=lower, rounding=rounding)
    for which in kept:
        degraded = jnp.where(which[:, None, None, None], images, degraded)
    return degraded


def _number_degraded(share: float | int, batch_size: int) -> int:
    # 0.29 * 100 is 28.999999999999996
    return math.floor(share * batch_size + 1e-9)


def _check(rules: Mapping[str, View], flip: str, rounding: str, *, batch_size: int, image_size: int) -> None:
    if flip not in FLIPS:
        raise UserError(f"augment.flip={flip!r} is unknown: choose one of {', '.join(FLIPS)}")
    if rounding not in image_ops.ROUNDINGS:
        raise UserError(f"augment.rounding={rounding!r} is unknown: choose one of {', '.join(image_ops.ROUNDINGS)}")
    for name, view in rules.items():
        here = f"augment.views.{name}"
        outside = [size for size in view.sizes if not 1 <= size <= image_size]
        if outside:
            raise UserError(
                f"{here}.sizes={view.sizes} holds {outside}: give side lengths from 1 to {image_size} pixels"
            )
        if view.share and not _number_degraded(view.share, batch_size):
            raise UserError(f"{here}.share={view.share} of a batch of {batch_size} is no image: raise one of the two")


def _check_borders(probability: float | int, largest: int, *, image_size: int) -> None:
    if not 0 <= probability <= 1 or not 0 <= largest < image_size / 2:
        raise UserError(
            f"augment.border_probability={probability} must be in [0, 1] and augment.border_largest={largest} pixels "
            f"in 0..{(image_size - 1) // 2}"
        )
    if (probability == 0) != (largest == 0):
        raise UserError(
            f"augment.border_probability={probability} and augment.border_largest={largest} must both be 0, or neither"
        )
