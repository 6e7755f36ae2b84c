import resource

import numpy as np
import pytest

from lrfr_jax.checkpoints.checkpoint import model_digest
from lrfr_jax.data import face_sets
from lrfr_jax.evals.embedding_cache import EmbeddingCache
from tests.evals.made_up_sets import verification, write

WANTED = {112: np.array([1, 4, 7]), 14: np.array([4])}
TABLES = {r: np.random.default_rng(r).normal(size=(40, 2, 5)).astype(np.float32) for r in WANTED}


@pytest.fixture
def test_set(tmp_path):
    write(tmp_path, "faces", verification())
    return face_sets.open_test_set(str(tmp_path), "faces")


def test_wanted_rows_come_back_and_others_are_zero(test_set, tmp_path):
    cache = EmbeddingCache(tmp_path / "cache", "a" * 64)
    assert cache.load(test_set, wanted=WANTED, num_views=2) == {}
    cache.store(test_set, TABLES, wanted=WANTED)
    found = cache.load(test_set, wanted=WANTED | {7: np.array([1])}, num_views=2)
    assert sorted(found) == [14, 112]
    for resolution, records in WANTED.items():
        expected = np.zeros_like(TABLES[resolution])
        expected[records] = TABLES[resolution][records]
        np.testing.assert_array_equal(found[resolution], expected)


def test_fewer_records_than_wanted_are_not_enough(test_set, tmp_path):
    cache = EmbeddingCache(tmp_path / "cache", "a" * 64)
    cache.store(test_set, TABLES, wanted=WANTED)
    assert list(cache.load(test_set, wanted={112: np.array([7]), 14: np.array([4, 5])}, num_views=2)) == [112]


def test_features_without_mirrored_images_do_not_serve_for_those_with(test_set, tmp_path):
    cache = EmbeddingCache(tmp_path / "cache", "a" * 64)
    cache.store(test_set, {r: table[:, :1] for r, table in TABLES.items()}, wanted=WANTED)
    assert sorted(cache.load(test_set, wanted=WANTED, num_views=1)) == [14, 112]
    assert cache.load(test_set, wanted=WANTED, num_views=2) == {}


def test_a_damaged_file_is_told_passed_over_and_replaced(test_set, tmp_path, caplog):
    cache = EmbeddingCache(tmp_path / "cache", "a" * 64)
    cache.store(test_set, TABLES, wanted=WANTED)
    (path,) = tmp_path.glob("cache/*/faces-*/112.npz")
    whole = path.read_bytes()
    directory = whole.rindex(b"PK\1\2")  # its entry for the last array, with the way in which it is packed
    packed = whole[: directory + 10] + b"\6" + whole[directory + 11 :]
    for content in (b"", whole[:300], b"text", packed):
        path.write_bytes(content)
        caplog.clear()
        assert list(cache.load(test_set, wanted=WANTED, num_views=2)) == [14]
        assert "112.npz cannot be read" in caplog.text
    cache.store(test_set, TABLES, wanted=WANTED)
    assert sorted(cache.load(test_set, wanted=WANTED, num_views=2)) == [14, 112]


def test_what_cannot_be_written_is_told_and_leaves_nothing(test_set, tmp_path, caplog):
    cache = EmbeddingCache(tmp_path / "cache", "a" * 64)
    full, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, hard))
    try:
        cache.store(test_set, TABLES, wanted=WANTED)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (full, hard))
    assert "112.npz cannot be written" in caplog.text
    assert not list(tmp_path.glob("cache/**/*.npz"))
    (tmp_path / "file").touch()
    EmbeddingCache(tmp_path / "file", "a" * 64).store(test_set, TABLES, wanted=WANTED)
    assert "cannot be written" in caplog.text.splitlines()[-1]


def test_another_model_or_another_set_of_the_name_finds_nothing(test_set, tmp_path):
    EmbeddingCache(tmp_path / "cache", "a" * 64).store(test_set, TABLES, wanted=WANTED)
    assert EmbeddingCache(tmp_path / "cache", "b" * 64).load(test_set, wanted=WANTED, num_views=2) == {}
    (test_set.path / "prepared.json").touch()
    assert EmbeddingCache(tmp_path / "cache", "a" * 64).load(test_set, wanted=WANTED, num_views=2) == {}


def test_the_digest_depends_on_weights_names_and_description():
    weights = {"params": {"a": np.zeros(3), "b": np.ones(3)}}
    digests = [
        model_digest(weights, {"width": 1.0, "rounding": "uint8"}),
        model_digest(weights, {"width": 1.0, "rounding": "none"}),
        model_digest({"params": {"a": np.zeros(3), "c": np.ones(3)}}, {"width": 1.0, "rounding": "uint8"}),
        model_digest({"params": {"a": np.zeros(3), "b": np.full(3, 1.0000001)}}, {"width": 1.0, "rounding": "uint8"}),
    ]
    assert len(set(digests)) == 4
    assert digests[0] == model_digest(weights, {"rounding": "uint8", "width": 1.0})
