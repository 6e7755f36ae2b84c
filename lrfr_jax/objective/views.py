"""Random dressings of a batch: which resolution each image gets in each view, and which way round it is seen."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt8

from lrfr_jax import image_ops
from lrfr_jax.errors import UserError
from lrfr_jax.objective import augmentations, resampling
from lrfr_jax.objective.view_rules import Growth, View, check_sizes, number_degraded, views_of

# What each random draw of the batch is folded with; a new purpose takes the next number, up to FIRST_OF_VIEWS.
BORDER_COIN, BORDER_WIDTHS, CROP, LOW_RESOLUTION, LIGHT, GRAY, SECOND = range(3, 10)
# A view's own draws; a new one takes the next place.
RESOLUTION, FLIP, CHOICE, KERNEL = range(4)
FIRST_OF_VIEWS, PLACES = 16, 16
# A high-resolution view and a low-resolution one were all once; their draws keep the numbers that they had.
FORMER = {(RESOLUTION, 1): 0, (FLIP, 0): 1, (FLIP, 1): 2}
FLIPS = ("shared", "independent", "none")

Images = UInt8[Array, "batch size size channels"] | Float[Array, "batch size size channels"]


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


def flips_of(
    rng: PRNGKeyArray, batch_size: int, rules: Mapping[str, View], flip: str, *, second_size: int | None = None
) -> dict[str, Bool[Array, " batch"] | None]:
    """Which images of each view `make_views` mirrors, None where it mirrors none.

    Args:
      rng, flip: as given to `make_views`.
      batch_size: images of the first source.
      rules: from `views_of`.
      second_size: images of the second source, if there is one.
    """
    sizes = {"first": batch_size, "second": second_size}
    return {
        name: _mirrored(_of_source(rng, view.source), number, sizes[view.source], flip)
        for number, (name, view) in enumerate(rules.items())
    }


def _mirrored(rng: PRNGKeyArray, number: int, batch_size: int, flip: str) -> Bool[Array, " batch"] | None:
    if flip not in FLIPS:
        raise UserError(f"augment.flip={flip!r} is unknown: choose one of {', '.join(FLIPS)}")
    key = _draw(rng, FLIP, number if flip == "independent" else 0)
    return None if flip == "none" else jax.random.bernoulli(key, shape=(batch_size,))


def make_views(
    rng: PRNGKeyArray,
    images: UInt8[Array, "batch size size channels"],
    *,
    step: Int[Array, ""] | int,
    second: UInt8[Array, "others size size channels"] | None = None,
    views: Mapping[str, Mapping[str, Any]],
    rounding: str,
    flip: str,
    border_probability: float | int,
    border_largest: int,
    crop: Mapping[str, Any],
    low_resolution: Mapping[str, Any],
    light: Mapping[str, Any],
    gray: Mapping[str, Any],
) -> dict[str, Float[Array, "_ size size channels"]]:
    """Dresses each image as every view's rule says.

    What is done to the image itself, before it is dressed, is the same in all views: borders, crop, low resolution,
    light and gray.

    Args:
      rng: key of this batch; equal keys give equal views.
      images: as stored, 0..255.
      step: how many steps were taken before, for shares that grow.
      second: images of a second source, which the rules with `source='second'` dress.
      views: {name: rule}, see `View`: a single view, a high- and a low-resolution one, or others.
      rounding: 'uint8' (as Pillow) or 'none', see `image_ops.degrade`; of the operators 'bicubic' and 'bilinear'.
      flip: 'shared' (one coin per image, all views the same way round), 'independent' (a coin per view, as in the
        released code: half of the pairs are mirrored) or 'none'.
      border_probability: share of the images whose borders are erased, see `random_borders`.
      border_largest: the widest band in pixels, less than half of the image; 0 with `border_probability=0`.
      crop, low_resolution, light, gray: the arguments of `random_crop`, `random_low_resolution`, `random_light` and
        `random_gray` of `augmentations`.

    Returns:
      {name: view} in the order of the names ('hr', 'lr'), normalized to [-1, 1].

    Raises:
      UserError: an unknown name, or a number that is out of its range or does not fit the others.

    References:
      Ling et al. 2022, arXiv 2302.05621, Sec. 3.3; hurricanelx/LRFR, train_webface_pair.py.
    """
    rules = views_of(views)
    if rounding not in image_ops.ROUNDINGS:
        raise UserError(f"augment.rounding={rounding!r} is unknown: choose one of {', '.join(image_ops.ROUNDINGS)}")
    sources = {"first": images} if second is None else {"first": images, "second": second}
    sizes = {name: source.shape[0] for name, source in sources.items()}
    check_sizes(rules, batch_sizes=sizes, image_size=images.shape[1])
    _check_borders(border_probability, border_largest, image_size=images.shape[1])

    def augmented(rng: PRNGKeyArray, images: Images) -> Images:
        if border_probability:
            widths = random_borders(rng, images.shape[0], probability=border_probability, largest=border_largest)
            images = image_ops.erase_borders(images, widths)
        images = augmentations.random_crop(jax.random.fold_in(rng, CROP), images, **crop)
        images = augmentations.random_low_resolution(jax.random.fold_in(rng, LOW_RESOLUTION), images, **low_resolution)
        images = augmentations.random_light(jax.random.fold_in(rng, LIGHT), images, **light)
        return augmentations.random_gray(jax.random.fold_in(rng, GRAY), images, **gray)

    sources = {name: augmented(_of_source(rng, name), source) for name, source in sources.items()}
    dressed = {}
    for number, (name, view) in enumerate(rules.items()):
        key = _of_source(rng, view.source)
        pixels = _degraded(key, sources[view.source], view, number=number, rounding=rounding, step=step)
        mirrored = _mirrored(key, number, sizes[view.source], flip)
        pixels = pixels if mirrored is None else image_ops.flip(pixels, mirrored)
        dressed[name] = image_ops.normalize(pixels)
    return dressed


def _of_source(rng: PRNGKeyArray, source: str) -> PRNGKeyArray:
    return rng if source == "first" else jax.random.fold_in(rng, SECOND)


def _draw(rng: PRNGKeyArray, place: int, number: int) -> PRNGKeyArray:
    """The key of a view's own draw."""
    return jax.random.fold_in(rng, FORMER.get((place, number), FIRST_OF_VIEWS + PLACES * number + place))


def _degraded(
    rng: PRNGKeyArray, images: Images, view: View, *, number: int, rounding: str, step: Int[Array, ""] | int
) -> Images:
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
    grows = isinstance(view.share, Growth)
    if grows or view.share < 1:
        places = jax.random.permutation(_draw(rng, CHOICE, number), batch_size)
        count = view.share.number(step, batch_size) if grows else number_degraded(view.share, batch_size)
        kept.append(places >= count)
    degraded = _reduced(_draw(rng, KERNEL, number), images, resolutions, view.operator, lower, rounding)
    for which in kept:
        degraded = jnp.where(which[:, None, None, None], images, degraded)
    return degraded


def _reduced(
    rng: PRNGKeyArray,
    images: Images,
    resolutions: Int[Array, " batch"],
    operator: str,
    sizes: tuple[int, ...],
    rounding: str,
) -> Float[Array, "batch size size channels"]:
    """Images at lower resolutions by an operator of `view_rules.OPERATORS`."""
    if operator == "opencv":
        down, up = jax.random.randint(rng, (2, images.shape[0]), 0, len(resampling.KERNELS))
        return resampling.shrink_and_enlarge(images, resolutions, down=down, up=up)
    if operator == "askd_released":
        return resampling.nearest_and_blur(images, resolutions, sizes=sizes)
    kernel = {"bicubic": "cubic", "bilinear": "linear"}[operator]
    return image_ops.degrade(images, resolutions, sizes=sizes, rounding=rounding, kernel=kernel)


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
