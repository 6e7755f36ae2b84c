"""A run in time: data, model, state, restore, and the loop {step, log, evaluate, save}."""

import contextlib
import json
import logging
import math
import pathlib
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from clu import parameter_overview
from flax.traverse_util import flatten_dict
from jax.sharding import Mesh
from ml_collections import ConfigDict

from lrfr_jax import (
    checkpoint,
    device_cache,
    experiment,
    lineage,
    metric_writers,
    model_card,
    paths,
    processes,
    progress,
    sharding,
    train_step,
    warm_start,
)
from lrfr_jax import workdir as workdirs
from lrfr_jax.data import face_sets
from lrfr_jax.errors import UserError
from lrfr_jax.evals import earlier_results, embed, evaluation, report, tables

logger = logging.getLogger("lrfr_jax")


def train(config: ConfigDict, *, workdir: paths.AnyPath, data_dir: pathlib.Path) -> None:
    """Trains what `config` describes to its end, beginning at the newest checkpoint of `workdir`, if it has one.

    Raises:
      UserError: bad config or data; a loss that is not finite.
      SystemExit: 143 after SIGTERM, with the state saved.
    """
    # ---- Devices and data. A set that is missing is found now, not after hours.
    mesh = sharding.make_mesh(config.classifier.shards)
    sharding.check_batch_size("--config.batch_size", config.batch_size, mesh, parts=config.batch_parts)
    training_set = face_sets.open_training_set(str(data_dir), config.input.dataset)
    device_cache.check(config.input.cache, training_set, mesh)
    steps_per_epoch = training_set.num_images / config.batch_size

    # ---- Model, state, restore.
    begins = not checkpoint.steps_of(workdir)
    warm_start.check(config.init_from, config.class_centers, model=_model_arguments(config), begins=begins)
    with jax.set_mesh(mesh):  # as in the loop, which need not trace the network again then
        run = experiment.build_run(config, training_set.num_identities, steps_per_epoch)
    num_steps = math.ceil(config.num_epochs * steps_per_epoch)
    evaluate = _build_evaluation(config, run.backbone, mesh, workdir, data_dir)
    workdirs.claim(workdir, json.loads(config.to_json()), is_main_process=jax.process_index() == 0)
    state = run.fresh_state(config.seed, mesh)
    metadata = _metadata(config, training_set, data_dir)
    manager = checkpoint.create_manager(workdir, keep=config.keep_checkpoints)
    start, state = _restore(manager, state, metadata)
    if start == 0 and config.init_from:
        state = _warm_start(config, run, state, training_set, mesh)
        metadata["history"][:0] = checkpoint.load_metadata(config.init_from).get("history", [])
    evaluation_due = progress.is_due(config.eval_every_steps, start, num_steps)
    is_unevaluated = evaluation_due and not metric_writers.is_evaluated(workdir, start)
    if start >= num_steps and not is_unevaluated and model_card.is_written(workdir, start):
        logger.info("%s is finished (step %d of %d): see its folder eval", workdir, start, num_steps)
        return
    is_main_process = jax.process_index() == 0
    writer, side_writer = metric_writers.create_writers(workdir, start_step=start, is_main_process=is_main_process)
    _announce(config, state, training_set, mesh, start, num_steps, side_writer)

    # ---- The loop.
    outputs = (sharding.of_state(mesh, state), sharding.replicated(mesh))
    step_fn = jax.jit(device_cache.on_batch(run.step, mesh), donate_argnums=0, out_shardings=outputs)
    batches, cached = _feed(config, training_set, mesh, start)
    timing, current, undescribed, stopping, step = progress.Progress(start), None, None, False, start
    with processes.sigterm_noted() as stop_wanted, jax.set_mesh(mesh), contextlib.closing(writer):
        if is_unevaluated:
            logger.info("step %d was saved and then not evaluated: it is now", start)
            writer.write_scalars(start, evaluate(state, start))
        for step in range(start + 1, num_steps + 1):
            since = time.perf_counter()
            batch = sharding.to_devices(next(batches), mesh)
            timing.waited(time.perf_counter() - since)
            state, metrics = step_fn(state, batch, cached)
            # The step before is checked while this one runs: the device never waits for the host.
            previous, current = current, (step, metrics)
            _check_finite(previous, workdir)
            stopping = stop_wanted(step)
            log_due = progress.is_due(config.log_every_steps, step, num_steps)
            evaluation_due = progress.is_due(config.eval_every_steps, step, num_steps)
            save_due = progress.is_due(config.checkpoint_every_steps, step, num_steps) or stopping
            if log_due or evaluation_due or save_due:
                _check_finite(current, workdir)
            if log_due:
                scalars = {f"train/{key}": float(value) for key, value in metrics.items()}
                scalars["train/learning_rate"] = float(run.schedule(step - 1))
                writer.write_scalars(step, scalars)
                line, speeds = timing.line(step, num_steps, scalars, config.batch_size)
                side_writer.write_scalars(step, speeds)
                logger.info(line)
            # Saved after its line is written: no checkpoint is newer than the last line of metrics.jsonl. And on the
            # disk before it is evaluated, which may fail: what is missing is made up for when the run continues.
            if save_due:
                writer.flush()
                undescribed = _save(manager, state, step, metadata, workdir, undescribed)
            if stopping and step < num_steps:
                break
            if evaluation_due:
                since = time.perf_counter()
                checkpoint.wait(manager)
                writer.write_scalars(step, evaluate(state, step))
                timing.paused(time.perf_counter() - since)
        checkpoint.close(manager)
        model_card.describe_run(workdir, is_main_process=is_main_process)
    if stopping and step < num_steps:
        logger.info("stopped by SIGTERM: step %d is saved, the same command continues", step)
        raise SystemExit(128 + signal.SIGTERM)
    logger.info("finished: checkpoints and their cards, metrics and evaluations are in %s", workdir)


def _metadata(config: ConfigDict, training_set: face_sets.TrainingSet, data_dir: pathlib.Path) -> dict[str, Any]:
    """What every checkpoint says of itself: how to build the model, which data it counts batches of, its history."""
    data = {
        "dataset": config.input.dataset,
        "num_images": training_set.num_images,
        "num_identities": training_set.num_identities,
        "digest": training_set.digest,
        "test_sets": {name: face_sets.digest_of(str(data_dir), name) for name in config.evals},
        "batch_size": config.batch_size,
        "seed": config.seed,
    }
    facts = {name: data[name] for name in ("dataset", "num_images", "num_identities", "digest")}
    plain = json.loads(config.to_json())
    recipe = flatten_dict({name: value for name, value in plain.items() if name != "evals"}, sep=".")
    return {
        "model": _model_arguments(config),
        "data": data,
        "evals": plain["evals"],
        "degradation_rounding": config.augment.rounding,
        "history": [lineage.entry("training", **facts, licence=training_set.licence, recipe=recipe)],
    }


def _model_arguments(config: ConfigDict) -> dict[str, Any]:
    return {key: value for key, value in config.model.to_dict().items() if key != "batch_norm"}


def _warm_start(
    config: ConfigDict, run: experiment.Run, state: train_step.TrainState, training_set: Any, mesh: Mesh
) -> train_step.TrainState:
    state = warm_start.with_backbone_of(state, config.init_from, mesh=mesh)
    logger.info("the backbone starts from %s", config.init_from)
    if config.class_centers == "random":
        return state
    centers = warm_start.mean_embeddings(
        run.backbone,
        _split(state)[0],
        training_set,
        mesh=mesh,
        batch_size=config.eval_batch_size,
        num_threads=config.input.num_threads,
    )
    logger.info("the class centers start from the mean embeddings of %d identities", len(centers))
    # On the host, since the whole may be more than one device holds.
    centers = {"class_centers": np.pad(centers, ((0, run.classifier.rows - len(centers)), (0, 0)))}
    centers = jax.device_put(centers, sharding.of_state(mesh, centers))
    return state.replace(params=state.params | {"classifier": centers})


def _split(state: train_step.TrainState) -> tuple[dict, dict]:
    backbone = {"params": state.params["backbone"], "batch_stats": state.batch_stats}
    return backbone, {"classifier": state.params["classifier"], "opt_state": state.opt_state, "step": state.step}


def _save(
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
    backbone, training = _split(state)
    checkpoint.save(manager, step, backbone=backbone, training=training, metadata=metadata | {"step": step})
    return step


def _restore(manager: Any, state: train_step.TrainState, metadata: dict) -> tuple[int, train_step.TrainState]:
    """Returns (0, state) for a fresh run, else the newest step and its state."""

    def check(found: dict) -> None:
        workdirs.check_data(checkpoint.folder_of(manager), found["data"], metadata["data"])
        metadata["history"] = found.get("history", [])  # what it began with; the folder of `init_from` may be gone

    backbone, training = _split(state)
    restored = checkpoint.restore_newest(manager, backbone=backbone, training=training, check=check)
    if restored is None:
        return 0, state
    step, backbone, training = restored
    params = {"backbone": backbone["params"], "classifier": training["classifier"]}
    logger.info("continuing after step %d", step)
    return step, train_step.TrainState(training["step"], params, backbone["batch_stats"], training["opt_state"])


def _announce(config, state, training_set, mesh: Mesh, start: int, num_steps: int, side_writer: Any) -> None:
    if start == num_steps:
        return
    overview = parameter_overview.get_parameter_overview(state.params, include_stats=False)
    logger.info("parameters:\n%s", overview)
    logger.info(
        "%s: %d images of %d identities; %d images a step on %d devices (%s); steps %d to %d",
        config.input.dataset,
        training_set.num_images,
        training_set.num_identities,
        config.batch_size,
        mesh.size,
        mesh.devices.flat[0].device_kind,
        start + 1,
        num_steps,
    )
    side_writer.write_texts(start, {"config": f"```\n{config}\n```", "parameters": f"```\n{overview}\n```"})


def _feed(
    config: ConfigDict, training_set: face_sets.TrainingSet, mesh: Mesh, start: int
) -> tuple[Iterator[dict[str, np.ndarray]], dict[str, jax.Array]]:
    reading = {key: value for key, value in config.input.items() if key != "dataset"}
    which = {"batch_size": config.batch_size, "seed": config.seed, "start_batch": start}
    return device_cache.feed(training_set, mesh=mesh, **which, **reading)


def _build_evaluation(
    config: ConfigDict, backbone: nn.Module, mesh: Mesh, workdir: paths.AnyPath, data_dir: pathlib.Path
) -> Callable[[train_step.TrainState, int], dict[str, float]]:
    """Returns (state, step) -> metrics of all sets; it also writes `eval/<step>.json` and shows the table."""
    planned = evaluation.plan(data_dir, {name: dict(settings) for name, settings in config.evals.items()})
    sharding.check_batch_size("--config.eval_batch_size", config.eval_batch_size, mesh)
    embedder = embed.make_embedder(
        backbone,
        sizes=evaluation.sizes_of(planned),
        rounding=config.augment.rounding,
        sharding=sharding.over_batch(mesh),
        mirror=evaluation.needs_mirror(planned),
    )

    def evaluate(state: train_step.TrainState, step: int) -> dict[str, float]:
        results = evaluation.run(
            planned,
            embedder,
            _split(state)[0],
            rounding=config.augment.rounding,
            batch_size=config.eval_batch_size,
            num_threads=config.input.num_threads,
            cache=None,  # every evaluation of a run has other weights
        )
        weights = checkpoint.model_digest(_split(state)[0], _model_arguments(config))
        summary = report.report_of(results, step=step, checkpoint=f"{checkpoint.FOLDER}/{step}", weights=weights)
        if jax.process_index() == 0:
            for sentence in earlier_results.write(workdir / "eval" / f"{step}.json", summary):
                logger.info(sentence)
        logger.info("step %d\n%s", step, tables.table(summary))
        return report.metrics_of(results)

    return evaluate


def _check_finite(step_and_metrics: tuple[int, dict] | None, workdir: paths.AnyPath) -> None:
    """Raises `UserError` with the step and the loss parts if any of them is NaN or infinite."""
    if step_and_metrics is None:
        return
    step, metrics = step_and_metrics
    values = {key: float(value) for key, value in metrics.items()}
    if all(map(math.isfinite, values.values())):
        return
    saved = checkpoint.steps_of(workdir)
    last_good = f"the last good checkpoint is step {max(saved)}" if saved else "no checkpoint was saved before"
    parts = ", ".join(f"{key}={value:.6g}" for key, value in values.items())
    raise UserError(
        f"step {step}: the loss is not finite ({parts}); {last_good} in {workdir / checkpoint.FOLDER}; "
        "a lower optimizer.learning_rate, a longer warm-up or optimizer.clip_norm in a new --workdir may help"
    )
