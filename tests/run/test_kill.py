"""kill -9 at random moments: `pytest -m slow tests/run/test_kill.py` (some minutes)."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from lrfr_jax.run import metric_writers

ROOT = pathlib.Path(__file__).resolve().parents[2]

KILLS = 5
COMMAND = [
    "--config=configs/quickstart.py:policy=maug,batch_size=8,num_epochs=8",  # 48 steps
    "--config.model.width=0.0625",
    "--config.model.embedding_size=16",
    "--config.model.dropout=0.2",
    "--config.log_every_steps=1",
    "--config.checkpoint_every_steps=3",
    "--config.eval_every_steps=16",
    "--config.evals.generated_test.resolutions=(14,)",
]


def start(workdir, data_dir):
    environment = os.environ | {"XLA_FLAGS": "", "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".jax_cache")}
    command = [sys.executable, "-m", "lrfr_jax.main", *COMMAND, f"--workdir={workdir}", f"--data_dir={data_dir}"]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def newest_step(workdir):
    lines = metric_writers.read_metrics(workdir)
    return lines[-1]["step"] if lines else 0


@pytest.mark.slow
def test_killed_run_ends_like_an_uninterrupted_one(generated_data, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = start(whole, generated_data)
    assert process.wait() == 0, process.stderr.read().decode()

    draws = random.Random(0)
    for number in range(KILLS):
        process = start(killed, generated_data)
        # Let it come some steps further than where it began; then kill at a random moment within a second or two.
        goal = newest_step(killed) + draws.randrange(1, 8) if number else draws.randrange(1, 8)
        while process.poll() is None and newest_step(killed) < goal:
            time.sleep(0.02)
        time.sleep(draws.uniform(0, 1.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        print(f"killed with {newest_step(killed)} steps in metrics.jsonl")
    process = start(killed, generated_data)
    assert process.wait() == 0, process.stderr.read().decode()
    assert (killed / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
