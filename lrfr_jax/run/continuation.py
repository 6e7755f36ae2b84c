"""A run that continues with another config: what the steps taken had, whether the new one fits them, what changed."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict

from lrfr_jax.errors import UserError
from lrfr_jax.run import experiment, workdir


def config_at(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The config under which a checkpoint was made, laid out flat: the recipe that its run began with, and changes.

    {} for a checkpoint that does not say it.
    """
    entry = next(iter(metadata.get("history", [])[-1:]), {})
    if "recipe" not in entry:
        return {}
    fields = dict(entry["recipe"]) | flatten_dict({"evals": metadata.get("evals", {})}, sep=".")
    for change in entry.get("changes", []):
        fields |= {name: to for name, (_, to) in change["fields"].items() if not name.startswith("evals.")}
    return fields


def changes(before: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Returns {dotted name: [value before, value now]} of what differs, without what only says how to compute.

    Args:
      before: from `config_at`.
      config: the plain nested config.
    """
    if not before:
        return {}
    now = flatten_dict(config, sep=".")
    names = [name for name in sorted(before.keys() | now.keys()) if not workdir.may_change(name, workdir.FREE)]
    return {name: [before.get(name), now.get(name)] for name in names if before.get(name) != now.get(name)}


def as_text(fields: Mapping[str, list[Any]]) -> str:
    """Says what `changes` found."""
    return ", ".join(f"{name} {before} -> {now}" for name, (before, now) in fields.items())


def with_changes(history: list[dict[str, Any]], step: int, fields: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """Returns a history whose last entry, which is the run's own, also says what changed after a step."""
    if not fields or not history:
        return history
    *earlier, entry = history
    return [*earlier, {**entry, "changes": [*entry.get("changes", []), {"after_step": step, "fields": dict(fields)}]}]


def check(
    before: Mapping[str, Any],
    *,
    schedule: optax.Schedule,
    step: int,
    num_steps: int,
    steps_per_epoch: float,
    place: Any,
) -> None:
    """Raises `UserError` unless a run that is at `step` can go on with another length or other milestones.

    Its learning rates up to there must be those that it had: a step is a function of config, data and number.

    Args:
      before: from `config_at`.
      schedule: of the new config.
      step: that the run has reached.
      num_steps: of the new config.
      steps_per_epoch: of both.
      place: the checkpoint, for the sentence.
    """
    if not before or not step:
        return
    length = before["num_epochs"]
    way_out = f"a new --workdir with --config.init_from={place} trains on from its weights"
    if num_steps < step:
        raise UserError(
            f"the new config.num_epochs ends at step {num_steps}, {place} is already beyond that: set it to {length}, "
            f"as it was, or to at least {step / steps_per_epoch:.6g}; {way_out}"
        )
    optimizer = {
        name.removeprefix("optimizer."): value for name, value in before.items() if name.startswith("optimizer.")
    }
    optimizer["milestone_epochs"] = tuple(optimizer["milestone_epochs"])  # json knows lists alone
    past = experiment.schedule_of(optimizer, num_epochs=length, steps_per_epoch=steps_per_epoch)
    steps = jnp.arange(step)
    if not jnp.array_equal(jax.vmap(past)(steps), jax.vmap(schedule)(steps)):
        kind = optimizer["schedule"]
        milestones = list(optimizer["milestone_epochs"])
        raise UserError(
            f"{place} was trained with num_epochs={length} and optimizer.milestone_epochs={milestones}: with the new "
            f"ones the schedule {kind!r} would have given other learning rates to steps before it; leave them as they "
            f"were, or {way_out}"
        )
