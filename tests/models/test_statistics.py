"""Running statistics measured on batches are those of all images together, layer by layer."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrfr_jax.models import layers, statistics


class TwoNorms(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.Dense(4)(layers.batch_norm(train, dtype="float32", name="first")(x).mean(axis=(1, 2)))
        return layers.batch_norm(train, dtype="float32", name="second")(x)


class Nested(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return TwoNorms(name="inner")(x, train)


def images(count, seed=0):
    return (
        jax.random.uniform(jax.random.key(seed), (count, 6, 6, 3), minval=-1) * jnp.array([[[[1.0, 0.5, 0.1]]]]) + 0.3
    )


@pytest.fixture
def network():
    backbone = Nested()
    return backbone, backbone.init(jax.random.key(1), images(2), train=False)


def test_one_batch_gives_its_own_statistics(network):
    backbone, variables = network
    batch = images(8)
    found = statistics.measure(backbone, variables, [batch])["inner"]
    np.testing.assert_allclose(found["first"]["mean"], batch.mean(axis=(0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(found["first"]["var"], batch.var(axis=(0, 1, 2)), rtol=1e-4)
    adapted = variables | {"batch_stats": {"inner": found}}
    as_asked = backbone.apply(adapted, batch, train=False)
    as_trained, _ = backbone.apply(variables, batch, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(as_asked, as_trained, atol=1e-4)


def test_batches_count_as_one(network):
    backbone, variables = network
    whole = images(16) * jnp.linspace(0.1, 2, 16)[:, None, None, None]  # batches of very different spread
    found = statistics.measure(backbone, variables, [whole[:8], whole[8:]])["inner"]["first"]
    np.testing.assert_allclose(found["mean"], whole.mean(axis=(0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(found["var"], whole.var(axis=(0, 1, 2)), rtol=1e-4)


def test_the_statistics_that_were_there_have_no_influence(network):
    backbone, variables = network
    other = variables | {"batch_stats": jax.tree.map(lambda leaf: leaf + 7, variables["batch_stats"])}
    found = [statistics.measure(backbone, one, [images(4)]) for one in (variables, other)]
    jax.tree.map(np.testing.assert_array_equal, *found)


def test_no_batch_is_told(network):
    with pytest.raises(ValueError, match="at least one batch"):
        statistics.measure(*network, [])


def test_statistics_are_chosen_by_resolution():
    variables = {"params": 1, "batch_stats": "own", "adapted": {"7": "seven", "14": "fourteen"}}
    assert statistics.sizes_of(variables) == (14, 7)
    assert statistics.at_resolution(variables, 14) == {"params": 1, "batch_stats": "fourteen"}
    assert statistics.at_resolution(variables, None) == {"params": 1, "batch_stats": "own"}
    plain = {"params": 1, "batch_stats": "own"}
    assert (statistics.sizes_of(plain), statistics.at_resolution(plain, None)) == ((), plain)
