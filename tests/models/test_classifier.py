"""The classifier's cosines."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrfr_jax.models.classifier import Classifier


@pytest.fixture
def trio():
    """(classifier, its parameters, features)."""
    classifier = Classifier(num_identities=7)
    features = 5 * jax.random.normal(jax.random.key(1), (4, 12))
    return classifier, classifier.init(jax.random.key(0), features), features


def test_cosines_equal_the_definition(trio):
    classifier, variables, features = trio
    centers, x = (np.asarray(a, np.float64) for a in (variables["params"]["class_centers"], features))
    expected = np.array([[a @ b / np.sqrt((a @ a) * (b @ b)) for b in centers] for a in x])
    cosines = classifier.apply(variables, features)
    assert centers.shape == (7, 12)
    assert cosines.dtype == jnp.float32
    np.testing.assert_allclose(cosines, expected, atol=1e-6)


def test_lengths_do_not_matter(trio):
    classifier, variables, features = trio
    longer = jax.tree.map(lambda centers: 3 * centers, variables)
    expected = classifier.apply(variables, features)
    np.testing.assert_allclose(classifier.apply(longer, 100 * features), expected, atol=1e-6)


def test_own_center_has_cosine_one(trio):
    classifier, variables, _ = trio
    cosines = classifier.apply(variables, 2 * variables["params"]["class_centers"])
    np.testing.assert_allclose(jnp.diag(cosines), np.ones(7), atol=1e-6)
    assert jnp.abs(cosines).max() <= 1 + 1e-6


def test_gradient_is_finite_at_zero(trio):
    classifier, variables, features = trio

    def total(variables, features):
        return jnp.sum(classifier.apply(variables, features))

    zeros = jax.tree.map(jnp.zeros_like, (variables, features))
    for arguments in ((variables, zeros[1]), (zeros[0], features)):
        assert total(*arguments) == 0
        gradients = jax.grad(total, argnums=(0, 1))(*arguments)
        assert all(jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(gradients))


def test_half_precision_features_are_judged_in_float32(trio):
    classifier, variables, features = trio
    rounded = features.astype(jnp.bfloat16)
    cosines = classifier.apply(variables, rounded)
    np.testing.assert_array_equal(cosines, classifier.apply(variables, rounded.astype(jnp.float32)))
    trace = jax.make_jaxpr(classifier.apply)(variables, rounded)
    (product,) = [equation for equation in trace.eqns if equation.primitive.name == "dot_general"]
    assert set(product.params["precision"]) == {jax.lax.Precision.HIGHEST}  # no TF32, no bfloat16 passes


def test_centers_start_xavier_uniform():
    centers = Classifier(num_identities=300).init(jax.random.key(0), jnp.ones((1, 100)))["params"]["class_centers"]
    bound = np.sqrt(6 / 400)
    assert jnp.abs(centers).max() <= bound
    np.testing.assert_allclose(centers.std(), bound / np.sqrt(3), rtol=0.02)
