"""1:1 verification at full and reduced resolution: who is compared with whom, and every number of it."""

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Bool, Float, Int

from lrfr_jax.data.protocol_arrays import VerificationProtocol
from lrfr_jax.errors import UserError
from lrfr_jax.evals import metrics, pair_scores
from lrfr_jax.evals.centering import Means
from lrfr_jax.evals.pair_scores import PairScores
from lrfr_jax.evals.protocols import VerificationRules, in_modes
from lrfr_jax.image_ops import IMAGE_SIZE


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """All pairs, compared at one choice of resolutions.

    Attributes:
      mode: 'hr_hr', 'hr_lr' (the second image of each pair is reduced), 'lr_lr' (both are), 'matrix' (each to its own
        size), or 'sizes_NAME' (by the size list NAME).
      resolution: side length in pixels of the second images; the full one under a size list, which mixes them.
      first_resolution: that of the first images.
      accuracy: per fold, with thresholds on the protocol's score axis.
      interval: of the mean accuracy, pairs taken as independent draws.
      auc, auc_interval: area under the ROC over all pairs.
      tar, tar_intervals: true accept rate at each false accept rate that the number of impostor pairs can resolve;
        the interval counts genuine pairs alone, the threshold as given.
      cosines: one similarity per pair: its cosine, or what another score of the rules gives; with centering by means of
        the other folds that of its own fold.
    """

    mode: str
    resolution: int
    first_resolution: int
    accuracy: metrics.KFoldAccuracy
    interval: tuple[float, float]
    auc: float
    auc_interval: tuple[float, float]
    tar: dict[float, float]
    tar_intervals: dict[float, tuple[float, float]]
    cosines: Float[np.ndarray, " pairs"]


@dataclasses.dataclass(frozen=True, eq=False)
class VerificationResult:
    """All comparisons of one set; `feature_norm` is the mean raw length at full resolution (InsightFace's XNorm).

    With centering `means` holds the mean embedding of all images at each resolution, for later use.
    """

    num_folds: int
    feature_norm: float
    is_same: Bool[np.ndarray, " pairs"]
    comparisons: tuple[Comparison, ...]
    means: Means = dataclasses.field(default_factory=dict)

    @property
    def by_mode(self) -> dict[tuple[str, int], Comparison]:
        """HR-HR, HR-LR and LR-LR by (mode, resolution), cells of a matrix among them; see `protocols.in_modes`."""
        return in_modes(self.comparisons, name=lambda one: (one.mode, one.first_resolution, one.resolution))


def wanted_records(
    protocol: VerificationProtocol, rules: VerificationRules, *, resolutions: tuple[int, ...]
) -> dict[int, Int[np.ndarray, " records"]]:
    """Which records `evaluate_verification` needs at which resolution.

    Raises:
      UserError: the set holds no size list of a name in the rules.
    """
    wanted = [(r, protocol.pairs) for r in _descending(resolutions)]
    for sizes in _size_lists(protocol, rules).values():
        wanted += [(int(r), protocol.pairs[sizes == r]) for r in np.unique(sizes)]
    by_resolution: dict[int, list] = {}
    for resolution, records in wanted:
        by_resolution.setdefault(resolution, []).append(records.ravel())
    return {r: np.unique(np.concatenate(parts)) for r, parts in by_resolution.items()}


def check(protocol: VerificationProtocol, rules: VerificationRules, *, resolutions: tuple[int, ...]) -> None:
    """Finds what `evaluate_verification` cannot score.

    Raises:
      UserError: fewer than two folds, only one kind of pairs, or no size list of a name in the rules.
    """
    folds = len(np.unique(protocol.fold))
    if folds < 2:
        raise UserError(
            f"its pairs lie in {folds} fold, where a fold's threshold is chosen on the others: prepare two or more"
        )
    if len(np.unique(protocol.is_same)) < 2:
        kind = "the same person" if protocol.is_same.all() else "different persons"
        raise UserError(f"all of its pairs show {kind}: prepare it with pairs of both kinds")
    wanted_records(protocol, rules, resolutions=resolutions)
    pair_scores.check(rules)


def evaluate_verification(
    features_by_resolution: Mapping[int, Float[np.ndarray, "images views dim"]],
    protocol: VerificationProtocol,
    rules: VerificationRules,
    *,
    resolutions: tuple[int, ...],
    means: Means | None = None,
    own_sizes: Mapping[int, int] | None = None,
) -> VerificationResult:
    """Scores HR-HR once, then the comparisons of the rules at every lower resolution.

    'hr_lr': the second image of each pair is the reduced one, as in the protocols of Knoche et al.; 'lr_lr': both are;
    'matrix': every resolution of the first image against every one of the second, which holds the other two. A size
    list gives every image of every pair its own resolution.

    With centering the thresholds of a fold, and the means, come from all other folds, unless means are given.

    Args:
      features_by_resolution: raw features of [image, mirrored image] of the records that `wanted_records` names.
      protocol: pairs of records, whether they are the same identity, folds, and size lists.
      rules: scoring, fusion, what to compare.
      resolutions: in pixels, any order; the full one is always added.
      means: of the model's card, for centering; None to measure them.
      own_sizes: of faces that are smaller than their images, in pixels by record; of use with given means.

    Raises:
      ValueError: fewer than two folds, or only one kind of pairs.
      UserError: the set holds no size list of a name in the rules.

    References:
      Knoche et al. 2021, Susceptibility to image resolution in face recognition and training strategies.
    """
    pairs = PairScores(features_by_resolution, protocol, rules, means=means or {}, own_sizes=own_sizes or {})
    comparisons = [
        _compare(pairs.of(one, other), protocol, rules, (mode, one, other))
        for mode, one, other in _resolution_pairs(rules.comparisons, list(_descending(resolutions)))
    ]
    for name, sizes in _size_lists(protocol, rules).items():
        comparisons.append(_compare(pairs.of_sizes(sizes), protocol, rules, (f"sizes_{name}", IMAGE_SIZE, IMAGE_SIZE)))
    # Over the images of all pairs, repeated as often as they are compared: so does InsightFace count.
    norms = np.linalg.norm(features_by_resolution[IMAGE_SIZE], axis=-1)[protocol.pairs]
    folds, kept = len(np.unique(protocol.fold)), pairs.means(_descending(resolutions))
    return VerificationResult(folds, float(norms.mean()), protocol.is_same, tuple(comparisons), kept)


def _resolution_pairs(comparisons: tuple[str, ...], resolutions: list[int]) -> Iterator[tuple[str, int, int]]:
    """Yields (mode, resolution of the first images, of the second ones); full against full once, and first."""
    lower = resolutions[1:]
    yield "hr_hr", IMAGE_SIZE, IMAGE_SIZE
    for mode in comparisons:
        if mode == "hr_lr":
            yield from ((mode, IMAGE_SIZE, r) for r in lower)
        elif mode == "lr_lr":
            yield from ((mode, r, r) for r in lower)
        else:
            yield from ((mode, a, b) for a in resolutions for b in resolutions)


def _compare(
    by_fold: Float[np.ndarray, "folds_or_1 pairs"],
    protocol: VerificationProtocol,
    rules: VerificationRules,
    name: tuple[str, int, int],
) -> Comparison:
    is_same, folds = protocol.is_same, protocol.fold
    accuracy = pair_scores.accuracy(by_fold, is_same, rules, folds=folds)
    scores = pair_scores.of_own_fold(by_fold, folds)
    decided_right = sum(a * np.sum(folds == k) for k, a in zip(np.unique(folds), accuracy.fold_accuracies, strict=True))
    genuine, impostors = int(np.sum(is_same)), int(np.sum(~is_same))
    auc = metrics.roc_auc(scores, is_same)
    resolvable = [far for far in rules.fars if 1 / impostors <= far]
    tar = {far: metrics.tar_at_far(scores, is_same, far=far) for far in resolvable}
    return Comparison(
        mode=name[0],
        resolution=name[2],
        first_resolution=name[1],
        accuracy=accuracy,
        interval=metrics.wilson_interval(float(decided_right) / len(folds), len(folds), confidence=metrics.CONFIDENCE),
        auc=auc,
        auc_interval=metrics.auc_interval(auc, genuine, impostors, confidence=metrics.CONFIDENCE),
        tar=tar,
        tar_intervals={
            far: metrics.wilson_interval(rate, genuine, confidence=metrics.CONFIDENCE) for far, rate in tar.items()
        },
        cosines=pair_scores.similarities(scores, rules),
    )


def _size_lists(protocol: VerificationProtocol, rules: VerificationRules) -> dict[str, Int[np.ndarray, "pairs 2"]]:
    missing = [name for name in rules.size_lists if name not in protocol.sizes]
    if missing:
        held = ", ".join(protocol.sizes) or "none"
        raise UserError(f"the set holds no size list {missing[0]!r} (it holds: {held}): prepare it with --sizes FILE")
    return {name: protocol.sizes[name] for name in rules.size_lists}


def _descending(resolutions) -> tuple[int, ...]:
    return tuple(sorted({IMAGE_SIZE, *resolutions}, reverse=True))
