"""1:1 verification at full and reduced resolution: who is compared with whom, and every number of it."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from lrfr_jax.data import builders
from lrfr_jax.errors import UserError
from lrfr_jax.evals import embed, metrics
from lrfr_jax.evals.protocols import PROTOCOLS
from lrfr_jax.image_ops import IMAGE_SIZE

SETTINGS = {"protocol", "resolutions", "fars"}
# The usual level of a reported interval.
CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True, eq=False)
class ModeResult:
    """One comparison of all pairs.

    Attributes:
      mode: 'hr_hr', 'hr_lr' (the second image of each pair is reduced) or 'lr_lr' (both are).
      resolution: side length in pixels of the reduced images; the full one for 'hr_hr'.
      accuracy: per fold, with thresholds on the protocol's score axis.
      interval: of the mean accuracy, pairs taken as independent draws.
      auc: area under the ROC over all pairs.
      tar: true accept rate at each false accept rate that the number of impostor pairs can resolve.
      cosines: one similarity per pair.
    """

    mode: str
    resolution: int
    accuracy: metrics.KFoldAccuracy
    interval: tuple[float, float]
    auc: float
    tar: dict[float, float]
    cosines: Float[np.ndarray, " pairs"]


@dataclasses.dataclass(frozen=True, eq=False)
class VerificationResult:
    """All modes of one set; `feature_norm` is the mean raw length at full resolution (InsightFace's XNorm)."""

    protocol: str
    num_folds: int
    feature_norm: float
    is_same: Bool[np.ndarray, " pairs"]
    modes: tuple[ModeResult, ...]


def check_settings(name: str, settings: Mapping[str, Any]) -> None:
    """Raises UserError unless the settings of set `name` are ones that `run_evals` can follow."""
    if set(settings) != SETTINGS:
        raise UserError(f"evals.{name} has the keys {sorted(settings)}: it needs exactly {sorted(SETTINGS)}")
    if settings["protocol"] not in PROTOCOLS:
        raise UserError(f"evals.{name}.protocol={settings['protocol']!r} is unknown: choose one of {sorted(PROTOCOLS)}")
    if not all(isinstance(r, int) and 1 <= r <= IMAGE_SIZE for r in settings["resolutions"]):
        raise UserError(f"evals.{name}.resolutions={settings['resolutions']} must be whole pixels in 1..{IMAGE_SIZE}")
    if not all(0 < far <= 1 for far in settings["fars"]):
        raise UserError(f"evals.{name}.fars={settings['fars']} must be rates in (0, 1], not percent")


def sizes_of(evals: Mapping[str, Mapping[str, Any]]) -> tuple[int, ...]:
    """Returns all resolutions that occur, descending, the full one first: the `sizes` of `embed.make_embedder`."""
    return _descending(r for settings in evals.values() for r in settings["resolutions"])


def evaluate_verification(
    features_by_resolution: Mapping[int, Float[np.ndarray, "images 2 dim"]],
    verification_set: builders.VerificationSet,
    *,
    protocol: str,
    resolutions: tuple[int, ...],
    fars: tuple[float, ...],
) -> VerificationResult:
    """Scores HR-HR once, then HR-LR and LR-LR at every lower resolution.

    In HR-LR the second image of each pair is the reduced one, as in the protocols of Knoche et al.

    Args:
      features_by_resolution: raw features of [image, mirrored image] of every record; the full resolution is needed.
      verification_set: pairs of records, whether they are the same identity, and folds.
      protocol: one of `PROTOCOLS`.
      resolutions: in pixels, any order; the full one is always added.
      fars: false accept rates in (0, 1]; one below 1 / (number of impostor pairs) is left out.

    Raises:
      ValueError: fewer than two folds, or only one kind of pairs.

    References:
      Knoche et al. 2021, Susceptibility to image resolution in face recognition and training strategies.
    """
    rules = PROTOCOLS[protocol]
    first, second = verification_set.pairs.T
    is_same, folds = verification_set.is_same, verification_set.fold
    impostors = int(np.sum(~is_same))
    resolvable = [far for far in fars if impostors and 1 / impostors <= far]
    vectors = {r: rules.fuse(features_by_resolution[r]) for r in _descending(resolutions)}

    def compare(mode: str, gallery_resolution: int, probe_resolution: int) -> ModeResult:
        scores = rules.score(vectors[gallery_resolution][first], vectors[probe_resolution][second])
        accuracy = metrics.kfold_accuracy(scores, is_same, folds=folds, thresholds=rules.thresholds, ties=rules.ties)
        decided_right = sum(
            a * np.sum(folds == k) for k, a in zip(np.unique(folds), accuracy.fold_accuracies, strict=True)
        )
        return ModeResult(
            mode=mode,
            resolution=probe_resolution,
            accuracy=accuracy,
            interval=metrics.wilson_interval(float(decided_right) / len(folds), len(folds), confidence=CONFIDENCE),
            auc=metrics.roc_auc(scores, is_same),
            tar={far: metrics.tar_at_far(scores, is_same, far=far) for far in resolvable},
            cosines=rules.cosines(scores),
        )

    modes = [compare("hr_hr", IMAGE_SIZE, IMAGE_SIZE)]
    lower = [r for r in vectors if r < IMAGE_SIZE]
    modes += [compare("hr_lr", IMAGE_SIZE, r) for r in lower]
    modes += [compare("lr_lr", r, r) for r in lower]
    # Over the images of all pairs, repeated as often as they are compared: so does InsightFace count.
    norms = np.linalg.norm(features_by_resolution[IMAGE_SIZE], axis=-1)[verification_set.pairs]
    return VerificationResult(protocol, len(np.unique(folds)), float(norms.mean()), is_same, tuple(modes))


def run_evals(
    embedder: embed.Embedder,
    variables: Any,
    *,
    data_dir: str | os.PathLike,
    evals: Mapping[str, Mapping[str, Any]],
    batch_size: int,
    num_threads: int,
) -> dict[str, VerificationResult]:
    """Runs every verification set: read, embed once at all resolutions, score.

    Args:
      embedder: from `embed.make_embedder` with `sizes_of(evals)`; reuse it, so that it compiles once.
      variables: {'params', 'batch_stats'} of the backbone.
      evals: {set name: {'protocol', 'resolutions', 'fars'}}, see `evaluate_verification`.
      batch_size, num_threads: see `embed.embed_source`.

    Raises:
      UserError: bad settings, a missing or unusable set, an undecodable image, features that are not finite.
    """
    results = {}
    for name, settings in evals.items():
        check_settings(name, settings)
        settings = {**settings, "resolutions": _descending(settings["resolutions"]), "fars": tuple(settings["fars"])}
        verification_set = builders.open_verification_set(str(data_dir), name)
        features = embed.embed_source(
            embedder,
            variables,
            verification_set.source,
            resolutions=settings["resolutions"],
            batch_size=batch_size,
            num_threads=num_threads,
        )
        try:
            results[name] = evaluate_verification(features, verification_set, **settings)
        except ValueError as error:
            raise UserError(f"verification set {name} cannot be scored: {error}") from error
    return results


def _descending(resolutions) -> tuple[int, ...]:
    return tuple(sorted({IMAGE_SIZE, *resolutions}, reverse=True))
