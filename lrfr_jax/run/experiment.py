"""What a config means: the model, the first state and the step, with every number of the config bound."""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from lrfr_jax import image_ops, models
from lrfr_jax.data import face_sets
from lrfr_jax.errors import UserError
from lrfr_jax.machines import sharding
from lrfr_jax.models import layers
from lrfr_jax.objective import distances, optimizer, train_step, view_rules, views
from lrfr_jax.objective.classifier import Classifier
from lrfr_jax.objective.heads import HEADS, Head

# Arguments of `optimizer.make_optimizer`; the rest of the group are those of `make_schedule`.
UPDATE = ("algorithm", "momentum", "nesterov", "betas", "epsilon", "weight_decay", "weight_decay_on")
UPDATE += ("weight_decay_by_prefix", "clip_norm", "classifier_rate_factor", "frozen")


# What numbers of a config must be that nothing below would refuse, and how it is said.
RANGES = {
    "seed": (lambda value: 0 <= value < 2**32, "from 0 to 2^32 - 1"),
    "batch_size": (lambda value: value >= 1, "at least 1"),
    "batch_parts": (lambda value: value >= 1, "at least 1"),
    "num_epochs": (lambda value: 0 < value < math.inf, "above 0 and finite"),
    "keep_checkpoints": (lambda value: value >= 1, "at least 1"),
    "classifier.shards": (lambda value: value >= 1, "at least 1"),
    "loss.p": (lambda value: 1 <= value < math.inf, "at least 1 and finite"),
    "loss.distance_weight": (lambda value: 0 <= value < math.inf, "at least 0 and finite"),
}


@dataclasses.dataclass(frozen=True)
class Run:
    """What a config means: `init(rng) -> TrainState` and `step(state, images, labels) -> (state, metrics)`."""

    backbone: nn.Module
    classifier: Classifier
    head: Head
    init: Callable
    step: Callable
    schedule: optax.Schedule
    unit: str  # what a batch consists of: 'images', or 'pairs' of two views of an image

    def fresh_state(self, seed: int, mesh: Mesh) -> train_step.TrainState:
        """Draws the state of step 0 and lays it out over the mesh, as `sharding.of_state` says."""
        # XLA's own generator here: the default one takes five times as long to compile for all the draws of a network.
        rng = jax.random.key(seed, impl="rbg")
        placement = sharding.of_state(mesh, jax.eval_shape(self.init, rng))
        return jax.jit(self.init, out_shardings=placement)(rng)


def check_ranges(config: ConfigDict) -> None:
    """Raises `UserError` for a number that is out of its range, see `RANGES`."""
    for name, (is_in_range, wanted) in RANGES.items():
        value = functools.reduce(getattr, name.split("."), config)
        if not isinstance(value, int | float) or not is_in_range(value):
            raise UserError(f"config.{name}={value} must be {wanted}")


def build_run(config: ConfigDict, num_identities: int, steps_per_epoch: float) -> Run:
    """Unpacks the config into the arguments of the floors below, which know no config.

    Raises:
      UserError: a value that is out of range, or does not fit the others.
    """
    check_ranges(config)
    if num_identities < 2:
        raise UserError(f"config.input.dataset={config.input.dataset} has one identity, and nothing to tell apart")
    try:
        model = config.model.to_dict()
        batch_norm = model.pop("batch_norm")
        if batch_norm not in train_step.BATCH_NORMS:
            known = ", ".join(train_step.BATCH_NORMS)
            raise UserError(f"model.batch_norm={batch_norm!r} is unknown: choose one of {known}")
        if batch_norm == "frozen" and model["dropout"]:
            raise UserError(f"model.dropout={model['dropout']} is never applied with batch_norm='frozen': set it to 0")
        if config.batch_parts != 1 and batch_norm != "frozen":
            reason = f"with {batch_norm!r} the images of a batch are normalized together"
            raise UserError(
                f"batch_parts={config.batch_parts} needs model.batch_norm='frozen', as {reason}: set it to 1"
            )
        backbone = models.create_backbone(**model, remat=config.remat)
        precision = layers.PRODUCT_PRECISIONS[config.model.dtype]
        classifier = Classifier(num_identities, **config.classifier, precision=precision)
        head = head_of(config.head.to_dict())
        update = {name: config.optimizer[name] for name in UPDATE}
        schedule = schedule_of(dict(config.optimizer), num_epochs=config.num_epochs, steps_per_epoch=steps_per_epoch)
        update_rule = optimizer.make_optimizer(schedule, **update)
        rules = view_rules.views_of(config.augment.views.to_dict())
        view_rules.check_weights(rules)
        view_weights = {name: rule.weight for name, rule in rules.items()}
        step = functools.partial(
            train_step.train_step,
            seed=config.seed,
            make_views=functools.partial(views.make_views, **config.augment.to_dict()),
            batch_norm=batch_norm,
            parts=config.batch_parts,
            is_frozen=functools.partial(optimizer.is_frozen, frozen=update["frozen"]),
            loss={"head": head, **_loss_arguments(view_weights=view_weights, **config.loss)},
            backbone=backbone,
            classifier=classifier,
            optimizer=update_rule,
        )
        shape = (image_ops.IMAGE_SIZE, image_ops.IMAGE_SIZE, 3)
        parts = {"backbone": backbone, "classifier": classifier, "head": head, "optimizer": update_rule}
        init = functools.partial(train_step.init_state, image_shape=shape, **parts)
        rng = jax.eval_shape(jax.random.key, config.seed)
        # Traced once without computing: a wrong value is found before anything is written.
        jax.eval_shape(step, jax.eval_shape(init, rng), *_abstract_batch(config.batch_size, shape))
    except (ValueError, TypeError, OverflowError, AttributeError) as error:
        raise UserError(f"the config does not fit together: {error}") from error
    return Run(backbone, classifier, head, init, step, schedule, "pairs" if len(view_weights) == 2 else "images")


def head_of(settings: Mapping[str, Any]) -> Head:
    """The head that a config's group `head` stands for.

    Raises:
      UserError: an unknown name, fields that are another head's, or a number that is not finite.
      ValueError: what the head itself refuses.
    """
    numbers = dict(settings)
    name = numbers.pop("name")
    if name not in HEADS:
        raise UserError(f"head.name={name!r} is unknown: choose one of {', '.join(HEADS)}")
    wanted = inspect.signature(HEADS[name]).parameters
    if numbers.keys() != wanted.keys():
        raise UserError(
            f"head.name={name!r} has the fields {', '.join(wanted)}, not {', '.join(numbers)}: give the head as an "
            f"argument of the config file, FILE.py:head={name}, or set `config.head = common.head({name!r})`"
        )
    for field, value in numbers.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"head.{field}={value} must be finite")
    return HEADS[name](**numbers)


def description(
    config: ConfigDict, run: Run, params: Mapping[str, Any], training_set: face_sets.TrainingSet, mesh: Mesh
) -> list[str]:
    """Says in two lines what is trained, and on what."""
    counts = {name: sum(leaf.size for leaf in jax.tree.leaves(tree)) for name, tree in params.items()}
    total, centers = sum(counts.values()), counts["classifier"]
    model = f"{config.model.backbone} of width {config.model.width:g}, embedding of {config.model.embedding_size}"
    count = len(config.augment.views)
    views = {1: "", 2: "two views of "}.get(count, f"{count} views of ")
    return [
        f"{model}: {total:,} parameters, {centers:,} of them class centers",
        f"{config.input.dataset}: {training_set.num_images} images of {training_set.num_identities} identities; "
        f"{views}{config.batch_size} images a step on {mesh.size} devices ({mesh.devices.flat[0].device_kind}); "
        f"{training_set.num_images / config.batch_size:.6g} steps an epoch",
    ]


def schedule_of(settings: Mapping[str, Any], *, num_epochs: float, steps_per_epoch: float) -> optax.Schedule:
    """The learning rates that a config's group `optimizer` stands for."""
    rates = {name: value for name, value in settings.items() if name not in UPDATE}
    return optimizer.make_schedule(num_epochs=num_epochs, steps_per_epoch=steps_per_epoch, **rates)


def _abstract_batch(batch_size: int, shape: tuple[int, ...]) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    return jax.ShapeDtypeStruct((batch_size, *shape), np.uint8), jax.ShapeDtypeStruct((batch_size,), np.int32)


def _loss_arguments(
    *,
    view_weights: Mapping[str, float],
    distance: str,
    p: float,
    reduction: str,
    distance_weight: float,
    weight_unit: str,
) -> dict[str, Any]:
    if weight_unit not in train_step.WEIGHT_UNITS:
        known = ", ".join(train_step.WEIGHT_UNITS)
        raise UserError(f"loss.weight_unit={weight_unit!r} is unknown: choose one of {known}")
    if distance_weight and len(view_weights) != 2:
        raise UserError(
            f"loss.distance_weight={distance_weight} weighs the distance of two views, and augment.views has "
            f"{len(view_weights)} ({', '.join(view_weights)}): set it to 0, or give two views"
        )
    return {
        "view_weights": view_weights,
        "pair_distance": functools.partial(distances.feature_distance, distance=distance, p=p, reduction=reduction),
        "distance_weight": distance_weight,
        "weight_unit": weight_unit,
    }
