import dataclasses

import numpy as np
import pytest

from lrfr_jax.data.protocol_arrays import VerificationProtocol
from lrfr_jax.errors import UserError
from lrfr_jax.evals import metrics, verification
from lrfr_jax.evals.fusion import FUSIONS
from lrfr_jax.evals.protocols import PROTOCOLS, VerificationRules

RNG = np.random.default_rng(5)
SAME = np.arange(40).reshape(20, 2)
SIZES = RNG.choice([112, 14, 9], size=(40, 2)).astype(np.int32)
MADE_UP = VerificationProtocol(
    pairs=np.concatenate([SAME, np.stack([SAME[:, 0], np.roll(SAME[:, 1], 1)], axis=1)]),
    is_same=np.repeat([True, False], 20),
    fold=np.tile(np.arange(20) % 4 + 1, 2),
    sizes={"mixed": SIZES},
)
FEATURES = {r: (RNG.normal(size=(40, 2, 6)) + RNG.normal(size=(1, 2, 6))).astype(np.float32) for r in (112, 14, 9, 7)}


def evaluate(protocol="insightface", resolutions=(14, 7), stored=MADE_UP, **changes):
    rules = dataclasses.replace(PROTOCOLS[protocol], **changes)
    return verification.evaluate_verification(FEATURES, stored, rules, resolutions=resolutions), rules


def expected_cosine(rules, first, second, row):
    a, b = MADE_UP.pairs[row]
    fuse = FUSIONS[rules.fusion]
    score = rules.scoring.score(fuse(FEATURES[first][a : a + 1]), fuse(FEATURES[second][b : b + 1]))
    return rules.scoring.cosines(score)[0]


@pytest.mark.parametrize("protocol", [name for name, r in PROTOCOLS.items() if isinstance(r, VerificationRules)])
def test_each_comparison_takes_the_right_images(protocol):
    every = ("hr_lr", "lr_lr", "matrix")
    result, rules = evaluate(protocol, (7, 112, 14), comparisons=every, size_lists=("mixed",))
    made = {(c.mode, c.first_resolution, c.resolution): c for c in result.comparisons}
    expected = [("hr_hr", 112, 112)]
    expected += [("hr_lr", 112, r) for r in (14, 7)] + [("lr_lr", r, r) for r in (14, 7)]
    expected += [("matrix", a, b) for a in (112, 14, 7) for b in (112, 14, 7)]
    assert list(made) == [*expected, ("sizes_mixed", 112, 112)]
    for row in (0, 25, 39):
        for key in expected:
            assert made[key].cosines[row] == pytest.approx(expected_cosine(rules, *key[1:], row), abs=1e-12)
        mixed = expected_cosine(rules, *SIZES[row].tolist(), row)
        assert made["sizes_mixed", 112, 112].cosines[row] == pytest.approx(mixed, abs=1e-12)
    for comparison in made.values():
        low, high = comparison.interval
        assert low < comparison.accuracy.mean < high
        assert comparison.auc_interval[0] <= comparison.auc <= comparison.auc_interval[1]
        for far, rate in comparison.tar.items():
            assert comparison.tar_intervals[far] == metrics.wilson_interval(rate, 20, confidence=0.95)
    np.testing.assert_array_equal(result.is_same, MADE_UP.is_same)


def test_only_the_comparisons_asked_for_are_made():
    result, _ = evaluate(comparisons=("lr_lr",))
    assert [(c.mode, c.resolution) for c in result.comparisons] == [("hr_hr", 112), ("lr_lr", 14), ("lr_lr", 7)]


def test_the_records_wanted_are_those_of_pairs_and_of_size_lists():
    pairs, sizes = np.array([[3, 8], [8, 5]]), {"few": np.array([[112, 9], [112, 20]])}
    few = VerificationProtocol(pairs, np.array([True, False]), np.array([1, 2]), sizes)
    rules = dataclasses.replace(PROTOCOLS["insightface"], size_lists=("few",))
    wanted = verification.wanted_records(few, rules, resolutions=(7,))
    assert {r: records.tolist() for r, records in wanted.items()} == {112: [3, 5, 8], 7: [3, 5, 8], 9: [8], 20: [5]}
    with pytest.raises(UserError, match=r"holds no size list 'none' \(it holds: few\)"):
        verification.wanted_records(few, dataclasses.replace(rules, size_lists=("few", "none")), resolutions=())


def test_whole_way_gives_the_reference_accuracies(golden):
    file = golden("verification")
    reference = VerificationProtocol(np.arange(1200).reshape(600, 2), file["is_same"], np.repeat(np.arange(10), 60))
    features = {112: np.stack([file["embeddings"]] * 2, axis=1)}
    rules = dataclasses.replace(PROTOCOLS["insightface"], fars=(0.01, 0.05, 0.1))
    result = verification.evaluate_verification(features, reference, rules, resolutions=())
    np.testing.assert_array_equal(result.comparisons[0].accuracy.fold_accuracies, file["fold_accuracies"])
    for far in (0.01, 0.05, 0.1):
        assert result.comparisons[0].tar[far] == float(file[f"tar_at_far_{far}"])
    assert result.num_folds == 10


def test_feature_norm_counts_images_as_often_as_they_are_compared():
    repeated = dataclasses.replace(MADE_UP, pairs=np.array([[0, 1]] * 39 + [[2, 3]]))
    result, _ = evaluate(stored=repeated)
    lengths = [np.linalg.norm(FEATURES[112][i, side]) for pair in repeated.pairs for i in pair for side in (0, 1)]
    assert result.feature_norm == pytest.approx(np.mean(lengths))


def test_rates_that_the_impostor_pairs_cannot_resolve_are_left_out():
    result, _ = evaluate(fars=(0.1, 0.05, 0.049))
    assert [list(c.tar) for c in result.comparisons] == [[0.1, 0.05]] * 5  # 20 impostor pairs


def test_one_fold_cannot_be_scored():
    with pytest.raises(ValueError, match="need >= 2"):
        evaluate(stored=dataclasses.replace(MADE_UP, fold=np.zeros(40, int)))
