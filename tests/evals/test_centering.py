"""Means of unit vectors, and vectors without them."""

import numpy as np
import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.evals import centering


def cone(dim=32, faces=500, shared=2.0, seed=0):
    """Faces that share a direction, as small ones of a network that never saw any."""
    draw = np.random.default_rng(seed)
    return draw.normal(size=(faces, dim)) / np.sqrt(dim) + shared * np.eye(dim)[0]


def test_the_mean_is_that_of_unit_vectors():
    np.testing.assert_allclose(centering.mean_of(np.array([[3.0, 0.0], [0.0, 5.0]])), [0.5, 0.5])
    assert centering.mean_of(np.zeros((2, 3))).tolist() == [0, 0, 0]


def test_strangers_are_no_longer_alike_and_lengths_stay():
    faces = cone() * np.linspace(1, 3, 500)[:, None]
    centered = centering.center(faces, centering.mean_of(faces))
    np.testing.assert_allclose(np.linalg.norm(centered, axis=1), np.linalg.norm(faces, axis=1))

    def alike(vectors):
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.mean(np.sum(vectors[:-1] * vectors[1:], axis=1))

    assert alike(faces) > 0.7
    assert abs(alike(centered)) < 0.05


def test_center_by_hand():
    found = centering.center(np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([0.5, 0.5]))
    np.testing.assert_allclose(found, np.array([[2, -2], [-1, 1]]) / np.sqrt([[2.0], [2.0]]))


@pytest.mark.parametrize(
    ("size", "expected"), [(112, 112), (64, 112), (30, 20), (48, 112), (47, 20), (17, 20), (16, 14), (3, 7), (10, 14)]
)
def test_the_nearest_size_is_so_by_its_ratio(size, expected):
    assert centering.nearest({112: 0, 20: 0, 14: 0, 7: 0}, size) == expected


def test_of_two_equally_near_the_larger_one():
    assert centering.nearest((8, 18), 12) == 18


def test_each_face_is_centered_by_its_size():
    faces, means = cone(faces=4), {112: np.zeros(32, np.float32), 7: centering.mean_of(cone())}
    found = centering.center_each(faces, means, np.array([112, 7, 112, 5]))
    np.testing.assert_allclose(found[[0, 2]], faces[[0, 2]])
    np.testing.assert_allclose(found[[1, 3]], centering.center(faces[[1, 3]], means[7]))


def test_a_size_without_a_mean_is_told():
    means = {112: np.zeros(2), 14: np.zeros(2)}
    centering.check(means, (14, 112))
    with pytest.raises(UserError, match=r"faces at 20 px, which this model's card holds only at 112, 14 px .* 20,7`"):
        centering.check(means, (20, 14, 7))
    with pytest.raises(UserError, match="holds at no size"):
        centering.check({}, (112,))
