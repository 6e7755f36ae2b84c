import jax.numpy as jnp
import numpy as np
import pytest

from tests.objective.heads.toy import T0, close, dense_losses, in_double, make

COSINES = ((0.6, 0.3, -0.2), (0.2, 0.7, 0.1), (0.8, 0.1, 0.0), (-0.3, 0.2, 0.4))
NORMS = (10.0, 20.0, 30.0, 40.0)
OTHERS = (4.870393, 0.089204), (5.450911, 0.099837), (6.838206, 0.125246)
# z, a length that gives it with mean 20 and std 0, own logit, loss, slope by the own cosine: exact, straight-through
PUBLISHED = [
    (-1, 0.1, 1.928815, 0.9674516, -6.016610, -4.959597, OTHERS[0]),
    (0, 20.0, 1.6, 1.1836588, -5.550748, -5.550748, OTHERS[1]),
    (1, 90.0, 0.513370, 2.0435459, -4.379992, -6.963452, OTHERS[2]),
]


@in_double
def test_a_batch_and_its_statistics():
    head = make("adaface", scale=8.0)
    losses, state, slopes = dense_losses(head, COSINES, norms=NORMS)
    close(state["mean"], 20.05)
    close(state["std"], 99.129099)
    own = head.own(jnp.asarray([row[0] for row in COSINES]), jnp.asarray(NORMS), None, state)
    close(own, [1.621171, -1.599989, 3.156643, -5.609040])
    # The published code ran in float32.
    np.testing.assert_allclose(losses, [1.1690167, 7.2089246, 0.1286624, 8.9930652], rtol=2e-7)
    close(losses.mean(), 4.3749175, digits=7)
    np.testing.assert_array_equal(slopes["norms"], 0)


@in_double
def test_statistics_over_two_steps():
    head = make("adaface")
    state = dense_losses(head, COSINES, norms=NORMS)[1]
    state = dense_losses(head, COSINES, norms=(0.0, 500.0, 30.0, 40.0), state=state)[1]
    clipped = np.array([0.001, 100, 30, 40])
    np.testing.assert_allclose(state["mean"], 0.01 * clipped.mean() + 0.99 * 20.05, rtol=1e-12)
    np.testing.assert_allclose(state["std"], 0.01 * clipped.std(ddof=1) + 0.99 * 99.129099, rtol=1e-8)


@in_double
def test_statistics_of_one_batch_alone():
    head, norms = make("adaface", scale=8.0, rate=1.0), jnp.asarray([1.0, 20.0, 20.0, 20.0])
    state = dense_losses(head, COSINES, norms=norms)[1]
    close(state["mean"], 15.25)
    close(state["std"], 9.5)
    # Read back from the logits at theta = pi/2, where s (sin(m z) - m - m z) determines z.
    own = head.own(jnp.zeros(4), norms, None, state)
    shift = 0.4 * np.array([-0.499447, 0.166482, 0.166482, 0.166482])
    close(own, 8 * (np.sin(shift) - 0.4 - shift), digits=5)


@in_double
@pytest.mark.parametrize(("z", "norm", "own", "loss", "exact", "through", "others"), PUBLISHED)
def test_values_and_both_gradients(z, norm, own, loss, exact, through, others):
    state = {"mean": 20.0, "std": 0.0}
    for gradient, slope in (("exact", exact), ("straight_through", through)):
        # A rate so small that the state stays; the toy's twin gives the batch its second feature.
        head = make("adaface", scale=8.0, gradient=gradient, rate=1e-300)
        losses, _, slopes = dense_losses(head, (T0, T0), norms=(norm, norm), state=state)
        close(head.own(jnp.asarray([0.6]), jnp.asarray([norm]), None, state), [own])
        close(losses, [loss] * 2, digits=7)
        close(slopes["cosines"][0], [slope, *others])


@in_double
def test_mean_length_is_cosface():
    cosines = np.random.default_rng(0).uniform(-0.99, 0.99, (12, 20))
    ada = dense_losses(make("adaface", rate=1.0), cosines, norms=[20.0] * 12)
    cos = dense_losses(make("cosface"), cosines)
    np.testing.assert_allclose(ada[0], cos[0], atol=1e-10)
    np.testing.assert_allclose(ada[2]["cosines"], cos[2]["cosines"], atol=1e-8)


@in_double
def test_the_angle_is_kept_inside():
    state = {"mean": 20.0, "std": 0.0}
    head = make("adaface", scale=1.0)
    long, short = jnp.asarray([90.0]), jnp.asarray([0.1])
    np.testing.assert_allclose(head.own(jnp.asarray([1.0]), long, None, state), [np.cos(1e-3) - 0.8], atol=1e-12)
    np.testing.assert_allclose(head.own(jnp.asarray([-1.0]), short, None, state), [-np.cos(1e-3)], atol=1e-12)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"gradient": "none"}, "gradient='none' is unknown"),
        ({"rate": 0}, "rate=0 must be above 0 and at most 1"),
        ({"rate": 1.5}, r"rate=1\.5 must be above 0 and at most 1"),
        ({"concentration": -0.3}, r"concentration=-0\.3 must be above 0"),
        ({"first_std": -1}, "first_std=-1 must be 0 or more"),
        ({"largest_norm": 0.0}, r"largest_norm=0\.0 must be above 0\.001"),
    ],
)
def test_refuses(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        make("adaface", **change)


def test_refuses_a_single_feature():
    with pytest.raises(ValueError, match="at least two features a step"):
        dense_losses(make("adaface"), T0, norms=[20.0])
