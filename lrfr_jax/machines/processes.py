"""Several processes as one run: jax.distributed started where it is wanted, and an end for all when one fails."""

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping

import jax
import numpy as np
from jax.experimental import multihost_utils

from lrfr_jax.errors import UserError, reason_of
from lrfr_jax.terminal import progress

# What launchers say of a job of several processes: a variable, and what its text is if there are several.
# srun sets SLURM_STEP_NUM_TASKS for its tasks; SLURM_NTASKS also stands in a batch script, which is one process.
SIGNS_OF_SEVERAL = {
    "JAX_COORDINATOR_ADDRESS": bool,
    "SLURM_STEP_NUM_TASKS": lambda count: count not in ("", "1"),
    "OMPI_COMM_WORLD_SIZE": lambda count: count not in ("", "1"),
    "TPU_WORKER_HOSTNAMES": lambda names: "," in names,
}

# Bytes of what processes tell each other.
LONGEST_TEXT = 1024


def start(
    wanted: bool | None,
    *,
    coordinator: str | None,
    num_processes: int | None,
    process_id: int | None,
    environment: Mapping[str, str],
) -> None:
    """Starts jax.distributed if it is wanted, or if nothing is said and the other arguments or the environment want it.

    Args:
      wanted: the user's word; None to find out.
      coordinator: HOST:PORT of process 0; None for JAX_COORDINATOR_ADDRESS, or what Cloud TPU, Slurm and Open MPI say.
      num_processes: None for JAX_NUM_PROCESSES, or the same.
      process_id: None for JAX_PROCESS_ID, or the same.
      environment: variables by name.

    Raises:
      UserError: what is said does not suffice, contradicts itself, or process 0 is not reached.
    """
    given = {"--coordinator": coordinator, "--num_processes": num_processes, "--process_id": process_id}
    named = [flag for flag, value in given.items() if value is not None]
    if wanted is False and named:
        raise UserError(f"--nodistributed and {named[0]} contradict each other: leave one of them out")
    if wanted is None:
        wanted = bool(named) or _says_several(environment)
    if not wanted:
        return
    coordinator = coordinator or environment.get("JAX_COORDINATOR_ADDRESS")
    num_processes = _number(num_processes, environment, "JAX_NUM_PROCESSES")
    process_id = _number(process_id, environment, "JAX_PROCESS_ID")
    # Where all is said, jax must not ask a launcher around it: it would show this process a single GPU.
    complete = None not in (coordinator, num_processes, process_id)
    try:
        with progress.waiting("waiting for the other processes"):
            jax.distributed.initialize(
                coordinator, num_processes, process_id, cluster_detection_method="deactivate" if complete else None
            )
    except (RuntimeError, ValueError) as error:
        reason = reason_of(error)
        raise UserError(
            f"the processes of this run do not come together ({reason}): give each --coordinator HOST:PORT of process "
            "0, --num_processes and its own --process_id, or --nodistributed for one process"
        ) from error


def texts_of_all(text: str) -> list[str]:
    """Returns what each process says, in order of process; all of them have to call it, and wait here for the last."""
    if jax.process_count() == 1:
        return [text]
    mine = np.zeros(LONGEST_TEXT, np.uint8)
    data = text.encode()[:LONGEST_TEXT]
    mine[: len(data)] = np.frombuffer(data, np.uint8)
    rows = np.asarray(multihost_utils.process_allgather(mine)).astype(np.uint8)
    return [row.tobytes().rstrip(b"\0").decode(errors="ignore") for row in rows]


def _says_several(environment: Mapping[str, str]) -> bool:
    return any(name in environment and means(environment[name]) for name, means in SIGNS_OF_SEVERAL.items())


def _number(value: int | None, environment: Mapping[str, str], name: str) -> int | None:
    if value is not None or name not in environment:
        return value
    if not environment[name].isdecimal():
        raise UserError(f"{name}={environment[name]!r} is no number: set it to one, or remove it")
    return int(environment[name])


@contextlib.contextmanager
def ended_together() -> Iterator[None]:
    """Ends a process that fails while others take part at once, with its reason; they notice and end too.

    jax would wait at exit for the others, and they wait for this one within a step. One that stops with all others,
    after SIGTERM, passes through.
    """
    try:
        yield
    except SystemExit as stop:
        if stop.code != 1 or not jax.distributed.is_initialized():
            raise
    except Exception as error:
        if not jax.distributed.is_initialized():
            raise
        traceback.print_exc()
        reason = reason_of(error)
        print(
            f"error: process {jax.process_index()} of {jax.process_count()} cannot go on ({reason}): if another "
            "process ended before, its output says why; the same command, on any number of processes, continues from "
            "the newest checkpoint",
            file=sys.stderr,
        )
    else:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


@contextlib.contextmanager
def sigterm_noted() -> Iterator[Callable[[int], bool]]:
    """Gives a function that says, the same on every process, whether the run shall stop after this step."""
    if jax.process_count() > 1:
        # jax.distributed catches SIGTERM itself and agrees on a step with the other processes.
        yield multihost_utils.reached_preemption_sync_point
        return
    received = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        yield lambda step: bool(received)
    finally:
        signal.signal(signal.SIGTERM, before)
