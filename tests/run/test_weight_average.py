"""Runs whose weights are averaged, or decay towards what they began with."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import quickstart
from lrfr_jax.checkpoints import checkpoint
from lrfr_jax.objective import train_step
from lrfr_jax.run import metric_writers, train

STEPS = 3


@pytest.fixture(scope="module")
def start(resnet6, generated_data):
    """Trains a small network for `STEPS` steps, of each of which there is a checkpoint."""

    def started(folder, steps=STEPS, **changes):
        config = quickstart.get_config("policy=none,batch_size=8")
        config.model.update({"backbone": resnet6, "width": 0.0625, "embedding_size": 16})
        config.update({"checkpoint_every_steps": 1, "keep_checkpoints": 9, "eval_every_steps": 0, "log_every_steps": 1})
        config.update({"num_epochs": steps / 6})
        config.evals = {}
        config.optimizer.update({"schedule": "constant", "warmup_epochs": 0.0})
        config.update_from_flattened_dict(changes)
        train.train(config, workdir=folder, data_dir=pathlib.Path(generated_data))
        return [checkpoint.load_backbone(folder / "checkpoints" / str(step))[0] for step in range(1, steps + 1)]

    return started


@pytest.fixture(scope="module")
def plain(start, tmp_path_factory):
    """(A folder, the variables after each step) of a run without either."""
    folder = tmp_path_factory.mktemp("plain")
    return folder, start(folder)


def assert_close(one, other, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), one, other)


def test_checkpoints_hold_the_running_mean_and_go_on_from_the_last_step(start, plain, tmp_path):
    """The mean begins with the weights of `init_from`, of which the first step keeps a tenth."""
    folder, _ = plain
    first = folder / "checkpoints/1"
    begun = {"init_from": str(first)}
    steps = start(tmp_path / "plain", **begun)
    found = start(tmp_path / "averaged", steps=2, **begun, **{"optimizer.weight_average": 0.15})
    found += start(tmp_path / "averaged", **begun, **{"optimizer.weight_average": 0.15})[2:]  # continued
    mean = checkpoint.load_backbone(first)[0]
    for step, (kept, variables) in enumerate(zip((0.1, 0.15, 0.15), steps, strict=True)):
        mean = jax.tree.map(lambda old, new, kept=kept: kept * old + (1 - kept) * new, mean, variables)
        assert_close(found[step], mean, rtol=1e-4, atol=1e-6)
    assert (
        np.abs(found[-1]["params"]["neck"]["linear"]["kernel"] - steps[-1]["params"]["neck"]["linear"]["kernel"]).max()
        > 1e-4
    )
    plain_run, averaged_run = (
        [line for line in metric_writers.read_metrics(tmp_path / name) if "train/loss" in line]
        for name in ("plain", "averaged")
    )
    assert len(plain_run) == STEPS
    assert plain_run == averaged_run


def test_the_mean_forgets_faster_in_the_first_steps():
    old, new = ({"params": {"w": jnp.full(2, value)}, "batch_stats": {}} for value in (1.0, 3.0))
    for step, kept in ((0, 0.1), (8, 0.5), (10_000, 0.9)):
        found = train_step.averaged(old, new["params"], {}, step=jnp.asarray(step), decay=0.9)
        np.testing.assert_allclose(found["params"]["w"], 3 - 2 * kept, rtol=1e-6)
    assert train_step.averaged({}, new["params"], {}, step=jnp.asarray(0), decay=0.0) == {}


def test_weights_that_decay_towards_the_start_stay_near_it(start, plain, tmp_path):
    """The start is that of `init_from`, not what was drawn before it."""
    folder, _ = plain
    begun = {"init_from": str(folder / "checkpoints/1"), "optimizer.weight_decay": 2.0}
    free, held = (
        start(tmp_path / target, **begun, **{"optimizer.decay_towards": target})[-1]["params"]
        for target in ("zero", "start")
    )
    first = checkpoint.load_backbone(folder / "checkpoints/1")[0]["params"]

    def far(params):
        return float(sum(np.sum((x - y) ** 2) for x, y in zip(*map(jax.tree.leaves, (params, first)), strict=True)))

    assert far(held) < 0.1 * far(free)
