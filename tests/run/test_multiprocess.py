"""Any number of devices and processes trains alike: `pytest -m slow tests/run/test_multiprocess.py` (some minutes)."""

import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from lrfr_jax.checkpoints import checkpoint
from lrfr_jax.run import metric_writers

ROOT = pathlib.Path(__file__).resolve().parents[2]

QUICKSTART = "configs/quickstart.py:policy=maug,batch_size=8,num_epochs=1"  # 6 steps
SMALL = [
    "--config.model.width=0.0625",
    "--config.model.embedding_size=16",
    "--config.log_every_steps=1",
    "--config.checkpoint_every_steps=4",
    "--config.eval_batch_size=16",
    "--config.evals.generated_test.resolutions=(14,)",
]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(num_devices, *command):
    environment = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={num_devices}",
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".jax_cache"),
    }
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, *map(str, command)], cwd=ROOT, env=environment, **settings)


def start_main(num_devices, workdir, data_dir, *arguments, config=QUICKSTART):
    paths = [f"--workdir={workdir}", f"--data_dir={data_dir}"]
    return start(num_devices, "-m", "lrfr_jax.main", f"--config={config}", *SMALL, *paths, *arguments)


def finish(processes):
    try:
        outputs = [process.communicate(timeout=600)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(outputs)
    return outputs


@pytest.mark.slow
def test_two_processes_equal_one(generated_data, tmp_path):
    shared = ["--distributed", f"--coordinator=127.0.0.1:{free_port()}", "--num_processes=2"]
    two = [start_main(2, tmp_path / "two", generated_data, *shared, f"--process_id={number}") for number in range(2)]
    first, second = finish(two)
    assert "step 6/6" in first
    assert "step 6/6" not in second
    finish([start_main(4, tmp_path / "one", generated_data)])

    lines = [metric_writers.read_metrics(tmp_path / name) for name in ("one", "two")]
    assert len(lines[0]) == len(lines[1]) == 7
    assert [line.keys() for line in lines[0]] == [line.keys() for line in lines[1]]
    # Later steps drift apart by rounding: the test in float64 below holds them.
    assert lines[0][0] == pytest.approx(lines[1][0], rel=1e-3)
    assert (tmp_path / "one/eval/6.json").exists()
    assert (tmp_path / "two/eval/6.json").exists()
    assert (tmp_path / "two/checkpoints/6/card.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["none", "records"])
def test_two_processes_feed_images_by_identity_a_second_set_and_a_teacher_as_one_does(cache, generated_data, tmp_path):
    finish([start_main(1, tmp_path / "teacher", generated_data)])
    data = {name: shutil.copytree(generated_data, tmp_path / f"data_{name}") for name in ("one", "two")}
    teacher = tmp_path / "teacher/checkpoints/6"
    taught = [f"--config.teacher.checkpoint={teacher}", f"--config.teacher.cache={cache}"]
    taught += [f"--config.init_from={teacher}", "--config.class_centers=teacher"]
    taught += ["--config.optimizer.weight_average=0.5", "--config.optimizer.decay_towards=start"]

    def start_taught(num_devices, name, *arguments):
        config = "tests/run/identities_second_teacher.py:policy=maug,batch_size=8,num_epochs=1"
        return start_main(num_devices, tmp_path / name, data[name], *taught, *arguments, config=config)

    shared = ["--distributed", f"--coordinator=127.0.0.1:{free_port()}", "--num_processes=2"]
    finish([start_taught(2, "two", *shared, f"--process_id={number}") for number in range(2)])
    finish([start_taught(4, "one")])

    one, two = (metric_writers.read_metrics(tmp_path / name) for name in ("one", "two"))
    assert len(one) == len(two) == 7
    assert {"train/to_teacher", "train/native"} <= one[0].keys() == two[0].keys()
    for number in range(2):
        assert one[number] == pytest.approx(two[number], rel=1e-3)


@pytest.mark.slow
def test_sigterm_to_one_of_two_processes_saves_and_ends_both(generated_data, tmp_path):
    shared = ["--distributed", f"--coordinator=127.0.0.1:{free_port()}", "--num_processes=2", "--config.num_epochs=500"]
    shared.append("--config.checkpoint_every_steps=0")
    processes = [start_main(2, tmp_path, generated_data, *shared, f"--process_id={number}") for number in range(2)]
    while not metric_writers.read_metrics(tmp_path):
        assert all(process.poll() is None for process in processes)
        time.sleep(0.1)
    processes[1].send_signal(signal.SIGTERM)
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [128 + signal.SIGTERM] * 2, "\n".join(outputs)
    step = metric_writers.read_metrics(tmp_path)[-1]["step"]
    assert f"stopped by SIGTERM: step {step} is saved" in outputs[0]
    assert checkpoint.newest(tmp_path).name == str(step)


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(3))
def test_killed_process_ends_the_other_and_one_process_goes_on(attempt, generated_data, tmp_path):
    """The file of an uninterrupted run, bit for bit: of two numbers the sum knows no order."""
    long = ["--config.num_epochs=5"]  # 30 steps
    finish([start_main(2, tmp_path / "whole", generated_data, *long)])
    whole = metric_writers.read_metrics(tmp_path / "whole")

    workdir = tmp_path / "killed"
    shared = ["--distributed", f"--coordinator=127.0.0.1:{free_port()}", "--num_processes=2", *long]
    processes = [start_main(1, workdir, generated_data, *shared, f"--process_id={number}") for number in range(2)]
    last_step = random.randint(5, 25)
    while len(metric_writers.read_metrics(workdir)) < last_step:
        assert all(process.poll() is None for process in processes)
        time.sleep(0.02)
    victim = attempt % 2
    processes[victim].kill()
    said = processes[1 - victim].communicate(timeout=150)[0]  # jax notices a silent process after 100 s
    assert processes[1 - victim].returncode not in (0, None)
    assert "cannot go on" in said or "another task died" in said, said
    processes[victim].communicate()
    stopped_at = metric_writers.read_metrics(workdir)[-1]["step"]
    assert last_step <= stopped_at < 30

    output = finish([start_main(2, workdir, generated_data, *long)])[0]
    assert "continuing after step" in output
    assert metric_writers.read_metrics(workdir) == whole


# `lrfr_jax.main` in a process that has no right to read step 6, whatever the disk says.
BLIND = """
import runpy, sys
from lrfr_jax import newest_state
read = newest_state._read
newest_state.PAUSE_SECONDS = 0.1
newest_state._read = lambda manager, step, **rest: (None, "no right to") if step == 6 else read(manager, step, **rest)
runpy.run_module("lrfr_jax.main", run_name="__main__")
"""


@pytest.mark.slow
def test_processes_fall_back_together_where_one_cannot_read_the_newest(generated_data, tmp_path):
    finish([start_main(4, tmp_path, generated_data)])
    metrics = metric_writers.read_metrics(tmp_path)
    shared = ["--distributed", f"--coordinator=127.0.0.1:{free_port()}", "--num_processes=2"]
    paths = [f"--workdir={tmp_path}", f"--data_dir={generated_data}"]
    sees = start_main(2, tmp_path, generated_data, *shared, "--process_id=0")
    blind = start(2, "-c", BLIND, f"--config={QUICKSTART}", *SMALL, *paths, *shared, "--process_id=1")
    first, _ = finish([sees, blind])
    assert "checkpoint 6 cannot be read (process 1: no right to): it is set aside as" in first
    assert "continuing after step 4" in first
    assert (tmp_path / "unreadable_checkpoints/6").is_dir()
    assert checkpoint.newest(tmp_path).name == "6"
    assert [line["step"] for line in metric_writers.read_metrics(tmp_path)] == [line["step"] for line in metrics]


@pytest.mark.slow
def test_fifty_steps_in_float64_on_any_devices_and_processes(generated_data, tmp_path):
    """Every loss, the parameters and BatchNorm statistics stay together, and no second step is compiled."""
    program = ROOT / "tests" / "run" / "fifty_steps.py"
    for devices in (1, 2, 4, 8):
        finish([start(devices, program, generated_data, tmp_path / f"{devices} devices")])
    for count in (2, 4):
        port, output = free_port(), tmp_path / f"{count} processes"
        finish([start(1, program, generated_data, output, port, count, process) for process in range(count)])

    one, *others = (np.load(path) for path in sorted(tmp_path.glob("*.npz")))
    assert len(others) == 5
    assert len(one["loss"]) == 50
    assert one["loss"][-1] < one["loss"][0]
    for other in others:
        assert int(other["compilations"]) == 1
        for key in ("loss", "statistics", "parameters"):
            print(key, np.abs(other[key] - one[key]).max())
            np.testing.assert_allclose(other[key], one[key], rtol=1e-9, atol=1e-9)
