"""The folder of a run: which config it belongs to."""

import json
from typing import Any

from lrfr_jax import paths
from lrfr_jax.errors import UserError

CONFIG_FILE = "config.json"
# What may differ when a run continues, on another machine for example: it says how to compute, not what.
FREE = (
    ("batch_parts",),
    ("remat",),
    ("classifier", "shards"),
    ("classifier", "chunks"),
    ("input", "cache"),
    ("input", "num_threads"),
    ("input", "prefetch_images"),
)


def differences(name: str, found: Any, wanted: Any) -> list[str]:
    """Returns one phrase per value that differs between two nested dicts, with its dotted name."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        keys = sorted(found.keys() | wanted.keys())
        return [line for key in keys for line in differences(f"{name}.{key}", found.get(key), wanted.get(key))]
    return [] if found == wanted else [f"{name} is {found} there, {wanted} here"]


def claim(workdir: paths.AnyPath, config: dict, *, is_main_process: bool) -> None:
    """Writes the config into a new workdir; a run continues only with the config that it began with, `FREE` aside.

    Raises:
      UserError: the workdir belongs to another config; the sentence names every field that differs.
    """
    path = workdir / CONFIG_FILE
    if path.exists():
        try:
            found = json.loads(path.read_text())
        except ValueError as error:
            raise UserError(f"{path} is damaged ({error}): copy it again, or use a new --workdir") from error
        changes = differences("config", *map(_without_free, (found, config)))
        if changes:
            raise UserError(f"{workdir} holds a run with another config ({'; '.join(changes)}): use a new --workdir")
    elif is_main_process:
        paths.write_text(path, json.dumps(config, indent=2, sort_keys=True) + "\n")


def _without_free(config: dict, path: tuple[str, ...] = ()) -> dict:
    kept = {key: value for key, value in config.items() if (*path, key) not in FREE}
    return {
        key: _without_free(value, (*path, key)) if isinstance(value, dict) else value for key, value in kept.items()
    }
