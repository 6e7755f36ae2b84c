"""The door: flags, several processes, workdir; then `train`.

python -m lrfr_jax.main --config configs/quickstart.py:policy=maug --workdir runs/maug --data_dir data
The same command run again continues. --config FILE.py or FILE.py:key=value,key=value, --workdir and --data_dir are
required; any number of the config is changed by `--config.group.field=value`.
"""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator

import jax
from absl import app, flags
from absl import logging as absl_logging

from lrfr_jax.errors import UserError, one_sentence
from lrfr_jax.files import folder_lock, paths
from lrfr_jax.machines import processes
from lrfr_jax.run import train
from lrfr_jax.terminal import config_flag

_CONFIG = config_flag.define()
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run, also gs:// or s3://: config, metrics, checkpoints.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of the prepared sets.")
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed",
    None,
    "Whether this process is one of several. If not said, it is where one of the flags below is given, under srun "
    "and mpirun, if JAX_COORDINATOR_ADDRESS is set, and if TPU_WORKER_HOSTNAMES names several. Say it on Cloud TPU, "
    "which tells the flags below.",
)
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0; or JAX_COORDINATOR_ADDRESS.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Number of processes; or JAX_NUM_PROCESSES.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Number of this process, from 0; or JAX_PROCESS_ID.")


def _show_log() -> None:
    absl_logging.set_verbosity(absl_logging.WARNING)  # orbax tells every step of every save
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("lrfr_jax")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if jax.process_index() == 0 else logging.ERROR)
    logger.propagate = False


@contextlib.contextmanager
def _own(workdir: paths.AnyPath) -> Iterator[None]:
    """Makes the workdir and keeps other runs out of it; one in which nothing began is removed."""
    if jax.process_index() > 0:
        yield
        return
    if paths.is_remote(workdir):
        logging.getLogger("lrfr_jax").info("%s cannot be locked: start no second run into it", workdir)
        yield
        return
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--workdir {workdir} cannot be made: {error}") from error
    with folder_lock.alone_in(workdir):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # not empty
                workdir.rmdir()


def main(argv: list[str]) -> None:
    del argv  # in the flags
    with processes.ended_together(), one_sentence():
        processes.start(
            _DISTRIBUTED.value,
            coordinator=_COORDINATOR.value,
            num_processes=_NUM_PROCESSES.value,
            process_id=_PROCESS_ID.value,
            environment=os.environ,
        )
        _show_log()
        workdir, data_dir = paths.of(_WORKDIR.value), paths.local(_DATA_DIR.value, "--data_dir")
        with _own(workdir):
            train.train(_CONFIG.value, workdir=workdir, data_dir=data_dir)


def _parse(argv: list[str]) -> list[str]:
    with one_sentence():
        config_flag.parse(argv, config=_CONFIG, required=(_WORKDIR, _DATA_DIR), command="lrfr_jax.main")
        return argv[:1]


if __name__ == "__main__":
    app.run(main, flags_parser=_parse)
