"""The whole loss is the sum of its parts, by their weights, and its gradient is its own."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrfr_jax.objective import total_loss
from lrfr_jax.objective.classifier import Classifier
from lrfr_jax.objective.heads import HEADS
from lrfr_jax.objective.named_features import Names
from lrfr_jax.objective.terms import TERMS
from lrfr_jax.objective.terms.term import NamedTerm
from lrfr_jax.objective.total_loss import Objective


def weighed(features, centers, labels, **changes):
    """((gradient of features, of centers), metrics) of the whole loss, and the same as one function for jax.grad."""
    parts = {"classifier": Classifier(3, 1, 1, 1), "head": HEADS["cosface"](scale=8.0, margin=0.2)}
    names = ("hr", "lr")[: len(features)]
    weights = changes.pop("view_weights", dict.fromkeys(names, 1 / len(features)))
    rng = jax.random.key(0)  # of the sample of centers, of which there is none here
    distance = TERMS["distance"](distance="logexp", p=1, reduction="paper")
    weighing = {"weight": 3.0, "weight_unit": "lambda"} | changes
    of = tuple(("student", view, "feature") for view in weights)
    terms = (NamedTerm("distance", distance, of, **weighing),) if len(features) == 2 else ()
    objective = Objective(Names({}, **parts), weights, terms)

    def value(features, centers):
        loss, _ = total_loss.classification_loss(features, centers, labels, rng, {}, view_weights=weights, **parts)
        if len(features) != 2:
            return loss
        return loss + weighing["weight"] * distance.value(features, None, None)

    @jax.jit
    def gradient(features, centers):
        named = {(view, "feature"): feature for view, feature in zip(weights, features, strict=True)}
        of_views, state = dict.fromkeys(weights, labels), {"head": {}, "terms": {}}
        (of_features, of_params), metrics, _ = total_loss.total_loss_gradient(
            named, {"classifier": centers}, of_views, rng, state, {}, objective=objective
        )
        return (tuple(of_features[view, "feature"] for view in weights), of_params["classifier"]), metrics

    return gradient(features, centers), value


@pytest.fixture
def judged():
    random = np.random.default_rng(1)
    features = tuple(jnp.asarray(random.normal(size=(4, 6)), jnp.float32) for _ in range(2))
    centers = {"class_centers": jnp.asarray(random.normal(size=(3, 6)), jnp.float32)}
    return features, centers, jnp.asarray([0, 1, 2, 1])


@pytest.mark.parametrize("views", [1, 2])
def test_total_loss_is_the_sum_of_its_parts_and_the_gradient_is_its_own(judged, views):
    features, centers, labels = judged
    features = features[:views]
    (gradient, parts), value = weighed(features, centers, labels)
    expected, expected_gradient = jax.jit(jax.value_and_grad(value, argnums=(0, 1)))(features, centers)
    np.testing.assert_allclose(parts["loss"], expected, rtol=1e-6)
    chex.assert_trees_all_close(gradient, expected_gradient, rtol=1e-5, atol=1e-7)
    if views == 1:
        assert set(parts) == {"loss", "classification_hr", "accuracy_hr"}
        np.testing.assert_allclose(parts["loss"], parts["classification_hr"])
        return
    half = 0.5 * parts["classification_hr"] + 0.5 * parts["classification_lr"]
    np.testing.assert_allclose(parts["loss"], half + 3.0 * parts["distance"], rtol=1e-6)
    assert parts["distance_weight"] == 3.0
    (_, swapped), _ = weighed(features[::-1], centers, labels)
    np.testing.assert_allclose(parts["loss"], swapped["loss"], rtol=1e-6)


@pytest.mark.parametrize("weights", [{"hr": 0.25, "lr": 0.75}, {"first": 1.0, "second": 1.0}, {"a": 0.0, "b": 2.0}])
def test_views_count_by_their_weights_and_bear_their_names(judged, weights):
    features, centers, labels = judged
    (gradient, parts), value = weighed(features, centers, labels, view_weights=weights)
    each = [weight * parts[f"classification_{name}"] for name, weight in weights.items()]
    np.testing.assert_allclose(parts["loss"], sum(each) + 3.0 * parts["distance"], rtol=1e-6)
    assert {f"accuracy_{name}" for name in weights} < set(parts)
    expected = jax.jit(jax.grad(value, argnums=(0, 1)))(features, centers)
    chex.assert_trees_all_close(gradient, expected, rtol=1e-5, atol=1e-7)


def test_equal_weights_are_one_mean_to_the_last_bit(judged):
    per_image = jnp.asarray(np.random.default_rng(0).normal(size=(2, 31)), jnp.float32)
    for weights in ((0.5, 0.5), (1 / 3, 1 / 3, 1 / 3)):
        losses = jnp.resize(per_image, (len(weights), 31))
        np.testing.assert_array_equal(total_loss._weighted_mean(losses, weights), jnp.mean(losses))


def test_two_views_alike_have_the_loss_of_one(judged):
    features, centers, labels = judged
    (_, one), _ = weighed(features[:1], centers, labels)
    (_, both), _ = weighed((features[0], features[0]), centers, labels, weight=0.0)
    np.testing.assert_allclose(both["loss"], one["loss"], rtol=1e-6)


def test_three_views_have_no_distance(judged):
    features, centers, labels = judged
    weights = {"a": 0.5, "b": 0.25, "c": 0.25}
    (_, parts), _ = weighed((*features, features[0] + 1), centers, labels, view_weights=weights)
    assert "distance" not in parts
    assert set(parts) == {"loss", *(f"{kind}_{name}" for kind in ("classification", "accuracy") for name in "abc")}


def test_a_share_weighs_the_distance_by_the_gradients(judged):
    (classification, _), _ = weighed(*judged, weight=0.0)
    (with_distance, parts), _ = weighed(*judged, weight=0.25, weight_unit="gradient_share")
    difference = jax.tree.map(jnp.subtract, with_distance[0], classification[0])
    length = optax.global_norm(classification[0])
    np.testing.assert_allclose(optax.global_norm(difference), 0.25 * length, rtol=1e-4)
    np.testing.assert_allclose(parts["grad_norm_distance"], 0.25 * length, rtol=1e-5)
    np.testing.assert_allclose(parts["grad_norm_classification"], length, rtol=1e-5)
    # It is lambda in another unit: the same gradient comes of that number.
    (by_lambda, _), _ = weighed(*judged, weight=float(parts["distance_weight"]))
    chex.assert_trees_all_close(with_distance, by_lambda, rtol=1e-5)


def test_a_share_of_no_distance_is_finite(judged):
    (hr, _), centers, labels = judged
    (gradient, parts), _ = weighed((hr, hr), centers, labels, weight=0.5, weight_unit="gradient_share")
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((gradient, parts)))
