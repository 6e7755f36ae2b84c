import jax.numpy as jnp
import numpy as np
import pytest

from tests.objective.heads.toy import T0, close, dense_losses, in_double, make

MAG = {"scale": 8.0, "norm_weight": 20.0}
# cosines, own logit, the rival's, CE, dCE/dc
MAGFACE = [
    ((0.6, 0.8, -0.2), 1.262706, 7.309593, 6.0493837, (-9.851352, 5.405037, 0.001078)),
    ((0.9, 0.8, -0.2), 4.743936, 7.309593, 2.6398401, None),
    (T0, 1.262706, 2.4, 1.4292178, None),  # below tau: MagFace
]


@in_double
@pytest.mark.parametrize(("cosines", "own", "rival", "ce", "slope"), MAGFACE)
def test_magface_with_a_rival(cosines, own, rival, ce, slope):
    head, norms = make("rpcl_magface", **MAG), jnp.asarray([20.0])
    close(head.own(jnp.asarray(cosines[:1]), norms, None, {}), [own])
    close(8 * head.rival(jnp.asarray(cosines[1:2])), [rival])
    losses, _, slopes = dense_losses(head, cosines, norms=norms)
    close(losses - head.norm_term(norms), [ce], digits=7)
    if slope is not None:
        close(slopes["cosines"], [slope])
        close(losses, [7.0824416], digits=7)


@in_double
def test_cosface_with_a_rival():
    head = make("rpcl_cosface", scale=8.0, guard="none")
    losses, _, slopes = dense_losses(head, (0.6, 0.9, -0.2))
    close(8 * head.rival(jnp.asarray([0.9])), [8.0])
    close(losses, [4.8082632], digits=7)
    close(slopes["cosines"], [[-7.934704, 7.934166, 0.000537]])


@in_double
def test_arcface_with_a_rival():
    head = make("rpcl_arcface", scale=8.0)
    close(head.rival(jnp.asarray([0.9, 0.7, -0.9])), [np.cos(np.arccos(0.9) - 0.25), 0.7, -0.9])
    logits = 8 * np.array([np.cos(np.arccos(0.6) + 0.5), np.cos(np.arccos(0.9) - 0.25), -0.2])
    close(dense_losses(head, (0.6, 0.9, -0.2))[0], [np.log(np.exp(logits).sum()) - logits[0]], digits=10)


@in_double
def test_easy_margin_of_cosface():
    own = make("rpcl_cosface", scale=8.0, guard="easy").own(jnp.asarray([0.6, 0.0, -0.3]), None, None, {})
    close(own, [3.2, 0.0, -2.4])


@in_double
@pytest.mark.parametrize(("name", "base"), [("rpcl_arcface", "arcface"), ("rpcl_magface", "magface")])
@pytest.mark.parametrize("change", [{"rival_threshold": 1.0}, {"rival_share": 0.0}])
def test_without_rivals_or_their_margin_it_is_the_head_itself(name, base, change):
    cosines = np.random.default_rng(0).uniform(-1, 1, (12, 20))
    shared = {"scale": 32.0, "guard": "easy"}
    norms = np.full(12, 20.0) if base == "magface" else None
    weight = {"norm_weight": 20.0} if base == "magface" else {}
    with_rival = dense_losses(make(name, **shared, **change), cosines, norms=norms)
    plain = dense_losses(make(base, **shared, **weight), cosines, norms=norms)
    np.testing.assert_allclose(with_rival[0], plain[0], atol=1e-10)
    np.testing.assert_allclose(with_rival[2]["cosines"], plain[2]["cosines"], atol=1e-8)


@in_double
@pytest.mark.parametrize("name", ["rpcl_cosface", "rpcl_arcface", "rpcl_magface"])
def test_a_near_rival_costs_more_and_no_other_changes(name):
    norms = [20.0] if name == "rpcl_magface" else None
    near, next_one = (0.6, 0.8, 0.75), (0.6, 0.75, 0.8)
    with_rival = dense_losses(make(name, scale=8.0), near, norms=norms)[0]
    without = dense_losses(make(name, scale=8.0, rival_threshold=1), near, norms=norms)[0]
    assert with_rival > without
    # Only the nearest is the rival, though both are above tau.
    np.testing.assert_allclose(dense_losses(make(name, scale=8.0), next_one, norms=norms)[0], with_rival, rtol=1e-12)


@pytest.mark.parametrize("name", ["rpcl_cosface", "rpcl_arcface", "rpcl_magface"])
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"rival_share": -0.5}, r"rival_share=-0\.5 must be 0 or more"),
        ({"rival_threshold": 1.5}, r"rival_threshold=1\.5 must be a cosine"),
        ({"guard": "hard"}, "guard='hard' is unknown"),
    ],
)
def test_refuses(name, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        make(name, **change)
