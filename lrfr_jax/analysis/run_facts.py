"""What a run's folder says of how the run was made: its config, and what `launch/sweep.py` logged of it."""

import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from flax.traverse_util import flatten_dict

from lrfr_jax.errors import UserError
from lrfr_jax.files import sweep_file
from lrfr_jax.run.workdir import CONFIG_FILE

# Lines of `launch/sweep.py` and of `lrfr_jax.run.train` in a log.
_COMMAND = re.compile(r"^sweep: (python .*)$", re.MULTILINE)
_ENDED = re.compile(r"^sweep: status -?\d+ after (\d+) s on (.*)$", re.MULTILINE)
_DEVICES = re.compile(r"images a step on (\d+) devices \((.*?)\);")


def config_of(workdir: pathlib.Path) -> dict[str, Any] | None:
    """The run's config; None if there is none yet.

    Raises:
      UserError: it is no json object.
    """
    path = workdir / CONFIG_FILE
    if not path.exists():
        return None
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): leave that run out") from error
    if not isinstance(config, dict):
        raise UserError(f"{path} holds no config: leave that run out")
    return config


def differing_fields(configs: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Lays out the fields that are not the same in all configs, apart from the seed: a line per run."""
    flat = {name: flatten_dict(config, sep=".") for name, config in configs.items()}
    fields = sorted({field for config in flat.values() for field in config} - {"seed"})
    differing = [field for field in fields if len({repr(config.get(field)) for config in flat.values()}) > 1]
    lines = [[name, *(_cell(config.get(field)) for field in differing)] for name, config in flat.items()]
    return [["run", *differing], *lines]


def facts_of(workdir: pathlib.Path) -> list[str]:
    """Returns [seed, step of the newest evaluation, time, devices, machine] in words; '-' for what is not known."""
    config = config_of(workdir) or {}
    steps = [int(path.stem) for path in workdir.glob("eval/*.json") if path.stem.isdecimal()]
    log = _log(workdir)
    ended, devices = _ENDED.findall(log), _DEVICES.findall(log)
    return [
        str(config.get("seed", "-")),
        str(max(steps, default="-")),
        _duration(sum(int(seconds) for seconds, _ in ended)) if ended else "-",
        ", ".join(dict.fromkeys(f"{number} x {kind}" for number, kind in devices)) or "-",
        ", ".join(dict.fromkeys(machine for _, machine in ended)) or "-",
    ]


def commands_of(workdir: pathlib.Path) -> list[str]:
    """The commands that the run's log names, each once."""
    return list(dict.fromkeys(_COMMAND.findall(_log(workdir))))


def as_text(config: Mapping[str, Any]) -> str:
    """A config as a line per field."""
    return "\n".join(f"{field} = {_cell(value)}" for field, value in flatten_dict(config, sep=".").items())


def _log(workdir: pathlib.Path) -> str:
    path = sweep_file.log_of(workdir)
    return path.read_text(errors="replace") if path.exists() else ""


def _cell(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value)) or "none"
    return "-" if value is None else str(value)


def _duration(seconds: int) -> str:
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"
