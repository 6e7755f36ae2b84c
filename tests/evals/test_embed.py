import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrfr_jax import image_ops, sharding
from lrfr_jax.data import records
from lrfr_jax.errors import UserError
from lrfr_jax.evals import embed

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
    return embed.embed_source(
        embedder, variables, source, resolutions=RESOLUTIONS, batch_size=batch_size, num_threads=3
    )


# With rounding, another order of summation moves single pixels by one grey level.
@pytest.mark.parametrize(("sharded", "rounding", "tolerance"), [(False, "none", 1e-5), (True, "uint8", 5e-4)])
def test_features_are_those_of_each_degraded_image_and_its_mirror(variables, sharded, rounding, tolerance, monkeypatch):
    source = Source(np.random.default_rng(0).integers(0, 256, (13, 112, 112, 3), np.uint8))
    mesh = sharding.make_mesh()
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
    assert np.abs(np.asarray(mixed[1] - embedder(variables, images, np.full(3, 7, np.int32))[1])).max() > 0.01


def test_a_damaged_record_is_named(variables):
    source = Source(np.zeros((5, 112, 112, 3), np.uint8))
    list.__setitem__(source, 3, {"image": list.__getitem__(source, 3)["image"][:-200]})
    embedder = embed.make_embedder(TinyBackbone(), sizes=RESOLUTIONS, rounding="uint8")
    with pytest.raises(UserError, match=r"record 3 of the verification set .*truncated"):
        run(embedder, variables, source, batch_size=4)


def test_features_that_are_not_finite_are_told(variables):
    broken = jax.tree.map(lambda x: x * jnp.nan, variables)
    embedder = embed.make_embedder(TinyBackbone(), sizes=RESOLUTIONS, rounding="uint8")
    with pytest.raises(UserError, match="features of 3 of 3 images at 112 px are not finite"):
        run(embedder, broken, Source(np.zeros((3, 112, 112, 3), np.uint8)))
