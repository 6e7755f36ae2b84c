"""The state of a run: where it begins or goes on, and what is kept of it."""

import json
import logging
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from lrfr_jax.checkpoints import checkpoint, model_card, newest_state
from lrfr_jax.data import face_sets
from lrfr_jax.files import paths
from lrfr_jax.machines import sharding
from lrfr_jax.objective import train_step
from lrfr_jax.run import continuation, experiment, set_features, teachers, warm_start
from lrfr_jax.run import workdir as workdirs
from lrfr_jax.terminal import progress

logger = logging.getLogger("lrfr_jax")

LAST = "last"  # weights and statistics of the last step, among what is kept beside their average


def first_state(
    config: ConfigDict,
    run: experiment.Run,
    training_set: face_sets.TrainingSet,
    mesh: Mesh,
    manager: Any,
    metadata: dict[str, Any],
    num_steps: int,
) -> tuple[int, train_step.TrainState]:
    """Returns the step that was reached and its state, or 0 and the first one; completes the history of `metadata`."""
    with progress.waiting("drawing the first parameters"):
        state = jax.block_until_ready(run.fresh_state(config.seed, mesh))
    with progress.waiting("reading the newest checkpoint"):
        start, state, before = _restore(manager, state, metadata)
    if start:
        place = checkpoint.folder_of(manager) / str(start)
        steps_per_epoch = training_set.num_images / config.batch_size
        length = {"step": start, "num_steps": num_steps, "steps_per_epoch": steps_per_epoch}
        continuation.check(before, schedule=run.schedule, place=place, **length)
        fields = continuation.changes(before, json.loads(config.to_json()))
        metadata["history"] = continuation.with_changes(metadata["history"], start, fields)
        changed = f", now with {continuation.as_text(fields)}" if fields else ""
        logger.info("continuing after step %d%s", start, changed)
    else:
        state = run.begun(_begun(config, run, state, training_set, mesh, metadata), mesh)
    return start, state


def _begun(
    config: ConfigDict,
    run: experiment.Run,
    state: train_step.TrainState,
    training_set: face_sets.TrainingSet,
    mesh: Mesh,
    metadata: dict[str, Any],
) -> train_step.TrainState:
    """The state of a fresh run with the weights and class centers that the config names."""
    if config.init_from:
        state = warm_start.with_backbone_of(state, config.init_from, mesh=mesh)
        logger.info("the backbone starts from %s", config.init_from)
        metadata["history"][:0] = checkpoint.load_metadata(config.init_from).get("history", [])
    if config.class_centers == "random":
        return state
    if config.class_centers == "checkpoint":
        of_set = {"num_identities": training_set.num_identities, "mesh": mesh}
        return warm_start.with_classifier_of(state, config.init_from, **of_set)
    how = {
        "mesh": mesh,
        "batch_size": sharding.rounded_up("--config.eval_batch_size", config.eval_batch_size, mesh),
        "num_threads": config.input.num_threads,
    }
    if config.class_centers == "teacher":
        known = {"digest": metadata["teacher"]["digest"]}
        means = teachers.class_means(config.teacher.checkpoint, run.teacher, training_set, **known, **how)
    else:
        variables = {"params": state.params["backbone"], "batch_stats": state.batch_stats}
        asked = {"what": "class means", "mirror": False}
        features = set_features.of_images(run.backbone, variables, training_set, **asked, **how)
        means = set_features.class_means(features, training_set, num_threads=how["num_threads"])
    whose = " by the teacher" if config.class_centers == "teacher" else ""
    logger.info("the class centers start from the mean embeddings of %d identities%s", len(means), whose)
    return warm_start.with_class_centers(state, means, rows=run.classifier.rows, mesh=mesh)


def split(state: train_step.TrainState) -> tuple[dict, dict]:
    """Returns what evaluation needs of a state, and the rest: a checkpoint's items `backbone` and `training`.

    Where the weights are averaged, evaluation needs the average, and the weights are among the rest.
    """
    backbone = {"params": state.params["backbone"], "batch_stats": state.batch_stats}
    training = {name: value for name, value in state.params.items() if name != "backbone"}
    training |= {"opt_state": state.opt_state, "step": state.step}
    remembered = {"head": state.head, "terms": state.terms, LAST: backbone if state.average else {}}
    return state.average or backbone, training | {name: value for name, value in remembered.items() if value}


def save(
    manager: Any,
    state: train_step.TrainState,
    step: int,
    metadata: dict,
    workdir: paths.AnyPath,
    undescribed: int | None,
) -> int:
    """Starts saving, which goes on in the background; the step saved before is whole by then and gets its card.

    Returns:
      The step that has no card yet.
    """
    if undescribed is not None:
        checkpoint.wait(manager)
        model_card.describe(workdir, undescribed, is_main_process=jax.process_index() == 0)
    backbone, training = split(state)
    checkpoint.save(manager, step, backbone=backbone, training=training, metadata=metadata | {"step": step})
    return step


def _restore(manager: Any, state: train_step.TrainState, metadata: dict) -> tuple[int, train_step.TrainState, dict]:
    """Returns (0, state, {}) for a fresh run, else the newest step, its state, and the config that it had."""
    before: dict = {}

    def check(found: dict) -> None:
        place = checkpoint.folder_of(manager)
        workdirs.check_data(place, found["data"], metadata["data"])
        workdirs.check_teacher(place, found.get("teacher", {}), metadata.get("teacher", {}))
        metadata["history"] = found.get("history", [])  # what it began with; the folder of `init_from` may be gone
        before.clear()
        before.update(continuation.config_at(found))

    backbone, training = split(state)
    restored = newest_state.restore(manager, backbone=backbone, training=training, check=check)
    if restored is None:
        return 0, state, before
    step, backbone, training = restored
    params = {name: training[name] for name in state.params if name != "backbone"}
    last = training[LAST] if state.average else backbone
    params["backbone"] = last["params"]
    changing = {"opt_state": training["opt_state"], "head": training.get("head", state.head), "terms": state.terms}
    changing |= {"terms": training["terms"]} if state.terms else {}
    changing |= {"average": backbone} if state.average else {}
    return step, train_step.TrainState(training["step"], params, last.get("batch_stats", {}), **changing), before
