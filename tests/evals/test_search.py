import tracemalloc

import numpy as np
import pytest

from lrfr_jax.evals import metrics, search

RNG = np.random.default_rng(11)
# Small whole numbers: products are exact in float32, and equal scores are everywhere.
PROBES = RNG.integers(-2, 3, (23, 4)).astype(np.float32)
GALLERY = RNG.integers(-2, 3, (200, 4)).astype(np.float32)
PROBE_LABELS = np.arange(23) % 9 - 1
GALLERY_LABELS = np.where(np.arange(200) < 90, 2, RNG.integers(-1, 6, 200))  # label 2 has more than 64 mates; 6, 7 none
SETTINGS = {"num_top": 7, "memory_bytes": 2**20}


def find(probes=PROBES, gallery=GALLERY, probe_labels=PROBE_LABELS, gallery_labels=GALLERY_LABELS, **changes):
    return search.search(probes, gallery, probe_labels, gallery_labels, **SETTINGS | changes)


def assert_same(one, other):
    for field in vars(one):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field), err_msg=field)


def test_search_is_the_slow_loop():
    found, all_others = find(), []
    for i, label in enumerate(PROBE_LABELS):
        is_mate = (label == GALLERY_LABELS) & (label >= 0)
        scores = list(zip((GALLERY @ PROBES[i]).tolist(), is_mate, strict=True))
        # Others before mates of the same score.
        ranked = sorted(scores, key=lambda pair: (-pair[0], pair[1]))
        ranks = [rank for rank, (_, mate) in enumerate(ranked, start=1) if mate]
        assert found.mate_ranks[found.offsets[i] : found.offsets[i + 1]].tolist() == ranks
        assert found.is_mated[i] == bool(ranks)
        assert found.best_mate_ranks[i] == (ranks[0] if ranks else 201)
        assert found.best_mate_scores[i] == max((s for s, mate in scores if mate), default=-np.inf)
        others = [score for score, mate in scores if not mate]
        assert found.best_other_scores[i] == max(others)
        all_others += others
    np.testing.assert_array_equal(found.top_other_scores, sorted(all_others, reverse=True)[:7])
    assert np.diff(found.offsets).max() > search._MANY_MATES  # both ways of ranking were taken
    assert 0 < found.is_mated.sum() < 23


@pytest.mark.parametrize("num_top", [0, 1, 60, 10**6])
def test_chunks_do_not_change_the_result(num_top):
    whole = find(num_top=num_top)
    for probes_at_a_time in (1, 5, 22):
        memory_bytes = probes_at_a_time * 200 * (16 if num_top else 4)
        assert_same(find(num_top=num_top, memory_bytes=memory_bytes), whole)
    assert_same(find(num_top=num_top, memory_bytes=1), whole)
    others = 23 * 200 - len(whole.mate_ranks)
    assert np.isfinite(whole.top_other_scores).sum() == min(num_top, others)


@pytest.mark.parametrize("num_top", [0, 100])
def test_memory_stays_within_the_bound(num_top):
    probes, gallery = np.tile(PROBES, (40, 1)), np.tile(GALLERY, (10, 1))
    labels = np.tile(PROBE_LABELS, 40), np.arange(2000)
    tracemalloc.start()
    find(probes, gallery, *labels, num_top=num_top, memory_bytes=2**21)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 2**20 < peak < 2**21 + 2**18 < 4 * 920 * 2000


def test_order_of_gallery_and_probes_does_not_matter():
    one, other = RNG.permutation(23), RNG.permutation(200)
    found = find(PROBES[one], GALLERY[other], PROBE_LABELS[one], GALLERY_LABELS[other])
    straight = find()
    for field in ("best_mate_ranks", "best_mate_scores", "best_other_scores", "is_mated"):
        np.testing.assert_array_equal(getattr(found, field), getattr(straight, field)[one])
    np.testing.assert_array_equal(found.top_other_scores, straight.top_other_scores)


def test_ranks_give_the_metrics_of_the_whole_matrix():
    mated = np.isin(PROBE_LABELS, GALLERY_LABELS) & (PROBE_LABELS >= 0)
    arguments = (PROBES[mated] @ GALLERY.T, PROBE_LABELS[mated], GALLERY_LABELS)
    found = find(PROBES[mated], probe_labels=PROBE_LABELS[mated])
    cmc = metrics.cmc(*arguments, ranks=(1, 10, 100))
    assert cmc == {rank: np.mean(found.best_mate_ranks <= rank) for rank in cmc}
    assert 0 < cmc[10] < 1
    precisions = metrics.average_precisions(found.mate_ranks, found.offsets)
    assert precisions.mean() == pytest.approx(metrics.mean_average_precision(*arguments), abs=1e-12)


def test_a_gallery_of_mates_alone():
    found = find(PROBES[:2], GALLERY[:3], np.array([1, 1]), np.array([1, 1, 1]))
    assert found.mate_ranks.tolist() == [1, 2, 3] * 2
    assert np.all(np.isneginf(found.best_other_scores))
    assert len(find(PROBES[:0], probe_labels=PROBE_LABELS[:0]).best_mate_ranks) == 0


def test_what_cannot_be_searched_is_told():
    with pytest.raises(ValueError, match="gallery of 0 images"):
        find(gallery=GALLERY[:0], gallery_labels=GALLERY_LABELS[:0])
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="finite features"):
            find(np.where(np.arange(4) == 2, np.float32(bad), PROBES))


@pytest.mark.parametrize("memory_bytes", [1, 12 * 200 * 5, 10**9])
@pytest.mark.parametrize("count", [1, 7, 200, 500])
def test_nearest_are_the_first_of_the_sorted(count, memory_bytes):
    places, scores = search.nearest(PROBES, GALLERY, count=count, memory_bytes=memory_bytes)
    matrix = PROBES @ GALLERY.T
    np.testing.assert_array_equal(scores, -np.sort(-matrix, axis=1)[:, :count])
    np.testing.assert_array_equal(np.take_along_axis(matrix, places, axis=1), scores)
    assert all(len(set(row)) == min(count, 200) for row in places.tolist())


def test_of_equal_scores_the_first_in_the_gallery():
    gallery = np.array([[1, 0], [0, 1], [1, 0], [0, 1]], np.float32)
    places, _ = search.nearest(np.eye(2, dtype=np.float32), gallery, count=4, memory_bytes=1)
    assert places.tolist() == [[0, 2, 1, 3], [1, 3, 0, 2]]
    # Also where not all of them are among the hits.
    matrix = PROBES @ GALLERY.T
    first = np.argsort(-matrix, axis=1, kind="stable")
    for count in (1, 2, 5, 30):
        places, _ = search.nearest(PROBES, GALLERY, count=count, memory_bytes=10**6)
        np.testing.assert_array_equal(places, first[:, :count])
    places, _ = search.nearest(PROBES, np.tile(GALLERY[:1], (11, 1)), count=1, memory_bytes=10**6)
    assert not places.any()


def test_nearest_stays_within_its_memory():
    probes, gallery = np.tile(PROBES, (40, 1)), np.tile(GALLERY, (10, 1))
    tracemalloc.start()
    search.nearest(probes, gallery, count=3, memory_bytes=2**21)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 2**20 < peak < 2**21 + 2**18


@pytest.mark.parametrize(("gallery", "count"), [(GALLERY[:0], 1), (GALLERY, 0)])
def test_nearest_needs_a_gallery_and_a_count(gallery, count):
    with pytest.raises(ValueError, match="cannot be found"):
        search.nearest(PROBES, gallery, count=count, memory_bytes=1)
