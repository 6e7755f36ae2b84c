"""A training set on the devices gives the batches and the numbers that it gives from the host."""

import itertools
import logging
import os
import pathlib
import socket
import subprocess
import sys
import types

import jax
import numpy as np
import pytest
from jax.sharding import AxisType

from configs import quickstart
from lrfr_jax.data import face_sets, pipeline
from lrfr_jax.errors import UserError
from lrfr_jax.machines import sharding
from lrfr_jax.run import device_cache, experiment, metric_writers, sources

ROOT = pathlib.Path(__file__).resolve().parents[2]
READING = {"num_threads": 2, "prefetch_images": 8}


@pytest.fixture(scope="module")
def training_set(generated_data):
    return face_sets.open_training_set(generated_data, "generated_train")


def make_mesh(devices, shards=1):
    shape, axes = (devices // shards, shards), (AxisType.Auto,) * 2
    return jax.make_mesh(shape, ("data", "model"), axis_types=axes, devices=jax.devices()[:devices])


@pytest.fixture(params=[(1, 1), (8, 1), (8, 2)], ids=["1", "8", "8 with class centers over 2"])
def mesh(request):
    return make_mesh(*request.param)


# One set in both orders, and two side by side.
INPUTS = {
    "shuffled": {},
    "identities": {"order": "identities", "images_per_identity": 4},
    "two": {"second": {"dataset": "generated_train", "batch_size": 8, "order": "identities", "images_per_identity": 2}},
}


def taken(training_set, **rules):
    config = quickstart.get_config("policy=none,batch_size=16")
    config.seed = 3
    config.input.update(rules)
    return sources.bind(config, [training_set] * (2 if config.input.second.dataset else 1))


def feed(training_set, mesh, cache, *, start_batch=0, **rules):
    return device_cache.feed(taken(training_set, **rules), cache=cache, mesh=mesh, start_batch=start_batch, **READING)


@pytest.mark.parametrize("rules", INPUTS)
def test_batches_are_equal_bit_for_bit(training_set, mesh, monkeypatch, rules):
    monkeypatch.setattr(device_cache, "CHUNK", 20)  # three chunks, the last one of 8 images
    batches, nothing = feed(training_set, mesh, "none", start_batch=1, **INPUTS[rules])
    drawn, cached = feed(training_set, mesh, "device", start_batch=1, **INPUTS[rules])
    assert nothing == {}
    assert all(array.sharding.is_fully_replicated for array in jax.tree.leaves(cached))
    look_up = jax.jit(lambda cached, numbers: device_cache.found_in(cached, numbers, mesh))
    for batch, numbers in itertools.islice(zip(batches, drawn, strict=True), 5):  # 3 batches are an epoch
        found = look_up(cached, sharding.to_devices(numbers, mesh))
        jax.tree.map(np.testing.assert_array_equal, found, batch)
        assert jax.tree.map(lambda leaf: leaf.dtype, found) == jax.tree.map(lambda leaf: leaf.dtype, batch)
    assert batch["image"].shape[0] == 16
    assert ("second" in batch) == (rules == "two")


def test_a_second_source_has_the_batches_it_would_have_alone_from_a_seed_of_its_own(training_set):
    first, second = taken(training_set, **INPUTS["two"])
    both, _ = feed(training_set, make_mesh(1), "none", start_batch=2, **INPUTS["two"])
    alone = [
        pipeline.training_batches(source, start_batch=2, process_index=0, process_count=1, **READING)
        for source in (first, second)
    ]
    for batch, one, other in itertools.islice(zip(both, *alone, strict=True), 4):
        jax.tree.map(np.testing.assert_array_equal, batch, one | {"second": other})
        assert other["image"].shape[0] == 8
    same = {"second": {"dataset": "generated_train", "batch_size": 16, "order": "shuffled", "images_per_identity": 1}}
    first, second = taken(training_set, **same)
    assert first.order(np.arange(48)).tolist() != second.order(np.arange(48)).tolist()
    assert taken(training_set)[0].order(np.arange(48)).tolist() == first.order(np.arange(48)).tolist()


def test_processes_read_their_parts_of_both_sources(training_set, monkeypatch):
    whole, _ = feed(training_set, make_mesh(1), "none", **INPUTS["two"])
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    parts = []
    for number in range(2):
        monkeypatch.setattr(jax, "process_index", lambda number=number: number)
        parts.append(feed(training_set, make_mesh(1), "none", **INPUTS["two"])[0])
    for batch, one, other in itertools.islice(zip(whole, *parts, strict=True), 4):
        jax.tree.map(
            lambda *arrays: np.testing.assert_array_equal(arrays[0], np.concatenate(arrays[1:])), batch, one, other
        )


def test_each_device_reads_its_own_memory_alone(training_set, mesh):
    drawn, cached = feed(training_set, mesh, "device")
    numbers = sharding.to_devices(next(drawn), mesh)["record"]
    look_up = jax.jit(lambda cached, numbers: device_cache.look_up(cached, numbers, mesh))
    program = look_up.lower(cached, numbers).compile()
    for collective in ("all-gather", "all-reduce", "all-to-all", "collective-permute"):
        assert collective not in program.as_text()
    shards = look_up(cached, numbers)["image"].addressable_shards
    assert {shard.data.shape[0] for shard in shards} == {16 // mesh.size}


def test_steps_are_equal_bit_for_bit_and_compiled_once(training_set, resnet6):
    """On one device; tests/test_train.py compares runs on eight."""
    mesh, config = make_mesh(1), quickstart.get_config("policy=none,batch_size=16")
    config.model.update({"backbone": resnet6, "width": 0.0625, "embedding_size": 16})
    run = experiment.build_run(config, training_set.num_identities, steps_per_epoch=3.0)
    results = {}
    for cache in device_cache.CACHES:
        batches, cached = feed(training_set, mesh, cache)
        state = run.fresh_state(0, mesh)
        outputs = sharding.of_state(mesh, state), sharding.replicated(mesh)
        step = jax.jit(device_cache.on_batch(run.step, mesh), donate_argnums=0, out_shardings=outputs)
        lines = []
        with jax.set_mesh(mesh):
            for batch in itertools.islice(batches, 3):
                state, metrics = step(state, sharding.to_devices(batch, mesh), cached, {})
                lines.append({key: float(value) for key, value in metrics.items()})
        assert step._cache_size() == 1
        results[cache] = lines, jax.tree.leaves(state)
    assert results["none"][0] == results["device"][0]
    for one, other in zip(results["none"][1], results["device"][1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_nothing_is_decoded_after_loading(training_set, mesh, monkeypatch):
    drawn, cached = feed(training_set, mesh, "device")
    monkeypatch.setattr(pipeline.records, "decode_image", None)
    for numbers in itertools.islice(drawn, 20):
        device_cache.look_up(cached, sharding.to_devices(numbers, mesh)["record"], mesh)


def test_loading_tells_what_it_took(training_set, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "lrfr_jax")
    monkeypatch.setattr(device_cache, "CHUNK", 4)
    feed(training_set, sharding.make_mesh(class_shards=1), "device")
    lines = [record.getMessage() for record in caplog.records if record.name == "lrfr_jax"]
    size = "0.00181 GB on each of 8 devices"
    assert lines[0] == f"device cache: loading 48 images, {size}"
    assert lines[-1].startswith("device cache: 48 images loaded in ")
    assert lines[-1].endswith(size)


def test_a_set_that_does_not_fit_is_a_sentence_and_nothing_is_decoded(training_set, monkeypatch):
    mesh = sharding.make_mesh(class_shards=1)
    monkeypatch.setattr(device_cache, "_free_bytes", lambda devices: 1e6)
    monkeypatch.setattr(pipeline.records, "decode_image", None)
    sentence = r"wants 0\.00181 GB on each device for 48 images, 0\.001 GB are free: set it to 'none', with raw records"
    with pytest.raises(UserError, match=sentence):
        feed(training_set, mesh, "device")
    device_cache.check("none", taken(training_set), mesh)
    monkeypatch.setattr(device_cache, "_free_bytes", lambda devices: device_cache.bytes_of(48))
    device_cache.check("device", taken(training_set), mesh)
    with pytest.raises(UserError, match=r"wants 0\.00361 GB on each device for 96 images, 0\.00181 GB are free"):
        device_cache.check("device", taken(training_set, **INPUTS["two"]), mesh)


def test_free_bytes_are_those_of_the_fullest_device():
    def device(platform="gpu", **known):
        return types.SimpleNamespace(platform=platform, memory_stats=lambda: known or None)

    one, other = (device(bytes_limit=60, bytes_in_use=used) for used in (10, 25))
    assert device_cache._free_bytes([one, other]) == 35
    assert device_cache._free_bytes([device()]) == float("inf")
    alone, shared = (device_cache._free_bytes([device("cpu")] * count) for count in (1, 8))
    assert 1e8 < alone == 8 * shared


def test_unknown_cache_is_a_sentence(training_set):
    with pytest.raises(UserError, match="cache=gpu is unknown: choose one of none, device"):
        feed(training_set, sharding.make_mesh(class_shards=1), "gpu")


@pytest.mark.slow
def test_two_processes_train_as_without_a_cache(generated_data, tmp_path):
    def start(cache, port, number):
        command = [sys.executable, "-m", "lrfr_jax.main", f"--workdir={tmp_path / cache}"]
        command += ["--config=configs/quickstart.py:policy=maug,batch_size=8,num_epochs=1"]
        command += ["--config.model.width=0.0625", "--config.model.embedding_size=16", "--config.log_every_steps=1"]
        command += ["--config.evals.generated_test.resolutions=(14,)", f"--config.input.cache={cache}"]
        command += [f"--data_dir={generated_data}", "--distributed", f"--coordinator=127.0.0.1:{port}"]
        command += ["--num_processes=2", f"--process_id={number}"]
        environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
        environment |= {"JAX_COMPILATION_CACHE_DIR": str(ROOT / ".jax_cache")}
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    for cache in device_cache.CACHES:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        processes = [start(cache, port, number) for number in range(2)]
        outputs = [process.communicate(timeout=300)[0] for process in processes]
        assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)
    assert "device cache: 48 images loaded" in outputs[0]
    lines = [metric_writers.read_metrics(tmp_path / cache) for cache in device_cache.CACHES]
    assert len(lines[0]) == 7
    assert lines[0] == lines[1]
