"""The folder of a run: which config it belongs to."""

import json
import logging
from collections.abc import Mapping
from typing import Any

from lrfr_jax import paths
from lrfr_jax.errors import UserError

logger = logging.getLogger("lrfr_jax")

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


def check_data(place: paths.AnyPath, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Compares what a run's checkpoints say of their data with what it would go on with.

    Test sets do not change what is learned: one whose content is another is told. So is a set without a digest, as
    those of older versions are, since whether its content is the same is not known.

    Args:
      place: the checkpoints, to be named.
      found: facts of the training set, its `digest`, and `test_sets`: {name: digest}.
      wanted: the same of the sets as they are now.

    Raises:
      UserError: another training set, or the same with other images or labels.
    """
    found, wanted = dict(found), dict(wanted)
    name, earlier, now = wanted["dataset"], found.pop("digest", ""), wanted.pop("digest")
    tests_earlier, tests_now = found.pop("test_sets", {}), wanted.pop("test_sets")
    changes = differences("data", found, wanted)
    if earlier and now and earlier != now:
        changes.append(f"{name} holds other images or labels now: its digest is {earlier} there, {now} here")
    if changes:
        told = f"the checkpoints in {place} saw other data ({'; '.join(changes)})"
        raise UserError(f"{told}: bring the set back, or use a new --workdir")
    if not (earlier and now):
        logger.warning("%s was prepared before sets had digests: that its content is the same is not checked", name)
    for test, digest in tests_now.items():
        if digest and tests_earlier.get(test, digest) not in ("", digest):
            logger.warning("%s holds other images or pairs now: results on it before and from now on differ", test)


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
