import numpy as np
import pytest

from tests.objective.heads.toy import T0, close, dense_losses, in_double, make

HARD = (0.2, 0.7, 0.1)
PUBLISHED = [
    (T0, 1, 0.4, (-2, 2, 0)),
    (T0, 2, 0.4, (-2, 2, 0)),  # the second hinge is not active
    (HARD, 1, 2.0, (-2, 2, 0)),
    (HARD, 2, 2.8, (-4, 2, 2)),
]
PHANTOM = (0.4, -0.1, -0.2)


@in_double
@pytest.mark.parametrize(("cosines", "num_nearest", "loss", "slope"), PUBLISHED)
def test_values_and_gradients(cosines, num_nearest, loss, slope):
    losses, _, slopes = dense_losses(make("npt", num_nearest=num_nearest), cosines)
    close(losses, [loss], digits=12)
    close(slopes["cosines"], [slope], digits=12)


@in_double
def test_the_released_form_meets_a_phantom_where_all_others_are_negative():
    losses, _, slopes = dense_losses(make("npt"), PHANTOM)
    close(losses, [0.0], digits=12)
    np.testing.assert_array_equal(slopes["cosines"], 0)
    losses, _, slopes = dense_losses(make("npt_released"), PHANTOM)
    close(losses, [0.2], digits=12)
    np.testing.assert_array_equal(slopes["cosines"], [[-2, 0, 0]])
    # Of two nearest one is the phantom: max(0, 0 - .4 + .5) and max(0, -.1 - .4 + .5).
    close(dense_losses(make("npt_released", num_nearest=2), PHANTOM)[0], [0.2], digits=12)


@in_double
def test_mean_of_a_batch():
    close(dense_losses(make("npt"), (T0, HARD))[0].mean(), 1.2, digits=12)


@in_double
def test_forms_agree_at_radius_one_where_the_nearest_are_positive():
    cosines = np.abs(np.random.default_rng(0).uniform(0, 1, (12, 20)))
    for k in (1, 3):
        forms = [dense_losses(make(name, num_nearest=k), cosines) for name in ("npt", "npt_released")]
        np.testing.assert_allclose(forms[0][0], forms[1][0], atol=1e-12)
        np.testing.assert_allclose(forms[0][2]["cosines"], forms[1][2]["cosines"], atol=1e-12)


@in_double
def test_radius():
    close(dense_losses(make("npt", radius=3.0), T0)[0], [9 * 0.4], digits=12)
    close(dense_losses(make("npt_released", radius=3.0), T0)[0], [3 * 0.4], digits=12)


@in_double
def test_equals_the_hinge_of_squared_distances():
    vectors = np.random.default_rng(0).normal(size=(21, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    feature, centers = vectors[0], vectors[1:]
    for radius in (1.0, 2.0):
        distances = radius**2 * ((feature - centers) ** 2).sum(axis=1)
        nearest = np.sort(distances[1:])[:2]
        expected = np.maximum(0, distances[0] - nearest + 2 * radius**2 * 0.5).sum()
        losses = dense_losses(make("npt", radius=radius, num_nearest=2), centers @ feature)[0]
        np.testing.assert_allclose(losses, [expected], rtol=1e-12)


@pytest.mark.parametrize("name", ["npt", "npt_released"])
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"num_nearest": 0}, r"num_nearest=0 \(k\) must be at least 1"),
        ({"radius": 0}, "radius=0 must be above 0"),
        ({"delta": -0.5}, r"delta=-0\.5 must be 0 or more"),
    ],
)
def test_refuses(name, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        make(name, **change)


def test_refuses_more_than_there_are():
    with pytest.raises(ValueError, match="num_nearest=3 exceeds the 2 other identities"):
        dense_losses(make("npt", num_nearest=3), T0)
