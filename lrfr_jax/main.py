"""The door: flags, several processes, workdir; then `train`.

python -m lrfr_jax.main --config configs/quickstart.py:policy=maug --workdir runs/maug --data_dir data
The same command run again continues; any number of the config is changed by `--config.group.field=value`.
"""

import contextlib
import logging
import sys
from collections.abc import Iterator

import jax
from absl import app, flags
from absl import logging as absl_logging

from lrfr_jax import config_flag, folder_lock, paths, train
from lrfr_jax.errors import UserError, one_sentence

_CONFIG = config_flag.define()
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run, also gs:// or s3://: config, metrics, checkpoints.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of the prepared sets.")
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "Start jax.distributed; on Cloud TPU, Slurm and Open MPI the flags below are found out."
)
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Number of processes.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Number of this process, from 0.")


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
    with one_sentence():
        if _DISTRIBUTED.value:
            jax.distributed.initialize(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
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
