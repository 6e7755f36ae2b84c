import sys

import jax
import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.machines import processes

NOTHING = {"coordinator": None, "num_processes": None, "process_id": None}


@pytest.fixture
def started(monkeypatch):
    """Collects what jax.distributed would be started with."""
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *args, **settings: calls.append((*args, settings)))
    return calls


@pytest.mark.parametrize(
    ("wanted", "flags", "environment", "starts"),
    [
        (None, {}, {}, False),
        (True, {}, {}, True),
        (False, {}, {"JAX_COORDINATOR_ADDRESS": "a:1"}, False),
        (None, {"process_id": 0}, {}, True),
        (None, {}, {"JAX_COORDINATOR_ADDRESS": "a:1"}, True),
        (None, {}, {"JAX_COORDINATOR_ADDRESS": ""}, False),
        (None, {}, {"SLURM_STEP_NUM_TASKS": "16"}, True),
        (None, {}, {"SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "16"}, False),
        (None, {}, {"OMPI_COMM_WORLD_SIZE": "2"}, True),
        (None, {}, {"OMPI_COMM_WORLD_SIZE": "1"}, False),
        (None, {}, {"TPU_WORKER_HOSTNAMES": "localhost"}, False),
        (None, {}, {"TPU_WORKER_HOSTNAMES": "a,b"}, True),
    ],
)
def test_when_several_processes_are_started(wanted, flags, environment, starts, started):
    processes.start(wanted, **NOTHING | flags, environment=environment)
    assert bool(started) == starts


def test_flags_go_before_the_environment_and_the_launcher_is_asked_for_the_rest_only(started):
    environment = {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "4"}
    processes.start(None, **NOTHING | {"process_id": 0}, environment=environment)
    processes.start(None, **NOTHING, environment=environment | {"JAX_PROCESS_ID": "3"})
    processes.start(None, coordinator="b:2", num_processes=2, process_id=1, environment=environment)
    processes.start(None, **NOTHING, environment=environment)
    complete, asked = {"cluster_detection_method": "deactivate"}, {"cluster_detection_method": None}
    assert started == [
        ("a:1", 4, 0, complete),
        ("a:1", 4, 3, complete),
        ("b:2", 2, 1, complete),
        ("a:1", 4, None, asked),
    ]


@pytest.mark.parametrize(
    ("wanted", "flags", "environment", "sentence"),
    [
        (False, {"num_processes": 2}, {}, "--nodistributed and --num_processes contradict each other"),
        (True, {}, {"JAX_PROCESS_ID": "one"}, "JAX_PROCESS_ID='one' is no number"),
    ],
)
def test_flags_that_contradict_and_texts_that_are_no_number(wanted, flags, environment, sentence, started):
    with pytest.raises(UserError, match=sentence):
        processes.start(wanted, **NOTHING | flags, environment=environment)
    assert not started


@pytest.mark.parametrize("kind", [RuntimeError, ValueError])
def test_what_jax_misses_is_said_with_the_flags(kind, monkeypatch):
    def refuse(*_, **__):
        raise kind("coordinator_address should be defined.\nmore")

    monkeypatch.setattr(jax.distributed, "initialize", refuse)
    with pytest.raises(UserError, match=r"\(coordinator_address should be defined\): give each --coordinator"):
        processes.start(True, **NOTHING, environment={})


FAILURES = [
    (SystemExit(1), ""),
    (
        jax.errors.JaxRuntimeError("UNKNOWN: Connection closed by peer\nmore"),
        "(UNKNOWN: Connection closed by peer): if",
    ),
    (ZeroDivisionError("nothing"), "ZeroDivisionError: nothing"),
]


@pytest.mark.parametrize(("error", "said"), FAILURES)
def test_one_of_several_that_fails_ends_at_once(error, said, monkeypatch, capsys):
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    codes = []
    monkeypatch.setattr(processes.os, "_exit", codes.append)
    with processes.ended_together():
        raise error
    assert codes == [1]
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("error", "said"), FAILURES)
def test_a_process_alone_fails_as_ever(error, said, monkeypatch):
    monkeypatch.setattr(processes.os, "_exit", lambda code: pytest.fail("left"))
    with pytest.raises(type(error)), processes.ended_together():
        raise error


def test_what_stops_with_all_others_leaves_in_order(monkeypatch):
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(processes.os, "_exit", lambda code: pytest.fail("left"))
    with pytest.raises(SystemExit), processes.ended_together():
        sys.exit(143)
    with processes.ended_together():
        pass
