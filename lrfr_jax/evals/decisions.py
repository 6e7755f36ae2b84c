"""What a model's own thresholds decide of many pairs, and what they accept where it is known who is who."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from lrfr_jax.errors import UserError
from lrfr_jax.evals import metrics, thresholds
from lrfr_jax.evals.protocols import MODE_TITLES
from lrfr_jax.evals.tables import percent
from lrfr_jax.evals.thresholds import Threshold
from lrfr_jax.image_ops import IMAGE_SIZE


@dataclasses.dataclass(frozen=True, eq=False)
class Decisions:
    """One decision for each pair, at one nominal false accept rate.

    Attributes:
      is_same: what was decided; without meaning where nothing was.
      is_decided: False for pairs whose faces are smaller than anything that was calibrated.
      used: the thresholds, each once.
    """

    is_same: Bool[np.ndarray, " pairs"]
    is_decided: Bool[np.ndarray, " pairs"]
    used: list[Threshold]


@dataclasses.dataclass(frozen=True)
class Accepted:
    """Which share of the decided pairs of one kind was accepted, with an interval of 95 % (independent pairs)."""

    rate: float
    interval: tuple[float, float]
    pairs: int


def check(held: Sequence[Threshold], *, resolutions: Sequence[tuple[int, int]], far: float) -> None:
    """Raises `UserError` if faces of some resolutions could not be decided however large they are."""
    for first, second in resolutions:
        thresholds.choose(held, sizes=(first, second), far=far)


def decide(
    held: Sequence[Threshold],
    cosines: Float[np.ndarray, " pairs"],
    *,
    sizes: Int[np.ndarray, "pairs 2"],
    far: float,
) -> Decisions:
    """Decides each pair by the threshold for the sizes of its two faces.

    Args:
      held: thresholds, see `thresholds.in_use`.
      cosines: the similarities.
      sizes: of the faces, in pixels.
      far: false accept rate of the thresholds.
    """

    @functools.cache
    def threshold(first: int, second: int) -> Threshold | None:
        try:
            return thresholds.choose(held, sizes=(first, second), far=far)
        except UserError:
            return None

    chosen = [threshold(first, second) for first, second in np.minimum(sizes, IMAGE_SIZE).tolist()]
    limits = np.array([np.inf if one is None else one.threshold for one in chosen])
    used = list(dict.fromkeys(one for one in chosen if one is not None))
    return Decisions(cosines > limits, np.isfinite(limits), used)


def accepted(decisions: Decisions, of: Bool[np.ndarray, " pairs"]) -> Accepted | None:
    """Measures the share that was accepted of some pairs: of the impostors it is the FAR, of the genuine the TAR.

    Returns:
      None if nothing was decided of any of them.
    """
    decided = decisions.is_same[of & decisions.is_decided]
    if not len(decided):
        return None
    rate = float(decided.mean())
    return Accepted(rate, metrics.wilson_interval(rate, len(decided), confidence=metrics.CONFIDENCE), len(decided))


def measured(decided: Mapping[str, Decisions], is_same: Bool[np.ndarray, " pairs"]) -> dict[str, dict[str, Any]]:
    """Returns plain json values: {comparison: {far, far_interval, impostor_pairs, tar, tar_interval, genuine_pairs}}.

    Rates in [0, 1], of the pairs that were decided; intervals of 95 %. None where there was no such pair.
    """
    found = {}
    for name, one in decided.items():
        far, tar = (accepted(one, of) for of in (~is_same, is_same))
        found[name] = {
            **{
                "far": far and far.rate,
                "far_interval": far and far.interval,
                "impostor_pairs": far.pairs if far else 0,
            },
            **{"tar": tar and tar.rate, "tar_interval": tar and tar.interval, "genuine_pairs": tar.pairs if tar else 0},
        }
    return found


def table(found: Mapping[str, Mapping[str, Any]], decided: Mapping[str, Decisions], *, far: float) -> str:
    """Lays out what `measured` returns: a line for each comparison, and on what its thresholds rest."""
    lines = [
        f"the model's own thresholds for a false accept rate of {percent(far)} %, on these pairs (95 % intervals):"
    ]
    for name, one in found.items():
        rates = (
            f"{title} {_rate(one[key], one[f'{key}_interval'])} of {one[f'{kind}_pairs']:,} {kind} pairs"
            for title, key, kind in (("FAR", "far", "impostor"), ("TAR", "tar", "genuine"))
            if one[key] is not None
        )
        told = ", ".join(rates) or "no pair was decided"
        lines.append(f"  {_title(name)}: {told}; {_origin(decided[name])}")
    return "\n".join(lines)


def warnings(
    found: Mapping[str, Mapping[str, Any]], decided: Mapping[str, Decisions], *, far: float | None
) -> Iterator[str]:
    """Yields a sentence for each comparison whose thresholds do not keep their rate, or whose faces are too small."""
    for name, one in decided.items():
        left = int(np.sum(~one.is_decided))
        if left:
            yield f"{_title(name)}: {left} pairs have no decision, as a face is smaller than anything calibrated"
    for name, one in found.items():
        low, high = one["far_interval"] or (0, 1)
        if not low <= far <= high:
            rate = _rate(one["far"], one["far_interval"])
            yield (
                f"{_title(name)}: the thresholds accept {rate} of these impostor pairs, not {percent(far)} %: these "
                f"may be other faces than those of the calibration ({_origin(decided[name])}): calibrate on such faces"
            )


def _origin(one: Decisions) -> str:
    sources = {f"{used.impostor_pairs:,} impostor pairs of {used.set}, {used.reading}": None for used in one.used}
    values = sorted({f"{used.threshold:.4f}" for used in one.used})
    return f"threshold {', '.join(values)} from {' and '.join(sources)}" if one.used else "no threshold"


def _rate(rate: float, interval: tuple[float, float]) -> str:
    return f"{percent(rate)} % ({percent(interval[0])} to {percent(interval[1])})"


def _title(name: str) -> str:
    mode, _, resolution = name.rpartition("_")
    return f"{MODE_TITLES[mode]} {resolution} px"
