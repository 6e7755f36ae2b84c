"""The flag `--config FILE.py:key=value --config.group.field=value`, and one sentence for what is wrong with it."""

import itertools
import logging
import runpy
from collections.abc import Sequence

from absl import flags
from ml_collections import ConfigDict, config_flags

from lrfr_jax.errors import UserError


def define() -> flags.FlagHolder:
    """Defines `--config`."""
    help_text = "The experiment: FILE.py or FILE.py:key=value,key=value; --config.group.field=value changes a field."
    return config_flags.DEFINE_config_file("config", None, help_text)


def parse(argv: list[str], *, config: flags.FlagHolder, required: Sequence[flags.FlagHolder], command: str) -> None:
    """Parses the command line.

    Args:
      argv: the program's name and its arguments.
      config: what `define` returned.
      required: flags that must be given, beside `--config`.
      command: for the hint at its `--help`.

    Raises:
      UserError: an unknown flag or field, a value of another type, an unreadable config, a missing flag.
    """
    hush_jax()
    hint = f"see python -m {command} --help"
    try:
        rest = flags.FLAGS(argv)
        for flag in (config, *required):
            if flag.value is None:
                raise UserError(f"--{flag.name} is missing: {hint}")
            if flag is config:
                flag.value.keys()  # a config file that cannot be read fails at the first access
    except (AttributeError, KeyError):
        raise UserError(_unknown_field(argv)) from None
    except (flags.Error, OSError, TypeError, ValueError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        # An error inside the config file arrives as a traceback, whose last line is the sentence.
        raise UserError(f"{lines[-1].removeprefix('ValueError: ')}; {hint}") from None
    if rest[1:]:
        raise UserError(f"unknown argument {rest[1]!r}: {hint}")


def hush_jax() -> None:
    """Keeps back jax's note that a kind of device is not here, such as a TPU: `absl.app` shows notes like errors."""
    logging.getLogger("jax._src.xla_bridge").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return record.levelno > logging.INFO or not record.getMessage().startswith("Unable to initialize backend")


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
