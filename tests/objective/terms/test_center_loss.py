import jax.numpy as jnp
import numpy as np
import pytest

from tests.objective.terms.toy import close, in_double, make, value_and_slopes, value_of

NO_CENTERS = {"centers": np.zeros((3, 2))}


def updated(term, x, labels, state=None):
    state = term.first_state(3, 2) if state is None else state
    return term.update(state, (jnp.asarray(x, jnp.float32),), (jnp.asarray(labels),))["centers"]


@in_double
def test_published_values():
    x, labels = [[1, 2], [3, 0]], [1, 1]
    close(updated(make("center_loss"), x, labels), [[0, 0], [0.666667, 0.333333], [0, 0]])
    close(updated(make("center_loss", update="unofficial", rate=0.6), x, labels), [[0, 0], [1.2, 0.6], [0, 0]])
    branches = [value_of(make("center_loss", over_dims="mean"), e, state=NO_CENTERS) for e in ([[1, 2]], [[1.5, 1]])]
    close(0.008 * sum(branches) / 2, 0.0165)
    close(0.008 * value_of(make("mse"), [[1, 2]], [[1.5, 1]]), 0.005)


@in_double
def test_over_three_dims():
    state, x = {"centers": np.zeros((1, 3))}, [[1, 2, 2]]
    close(value_of(make("center_loss"), x, state=state), 4.5, digits=12)
    close(value_of(make("center_loss", over_dims="mean"), x, state=state), 3, digits=12)


@in_double
def test_value_and_gradient():
    """Half the squared distance; the center has no gradient, and several views are pooled."""
    state = {"centers": np.asarray([[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]])}
    value, slopes = value_and_slopes(make("center_loss"), [[1, 2]], [[3, 1]], labels=[1], state=state)
    close(value, (0.5 + 2) / 2, digits=12)
    close(slopes[0], [[0, 0.5]], digits=12)
    close(slopes[1], [[1, 0]], digits=12)


def test_centers_move_from_where_they_are():
    kept = jnp.asarray([[4.0, 4.0], [0.0, 1.0], [2.0, 2.0]])
    found = updated(make("center_loss"), [[1, 2], [3, 0], [2, 4]], [1, 1, 2], {"centers": kept})
    np.testing.assert_allclose(found, [[4, 4], [4 / 6, 1 + 0 / 6], [2, 2.5]], rtol=1e-6)
    found = updated(make("center_loss", update="unofficial"), [[1, 2], [3, 0], [2, 4]], [1, 1, 2], {"centers": kept})
    np.testing.assert_allclose(found, [[4, 4], [1, 1], [2, 3]], rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"update": "momentum"}, "update='momentum' is unknown: choose wen or unofficial"),
        ({"over_dims": "max"}, "over_dims='max' is unknown: choose sum or mean"),
        ({"rate": 0}, "rate=0 must be above 0 and at most 1"),
    ],
)
def test_refuses(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        make("center_loss", **change)
