"""Scores of pairs with centering by the other folds, with means of a card, and of another kind than the cosine."""

import dataclasses

import numpy as np
import pytest

from lrfr_jax.data.protocol_arrays import VerificationProtocol
from lrfr_jax.errors import UserError
from lrfr_jax.evals import centering, metrics, pair_scores, protocols, scores, verification
from lrfr_jax.evals.pair_scores import PairScores

RULES = dataclasses.replace(protocols.PROTOCOLS["insightface"], fusion="none")
CENTERED = dataclasses.replace(RULES, centering="per_resolution")
QMAG = dataclasses.replace(RULES, score="qmag", qmag=(0.08, 0.12))
FOLDS, IDENTITIES, DIM = 3, 30, 24


def made_up(shared=2.0):
    """Two images of each identity at 112 and 14 px; small ones share a direction, the more the shorter they are."""
    draw = np.random.default_rng(0)
    people = np.repeat(draw.normal(size=(IDENTITIES, 1, DIM)), 2, axis=1).reshape(-1, DIM)
    full = people + draw.normal(size=people.shape) * 0.4
    small = people * 0.5 + draw.normal(size=people.shape) * 0.4 + shared * np.eye(DIM)[0]
    features = {112: full[:, None].astype(np.float32), 14: small[:, None].astype(np.float32)}
    first, second = np.arange(IDENTITIES) * 2, np.arange(IDENTITIES) * 2 + 1
    fold = np.arange(IDENTITIES) % FOLDS
    strangers = np.concatenate([np.roll(second[fold == k], 1) for k in range(FOLDS)])  # of the same fold
    order = np.concatenate([np.flatnonzero(fold == k) for k in range(FOLDS)])
    pairs = np.concatenate([np.stack([first, second], 1), np.stack([first[order], strangers], 1)])
    is_same = np.repeat([True, False], IDENTITIES)
    return features, VerificationProtocol(pairs, is_same, np.concatenate([fold, fold[order]]) + 5)


def by_hand(x, y):
    unit = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in (x, y)]
    return 2 * np.sum(unit[0] * unit[1], axis=1) - 2  # InsightFace's axis


def test_each_fold_has_the_means_of_the_others():
    features, protocol = made_up()
    found = PairScores(features, protocol, CENTERED, means={}, own_sizes={}).of(112, 14)
    assert found.shape == (FOLDS, 2 * IDENTITIES)
    for row, label in zip(found, (5, 6, 7), strict=True):
        kept = np.unique(protocol.pairs[protocol.fold != label])
        unit = {r: table[:, 0] / np.linalg.norm(table[:, 0], axis=1, keepdims=True) for r, table in features.items()}
        sides = [
            unit[r][records] - unit[r][kept].mean(axis=0)
            for r, records in zip((112, 14), protocol.pairs.T, strict=True)
        ]
        np.testing.assert_allclose(row, by_hand(*sides), atol=1e-5)
    own = pair_scores.of_own_fold(found, protocol.fold)
    assert [own[i] == found[protocol.fold[i] - 5, i] for i in range(len(own))] == [True] * len(own)


def test_the_accuracy_of_a_fold_is_by_its_own_scores_and_by_thresholds_of_the_others():
    features, protocol = made_up()
    found = PairScores(features, protocol, CENTERED, means={}, own_sizes={}).of(14, 14)
    measured = pair_scores.accuracy(found, protocol.is_same, CENTERED, folds=protocol.fold)
    for k, label in enumerate((5, 6, 7)):
        right = [(found[k] > t) == protocol.is_same for t in CENTERED.scoring.thresholds]
        others = [np.sum(one[protocol.fold != label]) for one in right]
        best = max(range(len(others)), key=lambda i: (others[i], CENTERED.scoring.thresholds[i]))
        assert measured.thresholds[k] == CENTERED.scoring.thresholds[best]
        assert measured.fold_accuracies[k] == np.mean(right[best][protocol.fold == label])
    assert measured.mean == pytest.approx(measured.fold_accuracies.mean())


def test_centering_tells_faces_apart_that_share_a_direction():
    features, protocol = made_up(shared=4.0)
    plain, centered = (
        verification.evaluate_verification(features, protocol, rules, resolutions=(14,)) for rules in (RULES, CENTERED)
    )
    key = ("hr_lr", 14)
    assert centered.by_mode[key].auc > plain.by_mode[key].auc + 0.03
    strangers = ~protocol.is_same
    assert plain.by_mode["lr_lr", 14].cosines[strangers].mean() > 0.6
    assert abs(centered.by_mode["lr_lr", 14].cosines[strangers].mean()) < 0.2
    assert plain.means == {}
    assert sorted(centered.means) == [14, 112]
    np.testing.assert_allclose(centered.means[14], centering.mean_of(features[14][:, 0]), rtol=1e-5)


def test_means_of_a_card_serve_all_folds_and_faces_count_as_large_as_they_were():
    features, protocol = made_up()
    means = {112: np.zeros(DIM, np.float32), 14: centering.mean_of(features[14][:, 0])}
    small = {record: 15 for record in protocol.pairs[:, 0].tolist()}
    for own_sizes, mean in (({}, means[112]), (small, means[14])):
        found = PairScores(features, protocol, CENTERED, means=means, own_sizes=own_sizes).of(112, 14)
        unit = [features[r][p, 0] / np.linalg.norm(features[r][p, 0], axis=1, keepdims=True)
                for r, p in zip((112, 14), protocol.pairs.T, strict=True)]  # fmt: skip
        np.testing.assert_allclose(found, by_hand(unit[0] - mean, unit[1] - means[14])[None], atol=1e-5)
    kept = PairScores(features, protocol, CENTERED, means=means, own_sizes={}).means([112, 14])
    assert all(kept[r] is means[r] for r in means)


def test_qmag_takes_the_shorter_of_two_features_and_has_its_own_thresholds():
    features, protocol = made_up()
    found = PairScores(features, protocol, QMAG, means={}, own_sizes={}).of(112, 14)
    norms = [np.linalg.norm(features[r][p, 0], axis=1) for r, p in zip((112, 14), protocol.pairs.T, strict=True)]
    cosines = 1 + by_hand(features[112][protocol.pairs[:, 0], 0], features[14][protocol.pairs[:, 1], 0]) / 2
    expected = scores.qmag(cosines, np.minimum(*norms), line=scores.Line(0.08, 0.12))
    np.testing.assert_allclose(found[0], expected, atol=1e-5)
    grid = np.linspace(found.min(), found.max(), 600)
    wanted = metrics.kfold_accuracy(found[0], protocol.is_same, folds=protocol.fold, thresholds=grid, ties="loosest")
    measured = pair_scores.accuracy(found, protocol.is_same, QMAG, folds=protocol.fold)
    np.testing.assert_array_equal(measured.fold_accuracies, wanted.fold_accuracies)
    np.testing.assert_array_equal(pair_scores.similarities(found, QMAG), found)
    np.testing.assert_allclose(pair_scores.similarities(found, RULES), 1 + found / 2)


def test_lists_of_sizes_are_not_centered():
    with pytest.raises(UserError, match="centering per_resolution does not go with size_lists avg"):
        pair_scores.check(dataclasses.replace(CENTERED, size_lists=("avg",)))
    pair_scores.check(CENTERED)
