import jax.numpy as jnp
import numpy as np
import pytest

from lrfr_jax.objective.heads import rpcl_released
from tests.objective.heads.toy import T0, close, dense_losses, in_double, make

NEAR_RIVAL = (0.6, 0.9, -0.2)
LABEL = jnp.zeros(1, jnp.int32)


def logits(name, cosines, **changes):
    return make(name, **changes).logits_of_all(jnp.asarray([cosines]), LABEL)[0]


@in_double
def test_values():
    close(logits("rpcl_cosface_released", NEAR_RIVAL, scale=8.0), [3.2, 1.76, -1.6])
    close(dense_losses(make("rpcl_cosface_released", scale=8.0), NEAR_RIVAL)[0], [0.2192620], digits=7)
    close(logits("rpcl_arcface_released", NEAR_RIVAL)[:2] / 32, [0.143009, 0.199760])
    close(logits("rpcl_arcface_released", T0)[:2] / 32, [0.143009, 0.6])


@in_double
def test_a_feature_nearest_to_its_rival_is_forgiven():
    released = dense_losses(make("rpcl_cosface_released"), NEAR_RIVAL)[0]
    close(released, [0.0031], digits=4)
    intended = dense_losses(make("rpcl_cosface"), NEAR_RIVAL)[0]
    cosface = dense_losses(make("cosface", scale=32.0, margin=0.2), NEAR_RIVAL)[0]
    assert released < cosface < intended


@in_double
def test_the_own_cosine_becomes_a_negative_that_no_feature_can_leave():
    losses, _, slopes = dense_losses(make("rpcl_arcface_released"), T0)
    close(losses, [14.62], digits=2)
    # The own cosine is written into the rival's logit, so its pull there goes to the own cosine.
    own = 32 * (np.cos(0.5) + 0.6 / 0.8 * np.sin(0.5))
    np.testing.assert_allclose(slopes["cosines"], [[32 - own, 0, 0]], rtol=1e-4, atol=1e-4)


def row(own, *others):
    """Cosines to 10,575 identities: of the own one (number 5), of some others (from number 100 on), 0 to the rest."""
    cosines = np.zeros(10575)
    cosines[5] = own
    cosines[100 : 100 + len(others)] = others
    return jnp.asarray(cosines[None])


PICKED = [
    (0.9, (0.89, 0.5, 0.3), 102),  # 0.56 are skipped
    (1.0, (0.99, 0.52, 0.5), 102),  # 0.49
    (0.05, (0.04, 0.03), 0),  # nothing is that far below, so center 0 is taken
    (0.3, (0.8, 0.7), 100),  # the nearest center is not the own one
]


@in_double
@pytest.mark.parametrize(("own", "others", "expected"), PICKED)
def test_which_center_is_picked_of_many(own, others, expected):
    cosines, labels = row(own, *others), jnp.asarray([5])
    assert rpcl_released.picked(cosines, labels, probability_gap=1e-4)[0] == expected


@in_double
def test_the_rule_never_meets_a_feature_whose_own_center_is_nearest():
    head = make("rpcl_cosface_released")
    easy = make("rpcl_cosface", rival_threshold=1)  # without the rule
    labels = jnp.asarray([5])
    for own in np.linspace(0.1, 1, 7):
        cosines = row(own, *np.linspace(0, own - 1e-3, 40))
        assert cosines[0, rpcl_released.picked(cosines, labels, probability_gap=1e-4)[0]] < 0.51
        np.testing.assert_array_equal(
            dense_losses(head, cosines, labels=labels)[0], dense_losses(easy, cosines, labels=labels)[0]
        )


@in_double
def test_center_0_keeps_its_own_logit_where_it_is_the_own_one():
    cosines = np.zeros((1, 10575))
    cosines[0, 0] = 0.05
    logits = make("rpcl_arcface_released").logits_of_all(jnp.asarray(cosines), LABEL)
    close(logits[0, 0] / 32, np.cos(np.arccos(0.05) + 0.5))


@in_double
def test_views_are_taken_one_by_one():
    head = make("rpcl_arcface_released")
    views = jnp.asarray([[NEAR_RIVAL], [T0]])
    both = dense_losses(head, views)[0]
    np.testing.assert_array_equal(both.ravel(), [dense_losses(head, view)[0][0] for view in views])


@pytest.mark.parametrize("name", ["rpcl_cosface_released", "rpcl_arcface_released"])
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"probability_gap": -1}, "probability_gap=-1 must be 0 or more"),
        ({"scale": 0}, "scale=0 must be above 0"),
    ],
)
def test_refuses(name, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        make(name, **change)
