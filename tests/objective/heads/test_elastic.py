import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrfr_jax.objective.heads import elastic
from tests.objective.heads.toy import close, dense_losses, in_double, make

OWN, DRAWN = (0.1, 0.9, 0.5), (0.4, 0.3, 0.5)
GIVEN = {"none": (0.4, 0.3, 0.5), "intended": (0.5, 0.3, 0.4), "released": (0.4, 0.5, 0.3)}


@in_double
@pytest.mark.parametrize("plus", list(GIVEN))
def test_who_gets_which_margin(plus):
    own, drawn, expected = jnp.asarray(OWN), jnp.asarray(DRAWN), np.array(GIVEN[plus])
    np.testing.assert_array_equal(elastic.given_out(drawn, own, plus=plus), expected)
    close(make("elastic_cosface", scale=8.0, plus=plus).own(own, None, drawn, {}), 8 * (np.array(OWN) - expected))
    angles = np.cos(np.arccos(OWN) + expected)
    close(make("elastic_arcface", scale=8.0, plus=plus).own(own, None, drawn, {}), 8 * angles)


@in_double
@pytest.mark.parametrize("plus", ["intended", "released"])
def test_margins_are_given_out_over_all_views(plus):
    own, drawn = np.random.default_rng(0).uniform(-1, 1, (2, 2, 5))
    together = elastic.given_out(jnp.asarray(drawn.ravel()), jnp.asarray(own.ravel()), plus=plus)
    np.testing.assert_array_equal(elastic.given_out(jnp.asarray(drawn), jnp.asarray(own), plus=plus).ravel(), together)
    assert sorted(np.asarray(together)) == sorted(drawn.ravel())


@in_double
@pytest.mark.parametrize(("name", "base"), [("elastic_arcface", "arcface"), ("elastic_cosface", "cosface")])
@pytest.mark.parametrize("plus", list(GIVEN))
def test_without_spread_it_is_the_fixed_margin(name, base, plus):
    cosines = np.random.default_rng(0).uniform(-1, 1, (12, 20))
    head = make(name, margin=0.4, sigma=0.0, plus=plus)
    loss = dense_losses(head, cosines, draws=head.draw(jax.random.key(0), (12,)))
    fixed = dense_losses(make(base, margin=0.4), cosines)
    np.testing.assert_allclose(loss[0], fixed[0], atol=1e-12)
    np.testing.assert_allclose(loss[2]["cosines"], fixed[2]["cosines"], atol=1e-10)


def test_margins_are_normal_and_follow_the_key():
    head = make("elastic_arcface", margin=0.5, sigma=0.05)
    draws = np.asarray(head.draw(jax.random.key(0), (2, 20000)))
    np.testing.assert_allclose([draws.mean(), draws.std()], [0.5, 0.05], atol=1e-3)
    assert draws.max() > 0.65  # three standard deviations: nothing is clipped
    np.testing.assert_array_equal(head.draw(jax.random.key(0), (2, 20000)), draws)
    assert (np.asarray(head.draw(jax.random.key(1), (2, 20000))) != draws).any()


@pytest.mark.parametrize("name", ["elastic_arcface", "elastic_cosface"])
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"sigma": -0.1}, r"sigma=-0\.1 must be 0 or more"),
        ({"plus": "yes"}, "plus='yes' is unknown: choose none, intended or released"),
        ({"scale": 0}, "scale=0 must be above 0"),
    ],
)
def test_refuses(name, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        make(name, **change)
