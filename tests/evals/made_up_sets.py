"""Small test sets of made-up images, and a tiny network that tells their identities apart."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lrfr_jax.data import builders, protocol_arrays, records
from lrfr_jax.models import layers

IDENTITIES = 20
SAME = np.arange(2 * IDENTITIES).reshape(IDENTITIES, 2)


class TinyBackbone(nn.Module):
    input: Any = None

    @nn.compact
    def __call__(self, images, train):
        pooled = nn.avg_pool(images, (14, 14), (14, 14)).reshape(images.shape[0], -1)
        return layers.batch_norm(train, dtype="float32", name="BatchNorm_0")(nn.Dense(16)(pooled))


def variables():
    return TinyBackbone().init(jax.random.key(0), jnp.zeros((1, 112, 112, 3)), train=False)


def verification(num_folds=4, sizes=None):
    return protocol_arrays.VerificationProtocol(
        pairs=np.concatenate([SAME, np.stack([SAME[:, 0], np.roll(SAME[:, 1], 1)], axis=1)]),
        is_same=np.repeat([True, False], IDENTITIES),
        fold=np.tile(np.arange(IDENTITIES) % num_folds + 1, 2),
        sizes=sizes or {},
    )


def identification():
    """The first image of each identity is in the gallery; the second ones are probes of two groups."""
    labels = np.arange(IDENTITIES)
    splits = {"half": np.stack([labels[:10], labels[10:]])}
    return protocol_arrays.IdentificationProtocol(
        SAME[:, 0], labels, SAME[:, 1], labels, labels % 2, ("even", "odd"), splits
    )


def templates():
    """Each image is a template of its own; the two of an identity are one pair, neighbors another."""
    number, labels = np.arange(2 * IDENTITIES), np.arange(IDENTITIES)
    pairs = verification()
    galleries = {"one": (SAME[:10, 0], labels[:10]), "two": (SAME[10:, 0], labels[10:])}
    faceness = np.full(2 * IDENTITIES, 0.5, np.float32)
    return protocol_arrays.TemplateProtocol(
        number, number, faceness, pairs.pairs, pairs.is_same, galleries, SAME[:, 1], labels
    )


def write(data_dir, name, protocol, *, arguments=None):
    """20 identities with two images each; identity k sits at records 2k and 2k + 1."""
    rng = np.random.default_rng(5)
    blocks = (
        rng.integers(0, 256, (IDENTITIES, 1, 8, 1, 8, 1, 3)) + rng.normal(size=(IDENTITIES, 2, 8, 14, 8, 14, 3)) * 40
    )
    images = np.clip(blocks, 0, 255).astype(np.uint8).reshape(2 * IDENTITIES, 112, 112, 3)
    encoded = ((records.encode_image(image, quality=95), f"{i}.jpg") for i, image in enumerate(images))
    return builders.write_test_set(
        str(data_dir),
        name,
        images=encoded,
        num_images=2 * IDENTITIES,
        protocol=protocol,
        num_shards=1,
        arguments=arguments or {},
        notes={},
    )
