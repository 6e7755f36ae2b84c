"""The step learns, is deterministic, is the same on any devices, and leaves alone what is frozen."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import quickstart
from lrfr_jax.machines import sharding
from lrfr_jax.objective.classifier import pad_class_centers
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
    images = random.integers(0, 256, (BATCH, 112, 112, 3), np.uint8)
    return {"image": images, "label": random.integers(0, 5, BATCH).astype(np.int32)}


def frozen_step(batch, *names):
    config = quickstart.get_config(f"policy=maug,batch_size={BATCH}")
    config.model.update(SMALL | {"batch_norm": "frozen"})
    config.optimizer.warmup_epochs = 0.0
    config.optimizer.frozen = names
    run = experiment.build_run(config, num_identities=5, steps_per_epoch=10.0)
    return jax.jit(run.step)(fresh_state(), batch, {})


def test_frozen_statistics_and_parameters_stay(batch):
    state, metrics = frozen_step(batch, "backbone/stem_conv", "backbone/stage1", "classifier")
    chex.assert_trees_all_equal(state.batch_stats, fresh_state().batch_stats)
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), state.params, fresh_state().params)
    still = {"stem_conv", "stage1"}
    assert not any(jax.tree.leaves([moved["classifier"], *(moved["backbone"][name] for name in still)]))
    assert all(jax.tree.leaves({key: part for key, part in moved["backbone"].items() if key not in still}))
    assert metrics["grad_norm"] > 0
    assert frozen_step(batch, "backbone", "classifier")[1]["grad_norm"] == 0


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
            jax.jit(lambda *arguments: run.step(*arguments)).trace(state, batch, {})
    assert not calls
    # Nor is it differentiated for each view: the program says the same convolutions once.
    one, two = (jitted_step(policy).lower(fresh_state(policy), batch, {}).as_text() for policy in ("none", "maug"))
    assert one.count("stablehlo.convolution") == two.count("stablehlo.convolution") > 0


@pytest.mark.parametrize("policy", ["none", "maug"])
def test_step_learns_one_batch_and_repeats_exactly(batch, policy):
    histories = []
    for _ in range(2):
        state, history = fresh_state(policy), []
        for _ in range(6):
            state, metrics = jitted_step(policy)(state, batch, {})
            history.append(float(metrics["loss"]))
        histories.append(history)
    assert histories[0] == histories[1]
    assert histories[0][-1] < histories[0][0]
    assert int(state.step) == 6
    assert ("distance" in metrics) == (policy == "maug")


def test_every_step_draws_anew_and_the_seed_counts(batch):
    state, step, other_seed = fresh_state(), jitted_step(), jax.jit(functools.partial(run_of().step, seed=1))
    here = float(step(state, batch, {})[1]["loss"])
    assert here == float(step(state, batch, {})[1]["loss"])
    assert here != float(step(state.replace(step=state.step + 1), batch, {})[1]["loss"])
    assert here != float(other_seed(state, batch, {})[1]["loss"])


def test_golden_step(batch):
    """A change here means that training changed: update the numbers only if that was the intention."""
    state, metrics = jitted_step()(fresh_state(), batch, {})
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
            arrays = sharding.to_devices(batch, mesh)
            with jax.set_mesh(mesh):
                for _ in range(2):
                    state, metrics = step(state, arrays, {})
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
        state, metrics = step(state, batch, {})
        history.append(float(metrics["loss"]))
    assert history[-1] < history[0]
