"""What a config means: the model, the first state and the step, with every number of the config bound."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from lrfr_jax import image_ops, models
from lrfr_jax.data import face_sets
from lrfr_jax.errors import UserError
from lrfr_jax.machines import sharding
from lrfr_jax.models import layers, taps
from lrfr_jax.objective import embedding, optimizer, train_step, view_rules, views
from lrfr_jax.objective.classifier import Classifier
from lrfr_jax.objective.heads import Head
from lrfr_jax.objective.named_features import Names
from lrfr_jax.objective.teacher import Teacher
from lrfr_jax.objective.total_loss import Objective
from lrfr_jax.run import objectives, teachers

SHAPE = (image_ops.IMAGE_SIZE, image_ops.IMAGE_SIZE, 3)
# Of a config's group `optimizer`: arguments of `optimizer.make_schedule`, and of `make_optimizer`.
SCHEDULE = ("schedule", "learning_rate", "warmup_epochs", "milestone_epochs", "decay_factor")
UPDATE = ("algorithm", "momentum", "nesterov", "betas", "epsilon", "weight_decay", "weight_decay_on")
UPDATE += ("weight_decay_by_prefix", "decay_towards", "clip_norm", "classifier_rate_factor", "frozen")


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
    "optimizer.weight_average": (lambda value: 0 <= value < 1, "at least 0, for none, and below 1"),
}


@dataclasses.dataclass(frozen=True)
class Run:
    """What a config means: `init(rng) -> TrainState` and `step(state, batch, of_teacher) -> (state, metrics)`."""

    backbone: nn.Module
    classifier: Classifier | None
    head: Head | None
    rules: Mapping[str, view_rules.View]
    objective: Objective
    teacher: Teacher | None
    init: Callable
    step: Callable
    schedule: optax.Schedule
    optimizer: optax.GradientTransformation

    @property
    def unit(self) -> str:
        """What a batch consists of: 'images', or 'pairs' of two views of an image."""
        return "pairs" if len(self.objective.student_taps()) == 2 else "images"

    def fresh_state(self, seed: int, mesh: Mesh) -> train_step.TrainState:
        """Draws the state of step 0 and lays it out over the mesh, as `sharding.of_state` says."""
        # XLA's own generator here: the default one takes five times as long to compile for all the draws of a network.
        rng = jax.random.key(seed, impl="rbg")
        placement = sharding.of_state(mesh, jax.eval_shape(self.init, rng))
        return jax.jit(self.init, out_shardings=placement)(rng)

    def begun(self, state: train_step.TrainState, mesh: Mesh) -> train_step.TrainState:
        """A state with other first weights, of which average and optimizer then know."""
        placement = sharding.of_state(mesh, state.opt_state)
        opt_state = jax.jit(self.optimizer.init, out_shardings=placement)(state.params)
        average = {"params": state.params["backbone"], "batch_stats": state.batch_stats} if state.average else {}
        # Copies, as a step gives its state's arrays away.
        return state.replace(opt_state=opt_state, average=jax.tree.map(jnp.array, average))


def check_ranges(config: ConfigDict) -> None:
    """Raises `UserError` for a number that is out of its range, see `RANGES`."""
    for name, (is_in_range, wanted) in RANGES.items():
        value = functools.reduce(getattr, name.split("."), config)
        if not isinstance(value, int | float) or not is_in_range(value):
            raise UserError(f"config.{name}={value} must be {wanted}")


def build_run(config: ConfigDict, num_identities: int, steps_per_epoch: float, *, second_identities: int = 0) -> Run:
    """Unpacks the config into the arguments of the floors below, which know no config.

    Args:
      num_identities: of the training set.
      steps_per_epoch: of the learning rates.
      second_identities: of the second source, if batches have one.

    Raises:
      UserError: a value that is out of range, or does not fit the others.
    """
    check_ranges(config)
    if num_identities < 2:
        raise UserError(f"config.input.dataset={config.input.dataset} has one identity, and nothing to tell apart")
    try:
        return _build(config, num_identities, steps_per_epoch, second_identities)
    except (ValueError, TypeError, OverflowError, AttributeError) as error:
        raise UserError(f"the config does not fit together: {error}") from error


def _build(config: ConfigDict, num_identities: int, steps_per_epoch: float, second_identities: int) -> Run:
    backbone, batch_norm = _backbone_of(config)
    precision = layers.PRODUCT_PRECISIONS[config.model.dtype]
    head = objectives.head_of(config.head.to_dict())
    classifier = head and Classifier(num_identities, **config.classifier, precision=precision)
    names = Names(objectives.parts_of(config.parts.to_dict(), backbone), classifier, head, config.classified)
    rules = view_rules.views_of(config.augment.views.to_dict())
    groups = {"terms": config.terms.to_dict(), "loss": config.loss.to_dict()}
    objective = objectives.objective_of(names, rules, backbone, **groups)
    teacher = teachers.build(
        config.teacher.to_dict(), objective, rules, config.augment.to_dict(), num_identities=num_identities
    )
    _check_class_centers(config, backbone, teacher, is_classified=head is not None)
    update = {name: config.optimizer[name] for name in UPDATE}
    schedule = schedule_of(dict(config.optimizer), num_epochs=config.num_epochs, steps_per_epoch=steps_per_epoch)
    update_rule = optimizer.make_optimizer(schedule, **update)
    step = functools.partial(
        train_step.train_step,
        seed=config.seed,
        make_views=functools.partial(views.make_views, **config.augment.to_dict()),
        flips_of=functools.partial(views.flips_of, rules=rules, flip=config.augment.flip),
        sources={name: rule.source for name, rule in rules.items()},
        second_labels_from=num_identities,
        batch_norm=batch_norm,
        parts=config.batch_parts,
        is_frozen=functools.partial(optimizer.is_frozen, frozen=update["frozen"]),
        objective=objective,
        teacher=teacher,
        backbone=backbone,
        optimizer=update_rule,
        weight_average=config.optimizer.weight_average,
    )
    parts = {"backbone": backbone, "names": names, "terms": objective.terms, "optimizer": update_rule}
    total = num_identities + second_identities
    parts["is_averaged"] = config.optimizer.weight_average > 0
    init = functools.partial(train_step.init_state, image_shape=SHAPE, num_identities=total, **parts)
    # Traced once without computing: a wrong value is found before anything is written.
    rng = jax.eval_shape(jax.random.key, config.seed)
    of_teacher, kept = {} if teacher is None else teachers.abstract_variables(teacher), None
    if teacher is not None and teacher.is_kept:
        kept, of_teacher = models.feature_size(teacher.backbone), {}
    jax.eval_shape(step, jax.eval_shape(init, rng), _abstract_batch(config, kept), of_teacher)
    return Run(backbone, classifier, head, rules, objective, teacher, init, step, schedule, update_rule)


def _check_class_centers(
    config: ConfigDict, backbone: nn.Module, teacher: Teacher | None, *, is_classified: bool
) -> None:
    if config.class_centers == "random":
        return
    here = f"config.class_centers={config.class_centers!r}"
    if not is_classified:
        raise UserError(f"{here} is of a classifier, and head.name='none' has none: set it to 'random'")
    if config.class_centers != "checkpoint" and config.classified != taps.FEATURE:
        raise UserError(
            f"{here} are means of a backbone's feature, and the classifier reads {config.classified}: set it to "
            "'random' or 'checkpoint'"
        )
    if config.class_centers != "teacher":
        return
    if teacher is None:
        raise UserError(f"{here} needs a teacher: set config.teacher.checkpoint, and name what terms read of it")
    sizes = [models.feature_size(network) for network in (teacher.backbone, backbone)]
    if sizes[0] != sizes[1]:
        raise UserError(
            f"{here}: the teacher's features are {sizes[0]} numbers long, and those that are classified {sizes[1]}: "
            "set it to 'random', 'mean_embedding' or 'checkpoint'"
        )


def _backbone_of(config: ConfigDict) -> tuple[nn.Module, str]:
    model = config.model.to_dict()
    batch_norm = model.pop("batch_norm")
    if batch_norm not in embedding.BATCH_NORMS:
        known = ", ".join(embedding.BATCH_NORMS)
        raise UserError(f"model.batch_norm={batch_norm!r} is unknown: choose one of {known}")
    if batch_norm == "frozen" and model["dropout"]:
        raise UserError(f"model.dropout={model['dropout']} is never applied with batch_norm='frozen': set it to 0")
    if config.batch_parts != 1 and batch_norm != "frozen":
        reason = f"with {batch_norm!r} the images of a batch are normalized together"
        raise UserError(f"batch_parts={config.batch_parts} needs model.batch_norm='frozen', as {reason}: set it to 1")
    return models.create_backbone(**model, remat=config.remat), batch_norm


def description(
    config: ConfigDict, run: Run, params: Mapping[str, Any], training_set: face_sets.TrainingSet, mesh: Mesh
) -> list[str]:
    """Says in two or three lines what is trained, on what, and what is unusual about it."""
    counts = {name: sum(leaf.size for leaf in jax.tree.leaves(tree)) for name, tree in params.items()}
    total, centers = sum(counts.values()), counts.get("classifier", 0)
    model = f"{config.model.backbone} of width {config.model.width:g}, embedding of {config.model.embedding_size}"
    count = len(run.objective.student_taps())
    views = {1: "", 2: "two views of "}.get(count, f"{count} views of ")
    more = []
    if config.input.images_per_identity > 1:
        more.append(f"{config.input.images_per_identity} images of each identity side by side")
    if config.input.second.dataset:
        more.append(f"beside them {config.input.second.batch_size} images of {config.input.second.dataset}")
    if run.teacher is not None:
        more.append(f"learning from {config.teacher.checkpoint}")
    return [
        f"{model}: {total:,} parameters, {centers:,} of them class centers",
        f"{config.input.dataset}: {training_set.num_images} images of {training_set.num_identities} identities; "
        f"{views}{config.batch_size} images a step on {mesh.size} devices ({mesh.devices.flat[0].device_kind}); "
        f"{training_set.num_images / config.batch_size:.6g} steps an epoch",
        *(["; ".join(more)] if more else []),
    ]


def schedule_of(settings: Mapping[str, Any], *, num_epochs: float, steps_per_epoch: float) -> optax.Schedule:
    """The learning rates that a config's group `optimizer` stands for."""
    rates = {name: settings[name] for name in SCHEDULE}
    return optimizer.make_schedule(num_epochs=num_epochs, steps_per_epoch=steps_per_epoch, **rates)


def _abstract_batch(config: ConfigDict, kept: int | None) -> dict[str, Any]:
    def images(size: int) -> dict[str, jax.ShapeDtypeStruct]:
        shapes = {"image": ((size, *SHAPE), np.uint8), "label": ((size,), np.int32)}
        return {name: jax.ShapeDtypeStruct(*shape) for name, shape in shapes.items()}

    batch: dict[str, Any] = images(config.batch_size)
    if config.input.get("second") and config.input.second.dataset:
        batch["second"] = images(config.input.second.batch_size)
    if kept is not None:
        batch["teacher"] = jax.ShapeDtypeStruct((config.batch_size, 2, kept), np.float32)
    return batch
