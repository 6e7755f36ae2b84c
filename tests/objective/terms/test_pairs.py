import jax.numpy as jnp
import numpy as np
import pytest

from lrfr_jax.objective import distances
from tests.objective.terms.toy import batch_of, close, in_double, make, slopes, value_and_slopes, value_of


@in_double
def test_mse_of_massoli():
    """Over batch and dimensions, of features as long as they are."""
    value, (slope, other) = value_and_slopes(make("mse"), [[1, 0, 2, 0]], [[0, 0, 1, 1]])
    close(value, 0.75)
    close(0.1 * value, 0.075)
    close(slope, [[0.5, 0, 0.5, -0.5]])
    close(other, -slope)


@in_double
def test_mse_of_maps_is_that_of_all_their_numbers():
    maps = np.random.default_rng(0).normal(size=(2, 3, 4, 5, 6))
    close(value_of(make("mse"), *maps), np.mean((maps[0] - maps[1]) ** 2), digits=12)


@in_double
def test_squared_distance_is_a_mean_over_the_batch_alone():
    close(value_of(make("squared_distance"), [[0.6, 0.8], [1, 1]], [[1, 0], [1, 1]]), 0.4)
    close(slopes(make("squared_distance"), [[0.6, 0.8]], [[1, 0]])[0], [[-0.8, 1.6]])


@in_double
def test_attention_maps_of_askd():
    student, teacher = [[1, 2, -1, 0]], [[2, 1, 0, 1]]
    value, (slope, _) = value_and_slopes(make("cosine"), student, teacher)
    close(5 * value, 1.6666667, digits=7)
    close(5 * slope, [[-1.111111, 0.277778, -0.555556, -0.833333]])
    close(value_of(make("cosine"), student, student), 0, digits=12)


@in_double
def test_cosine_of_tuples_and_of_alternating_features():
    """Each image's maps are flattened; a tuple counts as so many pairs."""
    rng = np.random.default_rng(1)
    maps = [tuple(rng.normal(size=(3, *shape)) for shape in ((2, 2, 1), (1, 1, 6))) for _ in range(2)]
    feature = rng.normal(size=(2, 3, 7))

    def one(x, y):
        x, y = x.reshape(3, -1), y.reshape(3, -1)
        return np.mean(1 - (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1))

    expected = [one(x, y) for x, y in zip(*maps, strict=True)]
    close(value_of(make("cosine"), *maps), sum(expected), digits=12)
    expected.append(one(*feature))
    close(value_of(make("cosine"), *maps, *feature), sum(expected), digits=12)
    close(value_of(make("cosine", over="mean"), *maps, *feature), sum(expected) / 3, digits=12)


@in_double
def test_point_cosine_of_fskd():
    teacher, student = [[[[1, 0], [0, 2]]]], [[[[1, 0], [1, 1]]]]  # channels last
    close(value_of(make("cosine", over="mean"), student, teacher), 0.2254033, digits=7)


@in_double
@pytest.mark.parametrize("name", distances.DISTANCES)
def test_distance_is_that_of_the_paper(name):
    settings = {"distance": name, "p": distances.FIXED_P.get(name, 1.0), "reduction": "paper"}
    (x, y), labels = batch_of(0)
    expected = distances.feature_distance(*map(jnp.asarray, (x, y)), **settings)
    close(value_of(make("distance", **settings), x, y, labels=labels), expected, digits=12)


@in_double
@pytest.mark.parametrize("name", ["mse", "squared_distance", "cosine"])
def test_equal_features_have_no_gradient(name):
    (x, _), _ = batch_of(3)
    for slope in slopes(make(name), x, x):
        np.testing.assert_allclose(slope, 0, atol=1e-14)
    assert np.isfinite(slopes(make(name), 0 * x, 0 * x)[0]).all()


@in_double
def test_refuses():
    with pytest.raises(ValueError, match="over='max' is unknown: choose sum or mean"):
        make("cosine", over="max")
    for name in ("mse", "squared_distance", "cosine"):
        with pytest.raises(ValueError, match=r"features of the shapes \[3\] and \[2\] have no distance"):
            value_of(make(name), np.ones((1, 3)), np.ones((1, 2)))
    with pytest.raises(ValueError, match="one side has 2 maps and the other 1"):
        value_of(make("cosine"), (np.ones((1, 3)), np.ones((1, 3))), (np.ones((1, 3)),))
