"""Rules by which the views of a batch are dressed, as a config has them."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Int

from lrfr_jax.errors import UserError

# How an image is brought to a lower resolution and back.
OPERATORS = ("bicubic", "bilinear", "askd_released", "opencv")
SOURCES = ("first", "second")
LARGEST_STEP = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class Growth:
    r"""A share of the batch that grows with the images that were seen.

    .. math:: p = \min(1,\; p_0 + \delta \lfloor n / N \rfloor)

    Attributes:
      first: p_0, 0 to 1.
      increment: delta, above 0.
      every_images: N.

    References:
      Massoli, Amato, Falchi 2020, Cross-resolution learning for face recognition, arXiv 1912.02851: 0.1, 0.1, 35,000.
    """

    first: float | int
    increment: float | int
    every_images: int

    def number(self, step: Int[Array, ""] | int, batch_size: int) -> Int[Array, ""]:
        """Images of a batch that the share stands for, rounded down, at the step number `step` (from 0)."""
        stages = math.ceil((1 - self.first) / self.increment - 1e-9) + 1
        shares = [min(1, self.first + self.increment * stage) for stage in range(stages)]
        numbers = jnp.asarray([number_degraded(share, batch_size) for share in shares])
        # The first step of each later stage, as whole numbers: images seen may pass what 32 bits hold.
        firsts = [-(-stage * self.every_images // batch_size) for stage in range(1, stages)]
        return numbers[jnp.sum(jnp.asarray(step) >= jnp.asarray([min(n, LARGEST_STEP) for n in firsts], jnp.int32))]


@dataclasses.dataclass(frozen=True)
class View:
    """How one view of a batch is dressed, and what it counts.

    Attributes:
      sizes: resolutions in pixels that an image is brought to; the image's own one leaves it as it is.
      ratios: how often each size is drawn, in any unit.
      share: of the batch that is degraded, 0 without sizes; the other images stay as they are.
      operator: one of `OPERATORS`. 'bicubic' and 'bilinear': down and up as Pillow; 'askd_released': nearest pixels
        both ways, then a vertical blur; 'opencv': one of OpenCV's five kernels down and one up, drawn for each
        image.
      source: which of two data sources is dressed, one of `SOURCES`.
      weight: of the view in the classification loss.

    References:
      A-SKD's and F-SKD's operators: gist-ailab/teaching-where-to-look, noise.py; gist-ailab/feature-similarity-KD.
    """

    sizes: tuple[int, ...]
    ratios: tuple[float | int, ...]
    share: float | int | Growth
    operator: str
    source: str
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
        read = {"sizes": tuple(rule["sizes"]), "ratios": tuple(rule["ratios"]), "share": _share(here, rule["share"])}
        view = View(**dict(rule) | read)
        ratios_fit = len(view.ratios) == len(view.sizes) and all(0 <= ratio < math.inf for ratio in view.ratios)
        if not ratios_fit or (view.sizes and not sum(view.ratios)):
            raise UserError(
                f"{here}.ratios={view.ratios} does not fit {here}.sizes={view.sizes}: give one ratio per size, none "
                "negative and not all 0"
            )
        last = 1 if isinstance(view.share, Growth) else view.share
        if not 0 <= last <= 1 or (last > 0) != bool(view.sizes):
            raise UserError(f"{here}.share={view.share} must be above 0 and at most 1 with sizes, and 0 without any")
        for field, choices in (("operator", OPERATORS), ("source", SOURCES)):
            if getattr(view, field) not in choices:
                raise UserError(
                    f"{here}.{field}={getattr(view, field)!r} is unknown: choose one of {', '.join(choices)}"
                )
        if not 0 <= view.weight < math.inf:
            raise UserError(f"{here}.weight={view.weight} must be at least 0 and finite")
        found[name] = view
    return found


def _share(here: str, share: Any) -> float | int | Growth:
    if not isinstance(share, Mapping):
        return share
    fields = [field.name for field in dataclasses.fields(Growth)]
    if set(share) != set(fields):
        raise UserError(
            f"{here}.share has the fields {', '.join(sorted(share))}: give a number, or {', '.join(fields)}"
        )
    in_range = 0 <= share["first"] <= 1 and 0 < share["increment"] <= 1
    if not in_range or not isinstance(share["every_images"], int) or share["every_images"] < 1:
        raise UserError(
            f"{here}.share={dict(share)} must have first in [0, 1], increment above 0 and at most 1, and a whole "
            "number of every_images, at least 1"
        )
    return Growth(**share)


def check_weights(rules: Mapping[str, View]) -> None:
    """Raises `UserError` where no view has a weight, and so nothing would be classified."""
    if not any(view.weight for view in rules.values()):
        raise UserError(f"augment.views gives {', '.join(rules) or 'no view'} no weight: set one view's above 0")


def check_sizes(rules: Mapping[str, View], *, batch_sizes: Mapping[str, int], image_size: int) -> None:
    """Raises `UserError` for a rule that does not fit the images: their side, or how many each source gives.

    Args:
      batch_sizes: {source: images}, of the sources that there are.
    """
    for name, view in rules.items():
        here = f"augment.views.{name}"
        if view.source not in batch_sizes:
            raise UserError(
                f"{here}.source={view.source!r} needs a second set of images: set it to 'first', or give one"
            )
        outside = [size for size in view.sizes if not 1 <= size <= image_size]
        if outside:
            raise UserError(
                f"{here}.sizes={view.sizes} holds {outside}: give side lengths from 1 to {image_size} pixels"
            )
        batch_size = batch_sizes[view.source]
        is_fixed = not isinstance(view.share, Growth)
        if is_fixed and view.share and not number_degraded(view.share, batch_size):
            raise UserError(f"{here}.share={view.share} of a batch of {batch_size} is no image: raise one of the two")


def number_degraded(share: float | int, batch_size: int) -> int:
    """The share's number of images, rounded down."""
    # 0.29 * 100 is 28.999999999999996
    return math.floor(share * batch_size + 1e-9)
