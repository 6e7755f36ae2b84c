"""Patches, dropout, GELU, attention and stochastic depth against formulas written out."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrfr_jax.models import dropout, transformer
from lrfr_jax.models.transformer import Attention, PatchEmbed


def patches_of(image, *, patch):
    """All entries of every patch, by a kernel that passes them on, in the order row, column, channel."""
    net = PatchEmbed(3 * patch**2, patch, 8, "float32")
    kernel = np.eye(3 * patch**2, dtype=np.float32).reshape(patch, patch, 3, -1)
    variables = {"params": {"kernel": kernel, "bias": np.zeros(3 * patch**2, np.float32)}}
    return np.asarray(net.apply(variables, jnp.asarray(image[None])))[0].reshape(14, 14, patch, patch, 3)


@pytest.mark.parametrize("patch", [8, 12])
def test_patches_lie_around_their_place(patch):
    image = np.random.default_rng(0).normal(size=(112, 112, 3)).astype(np.float32)
    padded = np.pad(image, ((patch - 8, 0), (patch - 8, 0), (0, 0)))
    found = patches_of(image, patch=patch)
    for row, column in ((0, 0), (1, 1), (13, 5)):
        expected = padded[8 * row :, 8 * column :][:patch, :patch]
        np.testing.assert_array_equal(found[row, column], expected)


def test_overlapping_patches_have_the_published_order():
    """Pixel number c 112^2 + row 112 + column is its value; their order is channel, row, column."""
    image = np.arange(3 * 112 * 112, dtype=np.float32).reshape(3, 112, 112).transpose(1, 2, 0)
    theirs = patches_of(image, patch=12).transpose(0, 1, 4, 2, 3).reshape(196, 432)
    assert not theirs[0, :5].any()  # padding
    assert theirs[15, 0] == 452
    assert theirs[15, 144] == 12996


def seed(number):
    return jax.random.bits(jax.random.key(number), (2,), jnp.uint32)


def test_dropout_keeps_its_share_anew_for_every_seed():
    x = jnp.ones((4, 50, 1000))

    def dropped(key, **how):
        return np.asarray(dropout.dropout(x, 0.1, seed(key), **how))

    first = dropped(0)
    assert set(np.unique(first)) == {np.float32(0), np.float32(1 / 0.9)}
    is_kept = first > 0
    np.testing.assert_allclose(is_kept.mean(), 0.9, atol=4 * math.sqrt(0.09 / x.size))
    np.testing.assert_array_equal(dropped(0), first)
    both = (is_kept & (dropped(1) > 0)).mean()  # independent
    np.testing.assert_allclose(both, 0.81, atol=4 * math.sqrt(0.81 * 0.19 / x.size))
    for axis in range(3):  # of neighbors too
        near = (is_kept & np.roll(is_kept, 1, axis)).mean()
        np.testing.assert_allclose(near, 0.81, atol=5 * math.sqrt(0.81 * 0.19 / x.size))
    assert dropout.dropout(x, 0.1, None) is x
    images = dropped(3, by_image=True)
    assert all(len(np.unique(image)) == 1 for image in images)


def test_random_bits_are_uniform():
    bits = np.asarray(dropout.random_bits(seed(5), (300, 1000)))
    assert bits.dtype == np.uint32
    for shift in (0, 8, 16, 24):
        counts = np.bincount((bits.ravel() >> shift) & 255, minlength=256)
        expected = bits.size / 256
        assert ((counts - expected) ** 2 / expected).sum() < 255 + 5 * math.sqrt(2 * 255)  # chi-squared


def test_gelu_is_exact_with_its_gradient():
    x = np.linspace(-4, 4, 33)
    share = np.array([0.5 * (1 + math.erf(value / math.sqrt(2))) for value in x])
    density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    found, gradient = jax.vmap(jax.value_and_grad(transformer.gelu))(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(found, x * share, atol=1e-6)
    np.testing.assert_allclose(gradient, share + x * density, atol=1e-6)


def test_attention_is_the_formula():
    """Softmax of (1, 2, 3) at the released scale, then all of it in numpy, for some queries and with a bias."""
    weights = np.exp(np.array([1, 2, 3]) * 512**-0.5)
    np.testing.assert_allclose(weights / weights.sum(), [0.318715, 0.333116, 0.348168], atol=1e-6)
    draw = np.random.default_rng(0)
    qkv, bias = draw.normal(size=(2, 5, 36)), draw.normal(size=(1, 3, 5, 5))
    found = Attention(3, 0.3).apply({}, jnp.asarray(qkv, jnp.float32), jnp.asarray(bias, jnp.float32), queries=2)
    for image in range(2):
        for head in range(3):
            q, k, v = (qkv[image, :, 12 * part + 4 * head :][:, :4] for part in range(3))
            shares = np.exp(0.3 * q[:2] @ k.T + bias[0, head, :2])
            expected = shares / shares.sum(axis=1, keepdims=True) @ v
            np.testing.assert_allclose(found[image, :, 4 * head :][:, :4], expected, atol=1e-5)
