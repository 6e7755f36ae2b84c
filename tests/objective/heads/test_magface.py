import jax.numpy as jnp
import numpy as np
import pytest

from lrfr_jax.objective.heads import magface
from tests.objective.heads.toy import MAGFACE, T0, close, dense_losses, in_double, make

# length, own logit, CE, dCE/dc, dCE/da, g, dg/da, CE + 35 g; at scale 8
PUBLISHED = [
    (5, 1.538367, 1.2268229, (-6.935867, 5.552520, 0.101698), 0, 0.1008264, 0, 4.7557485),
    (20, 1.262706, 1.4292178, (-7.509709, 5.974602, 0.109429), 0.0210272, 0.0516529, -0.00241736, 3.2370691),
    (60, 0.148000, 2.3684522, (-9.062194, 7.120578, 0.130418), 0.0253741, 0.0216253, -0.000195133, 3.1253393),
    (150, -1.246887, 3.6903177, (-9.631200, 7.659990, 0.140298), 0, 0.0181818, 0, 4.3266813),
]
FLAT = {"smallest_margin": 0.5, "largest_margin": 0.5, "norm_weight": 0.0}


@in_double
@pytest.mark.parametrize(("norm", "own", "ce", "slope", "ce_by_norm", "g", "g_by_norm", "total"), PUBLISHED)
def test_values_and_gradients(norm, own, ce, slope, ce_by_norm, g, g_by_norm, total):
    head, norms = make("magface", scale=8.0), jnp.asarray([float(norm)])
    close(head.own(jnp.asarray([0.6]), norms, None, {}), [own])
    close(head.norm_term(norms) / 35, [g], digits=7)
    losses, state, slopes = dense_losses(head, T0, norms=norms)
    close(losses, [total], digits=7)
    close(losses - head.norm_term(norms), [ce], digits=7)
    close(slopes["cosines"], [slope])
    close(slopes["norms"], [ce_by_norm + 35 * g_by_norm])
    assert state == {}


@in_double
def test_easy_margin_leaves_the_norm_without_a_pull():
    head = make("magface", scale=8.0)
    losses, _, slopes = dense_losses(head, (-0.2, 0.3, 0.6), norms=[20.0])
    close(losses - head.norm_term(jnp.asarray([20.0])), [6.4883584], digits=7)
    close(slopes["norms"], [35 * -0.00241736])


@in_double
def test_hard_features_are_pushed_shorter():
    losses, _, slopes = dense_losses(make("magface"), T0, norms=[20.0])
    close(losses, [10.9063130], digits=7)
    close(slopes["norms"], [0.1365600])


@in_double
def test_mag_cosface():
    head = make("mag_cosface", scale=8.0)
    losses, _, slopes = dense_losses(head, T0, norms=[20.0])
    close(head.own(jnp.asarray([0.6]), jnp.asarray([20.0]), None, {}), [8 * (0.6 - 0.395)])
    close(losses - head.norm_term(jnp.asarray([20.0])), [1.1560759], digits=7)
    close(slopes["norms"], [0.0246701 + 150 * -0.00241736], digits=5)


@in_double
@pytest.mark.parametrize("guard", ["none", "easy", "fallback"])
def test_equal_margins_and_no_price_are_arcface_with_the_same_guard(guard):
    cosines = np.random.default_rng(0).uniform(-1, 1, (12, 20))
    norms = np.random.default_rng(1).uniform(1, 200, 12)
    magnitude = dense_losses(make("magface", guard=guard, **FLAT), cosines, norms=norms)
    angle = dense_losses(make("arcface", guard=guard), cosines)
    np.testing.assert_allclose(magnitude[0], angle[0], atol=1e-12)
    np.testing.assert_allclose(magnitude[2]["cosines"], angle[2]["cosines"], atol=1e-10)
    np.testing.assert_array_equal(magnitude[2]["norms"], 0)


def test_bound_of_the_price():
    bound = magface.norm_weight_bound(scale=64, norms=(10, 110), margins=(0.45, 0.8))
    np.testing.assert_allclose(bound, 22.5867, atol=5e-5)
    make("magface", norm_weight=22.5867)


@pytest.mark.parametrize("name", ["magface", "mag_cosface", "rpcl_magface"])
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"smallest_norm": 110.0}, r"smallest_norm=110\.0 \(l_a\) must be below largest_norm=110\.0 \(u_a\)"),
        ({"smallest_norm": 0.0}, r"smallest_norm=0\.0 must be above 0"),
        ({"smallest_margin": 0.9}, r"smallest_margin=0\.9 \(l_m\) must not be above largest_margin=0\.8 \(u_m\)"),
        ({"norm_weight": 1.0}, r"norm_weight=1\.0 \(lambda_g\) must be at least \d+\.\d+"),
        ({"norm_weight": -1.0}, r"norm_weight=-1\.0 must be 0 or more"),
    ],
)
def test_refuses(name, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        make(name, **change)


def test_refuses_with_the_bound():
    with pytest.raises(ValueError, match=r"norm_weight=20 \(lambda_g\) must be at least 22\.5867,"):
        make("magface", **MAGFACE | {"norm_weight": 20})
    with pytest.raises(ValueError, match="guard='hard' is unknown"):
        make("magface", guard="hard")
