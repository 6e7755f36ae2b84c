import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrfr_jax.data import builders, records
from lrfr_jax.errors import UserError
from lrfr_jax.evals import embed, report, verification
from lrfr_jax.evals.protocols import PROTOCOLS

SETTINGS = {"protocol": "insightface", "resolutions": (14, 7), "fars": (0.1, 0.001)}
RNG = np.random.default_rng(5)


class TinyBackbone(nn.Module):
    @nn.compact
    def __call__(self, images, train):
        pooled = nn.avg_pool(images, (14, 14), (14, 14)).reshape(len(images), -1)
        return nn.BatchNorm(use_running_average=not train)(nn.Dense(16)(pooled))


def write_set(data_dir, name, num_folds):
    """20 identities with two images each; identity k sits at records 2k and 2k + 1."""
    blocks = RNG.integers(0, 256, (20, 1, 8, 1, 8, 1, 3)) + RNG.normal(size=(20, 2, 8, 14, 8, 14, 3)) * 40
    images = np.clip(blocks, 0, 255).astype(np.uint8).reshape(40, 112, 112, 3)
    same = np.arange(40).reshape(20, 2)
    builders.write_verification_set(
        str(data_dir),
        name,
        images=((records.encode_image(image, quality=95), f"{i}.jpg") for i, image in enumerate(images)),
        num_images=40,
        pairs=np.concatenate([same, np.stack([same[:, 0], np.roll(same[:, 1], 1)], axis=1)]),
        is_same=np.repeat([True, False], 20),
        fold=np.tile(np.arange(20) % num_folds + 1, 2),
        num_shards=1,
        arguments={},
        notes={},
    )


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_set(folder, "made_up", num_folds=4)
    write_set(folder, "one_fold", num_folds=1)
    return folder


@pytest.fixture(scope="module")
def made_up(data_dir):
    return builders.open_verification_set(str(data_dir), "made_up")


FEATURES = {r: RNG.normal(size=(40, 2, 6)).astype(np.float32) + RNG.normal(size=(1, 2, 6)) for r in (112, 14, 7)}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_mode_compares_the_right_images(made_up, protocol):
    settings = SETTINGS | {"protocol": protocol, "resolutions": (7, 112, 14)}
    result = verification.evaluate_verification(FEATURES, made_up, **settings)
    modes = {(mode.mode, mode.resolution): mode for mode in result.modes}
    expected = {("hr_hr", 112): (112, 112)}
    expected |= {("hr_lr", r): (112, r) for r in (14, 7)} | {("lr_lr", r): (r, r) for r in (14, 7)}
    assert list(modes) == list(expected)
    rules = PROTOCOLS[protocol]
    for key, (first, second) in expected.items():
        for row in (0, 25, 39):
            a, b = made_up.pairs[row]
            score = rules.score(rules.fuse(FEATURES[first][a : a + 1]), rules.fuse(FEATURES[second][b : b + 1]))
            assert modes[key].cosines[row] == pytest.approx(rules.cosines(score)[0], abs=1e-12)
        low, high = modes[key].interval
        assert low < modes[key].accuracy.mean < high
    np.testing.assert_array_equal(result.is_same, made_up.is_same)


def test_whole_way_gives_the_reference_accuracies(golden, made_up):
    file = golden("verification")
    folds = np.repeat(np.arange(10, dtype=np.int32), 60)
    pairs = np.arange(1200, dtype=np.int32).reshape(600, 2)
    reference_set = dataclasses.replace(made_up, pairs=pairs, is_same=file["is_same"], fold=folds)
    features = {112: np.stack([file["embeddings"]] * 2, axis=1)}
    result = verification.evaluate_verification(
        features, reference_set, protocol="insightface", resolutions=(), fars=(0.01, 0.05, 0.1)
    )
    np.testing.assert_array_equal(result.modes[0].accuracy.fold_accuracies, file["fold_accuracies"])
    for far in (0.01, 0.05, 0.1):
        assert result.modes[0].tar[far] == float(file[f"tar_at_far_{far}"])
    assert result.num_folds == 10


def test_feature_norm_counts_images_as_often_as_they_are_compared(made_up):
    repeated = dataclasses.replace(made_up, pairs=np.array([[0, 1]] * 39 + [[2, 3]], np.int32))
    result = verification.evaluate_verification(FEATURES, repeated, **SETTINGS)
    lengths = [np.linalg.norm(FEATURES[112][i, side]) for pair in repeated.pairs for i in pair for side in (0, 1)]
    assert result.feature_norm == pytest.approx(np.mean(lengths))


def test_rates_that_the_impostor_pairs_cannot_resolve_are_left_out(made_up):
    result = verification.evaluate_verification(FEATURES, made_up, **SETTINGS | {"fars": (0.1, 0.05, 0.049)})
    assert [list(mode.tar) for mode in result.modes] == [[0.1, 0.05]] * 5  # 20 impostor pairs


@pytest.fixture(scope="module")
def results(data_dir):
    backbone = TinyBackbone()
    variables = backbone.init(jax.random.key(0), jnp.zeros((1, 112, 112, 3)), train=False)
    evals = {"made_up": SETTINGS | {"resolutions": [7, 14]}}  # a list, as json gives it
    embedder = embed.make_embedder(backbone, sizes=verification.sizes_of(evals), rounding="uint8")

    def run(evals):
        return verification.run_evals(embedder, variables, data_dir=data_dir, evals=evals, batch_size=16, num_threads=2)

    return run, run(evals)


def test_run_evals_tells_identities_apart_from_real_records(results):
    _, made = results
    assert made["made_up"].modes[0].accuracy.mean >= 0.9  # the blocks of an identity survive pooling
    flat = report.metrics_of(made)
    assert flat["made_up/accuracy"] == made["made_up"].modes[0].accuracy.mean
    assert flat["made_up/lr_lr_7/auc"] == made["made_up"].modes[-1].auc
    names = {"accuracy", "auc", "tar@far=0.1"}
    prefixes = ["made_up", *(f"made_up/{mode}_{r}" for mode in ("hr_lr", "lr_lr") for r in (14, 7))]
    assert set(flat) == {f"{p}/{n}" for p in prefixes for n in names} | {"made_up/feature_norm"}
    assert all(isinstance(value, float) for value in flat.values())


def test_sizes_of_joins_all_sets_and_adds_the_full_resolution():
    assert verification.sizes_of({"a": {"resolutions": (7, 20)}, "b": {"resolutions": (20, 14)}}) == (112, 20, 14, 7)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"protocol": "lfw"}, "protocol='lfw' is unknown: choose one of .*'insightface'"),
        ({"resolutions": (14, 0)}, r"must be whole pixels in 1\.\.112"),
        ({"resolutions": (14.5,)}, "whole pixels"),
        ({"fars": (10,)}, "not percent"),
        ({"flip": True}, "needs exactly"),
    ],
)
def test_bad_settings_are_told(results, change, sentence):
    run, _ = results
    with pytest.raises(UserError, match=r"evals\.made_up.*" + sentence):
        run({"made_up": SETTINGS | change})


def test_missing_and_unusable_sets_are_told(results):
    run, _ = results
    with pytest.raises(UserError, match="absent"):
        run({"absent": SETTINGS})
    with pytest.raises(UserError, match=r"one_fold cannot be scored: .*need >= 2"):
        run({"one_fold": SETTINGS})
