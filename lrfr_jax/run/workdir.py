"""The folder of a run: which config it belongs to, and what of that may change when the run continues."""

import json
import logging
from collections.abc import Mapping
from typing import Any

from flax.traverse_util import flatten_dict

from lrfr_jax.errors import UserError
from lrfr_jax.files import paths
from lrfr_jax.run import former_names

logger = logging.getLogger("lrfr_jax")

CONFIG_FILE = "config.json"
# What may differ when a run continues; docs/configs.md says it of every field.
# It says how to compute, not what: on another machine for example.
FREE = (
    "batch_parts",
    "remat",
    "classifier.shards",
    "classifier.chunks",
    "input.cache",
    "input.num_threads",
    "input.prefetch_images",
    "eval_batch_size",
    # Where the teacher lies, not who it is: its digest is compared.
    "teacher.checkpoint",
    "teacher.cache",
)
# It says what is looked at and kept of the run, and when. A whole group is named by its name.
WATCHING = ("log_every_steps", "checkpoint_every_steps", "eval_every_steps", "keep_checkpoints", "evals")
# It says what the steps to come do, as far as the steps taken stay what they were: see `lrfr_jax.run.continuation`.
AHEAD = ("num_epochs", "optimizer.milestone_epochs")

# What was there before a run could choose it, and so was not said.
BEFORE_ORDERS = {"order": "shuffled", "images_per_identity": 1, "second": {}}


def differences(name: str, found: Any, wanted: Any) -> list[str]:
    """Returns one phrase per value that differs between two nested dicts, with its dotted name."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        keys = sorted(found.keys() | wanted.keys())
        return [line for key in keys for line in differences(f"{name}.{key}", found.get(key), wanted.get(key))]
    return [] if found == wanted else [f"{name} is {found} there, {wanted} here"]


def may_change(field: str, fields: tuple[str, ...]) -> bool:
    """Whether a field, by its dotted name, is one of these or in a group of these."""
    return any(f"{field}.".startswith(f"{name}.") for name in fields)


def check_data(place: paths.AnyPath, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Compares what a run's checkpoints say of their data with what it would go on with.

    Those of older versions say no order and no second set: theirs was 'shuffled', without one.

    Test sets do not change what is learned: one whose content is another is told. So is a set without a digest, as
    those of older versions are, since whether its content is the same is not known.

    Args:
      place: the checkpoints, to be named.
      found: facts of the training set, its `digest`, `second`: the same of a second set, {} where there is none, and
        `test_sets`: {name: digest}.
      wanted: the same of the sets as they are now.

    Raises:
      UserError: another training set, or the same with other images or labels.
    """
    found, wanted = BEFORE_ORDERS | dict(found), BEFORE_ORDERS | dict(wanted)
    tests_earlier, tests_now = found.pop("test_sets", {}), wanted.pop("test_sets")
    seconds = dict(found.pop("second")), dict(wanted.pop("second"))
    sets = {"data": (found, wanted)} | ({"data.second": seconds} if any(seconds) else {})
    digests = [
        (is_now["dataset"], was.pop("digest", ""), is_now.pop("digest")) for was, is_now in sets.values() if is_now
    ]
    changes = [line for field, pair in sets.items() for line in differences(field, *pair)]
    for name, earlier, now in digests:
        if earlier and now and earlier != now:
            changes.append(f"{name} holds other images or labels now: its digest is {earlier} there, {now} here")
    if changes:
        told = f"the checkpoints in {place} saw other data ({'; '.join(changes)})"
        raise UserError(f"{told}: bring the set back, or use a new --workdir")
    for name in (name for name, *known in digests if not all(known)):
        logger.warning("%s was prepared before sets had digests: that its content is the same is not checked", name)
    for test, digest in tests_now.items():
        if digest and tests_earlier.get(test, digest) not in ("", digest):
            logger.warning("%s holds other images or pairs now: results on it before and from now on differ", test)


def check_teacher(place: paths.AnyPath, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Compares the teacher that a run's checkpoints name with the one that it would go on with.

    Args:
      place: the checkpoints, to be named.
      found, wanted: {} or {'checkpoint', 'digest'}; where the teacher lies may change, its weights may not.

    Raises:
      UserError: another teacher.
    """
    if found.get("digest", "") != wanted.get("digest", ""):
        there, here = (f"{of['checkpoint']} ({of['digest'][:16]})" if of else "none" for of in (found, wanted))
        raise UserError(
            f"the checkpoints in {place} learned from the teacher {there}, and config.teacher.checkpoint is {here}: "
            "bring that teacher back, or use a new --workdir"
        )


def claim(workdir: paths.AnyPath, config: dict, *, is_main_process: bool) -> None:
    """Writes the config into a new workdir; a run continues only with a config that differs in what may change.

    Raises:
      UserError: the workdir belongs to another config; the sentence names every field that differs.
    """
    path = workdir / CONFIG_FILE
    if path.exists():
        changes = differences("config", *map(_what_stays, (_read(path), config)))
        if changes:
            raise UserError(f"{workdir} holds a run with another config ({'; '.join(changes)}): use a new --workdir")
    elif is_main_process:
        _write(path, config)


def renew(workdir: paths.AnyPath, config: dict, *, is_main_process: bool) -> None:
    """Writes the config with which a run continues in place of the one that it had."""
    path = workdir / CONFIG_FILE
    if is_main_process and _read(path) != config:
        _write(path, config)


def _read(path: paths.AnyPath) -> dict:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): copy it again, or use a new --workdir") from error


def _write(path: paths.AnyPath, config: dict) -> None:
    paths.write_text(path, json.dumps(config, indent=2, sort_keys=True) + "\n")


def _what_stays(config: dict) -> dict:
    fields = former_names.current(flatten_dict(config, sep="."))
    return {name: value for name, value in fields.items() if not may_change(name, FREE + WATCHING + AHEAD)}
