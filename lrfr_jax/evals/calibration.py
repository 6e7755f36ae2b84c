"""Calibration: at which similarity a given share of impostor pairs is accepted, by the size of the faces."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool

from lrfr_jax.errors import UserError
from lrfr_jax.evals import metrics
from lrfr_jax.evals.evaluation import SetResult
from lrfr_jax.evals.thresholds import Threshold
from lrfr_jax.evals.verification import Comparison, VerificationResult

# A rate is supported by its data if so many impostor pairs are accepted at it: it is then known to about a third.
MIN_ACCEPTED = 10
FARS = (0.1, 0.01, 0.001, 0.0001)


def thresholds_of(results: Mapping[str, SetResult]) -> list[Threshold]:
    """Calibrates on every verification set at every size of its comparisons, at those of `FARS` that it supports.

    The cells of a matrix that are HR-LR or LR-LR count as these, see `protocols.in_modes`.

    Raises:
      UserError: there is no verification set, or none with pairs enough for any rate.
    """
    found = []
    for name, result in results.items():
        if not isinstance(result.outcome, VerificationResult):
            continue
        source = {"set": name, "protocol": result.evaluation.protocol, "fusion": result.evaluation.rules.fusion}
        source["digest"] = result.evaluation.test_set.digest
        for (mode, _), comparison in result.outcome.by_mode.items():
            found += _of_comparison(comparison, result.outcome.is_same, {"mode": mode, **source})
    if not found:
        raise _too_few()
    return found


def check(is_same_by_set: Mapping[str, Bool[np.ndarray, " pairs"]]) -> None:
    """Raises `UserError` if none of the verification sets has pairs enough for any rate, before they are embedded."""
    if not any(np.sum(~is_same) >= MIN_ACCEPTED / max(FARS) for is_same in is_same_by_set.values()):
        raise _too_few()


def merge(earlier: Sequence[Threshold], found: Sequence[Threshold]) -> list[Threshold]:
    """Adds the thresholds of one more calibration, which replace those of the same pairs, scored and reduced alike."""
    number = 1 + max((one.calibration for one in earlier), default=0)
    keys = {_key(one) for one in found}
    kept = [one for one in earlier if _key(one) not in keys]
    return kept + [dataclasses.replace(one, calibration=number) for one in found]


def _key(one: Threshold) -> tuple:
    return (one.set, one.digest, one.fusion, one.protocol, one.mode, one.resolution, one.far)


def _too_few() -> UserError:
    least = round(MIN_ACCEPTED / max(FARS))
    return UserError(f"nothing to calibrate on: name a verification set with at least {least} impostor pairs")


def _of_comparison(
    comparison: Comparison, is_same: Bool[np.ndarray, " pairs"], source: Mapping[str, str]
) -> list[Threshold]:
    impostors = comparison.cosines[~is_same]
    return [_at(far, comparison, is_same, source) for far in FARS if len(impostors) * far >= MIN_ACCEPTED * (1 - 1e-9)]


def _at(
    far: float, comparison: Comparison, is_same: Bool[np.ndarray, " pairs"], source: Mapping[str, str]
) -> Threshold:
    impostors, genuine = comparison.cosines[~is_same], comparison.cosines[is_same]
    threshold = metrics.strictest_threshold(impostors, far)
    accepted = float((impostors > threshold).mean())
    low, high = metrics.wilson_interval(accepted, len(impostors), confidence=metrics.CONFIDENCE)
    return Threshold(
        resolution=comparison.resolution,
        far=far,
        threshold=float(threshold),
        far_low=low,
        far_high=high,
        tar=float((genuine > threshold).mean()),
        impostor_pairs=len(impostors),
        **source,
    )
