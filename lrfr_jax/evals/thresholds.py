"""Thresholds that mean something, as a model's card holds them, and which of them is for two faces."""

import dataclasses
from collections.abc import Sequence

from lrfr_jax.errors import UserError
from lrfr_jax.evals.protocols import MODE_TITLES
from lrfr_jax.image_ops import IMAGE_SIZE


@dataclasses.dataclass(frozen=True)
class Threshold:
    """Two faces are taken for one person if their similarity (a cosine) is above it.

    Attributes:
      mode: 'hr_hr', 'hr_lr' (one face is that small) or 'lr_lr' (both are).
      resolution: side length in pixels of the smaller face.
      far: the share of impostor pairs that it may accept.
      threshold: cosine similarity.
      far_low, far_high: interval of 95 % of the share that it accepts, impostor pairs taken as independent draws.
      tar: share of genuine pairs that it accepts.
      impostor_pairs: on which it rests.
      set, protocol, fusion: where it comes from; it holds for embeddings of the same fusion.
    """

    mode: str
    resolution: int
    far: float
    threshold: float
    far_low: float
    far_high: float
    tar: float
    impostor_pairs: int
    set: str
    protocol: str
    fusion: str


def of_fusion(thresholds: Sequence[Threshold], *, fusion: str, far: float | None) -> list[Threshold]:
    """Keeps those that hold for embeddings of this fusion; `UserError` if a rate is wanted that none has."""
    fitting = [one for one in thresholds if one.fusion == fusion]
    if not fitting and far is not None:
        raise UserError(
            f"this model has no thresholds for fusion {fusion!r}: `python -m lrfr_jax.evaluate --calibrate` makes them"
        )
    if far is not None:
        _check_rate(far, fitting, "any pair")
    return fitting


def _check_rate(far: float, thresholds: Sequence[Threshold], of_what: str) -> None:
    rates = sorted({one.far for one in thresholds}, reverse=True)
    if far not in rates:
        known = ", ".join(f"{rate:g}" for rate in rates)
        raise UserError(f"--far {far:g} was not calibrated for {of_what}, only {known}")


def choose(thresholds: Sequence[Threshold], *, sizes: tuple[int, int], far: float | None) -> Threshold:
    """Picks the threshold for two faces by their sizes in pixels.

    A face counts as the largest calibrated size that is not above its own. If both have the full size, they are a pair
    of 'hr_hr', if one has, of 'hr_lr', else of 'lr_lr', at the smaller one's size. Without a rate the lowest
    counts that has a threshold for faces as small.

    Args:
      thresholds: of one fusion.
      sizes: of the two faces.
      far: false accept rate, one that was calibrated.

    Raises:
      UserError: nothing was calibrated for such a pair, for this rate, or for faces as small.
    """
    smaller, larger = sorted(sizes)
    mode = "hr_hr" if smaller >= IMAGE_SIZE else "hr_lr" if larger >= IMAGE_SIZE else "lr_lr"
    title = MODE_TITLES[mode]
    fitting = [one for one in thresholds if one.mode == mode]
    if not fitting:
        raise UserError(f"this model was not calibrated for {title}: evaluate it with --calibrate and --resolutions")
    if far is not None:
        _check_rate(far, fitting, title)
    fitting = sorted((one for one in fitting if far in (None, one.far)), key=lambda one: one.resolution)
    below = [one for one in fitting if one.resolution <= smaller]
    if not below:
        raise UserError(
            f"a face of {smaller} px is smaller than anything that this model was calibrated on for {title} "
            f"({fitting[0].resolution} px)"
        )
    lowest = min(one.far for one in below)
    of_rate = [one for one in below if one.far == lowest]
    chosen = [one for one in of_rate if one.resolution == of_rate[-1].resolution]
    # Calibrated on several sets, the strictest keeps the rate on each.
    return max(chosen, key=lambda one: one.threshold)


def in_words(similarity: float, threshold: Threshold) -> str:
    """Says what a similarity means by a threshold, which rate that stands for, and on what it rests."""
    decision = "the same person" if similarity > threshold.threshold else "not the same person"
    return (
        f"{decision}: similarity {similarity:.4f}, threshold {threshold.threshold:.4f} for a false accept rate of "
        f"{threshold.far:g} ({threshold.far_low:.2g} to {threshold.far_high:.2g}) at {threshold.resolution} px, "
        f"{MODE_TITLES[threshold.mode]}, from {threshold.impostor_pairs:,} impostor pairs of {threshold.set}"
    )
