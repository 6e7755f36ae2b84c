"""Eq. 7 in code: the loss is the sum of its parts, views are dressed as asked, the step is deterministic."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import quickstart
from lrfr_jax.machines import sharding
from lrfr_jax.objective import distances, train_step
from lrfr_jax.objective.classifier import Classifier, pad_class_centers
from lrfr_jax.objective.heads import HEADS
from lrfr_jax.run import experiment

BATCH = 8
SMALL = {"backbone": "resnet6", "width": 0.0625, "embedding_size": 16}
pytestmark = pytest.mark.usefixtures("resnet6")


@functools.cache
def run_of(policy="maug", **classifier):
    config = quickstart.get_config(f"policy={policy},batch_size={BATCH}")
    config.model.update(SMALL)
    config.classifier.update(classifier)
    config.optimizer.warmup_epochs = 0.0
    return experiment.build_run(config, num_identities=5, steps_per_epoch=10.0)


@functools.cache
def fresh_state(policy="maug"):
    with jax.enable_x64(False):  # whichever test asks first
        return jax.jit(run_of(policy).init)(jax.random.key(0, impl="rbg"))


@functools.cache
def jitted_step(policy="maug"):
    return jax.jit(run_of(policy).step)


@pytest.fixture
def batch():
    random = np.random.default_rng(0)
    return random.integers(0, 256, (BATCH, 112, 112, 3), np.uint8), random.integers(0, 5, BATCH).astype(np.int32)


def total_loss(features, centers, labels, **changes):
    """((gradient of features, of centers), metrics) of the whole loss, and the same as one function for jax.grad."""
    parts = {"classifier": Classifier(3, 1, 1, 1), "head": HEADS["cosface"](scale=8.0, margin=0.2)}
    names = ("hr", "lr")[: len(features)]
    parts["view_weights"] = changes.pop("view_weights", dict.fromkeys(names, 1 / len(features)))
    rng = jax.random.key(0)  # of the sample of centers, of which there is none here
    distance = functools.partial(distances.feature_distance, distance="logexp", p=1, reduction="paper")
    weighing = {"distance_weight": 3.0, "weight_unit": "lambda"} | changes

    def value(features, centers):
        loss, _ = train_step.classification_loss(features, centers, labels, rng, {}, **parts)
        if len(features) != 2:
            return loss
        return loss + weighing["distance_weight"] * distance(*features)

    gradient = jax.jit(functools.partial(train_step.total_loss_gradient, pair_distance=distance, **parts, **weighing))
    return gradient(features, centers, labels, rng, {})[:2], value


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
    (gradient, parts), value = total_loss(features, centers, labels)
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
    (_, swapped), _ = total_loss(features[::-1], centers, labels)
    np.testing.assert_allclose(parts["loss"], swapped["loss"], rtol=1e-6)


@pytest.mark.parametrize("weights", [{"hr": 0.25, "lr": 0.75}, {"first": 1.0, "second": 1.0}, {"a": 0.0, "b": 2.0}])
def test_views_count_by_their_weights_and_bear_their_names(judged, weights):
    features, centers, labels = judged
    (gradient, parts), value = total_loss(features, centers, labels, view_weights=weights)
    each = [weight * parts[f"classification_{name}"] for name, weight in weights.items()]
    np.testing.assert_allclose(parts["loss"], sum(each) + 3.0 * parts["distance"], rtol=1e-6)
    assert {f"accuracy_{name}" for name in weights} < set(parts)
    expected = jax.jit(jax.grad(value, argnums=(0, 1)))(features, centers)
    chex.assert_trees_all_close(gradient, expected, rtol=1e-5, atol=1e-7)


def test_equal_weights_are_one_mean_to_the_last_bit(judged):
    per_image = jnp.asarray(np.random.default_rng(0).normal(size=(2, 31)), jnp.float32)
    for weights in ((0.5, 0.5), (1 / 3, 1 / 3, 1 / 3)):
        losses = jnp.resize(per_image, (len(weights), 31))
        np.testing.assert_array_equal(train_step._weighted_mean(losses, weights), jnp.mean(losses))


def test_two_views_alike_have_the_loss_of_one(judged):
    features, centers, labels = judged
    (_, one), _ = total_loss(features[:1], centers, labels)
    (_, both), _ = total_loss((features[0], features[0]), centers, labels, distance_weight=0.0)
    np.testing.assert_allclose(both["loss"], one["loss"], rtol=1e-6)


def test_three_views_have_no_distance(judged):
    features, centers, labels = judged
    weights = {"a": 0.5, "b": 0.25, "c": 0.25}
    (_, parts), _ = total_loss((*features, features[0] + 1), centers, labels, view_weights=weights)
    assert "distance" not in parts
    assert set(parts) == {"loss", *(f"{kind}_{name}" for kind in ("classification", "accuracy") for name in "abc")}


def test_a_share_weighs_the_distance_by_the_gradients(judged):
    (classification, _), _ = total_loss(*judged, distance_weight=0.0)
    (with_distance, parts), _ = total_loss(*judged, distance_weight=0.25, weight_unit="gradient_share")
    difference = jax.tree.map(jnp.subtract, with_distance[0], classification[0])
    length = optax.global_norm(classification[0])
    np.testing.assert_allclose(optax.global_norm(difference), 0.25 * length, rtol=1e-4)
    np.testing.assert_allclose(parts["grad_norm_distance"], 0.25 * length, rtol=1e-5)
    np.testing.assert_allclose(parts["grad_norm_classification"], length, rtol=1e-5)
    # It is lambda in another unit: the same gradient comes of that number.
    (by_lambda, _), _ = total_loss(*judged, distance_weight=float(parts["distance_weight"]))
    chex.assert_trees_all_close(with_distance, by_lambda, rtol=1e-5)


def test_a_share_of_no_distance_is_finite(judged):
    (hr, _), centers, labels = judged
    (gradient, parts), _ = total_loss((hr, hr), centers, labels, distance_weight=0.5, weight_unit="gradient_share")
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((gradient, parts)))


def frozen_step(batch, *names):
    config = quickstart.get_config(f"policy=maug,batch_size={BATCH}")
    config.model.update(SMALL | {"batch_norm": "frozen"})
    config.optimizer.warmup_epochs = 0.0
    config.optimizer.frozen = names
    run = experiment.build_run(config, num_identities=5, steps_per_epoch=10.0)
    return jax.jit(run.step)(fresh_state(), *batch)


def test_frozen_statistics_and_parameters_stay(batch):
    state, metrics = frozen_step(batch, "backbone/stem_conv", "backbone/stage1", "classifier")
    chex.assert_trees_all_equal(state.batch_stats, fresh_state().batch_stats)
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), state.params, fresh_state().params)
    still = {"stem_conv", "stage1"}
    assert not any(jax.tree.leaves([moved["classifier"], *(moved["backbone"][name] for name in still)]))
    assert all(jax.tree.leaves({key: part for key, part in moved["backbone"].items() if key not in still}))
    assert metrics["grad_norm"] > 0
    assert frozen_step(batch, "backbone", "classifier")[1]["grad_norm"] == 0


def test_parts_of_a_batch_give_the_features_and_the_gradient_of_the_whole():
    """Of a batch that lies on two devices."""
    random = np.random.default_rng(4)
    views = tuple(random.normal(size=(BATCH, 112, 112, 3)) for _ in range(2))
    weights = random.normal(size=(2, BATCH, 16))
    with jax.enable_x64(True):
        fresh = jax.tree.map(in_float64, fresh_state())
        mesh = jax.sharding.Mesh(np.reshape(jax.devices()[:2], (-1, 1)), ("data", "model"))
        views = jax.device_put(views, sharding.over_batch(mesh))

        @functools.partial(jax.jit, static_argnames="parts")
        def embed(params, views, *, parts):
            def value(params):
                settings = {
                    "backbone": run_of().backbone.clone(dtype="float64"),
                    "batch_norm": "frozen",
                    "parts": parts,
                }
                features, _ = train_step.embed_views(params, fresh.batch_stats, views, jax.random.key(1), **settings)
                return jnp.sum(jnp.stack(features) * weights), features

            return jax.grad(value, has_aux=True)(params)

        whole, in_parts = (embed(fresh.params["backbone"], views, parts=parts) for parts in (1, 4))
    chex.assert_trees_all_close(whole, in_parts, rtol=1e-9, atol=1e-9)


def test_the_network_is_traced_once_for_both_views_and_not_again_after_the_config_was_checked(batch):
    calls = []

    def count(call, arguments, keywords, context):
        calls.extend([context.method_name] if context.module.name is None else [])  # the network's, no layer's
        return call(*arguments, **keywords)

    jax.clear_caches()  # of the other tests
    with nn.intercept_methods(count):
        run_of.__wrapped__()
        assert calls == ["__call__"] * 2  # the first state, and the step of two views
        with jax.set_mesh(sharding.make_mesh(class_shards=1)):
            run = run_of.__wrapped__()
            state = jax.eval_shape(run.init, jax.random.key(0, impl="rbg"))
            calls.clear()
            jax.jit(lambda *arguments: run.step(*arguments)).trace(state, *batch)
    assert not calls
    # Nor is it differentiated for each view: the program says the same convolutions once.
    one, two = (jitted_step(policy).lower(fresh_state(policy), *batch).as_text() for policy in ("none", "maug"))
    assert one.count("stablehlo.convolution") == two.count("stablehlo.convolution") > 0


def test_per_view_runs_two_forwards_and_joint_one():
    random = np.random.default_rng(2)
    views = tuple(jnp.asarray(random.normal(size=(BATCH, 112, 112, 3)) * s + s, jnp.float32) for s in (1.0, 0.2))
    fresh = fresh_state()

    @functools.partial(jax.jit, static_argnames="batch_norm")
    def embed(views, stats, *, batch_norm):
        settings = {"backbone": run_of().backbone, "batch_norm": batch_norm, "parts": 1}
        return train_step.embed_views(fresh.params["backbone"], stats, views, jax.random.key(1), **settings)

    (hr, lr), stats = embed(views, fresh.batch_stats, batch_norm="per_view")
    (hr_alone,), after_hr = embed(views[:1], fresh.batch_stats, batch_norm="per_view")
    (lr_alone,), after_both = embed(views[1:], after_hr, batch_norm="per_view")
    chex.assert_trees_all_close((hr, lr, stats), (hr_alone, lr_alone, after_both), rtol=1e-4, atol=1e-4)

    (joint_hr, joint_lr), _ = embed(views, fresh.batch_stats, batch_norm="joint")
    (whole,), _ = embed((jnp.concatenate(views),), fresh.batch_stats, batch_norm="per_view")
    chex.assert_trees_all_close(jnp.concatenate([joint_hr, joint_lr]), whole, rtol=1e-4, atol=1e-4)
    assert np.abs(joint_hr - hr).max() > 0.01


@pytest.mark.parametrize("policy", ["none", "maug"])
def test_step_learns_one_batch_and_repeats_exactly(batch, policy):
    histories = []
    for _ in range(2):
        state, history = fresh_state(policy), []
        for _ in range(6):
            state, metrics = jitted_step(policy)(state, *batch)
            history.append(float(metrics["loss"]))
        histories.append(history)
    assert histories[0] == histories[1]
    assert histories[0][-1] < histories[0][0]
    assert int(state.step) == 6
    assert ("distance" in metrics) == (policy == "maug")


def test_every_step_draws_anew_and_the_seed_counts(batch):
    state, step, other_seed = fresh_state(), jitted_step(), jax.jit(functools.partial(run_of().step, seed=1))
    here = float(step(state, *batch)[1]["loss"])
    assert here == float(step(state, *batch)[1]["loss"])
    assert here != float(step(state.replace(step=state.step + 1), *batch)[1]["loss"])
    assert here != float(other_seed(state, *batch)[1]["loss"])


def test_golden_step(batch):
    """A change here means that training changed: update the numbers only if that was the intention."""
    state, metrics = jitted_step()(fresh_state(), *batch)
    norm = float(jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(state.params))))
    golden = {"loss": 12.047455, "grad_norm": 341.93644, "distance": 0.12008294, "parameter_norm": 13.166708}
    found = {key: float(metrics[key]) for key in ("loss", "grad_norm", "distance")} | {"parameter_norm": norm}
    assert found == pytest.approx(golden, rel=1e-3)


def in_float64(x):
    """A copy, which may be donated."""
    return jnp.array(x, jnp.float64 if jnp.issubdtype(x.dtype, jnp.floating) else x.dtype)


def test_devices_and_shards_agree_and_the_second_step_does_not_trace(batch):
    """Loss, parameters and BatchNorm statistics, wherever images and class centers lie.

    In float64, since in float32 one rounding that turns a ReLU over changes a gradient by up to a thousandth. Eight
    devices without shards, too, are in tests/run/test_multiprocess.py.
    """
    results = []
    with jax.enable_x64(True):
        for count, shards, chunks in ((1, 1, 1), (8, 4, 2)):
            devices = np.reshape(jax.devices()[:count], (-1, shards))
            mesh = jax.sharding.Mesh(devices, ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
            run = run_of(shards=shards, chunks=chunks)
            double = functools.partial(run.step, backbone=run.backbone.clone(dtype="float64"))
            state = jax.tree.map(in_float64, padded_state(run.classifier))
            placement = sharding.of_state(mesh, state)
            step = jax.jit(double, donate_argnums=0, out_shardings=(placement, sharding.replicated(mesh)))
            state = jax.device_put(state, placement)
            arrays = sharding.to_devices({"image": batch[0], "label": batch[1]}, mesh)
            with jax.set_mesh(mesh):
                for _ in range(2):
                    state, metrics = step(state, arrays["image"], arrays["label"])
            assert step._cache_size() == 1
            (centers,) = jax.tree.leaves(state.params["classifier"])
            assert {shard.data.shape[0] for shard in centers.addressable_shards} == {run.classifier.rows // shards}
            state = state.replace(params=state.params | {"classifier": centers[:5]})
            results.append(jax.tree.map(np.array, (metrics, state.params, state.batch_stats)))
    chex.assert_trees_all_close(*results, rtol=1e-9, atol=1e-9)


def padded_state(classifier):
    """The one fresh state, with as many rows of zeros as a layout of the centers has."""

    def pad(path, leaf):
        is_centers = any(getattr(key, "key", None) == "class_centers" for key in path)
        return pad_class_centers(leaf, classifier) if is_centers else leaf

    return jax.tree.map_with_path(pad, fresh_state())


def test_a_sampled_step_learns(batch):
    run = run_of(sampled_share=0.4)
    state, history, step = fresh_state(), [], jax.jit(run.step)
    for _ in range(6):
        state, metrics = step(state, *batch)
        history.append(float(metrics["loss"]))
    assert history[-1] < history[0]
