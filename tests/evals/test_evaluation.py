import dataclasses

import numpy as np
import pytest

from lrfr_jax.checkpoints import checkpoint
from lrfr_jax.data import records
from lrfr_jax.errors import UserError
from lrfr_jax.evals import embed, evaluation, report
from lrfr_jax.evals.embedding_cache import EmbeddingCache
from lrfr_jax.image_ops import IMAGE_SIZE
from tests.evals.made_up_sets import (
    IDENTITIES,
    SAME,
    TinyBackbone,
    identification,
    templates,
    variables,
    verification,
    write,
)

LISTED = np.tile([[112, 9]], (40, 1))
FACES = {"protocol": "insightface", "resolutions": [7, 14], "fars": (0.1, 0.001), "size_lists": ["low"], "ssim": True}
CAMS = {"protocol": "scface", "resolutions": (7,), "split": "half"}
ALL = {"faces": FACES, "cams": CAMS, "videos": {}}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write(folder, "faces", verification(sizes={"low": LISTED}))
    write(folder, "one_fold", verification(num_folds=1))
    of_one_kind = {"is_same": np.ones(2 * IDENTITIES, bool)}
    write(folder, "one_kind", dataclasses.replace(verification(), **of_one_kind))
    write(folder, "cams", identification(), arguments={"kind": "scface", "partial": True})
    write(folder, "videos", templates(), arguments={"kind": "ijb"})
    return folder


@pytest.fixture(scope="module")
def run(data_dir):
    model = variables()
    traces = []

    class Traced(TinyBackbone):
        def __call__(self, images, train):
            traces.append(images.shape)
            return super().__call__(images, train)

    def run(evals, cache=None, on_result=None):
        planned = evaluation.plan(data_dir, evals)
        embedder = embed.make_embedder(Traced(), sizes=evaluation.sizes_of(planned), rounding="uint8")
        traces.clear()
        how = {"rounding": "uint8", "batch_size": 16, "num_threads": 2, "cache": cache, "on_result": on_result}
        made = evaluation.run(planned, embedder, model, **how)
        return made, list(traces)

    return run


@pytest.fixture(scope="module")
def results(run):
    return run(ALL)


def test_sets_of_all_kinds_share_one_compilation(results):
    assert results[1] == [(32, 112, 112, 3)]


def test_identities_are_told_apart_in_every_kind_of_set(results):
    flat = report.metrics_of(results[0])
    assert flat["faces/accuracy"] >= 0.9  # the blocks of an identity survive pooling
    assert flat["faces/sizes_low/accuracy"] >= 0.7
    for group in ("even", "odd"):
        assert flat[f"partial/cams_{group}/rank1"] >= 0.8
        assert 0 < flat[f"partial/cams_{group}/lr_7/rank1"] <= 1
    assert flat["videos/rank1"] >= 0.8
    assert all(isinstance(value, float) for value in flat.values())
    ssim = {r: flat[f"faces/ssim_{r}"] for r in (112, 14, 9, 7)}
    assert ssim[112] == pytest.approx(1, abs=1e-6)
    assert ssim[14] > ssim[9] > 0
    parts = [m.parts for m in results[0]["cams"].outcome if m.name == "rank1" and m.resolution == IMAGE_SIZE]
    assert [len(part) for part in parts] == [2, 2]


def test_only_what_is_compared_is_embedded_at_lower_resolutions(data_dir):
    wanted = {name: made.wanted for name, made in evaluation.plan(data_dir, ALL).items()}
    assert {r: len(records) for r, records in wanted["faces"].items()} == {112: 40, 14: 40, 7: 40, 9: 20}
    assert {r: records.tolist() for r, records in wanted["cams"].items()} == {112: [*range(40)], 7: SAME[:, 1].tolist()}
    assert list(wanted["videos"]) == [112]
    assert evaluation.sizes_of(evaluation.plan(data_dir, ALL)) == (112, 14, 9, 7)


def test_mirrored_images_are_embedded_only_where_a_fusion_takes_them(data_dir):
    without = {name: settings | {"fusion": "none"} for name, settings in ALL.items()}
    assert not evaluation.needs_mirror(evaluation.plan(data_dir, without))
    assert evaluation.needs_mirror(evaluation.plan(data_dir, without | {"faces": ALL["faces"]}))


def test_a_cache_gives_the_same_numbers_and_embeds_once(run, data_dir, tmp_path, monkeypatch):
    cache = EmbeddingCache(tmp_path, checkpoint.model_digest(variables(), {"width": 1}))
    fresh, traces = run(ALL, cache)
    assert len(traces) == 1
    monkeypatch.setattr(embed, "embed_records", None)  # would fail if called
    again, traces = run(ALL | {"faces": FACES | {"protocol": "xqlfw", "resolutions": [7], "ssim": False}}, cache)
    assert traces == []
    first, second = report.metrics_of(fresh), report.metrics_of(again)
    assert {key: second[key] for key in second if "faces" not in key} == {
        key: first[key] for key in first if "faces" not in key
    }
    assert second["faces/hr_lr_7/auc"] != first["faces/hr_lr_7/auc"]  # other rules, same features


def test_a_set_is_scored_on_the_views_of_its_own_fusion(run, data_dir, tmp_path):
    cache, alone = EmbeddingCache(tmp_path, "a" * 64), {"faces": {"resolutions": (14,), "fusion": "none"}}
    planned = evaluation.plan(data_dir, alone)
    assert not evaluation.needs_mirror(planned)
    embedder = embed.make_embedder(TinyBackbone(), sizes=evaluation.sizes_of(planned), rounding="uint8", mirror=False)
    upright = evaluation.run(planned, embedder, variables(), rounding="uint8", batch_size=16, num_threads=2, cache=None)
    expected = upright["faces"].outcome.feature_norm
    # With both views from the program, which it keeps, and from what was kept.
    for _ in range(2):
        found = run(alone, cache=cache)[0]["faces"].outcome.feature_norm
        assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("evals", "sentence"),
    [
        ({"faces": FACES | {"resolutions": (14, 0)}}, r"evals\.faces\.resolutions=.* whole pixels in 1\.\.112"),
        ({"faces": FACES | {"resolutions": (14.5,)}}, "whole pixels"),
        ({"faces": FACES | {"flip": True}}, r"evals\.faces\.flip is no setting of a verification set"),
        (
            {"faces": FACES | {"size_lists": ("x",)}},
            r"test set faces: the set holds no size list 'x' \(it holds: low\)",
        ),
        ({"videos": {"resolutions": (7,)}}, "templates are evaluated as they are"),
        ({"videos": {"fusion": "concat"}}, r"test set videos: weights='norm' does not go with fusion='concat'"),
        ({"cams": CAMS | {"fpirs": (0.1,)}}, "test set cams: .* need probes without a mate"),
        ({"cams": CAMS | {"split": "third"}}, "test set cams: .*'third'"),
        ({"cams": CAMS | {"ranks": (11,)}}, "from 1 to 10, the size of the gallery"),
        ({"absent": {}}, "no set named absent"),
        ({"one_fold": {}}, "test set one_fold: its pairs lie in 1 fold, .*: prepare two or more"),
        ({"one_kind": {}}, "test set one_kind: all of its pairs show the same person: prepare it with pairs of both"),
    ],
)
def test_bad_settings_are_told_before_anything_is_embedded(data_dir, evals, sentence):
    with pytest.raises(UserError, match=sentence):
        evaluation.plan(data_dir, evals)


def test_each_set_is_told_as_soon_as_it_is_done(run, data_dir, monkeypatch):
    order, score = [], evaluation._score
    monkeypatch.setattr(evaluation, "_score", lambda *args: (order.append("scored"), score(*args))[1])
    made, _ = run(ALL, on_result=lambda name, result: order.append((name, result)))
    assert order == [step for name in ALL for step in ("scored", (name, made[name]))]


def test_what_cannot_be_decoded_is_told_with_the_sets_name(run, monkeypatch):
    def damaged(encoded):
        raise ValueError("is truncated")

    monkeypatch.setattr(records, "decode_image", damaged)
    with pytest.raises(UserError, match="test set faces: record 0 of the test set is truncated"):
        run({"faces": FACES})
