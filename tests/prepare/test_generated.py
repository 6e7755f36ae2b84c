import itertools

import numpy as np
import pytest

from lrfr_jax.data import face_sets, records, synthetic
from lrfr_jax.errors import UserError
from lrfr_jax.prepare import generated
from lrfr_jax.prepare.__main__ import main


def _prepare(tmp_path, name, **flags):
    flags = {"identities": 3, "images_per_identity": 2, "shards": 1, "seed": 5, **flags}
    listed = [text for flag, value in flags.items() for text in (f"--{flag}", str(value))]
    main(["generated", "--name", name, "--data_dir", str(tmp_path), *listed])


def test_record_and_label_are_the_face_of_their_identity(tmp_path, capsys):
    _prepare(tmp_path, "drawn", first_identity=7)
    assert capsys.readouterr().out.startswith("6 images of 3 identities, 1 shards")
    opened = face_sets.open_training_set(str(tmp_path), "drawn")
    assert [record["label"] for record in opened.source] == [0, 0, 1, 1, 2, 2]
    face = synthetic.render_face(9, 1, seed=5)
    decoded = records.decode_image(opened.source[5]["image"])
    assert np.abs(decoded.astype(int) - face).mean() < 4  # what JPEG loses
    assert np.abs(decoded.astype(int) - synthetic.render_face(9, 0, seed=5)).mean() > 8


def test_another_population_is_another_set(tmp_path, capsys):
    _prepare(tmp_path, "drawn", population=2)
    opened = face_sets.open_training_set(str(tmp_path), "drawn")
    face = synthetic.render_face(1, 1, seed=5, population=2)
    decoded = records.decode_image(opened.source[3]["image"]).astype(int)
    assert np.abs(decoded - face).mean() < 4
    assert np.abs(decoded - synthetic.render_face(1, 1, seed=5)).mean() > 8
    _prepare(tmp_path, "drawn", population=2)
    assert "is complete already" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        _prepare(tmp_path, "drawn", population=1)


def test_processes_draw_the_same_bytes_in_the_same_order(tmp_path, monkeypatch):
    _prepare(tmp_path, "alone", identities=15)
    monkeypatch.setattr(generated, "_IN_PROCESS", 0)
    monkeypatch.setattr(generated, "_CHUNK", 1)
    _prepare(tmp_path, "pool", identities=15)
    alone, pool = (list(face_sets.open_training_set(str(tmp_path), name).source) for name in ("alone", "pool"))
    assert alone == pool


@pytest.fixture
def plan():
    return generated.plan_pairs(num_identities=40, images_per_identity=3, num_pairs=200, seed=1)


def test_folds_are_balanced_and_share_no_identity(plan):
    faces, is_same, fold = plan
    assert faces.shape == (200, 2, 2)
    np.testing.assert_array_equal(np.bincount(fold), [0] + [20] * 10)
    np.testing.assert_array_equal(np.bincount(fold, weights=is_same), [0] + [10] * 10)
    np.testing.assert_array_equal(faces[:, 0, 0] == faces[:, 1, 0], is_same)
    members = [set(faces[fold == number][..., 0].ravel().tolist()) for number in range(1, 11)]
    assert all(one.isdisjoint(other) for one, other in itertools.combinations(members, 2))


def test_no_pair_occurs_twice_or_pairs_an_image_with_itself(plan):
    faces, _, _ = plan
    unordered = {frozenset(map(tuple, pair)) for pair in faces.tolist()}
    assert len(unordered) == 200
    assert all(len(pair) == 2 for pair in unordered)
    assert faces.min() == 0
    assert faces[..., 0].max() < 40
    assert faces[..., 1].max() == 2


def test_the_plan_follows_the_seed(plan):
    same = generated.plan_pairs(num_identities=40, images_per_identity=3, num_pairs=200, seed=1)
    other = generated.plan_pairs(num_identities=40, images_per_identity=3, num_pairs=200, seed=2)
    np.testing.assert_array_equal(plan[0], same[0])
    assert (plan[0] != other[0]).any()


def test_all_pairs_can_be_drawn_and_not_one_more():
    everything = {"num_identities": 20, "images_per_identity": 2, "seed": 0}
    faces, is_same, _ = generated.plan_pairs(num_pairs=40, **everything)  # two matched pairs in a fold: all there are
    assert len({tuple(map(tuple, pair)) for pair in faces[is_same].tolist()}) == 20
    with pytest.raises(UserError, match=r"needs 3 matched pairs in each of 10 folds, .* give a fold 2"):
        generated.plan_pairs(num_pairs=60, **everything)
    with pytest.raises(UserError, match=r"needs 1 matched pairs .* give a fold 0"):
        generated.plan_pairs(num_identities=20, images_per_identity=1, num_pairs=20, seed=0)
    with pytest.raises(UserError, match="needs 1 mismatched pairs"):
        generated.plan_pairs(num_identities=10, images_per_identity=2, num_pairs=20, seed=0)


def test_a_verification_set_stores_the_planned_faces_once(tmp_path):
    _prepare(tmp_path, "pairs", identities=20, images_per_identity=2, pairs=20, first_identity=100)
    opened = face_sets.open_test_set(str(tmp_path), "pairs")
    faces, is_same, fold = generated.plan_pairs(num_identities=20, images_per_identity=2, num_pairs=20, seed=5)
    np.testing.assert_array_equal(opened.protocol.is_same, is_same)
    np.testing.assert_array_equal(opened.protocol.fold, fold)
    assert len(opened.source) == len(np.unique(faces.reshape(-1, 2), axis=0))
    for place in (0, 11, 19):
        for index, (identity, image) in zip(opened.protocol.pairs[place], faces[place], strict=True):
            expected = generated._render((100 + int(identity), int(image), 5, 0))
            assert opened.source[int(index)]["image"] == expected


def test_a_second_run_is_recognized_and_another_renderer_too(tmp_path, capsys, monkeypatch):
    _prepare(tmp_path, "drawn")
    _prepare(tmp_path, "drawn")
    assert "is complete already" in capsys.readouterr().out
    monkeypatch.setattr(synthetic, "render_face", lambda *_, **__: np.zeros((112, 112, 3), np.uint8))
    with pytest.raises(SystemExit):
        _prepare(tmp_path, "drawn")
    assert "was prepared with first_face=" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"identities": 0}, "--identities must be at least 1"),
        ({"images_per_identity": -1}, "--images_per_identity must be at least 1"),
        ({"first_identity": -1}, "--first_identity must not be negative"),
        ({"seed": -1}, "--seed must not be negative"),
        ({"population": -1}, "--population must not be negative"),
        ({"shards": 0}, "--shards must be at least 1"),
        ({"shards": 7}, "--shards must be at most the number of images, 6"),
        ({"pairs": 30}, "--pairs must be a positive multiple of 20"),
        ({"pairs": 0}, "--pairs must be a positive multiple of 20"),
        ({"pairs": 20}, "--pairs needs 1 mismatched pairs"),
    ],
)
def test_impossible_counts_are_one_sentence(tmp_path, capsys, flags, sentence):
    with pytest.raises(SystemExit) as status:
        _prepare(tmp_path, "bad", **flags)
    assert status.value.code == 1
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.glob("*/*"))
