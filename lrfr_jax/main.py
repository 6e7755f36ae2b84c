"""The door: flags, several processes, workdir; then `train`.

python -m lrfr_jax.main --config configs/quickstart.py:policy=maug --workdir runs/maug --data_dir data
The same command run again continues; any number of the config is changed by `--config.group.field=value`.
"""

import contextlib
import itertools
import logging
import pathlib
import runpy
import sys
from collections.abc import Iterator

import jax
from absl import app, flags
from absl import logging as absl_logging
from ml_collections import ConfigDict, config_flags

from lrfr_jax import folder_lock, train
from lrfr_jax.errors import UserError, one_sentence

_CONFIG = config_flags.DEFINE_config_file("config", None, "The experiment: FILE.py or FILE.py:key=value,key=value.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run: config, metrics, checkpoints, evaluations.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of the prepared sets.")
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "Start jax.distributed; on Cloud TPU, Slurm and Open MPI the flags below are found out."
)
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Number of processes.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Number of this process, from 0.")


def _unknown_field(argv: list[str]) -> str:
    """Says which `--config.a.b` names no field, and which fields there are."""
    # A failed parse leaves no config behind, so the file is run once more.
    values = [
        after if word.strip("-") == "config" else word.partition("=")[2]
        for word, after in itertools.pairwise([*argv, ""])
        if word.lstrip("-").partition("=")[0] == "config"
    ]
    path, _, arg = values[-1].partition(":")
    config = runpy.run_path(path)["get_config"](arg or None)
    for argument in argv:
        name = argument.lstrip("-").partition("=")[0]
        group, path = config, []
        for field in name.split(".")[1:] if name.startswith("config.") else ():
            if not isinstance(group, ConfigDict) or field not in group:
                known = ", ".join(sorted(group)) if isinstance(group, ConfigDict) else "none: it is a value"
                place = ".".join(["config", *path])
                return f"{argument}: {place} has no field {field!r}; its fields are: {known}"
            group, path = group[field], [*path, field]
    return "a --config.field names no field of the config"


def _parse_flags(argv: list[str]) -> list[str]:
    try:
        rest = flags.FLAGS(argv)
        for flag in (_CONFIG, _WORKDIR, _DATA_DIR):
            if flag.value is None:
                raise UserError(f"--{flag.name} is missing: see python -m lrfr_jax.main --help")
            if flag is _CONFIG:
                flag.value.keys()  # a config file that cannot be read fails at the first access
        return rest
    except (AttributeError, KeyError):
        raise UserError(_unknown_field(argv)) from None
    except (flags.Error, OSError, TypeError, ValueError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        # An error inside the config file arrives as a traceback, whose last line is the sentence.
        raise UserError(lines[-1].removeprefix("ValueError: ") + "; see python -m lrfr_jax.main --help") from None


def _show_log() -> None:
    absl_logging.set_verbosity(absl_logging.WARNING)  # orbax tells every step of every save
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("lrfr_jax")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if jax.process_index() == 0 else logging.ERROR)
    logger.propagate = False


@contextlib.contextmanager
def _own(workdir: pathlib.Path) -> Iterator[None]:
    """Makes the workdir and keeps other runs out of it; one in which nothing began is removed."""
    if jax.process_index() > 0:
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
    with one_sentence():
        if argv[1:]:
            raise UserError(f"unknown argument {argv[1]!r}: see python -m lrfr_jax.main --help")
        if _DISTRIBUTED.value:
            jax.distributed.initialize(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
        _show_log()
        workdir = pathlib.Path(_WORKDIR.value)
        with _own(workdir):
            train.train(_CONFIG.value, workdir=workdir, data_dir=pathlib.Path(_DATA_DIR.value))


def _parse_in_one_sentence(argv: list[str]) -> list[str]:
    with one_sentence():
        return _parse_flags(argv)


if __name__ == "__main__":
    app.run(main, flags_parser=_parse_in_one_sentence)
