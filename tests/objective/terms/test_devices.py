"""The terms of a batch that eight devices share: the numbers of one device, and no more than embeddings travels."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrfr_jax.machines import sharding
from lrfr_jax.objective.terms import TERMS
from tests.objective.terms.toy import NUMBERS, batch_of, make
from tests.objective.test_classifier import collectives

# 64 images, eight on each device: two identities.
IMAGES, BATCH, DIM, IDENTITIES = 4, 64, 16, 50
OF_MAPS = ("cross_relation", "attention_transfer")
LARGE = {"octuplet": {"margin": 9.0}, "datl": {"memory": 0.9}, "coupled_triplet": {"margin": 9.0}}


def term_named(name):
    """With numbers at which it acts, and the batch's K."""
    changes = {"images_per_identity": IMAGES} if "images_per_identity" in NUMBERS[name] else {}
    return make(name, **changes, **LARGE.get(name, {}))


def given(name):
    """(features, labels) of a batch, as many as the term takes."""
    features, labels = batch_of(0, identities=BATCH // IMAGES, images=IMAGES, dim=DIM, dtype=np.float32)
    if name in OF_MAPS:
        rng = np.random.default_rng(1)
        maps = tuple(rng.normal(size=(BATCH, 7, 6, 5)).astype(np.float32) for _ in range(2))
        features = maps if name == "attention_transfer" else (*maps, features[0])
    return features, (labels,) * len(features)


@functools.partial(jax.jit, static_argnames="term")
def step(term, features, labels):
    """(value, gradients, state) of a first step."""
    state = {}
    if term.first_state:
        state = term.update(term.first_state(IDENTITIES, DIM), features, labels)
    value, slopes = jax.value_and_grad(lambda given: term.value(given, labels, state))(features)
    return value, slopes, state


@pytest.mark.parametrize("name", TERMS)
def test_eight_devices_equal_one(name):
    term, arguments = term_named(name), given(name)
    expected = step(term, *arguments)
    mesh = sharding.make_mesh(2)
    placed = jax.device_put(arguments, sharding.over_batch(mesh))
    with jax.set_mesh(mesh):
        found = step(term, *placed)
    assert expected[0] != 0
    assert all(np.asarray(slope).any() for slope in expected[1][:1])
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), found, expected)


def program(name):
    mesh = sharding.make_mesh(1)
    split, whole = sharding.over_batch(mesh), sharding.replicated(mesh)
    features, labels = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=split), jax.tree.map(jnp.asarray, given(name))
    )
    with jax.set_mesh(mesh):
        made = jax.jit(functools.partial(step, term_named(name)), out_shardings=(whole, split, whole))
        return made.lower(features, labels).compile().as_text()


@pytest.mark.parametrize("name", TERMS)
def test_no_more_than_embeddings_travels(name):
    """64 x 16 numbers of each view, together where several are pooled; a device's maps alone are 8 x 210."""
    found = collectives(program(name))
    views = len(given(name)[0])
    assert found  # the mean over the batch at least
    for operation, elements in found:
        assert elements <= (views * BATCH * DIM if name not in OF_MAPS else BATCH * IMAGES), (operation, elements)
