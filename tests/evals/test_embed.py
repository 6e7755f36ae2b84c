import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrfr_jax import image_ops
from lrfr_jax.data import records
from lrfr_jax.errors import UserError
from lrfr_jax.evals import embed
from lrfr_jax.machines import sharding

RESOLUTIONS = (112, 20, 7)
TRACES = []


class TinyBackbone(nn.Module):
    @nn.compact
    def __call__(self, images, train):
        TRACES.append(images.shape)
        pooled = nn.avg_pool(images, (14, 14), (14, 14)).reshape(len(images), -1)
        return nn.BatchNorm(use_running_average=not train)(nn.Dense(16)(pooled))


class Source(list):
    """Records, of which the first of each batch come late."""

    def __init__(self, images):
        super().__init__({"image": records.encode_image(image, quality=95)} for image in images)

    def __getitem__(self, index):
        time.sleep(0.02 if index % 8 < 2 else 0)
        return super().__getitem__(index)


@pytest.fixture(scope="module")
def variables():
    return TinyBackbone().init(jax.random.key(0), jnp.zeros((1, 112, 112, 3)), train=False)


def run(embedder, variables, source, batch_size=8):
    wanted = {resolution: np.arange(len(source)) for resolution in RESOLUTIONS}
    return embed.embed_records(embedder, variables, source, wanted=wanted, batch_size=batch_size, num_threads=3)


# With rounding, another order of summation moves single pixels by one grey level.
@pytest.mark.parametrize(("sharded", "rounding", "tolerance"), [(False, "none", 1e-5), (True, "uint8", 5e-4)])
def test_features_are_those_of_each_degraded_image_and_its_mirror(variables, sharded, rounding, tolerance, monkeypatch):
    source = Source(np.random.default_rng(0).integers(0, 256, (13, 112, 112, 3), np.uint8))
    mesh = sharding.make_mesh(class_shards=1)
    placement = sharding.over_batch(mesh) if sharded else None
    embedder = embed.make_embedder(TinyBackbone(), sizes=RESOLUTIONS, rounding=rounding, sharding=placement)
    placed = jax.device_put(variables, sharding.replicated(mesh)) if sharded else variables
    decoded, decode = [], records.decode_image
    monkeypatch.setattr(records, "decode_image", lambda encoded: (decoded.append(1), decode(encoded))[1])
    TRACES.clear()
    features = run(embedder, placed, source)
    run(embedder, placed, source)
    assert TRACES == [(16, 112, 112, 3)]  # one compilation for all batches and resolutions
    assert len(decoded) == 2 * 13  # once per run, for all resolutions

    images = np.stack([records.decode_image(record["image"]) for record in list.__iter__(source)])
    for resolution in RESOLUTIONS:
        pixels = jnp.asarray(images, jnp.float32)
        if resolution != 112:
            pixels = image_ops.degrade(pixels, jnp.full(13, resolution), sizes=(resolution,), rounding=rounding)
        for side, view in enumerate((pixels, jnp.flip(pixels, axis=2))):
            expected = TinyBackbone().apply(variables, image_ops.normalize(view), train=False)
            np.testing.assert_allclose(features[resolution][:, side], expected, atol=tolerance)
        assert features[resolution].shape == (13, 2, 16)


def test_mixed_resolutions_in_one_batch(variables):
    images = np.random.default_rng(1).integers(0, 256, (3, 112, 112, 3), np.uint8)
    embedder = embed.make_embedder(TinyBackbone(), sizes=(20, 7), rounding="none")
    mixed = embedder(variables, images, np.array([112, 20, 7], np.int32))
    for row, resolution in enumerate((112, 20, 7)):
        alone = embedder(variables, images, np.full(3, resolution, np.int32))
        np.testing.assert_allclose(mixed[row], alone[row], atol=1e-5)
    without = embed.make_embedder(TinyBackbone(), sizes=(20, 7), rounding="none", mirror=False)
    np.testing.assert_allclose(without(variables, images, np.array([112, 20, 7], np.int32)), mixed[:, :1], atol=1e-5)
    assert np.abs(np.asarray(mixed[1] - embedder(variables, images, np.full(3, 7, np.int32))[1])).max() > 0.01


def test_a_damaged_record_is_named(variables):
    source = Source(np.zeros((5, 112, 112, 3), np.uint8))
    list.__setitem__(source, 3, {"image": list.__getitem__(source, 3)["image"][:-200]})
    embedder = embed.make_embedder(TinyBackbone(), sizes=RESOLUTIONS, rounding="uint8")
    with pytest.raises(UserError, match=r"record 3 of the test set .*truncated"):
        run(embedder, variables, source, batch_size=4)


def test_features_that_are_not_finite_are_told(variables):
    broken = jax.tree.map(lambda x: x * jnp.nan, variables)
    embedder = embed.make_embedder(TinyBackbone(), sizes=RESOLUTIONS, rounding="uint8")
    with pytest.raises(UserError, match="features of 3 of 3 images of a batch are not finite"):
        run(embedder, broken, Source(np.zeros((3, 112, 112, 3), np.uint8)))


def test_only_wanted_records_are_read_and_their_rows_filled(variables):
    source = Source(np.random.default_rng(3).integers(0, 256, (9, 112, 112, 3), np.uint8))
    embedder = embed.make_embedder(TinyBackbone(), sizes=RESOLUTIONS, rounding="none")
    everything = run(embedder, variables, source, batch_size=4)
    wanted = {112: np.array([0, 8]), 20: np.array([8, 2, 5]), 7: np.array([5])}
    list.__setitem__(source, 3, {"image": b"never read"})
    some = embed.embed_records(embedder, variables, source, wanted=wanted, batch_size=4, num_threads=2)
    for resolution, numbers in wanted.items():
        expected = np.zeros_like(everything[resolution])
        expected[numbers] = everything[resolution][numbers]
        np.testing.assert_allclose(some[resolution], expected, atol=1e-5)


def test_mean_similarity_is_the_mean_over_the_records_of_each_resolution(variables):
    images = np.random.default_rng(4).integers(0, 256, (5, 112, 112, 3), np.uint8)
    source = Source(images)
    meter = embed.make_similarity_meter(sizes=RESOLUTIONS, rounding="uint8")
    wanted = {112: np.arange(5), 20: np.array([1, 4])}
    found = embed.mean_similarity(meter, source, wanted=wanted, batch_size=3, num_threads=2)
    decoded = jnp.stack([records.decode_image(list.__getitem__(source, i)["image"]) for i in (1, 4)]).astype(
        jnp.float32
    )
    reduced = image_ops.degrade(decoded, jnp.full(2, 20), sizes=(20,), rounding="uint8")
    assert found[112] == pytest.approx(1, abs=1e-6)
    assert found[20] == pytest.approx(float(image_ops.structural_similarity(decoded, reduced).mean()), abs=1e-5)


def test_an_adapted_backbone_is_asked_with_the_statistics_nearest_to_each_face(variables):
    source = Source(np.random.default_rng(1).integers(0, 256, (9, 112, 112, 3), np.uint8))
    source.sizes = {1: 15}  # of a face in its picture
    shifted = {
        size: jax.tree.map(lambda leaf, size=size: leaf + int(size), variables["batch_stats"]) for size in ("7", "14")
    }
    embedder = embed.make_embedder(TinyBackbone(), sizes=(112, 20, 12, 7), rounding="none")
    wanted = {size: np.arange(9) for size in (112, 20, 12, 7)}
    reading = {"wanted": wanted, "batch_size": 4, "num_threads": 2}
    found = embed.embed_records(embedder, variables | {"adapted": shifted}, source, **reading)
    own, *others = (
        embed.embed_records(embedder, variables | {"batch_stats": stats}, source, **reading)
        for stats in (variables["batch_stats"], shifted["14"], shifted["7"])
    )
    expected = {112: own, 20: others[0], 12: others[0], 7: others[1]}
    for size, by in expected.items():
        np.testing.assert_allclose(found[size][[0, *range(2, 9)]], by[size][[0, *range(2, 9)]], atol=1e-5)
    np.testing.assert_allclose(found[112][1], others[0][112][1], atol=1e-5)  # a face of 15 px
    assert not np.allclose(found[20], own[20], atol=1e-2)
