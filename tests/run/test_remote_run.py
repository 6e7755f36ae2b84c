"""A whole run in an object store ends like one on a disk, from two processes too (`pytest -m slow` for most of it)."""

import os
import signal
import time

import pytest

from lrfr_jax.checkpoints import checkpoint
from lrfr_jax.files import paths
from lrfr_jax.run import metric_writers
from tests.run.test_multiprocess import finish, free_port, start_main
from tests.run.test_train import assert_same_run, config, interrupt, start  # noqa: F401


@pytest.mark.slow
def test_killed_and_terminated_run_ends_like_one_on_a_disk(bucket, start, tmp_path, monkeypatch):  # noqa: F811
    there = paths.of(f"{bucket}/run")
    start(tmp_path / "whole")

    def kill():
        while checkpoint.steps_of(there) != [2, 4]:
            time.sleep(0.01)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        interrupt(patch, 5, kill)
        with pytest.raises(KeyboardInterrupt):
            start(there)
    assert metric_writers.read_metrics(there)[-1]["step"] == 5  # closed on its way out
    with monkeypatch.context() as patch:
        interrupt(patch, 0, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(SystemExit):
            start(there)
    assert checkpoint.steps_of(there) == [4, 5]
    start(there)
    assert sorted(path.name for path in (there / "checkpoints").iterdir()) == ["5", "6"]
    assert len(list(there.glob("events.*"))) >= 2
    paths.download(there, tmp_path / "copy")
    assert (tmp_path / "copy/config.json").read_text() == (tmp_path / "whole/config.json").read_text()
    assert_same_run(tmp_path / "whole", there)


def test_no_checkpoint_is_newer_than_the_last_line(bucket, start, monkeypatch):  # noqa: F811
    """What a kill -9 finds at the moment when a save begins."""
    there, seen = paths.of(f"{bucket}/order"), {}
    real = checkpoint.save

    def save(manager, step, **items):
        seen[step] = metric_writers.read_metrics(there)[-1]["step"]
        real(manager, step, **items)

    monkeypatch.setattr(checkpoint, "save", save)
    start(there)
    assert seen == {2: 2, 4: 4, 6: 6}


@pytest.mark.slow
def test_two_processes_meet_in_a_bucket(bucket, generated_data):
    if bucket.startswith("s3"):
        pytest.skip("orbax knows no s3://, so that several processes cannot save there")
    there = f"{bucket}/two"
    shared = ["--distributed", f"--coordinator=127.0.0.1:{free_port()}", "--num_processes=2"]
    first, second = finish(
        [start_main(2, there, generated_data, *shared, f"--process_id={number}") for number in range(2)]
    )
    assert f"{there} cannot be locked: start no second run into it" in first
    assert "step 6/6" in first
    assert "step 6/6" not in second
    assert [line["step"] for line in metric_writers.read_metrics(there)] == [1, 2, 3, 4, 5, 6, 6]
    assert checkpoint.steps_of(there) == [4, 6]
    assert (paths.of(there) / "eval/6.json").exists()
