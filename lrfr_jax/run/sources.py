"""What a config takes its batches of: its training set and, if it names one, a second set beside it."""

import pathlib
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from lrfr_jax.data import batches, face_sets
from lrfr_jax.data.batches import Source
from lrfr_jax.errors import UserError
from lrfr_jax.machines import sharding
from lrfr_jax.run import experiment

# `config.input.second` without a set.
NONE = {"dataset": "", "batch_size": 0, "order": "shuffled", "images_per_identity": 1}


def open_sources(config: ConfigDict, *, data_dir: pathlib.Path, mesh: Mesh, begins: bool) -> tuple[Source, ...]:
    """Opens the one or two sets of a config, each in its order.

    Args:
      config: of a run.
      data_dir: where prepared sets lie.
      mesh: over which each batch is split.
      begins: False where the run continues, and its batches cannot change any more.

    Raises:
      UserError: a number out of its range, a set that is missing, a batch that cannot be split, or an order that a set
        or a batch cannot have.
    """
    check_second(config)
    sizes = {"--config.batch_size": config.batch_size}
    if config.input.second.dataset:
        sizes["--config.input.second.batch_size"] = config.input.second.batch_size
    for flag, size in sizes.items():
        sharding.check_batch_size(flag, size, mesh, parts=config.batch_parts, begins=begins)
    experiment.check_ranges(config)  # before a seed out of range is drawn from
    names = [config.input.dataset, config.input.second.dataset]
    return bind(config, [face_sets.open_training_set(str(data_dir), name) for name in names if name])


def bind(config: ConfigDict, sets: list[face_sets.TrainingSet]) -> tuple[Source, ...]:
    """Gives one or two sets the orders of a config; the second one is drawn from a seed of its own.

    Raises:
      UserError: an order that a set or a batch cannot have.
    """
    rules = [("config.input", config.input, config.batch_size), ("config.input.second", config.input.second, None)]
    return tuple(
        batches.make_source(
            training_set,
            order=rule.order,
            batch_size=rule.batch_size if batch_size is None else batch_size,
            images_per_identity=rule.images_per_identity,
            seed=batches.folded(config.seed, number) if number else config.seed,
            num_threads=config.input.num_threads,
            group=group,
        )
        for number, (training_set, (group, rule, batch_size)) in enumerate(zip(sets, rules, strict=False))
    )


def check_second(config: ConfigDict) -> None:
    """Raises `UserError` where a second source is described that has no set."""
    second = config.input.second.to_dict()
    if second["dataset"]:
        return
    for field, value in second.items():
        if value != NONE[field]:
            raise UserError(
                f"config.input.second.{field}={value} has no set to be of: name it by --config.input.second.dataset, "
                f"or set the field to {NONE[field]!r}"
            )


def facts(config: ConfigDict, sources: tuple[Source, ...]) -> dict[str, Any]:
    """What checkpoints say of the data whose batches they count, the digests of the sets among it."""
    first, *others = sources
    rule = {"batch_size": config.batch_size, **{name: config.input[name] for name in ("order", "images_per_identity")}}
    own = {"dataset": config.input.dataset, **_of(first.training_set), **rule}
    second = [config.input.second.to_dict() | _of(other.training_set) for other in others]
    return own | {"second": second[0] if second else {}}


def lineage_facts(config: ConfigDict, sources: tuple[Source, ...]) -> dict[str, Any]:
    """What a model card says of the sets, their licences among it; `second` only where there is one."""
    names = config.input.dataset, config.input.second.dataset
    own, *second = [
        {"dataset": name, **_of(source.training_set), "licence": source.training_set.licence}
        for name, source in zip(names, sources, strict=False)
    ]
    return own | ({"second": second[0]} if second else {})


def _of(training_set: face_sets.TrainingSet) -> dict[str, Any]:
    return {name: getattr(training_set, name) for name in ("num_images", "num_identities", "digest")}
