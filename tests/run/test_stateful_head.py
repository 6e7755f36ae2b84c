"""A run whose head has a state ends as if nobody had stopped it; checkpoints without that state are read."""

import time

import numpy as np
import orbax.checkpoint as ocp
import pytest

from configs import common
from lrfr_jax.checkpoints import checkpoint
from lrfr_jax.errors import UserError
from lrfr_jax.run import states
from tests.run.test_train import assert_same_run, config, interrupt, start  # noqa: F401

FIRST = {"mean": 20.0, "std": 100.0}


@pytest.fixture
def begin(config, start):  # noqa: F811
    """Four steps with AdaFace, a checkpoint after every second one, one evaluation."""
    config.head = common.head("adaface")
    config.num_epochs = 4 / 6
    config.optimizer.warmup_epochs = 0.0
    config.eval_every_steps = 0
    del config.evals.searches
    return start


def head_state(workdir):
    with ocp.PyTreeCheckpointer() as checkpointer:
        found = checkpointer.restore(checkpoint.newest(workdir).resolve() / "training")["head"]
    return {name: float(value) for name, value in found.items()}


def stop_after_second_step(begin, workdir, monkeypatch):
    def kill():
        while not (workdir / "checkpoints/2").exists():
            time.sleep(0.01)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        interrupt(patch, 3, kill)
        with pytest.raises(KeyboardInterrupt):
            begin(workdir)
    assert checkpoint.newest(workdir).name == "2"


def test_a_killed_run_keeps_the_heads_state(begin, tmp_path, monkeypatch):
    begin(tmp_path / "whole")
    stop_after_second_step(begin, tmp_path / "stopped", monkeypatch)
    after_two = head_state(tmp_path / "stopped")
    begin(tmp_path / "stopped")
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")
    state = head_state(tmp_path / "whole")
    assert state == head_state(tmp_path / "stopped")
    for name, first in FIRST.items():
        # 1 % of the way to the batch's own at each step, from all features of all views.
        assert abs(state[name] - first) > abs(after_two[name] - first) > 0.001 * first


def test_a_checkpoint_without_the_state_begins_with_the_first(begin, tmp_path, monkeypatch):
    real = states.split
    without = {"head": None}

    def split(state):
        backbone, training = real(state)
        without["head"] = {name: float(value) for name, value in training.pop("head").items()}
        return backbone, training

    with monkeypatch.context() as patch:
        patch.setattr(states, "split", split)
        stop_after_second_step(begin, tmp_path, monkeypatch)
    begin(tmp_path)
    for name, value in head_state(tmp_path).items():
        # Two steps from the first state, and not four.
        np.testing.assert_allclose(value - FIRST[name], without["head"][name] - FIRST[name], rtol=0.2)


def test_a_state_of_another_head_is_refused(begin, tmp_path, monkeypatch):
    real = states.split

    def split(state):
        backbone, training = real(state)
        return backbone, training | {"head": {"t": training["head"]["mean"]}}

    with monkeypatch.context() as patch:
        patch.setattr(states, "split", split)
        stop_after_second_step(begin, tmp_path, monkeypatch)
    with pytest.raises(UserError, match=r"holds a head's state of the shapes \{'t': \[\]\}, and this run's head has"):
        begin(tmp_path)
