"""One process and two with the same devices in all: `pytest -m slow tests/test_multiprocess.py` (some minutes)."""

import os
import pathlib
import socket
import subprocess
import sys

import pytest

from lrfr_jax import metric_writers

ROOT = pathlib.Path(__file__).resolve().parent.parent

SMALL = [
    "--config=configs/quickstart.py:policy=maug,batch_size=8,num_epochs=1",
    "--config.model.width=0.0625",
    "--config.model.embedding_size=16",
    "--config.log_every_steps=1",
    "--config.checkpoint_every_steps=4",
    "--config.eval_batch_size=16",
    "--config.evals.generated_test.resolutions=(14,)",
]


def start(workdir, data_dir, num_devices, *arguments):
    flags = f"--xla_force_host_platform_device_count={num_devices}"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".jax_cache")}
    command = [
        sys.executable,
        "-m",
        "lrfr_jax.main",
        *SMALL,
        f"--workdir={workdir}",
        f"--data_dir={data_dir}",
        *arguments,
    ]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(processes):
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(outputs)
    return outputs


@pytest.mark.slow
def test_two_processes_equal_one(generated_data, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = ["--distributed", f"--coordinator=127.0.0.1:{port}", "--num_processes=2"]
    two = [start(tmp_path / "two", generated_data, 2, *shared, f"--process_id={number}") for number in range(2)]
    first, second = finish(two)
    assert "step 6/6" in first
    assert "step 6/6" not in second
    finish([start(tmp_path / "one", generated_data, 4)])

    lines = [metric_writers.read_metrics(tmp_path / name) for name in ("one", "two")]
    assert len(lines[0]) == len(lines[1]) == 7
    for one, other in zip(*lines, strict=True):
        # Eight images a step, normalized by their own statistics, make rounding grow quickly from step to step.
        assert one == pytest.approx(other, rel=1e-4 if one["step"] < 3 else 2e-2, abs=1e-4 if one["step"] < 3 else 0.1)
    assert (tmp_path / "one/eval/6.json").exists()
    assert (tmp_path / "two/eval/6.json").exists()
