"""Thresholds that mean something, as a model's card holds them, and which of them is for two faces."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from lrfr_jax.errors import UserError
from lrfr_jax.evals.protocols import MODE_TITLES
from lrfr_jax.evals.reading import Reading
from lrfr_jax.image_ops import IMAGE_SIZE

_ROUNDING = 1e-5  # of a similarity of two equal faces


@dataclasses.dataclass(frozen=True)
class Threshold:
    """Two faces are taken for one person if their similarity is above it.

    Attributes:
      mode: 'hr_hr', 'hr_lr' (one face is that small) or 'lr_lr' (both are).
      resolution: side length in pixels of the smaller face.
      far: the share of impostor pairs that it may accept.
      threshold: similarity: a cosine, unless another score is named.
      far_low, far_high: interval of 95 % of the share that it accepts, impostor pairs taken as independent draws.
      tar: share of genuine pairs that it accepts.
      impostor_pairs: on which it rests.
      set, protocol, fusion: where it comes from; it holds for embeddings of the same fusion...
      score, centering: ... compared by the same score (with its constants), with the means of the same calibration...
      gallery: ... and read by the same two models, see `Reading.gallery`; '' where one model reads all faces.
      digest: of the set's content; '' for a set prepared before there was one.
      calibration: which call of `evaluate --calibrate` on this model found it, counted from 1; 0 in older cards.
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
    digest: str = ""
    calibration: int = 0
    score: str = "cosine"
    centering: str = "none"
    gallery: str = ""

    @property
    def reading(self) -> Reading:
        return Reading(self.fusion, self.score, self.centering, self.gallery)


def from_plain(entry: Mapping[str, Any]) -> Threshold:
    """Makes one of its json; `ValueError` for a value that no threshold has, `TypeError` for other keys and types."""
    one = Threshold(**entry)
    if one.mode not in MODE_TITLES or not 1 <= one.resolution <= IMAGE_SIZE:
        raise ValueError(f"a threshold is of mode {one.mode!r} at {one.resolution} px")
    # QMagFace's score has no lower end.
    lowest = -1 - _ROUNDING if one.score == Reading.score else -float("inf")
    if not (0 < one.far <= 1 and lowest <= one.threshold <= 1 + _ROUNDING):
        raise ValueError(f"a threshold is {one.threshold} at a false accept rate of {one.far}")
    return one


def newest_fusion(thresholds: Sequence[Threshold]) -> str | None:
    """The fusion of the last calibration, 'sum' if there are several of it; None if there are no thresholds."""
    last = max((one.calibration for one in thresholds), default=0)
    fusions = [one.fusion for one in thresholds if one.calibration == last]
    return "sum" if "sum" in fusions else fusions[-1] if fusions else None


def in_use(thresholds: Sequence[Threshold], *, reading: Reading, calibrated_on: str | None) -> list[Threshold]:
    """Keeps those that decide: of one reading, and of the sets of its last calibration or of the one that is named.

    A set that was calibrated on several times, by other protocols or with other data under its name, counts as it was
    the last time. Earlier sizes of it are kept.

    Raises:
      UserError: nothing was calibrated on the set that is named.
    """
    fitting = [one for one in thresholds if one.reading == reading]
    last = max((one.calibration for one in fitting), default=0)
    names = {one.set for one in fitting if one.calibration == last} if calibrated_on is None else {calibrated_on}
    newest = {one.set: (one.digest, one.protocol) for one in sorted(fitting, key=lambda one: one.calibration)}
    held = [one for one in fitting if one.set in names and newest[one.set] == (one.digest, one.protocol)]
    if calibrated_on is not None and not held:
        known = f"it is calibrated for {summary(thresholds)}" if thresholds else "it is calibrated on none"
        raise UserError(f"this model was not calibrated on {calibrated_on} for {reading}: {known}")
    return held


def of_rate(
    thresholds: Sequence[Threshold], *, reading: Reading, far: float | None, calibrated_on: str | None
) -> list[Threshold]:
    """Returns those `in_use`; `UserError` if a rate is wanted that none of them has."""
    held = in_use(thresholds, reading=reading, calibrated_on=calibrated_on)
    if far is None:
        return held
    if not held:
        raise UserError(why_none(thresholds, reading=reading))
    _check_rate(far, held, "any pair")
    return held


def why_none(thresholds: Sequence[Threshold], *, reading: Reading) -> str:
    """Says why a model with these thresholds decides nothing for this reading, and what to do."""
    way = "`python -m lrfr_jax.evaluate --calibrate` makes them"
    if thresholds:
        way = f"it is calibrated for {summary(thresholds)}; `evaluate --calibrate {reading.as_options()}` adds others"
    return f"this model has no thresholds for {reading}: {way}"


def with_others(reason: str, thresholds: Sequence[Threshold], held: Sequence[Threshold]) -> str:
    """Adds to the reason why those `in_use` decide nothing which others there are."""
    others = [one for one in thresholds if one not in held]
    if not others:
        return reason
    options = ["--calibrated_on", "--fusion", "--score", "--centering"]
    options += ["--gallery_checkpoint"] if any(one.gallery for one in thresholds) else []
    listed = f"{', '.join(options[:-1])} and {options[-1]}"
    return f"{reason}; it is also calibrated for {summary(others)}: see {listed}"


def summary(thresholds: Sequence[Threshold]) -> str:
    """Names the readings, sets and sizes of thresholds: `fusion none (lfw: HR-HR 112 px, HR-LR 20, 14 px)`."""
    sources: dict[tuple[Reading, str], dict[str, set[int]]] = {}
    for one in thresholds:
        sizes = sources.setdefault((one.reading, one.set), {}).setdefault(MODE_TITLES[one.mode], set())
        sizes.add(one.resolution)
    told = []
    for (reading, name), modes in sources.items():
        listed = (f"{title} {', '.join(map(str, sorted(of, reverse=True)))} px" for title, of in modes.items())
        told.append(f"{reading} ({name}: {', '.join(listed)})")
    return "; ".join(told)


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
      thresholds: those `in_use`.
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
        raise UserError(
            f"this model was not calibrated for {title}, only for {summary(thresholds)}: evaluate it with --calibrate "
            "and --resolutions"
        )
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


def of_populations(thresholds: Sequence[Threshold], chosen: Threshold) -> list[Threshold]:
    """Returns what every set says of the same pairs and rate, `chosen` among it, from the lowest to the highest.

    People of another origin, or other pictures, want another threshold for one rate. A set counts as it was the last
    time that it was calibrated on.
    """
    same = ("reading", "mode", "resolution", "far")
    fitting = [one for one in thresholds if all(getattr(one, name) == getattr(chosen, name) for name in same)]
    newest = {one.set: one for one in sorted(fitting, key=lambda one: one.calibration)} | {chosen.set: chosen}
    return sorted(newest.values(), key=lambda one: one.threshold)


def in_words(similarity: float, threshold: Threshold, populations: Sequence[Threshold] = ()) -> str:
    """Says what a similarity means by a threshold, which rate that stands for, on what it rests, and what others say.

    `populations` are those `of_populations`.
    """
    decision = "the same person" if similarity > threshold.threshold else "not the same person"
    others = ""
    if len(populations) > 1:
        low, high = populations[0], populations[-1]
        others = (
            f"; of the {len(populations)} sets that it is calibrated on, thresholds for this rate reach from "
            f"{low.threshold:.4f} ({low.set}) to {high.threshold:.4f} ({high.set})"
        )
        if low.threshold < similarity <= high.threshold:
            others += ", and the answer depends on which of them the two are like"
    return (
        f"{decision}: similarity {similarity:.4f}, threshold {threshold.threshold:.4f} for a false accept rate of "
        f"{threshold.far:g} ({threshold.far_low:.2g} to {threshold.far_high:.2g}) at {threshold.resolution} px, "
        f"{MODE_TITLES[threshold.mode]}, from {threshold.impostor_pairs:,} impostor pairs of {threshold.set}, "
        f"{threshold.reading}{others}"
    )
