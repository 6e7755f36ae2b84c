"""The scores of pairs at any resolutions by the rules of a protocol: fused, centered, compared."""

import functools
from collections.abc import Iterable, Mapping

import numpy as np
from jaxtyping import Bool, Float, Int

from lrfr_jax.data.protocol_arrays import VerificationProtocol
from lrfr_jax.errors import UserError
from lrfr_jax.evals import centering, metrics, scores
from lrfr_jax.evals.centering import Means
from lrfr_jax.evals.fusion import FUSIONS, unit
from lrfr_jax.evals.protocols import VerificationRules, score_of


class PairScores:
    """Scores the pairs of one set; holds the fused vectors of all its resolutions.

    With centering and without means of the model's card, the means of a fold are those of the images of all other
    folds, so that every fold has scores of its own for all pairs.
    """

    def __init__(
        self,
        features_by_resolution: Mapping[int, Float[np.ndarray, "images views dim"]],
        protocol: VerificationProtocol,
        rules: VerificationRules,
        *,
        means: Means,
        own_sizes: Mapping[int, int],
    ):
        """Takes raw features of [image, mirrored image] and, for centering, the card's means or {}.

        `own_sizes` holds the sizes of faces, in pixels by record, that are smaller than their images.
        """
        self._own_sizes = own_sizes
        self._features, self._protocol, self._rules, self._given = features_by_resolution, protocol, rules, means
        self._vectors = functools.cache(lambda resolution: FUSIONS[rules.fusion](features_by_resolution[resolution]))
        self._unit = functools.cache(lambda resolution: unit(self._vectors(resolution)))
        self._mean = functools.cache(self._mean_without)
        self._score = score_of(rules)

    def of(self, first: int, second: int) -> Float[np.ndarray, "folds_or_1 pairs"]:
        """Scores of all pairs, the first images at one resolution, the second ones at another.

        A row for every fold label, rising, where folds have means of their own, else one.
        """
        sides = list(zip(self._protocol.pairs.T, (first, second), strict=True))
        qualities = [np.linalg.norm(self._features[r][records, 0], axis=-1) for records, r in sides]
        return np.stack(
            [
                self._compare(*(self._side(records, r, fold) for records, r in sides), np.minimum(*qualities))
                for fold in self._folds
            ]
        )

    def of_sizes(self, sizes: Int[np.ndarray, "pairs 2"]) -> Float[np.ndarray, "1 pairs"]:
        """Scores of all pairs, each image at its own resolution, without centering."""
        rows = [self._rows(records, side) for records, side in zip(self._protocol.pairs.T, sizes.T, strict=True)]
        fuse = FUSIONS[self._rules.fusion]
        qualities = [np.linalg.norm(side[:, 0], axis=-1) for side in rows]
        return self._compare(*(fuse(side) for side in rows), np.minimum(*qualities))[None]

    def means(self, resolutions: Iterable[int]) -> dict[int, Float[np.ndarray, " dim"]]:
        """The mean embedding of all images of the pairs at each resolution; none without centering."""
        if self._rules.centering == "none":
            return {}
        return dict(self._given) or {r: self._mean(r, None) for r in resolutions}

    @property
    def _folds(self) -> list[int | None]:
        one_for_all = self._rules.centering == "none" or self._given
        return [None] if one_for_all else np.unique(self._protocol.fold).tolist()

    def _side(self, records: Int[np.ndarray, " pairs"], resolution: int, fold: int | None) -> np.ndarray:
        vectors = self._vectors(resolution)[records]
        if self._rules.centering == "none":
            return vectors
        if not self._given:
            return centering.center(vectors, self._mean(resolution, fold))
        sizes = [min(self._own_sizes.get(record, resolution), resolution) for record in records.tolist()]
        return centering.center_each(vectors, self._given, np.array(sizes))

    def _mean_without(self, resolution: int, fold: int | None) -> Float[np.ndarray, " dim"]:
        kept = self._protocol.pairs if fold is None else self._protocol.pairs[self._protocol.fold != fold]
        return self._unit(resolution)[np.unique(kept)].mean(axis=0).astype(np.float32)

    def _compare(self, x: np.ndarray, y: np.ndarray, qualities: np.ndarray) -> Float[np.ndarray, " pairs"]:
        """On the protocol's axis for cosines, on its own for other scores."""
        scoring = self._rules.scoring
        found = scoring.score(x, y)
        return found if self._score.is_cosine else self._score.of(scoring.cosines(found), qualities)

    def _rows(self, records: np.ndarray, sizes: np.ndarray) -> Float[np.ndarray, "pairs views dim"]:
        """The features of each record at its own size."""
        some = next(iter(self._features.values()))
        rows = np.empty((len(records), *some.shape[1:]), np.float32)
        for size in np.unique(sizes):
            rows[sizes == size] = self._features[int(size)][records[sizes == size]]
        return rows


def accuracy(
    by_fold: Float[np.ndarray, "folds_or_1 pairs"],
    is_same: Bool[np.ndarray, " pairs"],
    rules: VerificationRules,
    *,
    folds: Int[np.ndarray, " pairs"],
) -> metrics.KFoldAccuracy:
    """Measures each fold by the threshold that is best on all others, with the scores that this fold has.

    Args:
      by_fold: from `PairScores`.
      is_same, folds: of the pairs.
      rules: whose grid of thresholds counts for cosines; other scores have that of QMagFace.
    """
    if score_of(rules).is_cosine:
        how = {"ties": rules.scoring.ties}
        grids = [rules.scoring.thresholds] * len(by_fold)
    else:
        how = {"ties": scores.QMAG_TIES}
        grids = [np.linspace(row.min(), row.max(), scores.QMAG_THRESHOLDS) for row in by_fold]
    if len(by_fold) == 1:
        return metrics.kfold_accuracy(by_fold[0], is_same, folds=folds, thresholds=grids[0], **how)
    # Two folds, the others and this one, of which the second counts.
    found = [
        metrics.kfold_accuracy(row, is_same, folds=(folds == label).astype(int), thresholds=grid, **how)
        for label, row, grid in zip(np.unique(folds), by_fold, grids, strict=True)
    ]
    rates, thresholds = (
        np.array([getattr(one, name)[1] for one in found]) for name in ("fold_accuracies", "thresholds")
    )
    return metrics.KFoldAccuracy(rates, thresholds, float(rates.mean()), float(rates.std()))


def of_own_fold(
    by_fold: Float[np.ndarray, "folds_or_1 pairs"], folds: Int[np.ndarray, " pairs"]
) -> Float[np.ndarray, " pairs"]:
    """One score of each pair: that of the fold in which it is asked, whose means it had no part in."""
    if len(by_fold) == 1:
        return by_fold[0]
    return by_fold[np.searchsorted(np.unique(folds), folds), np.arange(len(folds))]


def similarities(scores: Float[np.ndarray, "*pairs"], rules: VerificationRules) -> Float[np.ndarray, "*pairs"]:
    """Turns scores of `PairScores` into cosines, the axis of thresholds and figures; other scores are their own."""
    return rules.scoring.cosines(scores) if score_of(rules).is_cosine else scores


def check(rules: VerificationRules) -> None:
    """Raises `UserError` for what centering does not go with."""
    if rules.centering != "none" and rules.size_lists:
        raise UserError(
            f"centering {rules.centering} does not go with size_lists {', '.join(rules.size_lists)}, where few faces "
            "have the same size: leave one of them out"
        )
