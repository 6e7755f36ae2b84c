import numpy as np
import pytest

from lrfr_jax.evals import metrics

RNG = np.random.default_rng(3)
# Few different values, so that ties are everywhere.
SCORES = np.round(RNG.normal(size=120) + np.repeat([1.0, 0.0], 60), 1)
IS_SAME = np.repeat([True, False], 60)
ORDER = RNG.permutation(120)
FOLDS = RNG.integers(5, 9, 120)
GRID = np.arange(-2, 3, 0.1)


def kfold(scores, is_same, folds, ties="strictest", grid=GRID):
    return metrics.kfold_accuracy(scores, is_same, folds=folds, thresholds=grid, ties=ties)


def accuracy_loop(scores, is_same, threshold):
    return sum((s > threshold) == same for s, same in zip(scores, is_same, strict=True)) / len(scores)


@pytest.mark.parametrize("ties", ["strictest", "loosest"])
def test_kfold_accuracy_is_the_slow_loop(ties):
    result = kfold(SCORES, IS_SAME, FOLDS, ties)
    for k, fold in enumerate(np.unique(FOLDS)):
        best = (-1.0, None)
        for threshold in GRID if ties == "loosest" else GRID[::-1]:
            accuracy = accuracy_loop(SCORES[fold != FOLDS], IS_SAME[fold != FOLDS], threshold)
            if accuracy > best[0]:
                best = (accuracy, threshold)
        assert result.thresholds[k] == best[1]
        assert result.fold_accuracies[k] == accuracy_loop(SCORES[fold == FOLDS], IS_SAME[fold == FOLDS], best[1])
    assert result.mean == result.fold_accuracies.mean()
    assert result.std == result.fold_accuracies.std()


def test_order_of_pairs_and_names_of_folds_do_not_matter():
    one = kfold(SCORES, IS_SAME, FOLDS)
    other = kfold(SCORES[ORDER], IS_SAME[ORDER], 2 * FOLDS[ORDER] - 7, grid=GRID[::-1])
    np.testing.assert_array_equal(one.fold_accuracies, other.fold_accuracies)
    np.testing.assert_array_equal(one.thresholds, other.thresholds)
    for measure in (metrics.roc_auc, lambda s, i: metrics.tar_at_far(s, i, far=0.1)):
        assert measure(SCORES, IS_SAME) == measure(SCORES[ORDER], IS_SAME[ORDER])


def test_two_folds_swap_their_thresholds():
    folds = np.tile([9, 10], 60)
    result = kfold(SCORES, IS_SAME, folds)
    for k, (tested, trained) in enumerate([(9, 10), (10, 9)]):
        trained, tested = folds == trained, folds == tested
        best = max(GRID, key=lambda t, m=trained: (accuracy_loop(SCORES[m], IS_SAME[m], t), t))
        assert result.thresholds[k] == best
        assert result.fold_accuracies[k] == accuracy_loop(SCORES[tested], IS_SAME[tested], best)


def test_a_score_on_the_threshold_is_refused():
    result = kfold(
        np.array([0.5, 0.0, 0.5, 0.0]), np.tile([True, False], 2), np.array([1, 1, 2, 2]), grid=np.array([0.5])
    )
    np.testing.assert_array_equal(result.fold_accuracies, [0.5, 0.5])


def test_insightface_on_its_own_numbers(golden):
    file = golden("verification")
    scores = metrics.negative_squared_l2(file["embeddings"][0::2], file["embeddings"][1::2])
    folds = np.repeat(np.arange(10), 60)
    grid = np.arange(0, 4, 0.01)
    result = kfold(scores, file["is_same"], folds, grid=-grid)
    np.testing.assert_array_equal(result.fold_accuracies, file["fold_accuracies"])
    assert metrics.roc_auc(scores, file["is_same"]) == pytest.approx(float(file["auc"]), abs=1e-12)
    for far in ("0.01", "0.05", "0.1"):
        assert metrics.tar_at_far(scores, file["is_same"], far=float(far)) == float(file[f"tar_at_far_{far}"])
    # Folds are equally large, so the reference's means over folds are rates over all pairs: points of our curve.
    fars, tars = metrics.roc_curve(scores, file["is_same"])
    gaps = np.abs(fars[:, None] - file["fpr"]) + np.abs(tars[:, None] - file["tpr"])
    np.testing.assert_allclose(gaps.min(axis=0), 0, atol=1e-12)


def test_insightface_decisions_are_bit_equal_to_distances_below_a_threshold():
    x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in RNG.normal(size=(2, 400, 3)))
    distances, grid = np.sum(np.square(x - y), axis=1), np.arange(0, 4, 0.01)
    distances[::7] = grid[RNG.integers(0, 400, len(distances[::7]))]  # on the grid
    is_same, folds = RNG.random(400) < 0.5, np.repeat(np.arange(4), 100)
    result = kfold(-distances, is_same, folds, grid=-grid)
    for k in range(4):
        train, test = folds != k, folds == k
        first_best = grid[np.argmax([np.mean((distances[train] < t) == is_same[train]) for t in grid])]
        assert result.thresholds[k] == -first_best
        assert result.fold_accuracies[k] == np.mean((distances[test] < first_best) == is_same[test])
    np.testing.assert_array_equal(metrics.negative_squared_l2(x, y), -np.sum(np.square(x - y), axis=1))


def test_released_code_keeps_the_last_best_cosine():
    grid = np.arange(-1, 1, 0.005)
    scores = np.clip(SCORES / 3, -1, 1)
    result = kfold(scores, IS_SAME, FOLDS, grid=grid)
    for k, fold in enumerate(np.unique(FOLDS)):
        best, best_threshold = 0, 0
        for threshold in grid:
            accuracy = accuracy_loop(scores[fold != FOLDS], IS_SAME[fold != FOLDS], threshold)
            if accuracy >= best:
                best, best_threshold = accuracy, threshold
        assert result.thresholds[k] == best_threshold


def test_cosine_and_distance():
    x, y = np.array([[3.0, 0], [1, 1]]), np.array([[0, 2.0], [2, 2]])
    np.testing.assert_allclose(metrics.cosine(x, y, epsilon=0.0), [0, 1], atol=1e-15)
    assert metrics.cosine(x, y, epsilon=1.0)[1] == pytest.approx(4 / 5)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    np.testing.assert_allclose(metrics.negative_squared_l2(unit, unit[::-1]), [-(2 - 2**0.5)] * 2)


@pytest.mark.parametrize("far", [0.0, 0.01, 1 / 60, 0.05, 0.29, 0.5, 1.0])
def test_tar_at_far_is_the_best_allowed_threshold(far):
    allowed = [np.mean(SCORES[IS_SAME] >= t) for t in [*SCORES, np.inf] if np.mean(SCORES[~IS_SAME] >= t) <= far]
    assert metrics.tar_at_far(SCORES, IS_SAME, far=far) == max(allowed)


def test_a_far_of_exactly_k_impostors_lets_k_pass():
    scores = np.concatenate([np.arange(100.0), np.arange(100.0) + 0.5])
    is_same = np.repeat([False, True], 100)
    for k in range(100):
        assert metrics.tar_at_far(scores, is_same, far=k / 100) == (k + 1) / 100


def test_roc_curve_and_area():
    fars, tars = metrics.roc_curve(SCORES, IS_SAME)
    for point, threshold in enumerate(np.unique(SCORES)[::-1]):
        assert fars[point + 1] == pytest.approx(np.mean(SCORES[~IS_SAME] >= threshold))
        assert tars[point + 1] == pytest.approx(np.mean(SCORES[IS_SAME] >= threshold))
    assert (fars[0], tars[0], fars[-1], tars[-1]) == (0, 0, 1, 1)
    wins = [(g > i) + (g == i) / 2 for g in SCORES[IS_SAME] for i in SCORES[~IS_SAME]]
    assert metrics.roc_auc(SCORES, IS_SAME) == pytest.approx(np.mean(wins))
    assert metrics.roc_auc(SCORES, IS_SAME) == pytest.approx(np.trapezoid(tars, fars))


def nearest_loop(scores, is_same, fars):
    """InsightFace's choice, point by point: corners of the curve, and of equally near ones the last."""
    points = [(np.sum(scores[~is_same] >= t), np.sum(scores[is_same] >= t)) for t in sorted(set(scores), reverse=True)]
    corners = [(0, 0), points[0]]
    for before, point, after in zip(points, points[1:], points[2:], strict=False):
        if any(after[k] - point[k] != point[k] - before[k] for k in (0, 1)):
            corners.append(point)
    corners += points[-1:]
    impostors, genuine = points[-1]
    return {
        far: min((abs(i / impostors - far), -index, g / genuine) for index, (i, g) in enumerate(corners))[2]
        for far in fars
    }


@pytest.mark.parametrize("decimals", [0, 1, 6])
def test_tar_at_nearest_far_is_the_slow_loop(decimals):
    scores, fars = np.round(RNG.normal(size=120) + 1.5 * IS_SAME, decimals), (0.0, 0.01, 0.05, 0.1, 0.3, 0.7)
    assert metrics.tar_at_nearest_far(scores, IS_SAME, fars=fars) == nearest_loop(scores, IS_SAME, fars)


def test_tar_at_nearest_far_passes_over_points_that_are_no_corners():
    scores = np.array([9.0, 8, 7, 6, 5, 4, 3, 2, 1, 0, -1])
    is_same = np.isin(scores, [9, 3])
    # Nine impostors: the curve runs straight from FAR 0 to 5/9, then up, then straight again.
    assert metrics.tar_at_nearest_far(scores, is_same, fars=(2 / 9, 3 / 9)) == {2 / 9: 0.5, 3 / 9: 1.0}
    assert metrics.tar_at_far(scores, is_same, far=3 / 9) == 0.5
    two = metrics.tar_at_nearest_far(np.array([1.0, 0.0]), np.array([True, False]), fars=(0.1,))
    assert two == {0.1: 1.0}


GALLERY_LABELS = np.array([4, -1, 7, 4, 9, -1, 7, 2, 4])
PROBE_LABELS = np.array([4, 7, 9, 4, 2])
SIMILARITIES = np.round(RNG.normal(size=(5, 9)), 1) * np.array([1, 1, 0, 1, 1])[:, None]  # ties; the third row is all 0


def ranks_loop(row, label):
    """Ranks of all mates: after every other that scores as high or higher, and after the better mates."""
    mates = sorted((s for s, g in zip(row, GALLERY_LABELS, strict=True) if g == label), reverse=True)
    others = [s for s, g in zip(row, GALLERY_LABELS, strict=True) if g != label]
    return [m + sum(s >= score for s in others) for m, score in enumerate(mates, start=1)]


def average_precision_loop(ranks, gallery_size):
    """Walks down the ranked list, a trapezoid at each step."""
    area = recall = found = 0
    precision = 1.0
    for position in range(1, gallery_size + 1):
        found += position in ranks
        area += (found / len(ranks) - recall) * (precision + found / position) / 2
        recall, precision = found / len(ranks), found / position
    return area


def test_cmc_and_mean_average_precision_are_the_slow_loops():
    ranks = [ranks_loop(row, label) for row, label in zip(SIMILARITIES, PROBE_LABELS, strict=True)]
    assert ranks[2] == [9]  # all scores are equal: the others come first
    result = metrics.cmc(SIMILARITIES, PROBE_LABELS, GALLERY_LABELS, ranks=(1, 2, 3, 8, 9))
    assert result == {k: sum(of_probe[0] <= k for of_probe in ranks) / 5 for k in (1, 2, 3, 8, 9)}
    assert result[9] == 1
    precisions = [average_precision_loop(of_probe, 9) for of_probe in ranks]
    found = metrics.mean_average_precision(SIMILARITIES, PROBE_LABELS, GALLERY_LABELS)
    assert found == pytest.approx(np.mean(precisions), abs=1e-12)
    per_probe = metrics.average_precisions(np.array([1, 2, 5]), np.array([0, 2, 2, 3]))
    np.testing.assert_allclose(per_probe, [1, np.nan, 0.1])  # (0 / 4 + 1 / 5) / 2


def test_order_of_gallery_and_probes_does_not_matter():
    one, other = RNG.permutation(5), RNG.permutation(9)
    shuffled = (SIMILARITIES[one][:, other], PROBE_LABELS[one], GALLERY_LABELS[other])
    straight = (SIMILARITIES, PROBE_LABELS, GALLERY_LABELS)
    assert metrics.cmc(*shuffled, ranks=(1, 3)) == metrics.cmc(*straight, ranks=(1, 3))
    found = [metrics.mean_average_precision(*arguments) for arguments in (straight, shuffled)]
    assert found[0] == pytest.approx(found[1], abs=1e-12)


@pytest.mark.parametrize("fpir", [0.0, 0.04, 0.05, 0.1, 0.5, 1.0])
def test_tpir_at_fpir_is_the_best_allowed_threshold(fpir):
    mates, unmated = np.round(RNG.normal(1, 1, 30), 1), np.round(RNG.normal(0, 1, 20), 1)
    ranks = RNG.integers(1, 6, 30)
    allowed = [
        np.mean((mates >= t) & (ranks <= 3)) for t in [*mates, *unmated, np.inf] if np.mean(unmated >= t) <= fpir
    ]
    assert metrics.tpir_at_fpir(mates, ranks, unmated, fpir=fpir, rank=3) == max(allowed)


def test_bad_searches_are_told():
    with pytest.raises(ValueError, match=r"probe 1 \(label 5\) has no mate"):
        metrics.cmc(SIMILARITIES[:2], np.array([4, 5]), GALLERY_LABELS, ranks=(1,))
    with pytest.raises(ValueError, match="has no mate"):
        metrics.mean_average_precision(SIMILARITIES[:1], np.array([-1]), GALLERY_LABELS)
    with pytest.raises(ValueError, match="1 or more"):
        metrics.cmc(SIMILARITIES, PROBE_LABELS, GALLERY_LABELS, ranks=(0, 1))
    with pytest.raises(ValueError, match="1 similarities are not finite"):
        metrics.cmc(np.array([[np.nan] + [0.0] * 8]), np.array([4]), GALLERY_LABELS, ranks=(1,))
    scores, ranks = np.array([0.5]), np.array([1])
    with pytest.raises(ValueError, match="0 without: some of both"):
        metrics.tpir_at_fpir(scores, ranks, np.zeros(0), fpir=0.1, rank=1)
    with pytest.raises(ValueError, match="not finite"):
        metrics.tpir_at_fpir(np.array([-np.inf]), ranks, scores, fpir=0.1, rank=1)
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        metrics.tpir_at_fpir(scores, ranks, scores, fpir=1.5, rank=1)


def test_wilson_interval():
    # Both ends solve |p - accuracy| = z sqrt(p (1 - p) / n), which defines the interval.
    for accuracy, trials in [(0.9, 50), (1.0, 600), (0.0, 10)]:
        for end in metrics.wilson_interval(accuracy, trials, confidence=0.95):
            assert abs(end - accuracy) == pytest.approx(1.959964 * np.sqrt(end * (1 - end) / trials), abs=1e-6)
    low, high = metrics.wilson_interval(0.9, 50, confidence=0.95)
    assert 0 < low < 0.9 < high < 1


def test_bad_input_is_told():
    broken = np.where(np.arange(120) == 5, np.nan, SCORES)
    with pytest.raises(ValueError, match="1 of 120 scores are not finite"):
        kfold(broken, IS_SAME, FOLDS)
    with pytest.raises(ValueError, match="not finite"):
        metrics.tar_at_far(broken, IS_SAME, far=0.1)
    with pytest.raises(ValueError, match="need >= 2"):
        kfold(SCORES, IS_SAME, np.ones(120, int))
    with pytest.raises(ValueError, match="ties must be"):
        kfold(SCORES, IS_SAME, FOLDS, ties="first")
    with pytest.raises(ValueError, match="must not be empty"):
        kfold(SCORES, IS_SAME, FOLDS, grid=np.zeros(0))
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        metrics.tar_at_far(SCORES, IS_SAME, far=10.0)
    with pytest.raises(ValueError, match="some of both"):
        metrics.roc_auc(SCORES, np.ones(120, bool))


def test_the_interval_of_an_auc_is_that_of_hanley_and_mcneil():
    # Exponential scores, which the formula is exact for, drawn again and again: their areas scatter as it says.
    rng = np.random.default_rng(0)
    drawn = [
        metrics.roc_auc(np.concatenate([rng.exponential(4, 60), rng.exponential(1, 80)]), np.arange(140) < 60)
        for _ in range(400)
    ]
    low, high = metrics.auc_interval(float(np.mean(drawn)), 60, 80, confidence=0.95)
    assert (high - low) / 2 / 1.96 == pytest.approx(np.std(drawn), rel=0.1)
    assert metrics.auc_interval(1.0, 5, 5, confidence=0.95) == (1.0, 1.0)
