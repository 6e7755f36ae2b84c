"""Calibration: at which similarity a given share of impostor pairs is accepted, by the size of the faces."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float

from lrfr_jax.errors import UserError
from lrfr_jax.evals import metrics, protocols
from lrfr_jax.evals.centering import CENTERINGS
from lrfr_jax.evals.evaluation import Evaluation, SetResult
from lrfr_jax.evals.means import Mean
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
    for name, result in _by_rules(results):
        source = {"set": name, "protocol": result.evaluation.protocol}
        source |= dataclasses.asdict(protocols.reading_of(result.evaluation.rules))
        source["digest"] = result.evaluation.test_set.digest
        for (mode, _), comparison in result.outcome.by_mode.items():
            found += _of_comparison(comparison, result.outcome.is_same, {"mode": mode, **source})
    if not found:
        raise _too_few()
    return found


def with_other_centering(evaluation: Evaluation) -> Evaluation:
    """Adds to what is scored of a verification set, so that a calibration shows whether centering helps.

    A set with lists of sizes is not centered, see `pair_scores.check`, nor one that two models read, as a card holds
    the means of its own model.
    """
    rules = evaluation.rules
    if not isinstance(rules, protocols.VerificationRules) or rules.size_lists or rules.gallery:
        return evaluation
    others = (dataclasses.replace(rules, centering=one) for one in CENTERINGS if one != rules.centering)
    return dataclasses.replace(evaluation, also=tuple(others))


def means_of(results: Mapping[str, SetResult]) -> list[Mean]:
    """The mean embedding at each resolution of the verification set with the most images, for each fusion."""
    found: dict[str, list[Mean]] = {}
    for name, result in _by_rules(results):
        protocol = result.evaluation.test_set.protocol
        source = {"set": name, "digest": result.evaluation.test_set.digest, "fusion": result.evaluation.rules.fusion}
        source["images"] = len(np.unique(protocol.pairs))
        made = [Mean.of(vector, resolution=r, **source) for r, vector in result.outcome.means.items()]
        if made and source["images"] > max((one.images for one in found.get(source["fusion"], ())), default=0):
            found[source["fusion"]] = made
    return [one for made in found.values() for one in made]


def _by_rules(results: Mapping[str, SetResult]) -> Iterator[tuple[str, SetResult]]:
    """The results of verification sets, by each of the rules by which they were scored."""
    for name, result in results.items():
        for one in (result, *result.also):
            if isinstance(one.outcome, VerificationResult):
                yield name, one


def check(is_same_by_set: Mapping[str, Bool[np.ndarray, " pairs"]]) -> None:
    """Raises `UserError` if none of the verification sets has pairs enough for any rate, before they are embedded."""
    if not any(np.sum(~is_same) >= MIN_ACCEPTED / max(FARS) for is_same in is_same_by_set.values()):
        raise _too_few()


def merge(earlier: Sequence[Threshold], found: Sequence[Threshold], *, means: Sequence[Mean] = ()) -> list[Threshold]:
    """Adds the thresholds of one more calibration, which replace those of the same pairs, scored and reduced alike.

    A card holds the means of one set for each fusion. Thresholds with centering by those of another one go.
    """
    number = 1 + max((one.calibration for one in earlier), default=0)
    keys = {_key(one) for one in found}
    kept = [one for one in earlier if _key(one) not in keys]
    sources = {one.fusion: (one.set, one.digest) for one in means}
    joined = kept + [dataclasses.replace(one, calibration=number) for one in found]
    return [
        one
        for one in joined
        if one.centering == "none" or sources.get(one.fusion, (one.set, one.digest)) == (one.set, one.digest)
    ]


def _key(one: Threshold) -> tuple:
    return (one.set, one.digest, one.reading, one.protocol, one.mode, one.resolution, one.far)


def _too_few() -> UserError:
    least = round(MIN_ACCEPTED / max(FARS))
    return UserError(f"nothing to calibrate on: name a verification set with at least {least} impostor pairs")


def _of_comparison(
    comparison: Comparison, is_same: Bool[np.ndarray, " pairs"], source: Mapping[str, str]
) -> list[Threshold]:
    return [_at(far, comparison, is_same, source) for far in rates_of(comparison.cosines[~is_same])]


def rates_of(impostors: Float[np.ndarray, " pairs"]) -> list[float]:
    """Those of `FARS` that so many impostor pairs support."""
    return [far for far in FARS if len(impostors) * far >= MIN_ACCEPTED * (1 - 1e-9)]


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
