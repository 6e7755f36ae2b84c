import dataclasses
import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrfr_jax.objective import heads
from lrfr_jax.objective.heads import dense
from lrfr_jax.objective.heads.head import BIASES, NORMALIZATIONS, SUMS
from tests.objective.heads import toy
from tests.objective.heads.toy import NUMBERS, dense_losses, in_double

NAMES = list(heads.HEADS)
VIEWS, BATCH, IDENTITIES = 2, 6, 20


# One record a head for all tests of this file, so that what was compiled serves again.
make = functools.cache(toy.make)


def inputs(name, dtype=np.float64):
    """A head, and made-up inputs for two views of whatever it reads."""
    rng, head = np.random.default_rng(7), make(name)
    given = {
        "cosines": rng.uniform(-0.95, 0.95, (VIEWS, BATCH, IDENTITIES)).astype(dtype),
        "labels": rng.integers(0, IDENTITIES, BATCH),
        "norms": rng.uniform(12, 100, (VIEWS, BATCH)).astype(dtype),
    }
    if head.draw is not None:
        given["draws"] = np.asarray(head.draw(jax.random.key(0), (VIEWS, BATCH)), dtype)
    if head.bias != "none":
        given["bias"] = rng.normal(size=IDENTITIES if head.bias == "per_identity" else ()).astype(dtype)
    return head, given


@functools.cache
def without_update(name):
    return dataclasses.replace(make(name), update=None)


@pytest.mark.parametrize("name", NAMES)
def test_records_are_of_known_kinds_and_take_their_numbers_by_name(name):
    head = make(name)
    assert head.sum in SUMS
    assert head.normalize in NORMALIZATIONS
    assert head.bias in BIASES
    assert bool(head.first_state) == (head.update is not None)
    parameters = inspect.signature(heads.HEADS[name]).parameters.values()
    assert all(one.kind is one.KEYWORD_ONLY and one.default is one.empty for one in parameters)
    assert NUMBERS.keys() == heads.HEADS.keys()


@in_double
@pytest.mark.parametrize("name", NAMES)
def test_views_are_features_of_one_batch(name):
    head, given = inputs(name)
    losses, state, slopes = dense_losses(head, **given)
    flat = {key: value.reshape(-1, *value.shape[2:]) for key, value in given.items() if key not in ("labels", "bias")}
    flat |= {"labels": np.tile(given["labels"], VIEWS), **({"bias": given["bias"]} if "bias" in given else {})}
    at_once, state_at_once, slopes_at_once = dense_losses(head, **flat)
    np.testing.assert_allclose(losses.ravel(), at_once, rtol=1e-12)
    np.testing.assert_allclose(slopes["cosines"].reshape(-1, IDENTITIES), slopes_at_once["cosines"], atol=1e-12)
    assert state == state_at_once


@in_double
@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_the_formula(name):
    head, given = inputs(name)
    state = dense_losses(head, **given)[1]
    head = without_update(name)  # so that differences do not move the state
    slopes = dense_losses(head, **given, state=state)[2]
    rng, step = np.random.default_rng(0), 1e-7
    for key, slope in slopes.items():
        if key == "norms" and name == "adaface":  # which lets no gradient through
            np.testing.assert_array_equal(slope, 0)
            continue
        direction = rng.normal(size=given[key].shape)
        above, below = (
            dense_losses(head, **given | {key: given[key] + sign * step * direction}, state=state)[0].sum()
            for sign in (1, -1)
        )
        np.testing.assert_allclose((slope * direction).sum(), (above - below) / (2 * step), rtol=1e-5, atol=1e-6)
        assert "mag" in name or key != "norms" or not np.asarray(slope).any()


@pytest.mark.parametrize("name", NAMES)
def test_finite_at_the_ends(name):
    head, given = inputs(name, np.float32)
    given["cosines"][:] = np.linspace(-1, 1 + 1e-6, IDENTITIES)
    given["labels"] = np.array([0, IDENTITIES - 1, 3, 4, 5, 6])
    given["norms"][:] = [0, 1e-3, 1, 10, 110, 1e4]
    losses, state, slopes = dense_losses(head, **given)
    for value in jax.tree.leaves((losses, state, slopes)):
        assert jnp.isfinite(value).all()


@in_double
@pytest.mark.parametrize("name", NAMES)
def test_a_label_that_does_not_exist_is_not_overlooked(name):
    given = inputs(name)[1]
    head = without_update(name)  # its state would be NaN as well, and with it all losses
    given["labels"] = np.array([-1, IDENTITIES, 0, 1, 2, 3])
    losses = dense_losses(head, **given)[0]
    np.testing.assert_array_equal(jnp.isnan(losses), [[True, True, False, False, False, False]] * VIEWS)


@pytest.mark.parametrize("name", ["curricularface", "adaface"])
def test_state_is_traced_without_a_gradient(name):
    head, given = inputs(name)

    def new_state(cosines, norms):
        labels = jnp.asarray(given["labels"], jnp.int32)
        return sum(dense.classification(head, cosines, labels, norms, head.first_state, None, None)[1].values())

    slopes = jax.jit(jax.grad(new_state, argnums=(0, 1)))(jnp.asarray(given["cosines"]), jnp.asarray(given["norms"]))
    np.testing.assert_array_equal(slopes[0], 0)
    np.testing.assert_array_equal(slopes[1], 0)


@pytest.mark.parametrize("name", ["cosface", "arcface"])
def test_margin_changes_only_the_labels_logit_and_raises_the_loss(name):
    # Not below -0.8: ArcFace without a guard rewards beyond theta + m = pi.
    cosines = jnp.asarray(np.random.default_rng(0).uniform(-0.8, 1, (12, 20)), jnp.float32)
    labels = jnp.asarray(np.random.default_rng(1).integers(0, 20, 12), jnp.int32)
    gradient = {"gradient": "exact"} if name == "arcface" else {}
    whole = heads.arcface_logits if gradient else heads.cosface_logits
    small, large = (whole(cosines, labels, scale=8.0, margin=margin, **gradient) for margin in (0.1, 0.4))
    at_label = np.asarray(jax.nn.one_hot(labels, 20, dtype=bool))
    np.testing.assert_array_equal(np.asarray(large)[~at_label], np.asarray(8 * cosines)[~at_label])
    own = np.asarray(cosines, np.float64)[at_label]
    expected = 8 * (own - 0.4) if name == "cosface" else 8 * np.cos(np.arccos(own) + 0.4)
    np.testing.assert_allclose(np.asarray(large)[at_label], expected, atol=1e-5)
    assert (heads.cross_entropy(large, labels) > heads.cross_entropy(small, labels)).all()
    losses = dense_losses(make(name, scale=8.0, margin=0.4), cosines, labels=labels)[0]
    np.testing.assert_allclose(losses, heads.cross_entropy(large, labels), rtol=1e-6)


def test_cross_entropy_formula_and_missing_label():
    cosines = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (12, 20)), jnp.float32)
    labels = jnp.asarray(np.random.default_rng(1).integers(0, 20, 12), jnp.int32)
    logits = 20 * np.asarray(cosines, np.float64)
    expected = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(12), labels]
    np.testing.assert_allclose(heads.cross_entropy(20 * cosines, labels), expected, atol=1e-5)
    missing = heads.cross_entropy(cosines[:3], jnp.array([-1, 20, 19]))
    np.testing.assert_array_equal(jnp.isnan(missing), [True, True, False])
