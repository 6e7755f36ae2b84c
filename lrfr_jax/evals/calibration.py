"""Calibration: at which similarity a given share of impostor pairs is accepted, by the size of the faces."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool

from lrfr_jax.errors import UserError
from lrfr_jax.evals import metrics
from lrfr_jax.evals.evaluation import SetResult
from lrfr_jax.evals.protocols import MODE_TITLES
from lrfr_jax.evals.thresholds import Threshold
from lrfr_jax.evals.verification import Comparison, VerificationResult

# A rate is supported by its data if so many impostor pairs are accepted at it: it is then known to about a third.
MIN_ACCEPTED = 10
FARS = (0.1, 0.01, 0.001, 0.0001)


def thresholds_of(results: Mapping[str, SetResult]) -> list[Threshold]:
    """Calibrates on every verification set at every size of its comparisons, at those of `FARS` that it supports.

    Raises:
      UserError: there is no verification set, or none with pairs enough for any rate.
    """
    found = []
    for name, result in results.items():
        if not isinstance(result.outcome, VerificationResult):
            continue
        source = {"set": name, "protocol": result.evaluation.protocol, "fusion": result.evaluation.rules.fusion}
        for comparison in result.outcome.comparisons:
            if comparison.mode in MODE_TITLES:
                found += _of_comparison(comparison, result.outcome.is_same, source)
    if not found:
        least = round(MIN_ACCEPTED / max(FARS))
        raise UserError(f"nothing to calibrate on: name a verification set with at least {least} impostor pairs")
    return found


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
        mode=comparison.mode,
        resolution=comparison.resolution,
        far=far,
        threshold=float(threshold),
        far_low=low,
        far_high=high,
        tar=float((genuine > threshold).mean()),
        impostor_pairs=len(impostors),
        **source,
    )
