"""A run in time: data, model, state, restore, and the loop {step, log, evaluate, save}."""

import contextlib
import json
import logging
import math
import pathlib
import signal
import time
from collections.abc import Iterator
from typing import Any

import jax
from clu import parameter_overview
from flax.traverse_util import flatten_dict
from jax.sharding import Mesh
from ml_collections import ConfigDict

from lrfr_jax.checkpoints import checkpoint, lineage, model_card
from lrfr_jax.data import face_sets
from lrfr_jax.evals import evaluation
from lrfr_jax.files import paths
from lrfr_jax.machines import processes, sharding
from lrfr_jax.run import (
    device_cache,
    divergence,
    experiment,
    metric_writers,
    own_evaluation,
    sources,
    states,
    teaching,
    warm_start,
)
from lrfr_jax.run import workdir as workdirs
from lrfr_jax.terminal import progress

logger = logging.getLogger("lrfr_jax")

# Every parameter by name, shape and size, in the workdir.
PARAMETERS_FILE = "parameters.txt"
FINISHED = (
    "%s is finished (step %d of %d): see its folder eval; a larger num_epochs extends it, `lrfr_jax.evaluate` measures "
    "other sets"
)


def train(config: ConfigDict, *, workdir: paths.AnyPath, data_dir: pathlib.Path) -> None:
    """Trains what `config` describes to its end, beginning at the newest checkpoint of `workdir`, if it has one.

    Raises:
      UserError: bad config or data; a loss that is not finite.
      SystemExit: 143 after SIGTERM, with the state saved.
    """
    # ---- Devices and data. A set that is missing is found now, not after hours.
    begins = not checkpoint.steps_of(workdir)
    mesh = sharding.make_mesh(config.classifier.shards)
    taken = sources.open_sources(config, data_dir=data_dir, mesh=mesh, begins=begins)
    device_cache.check(config.input.cache, taken, mesh)
    training_set = taken[0].training_set
    steps_per_epoch = training_set.num_images / config.batch_size

    # ---- Model, state, restore.
    warm_start.check(config.init_from, config.class_centers, model=_model_arguments(config), begins=begins)
    # The mesh as in the loop, which need not trace the network again then.
    with jax.set_mesh(mesh), progress.waiting("tracing the step"):
        identities, *others = (source.training_set.num_identities for source in taken)
        run = experiment.build_run(config, identities, steps_per_epoch, second_identities=sum(others))
    num_steps = math.ceil(config.num_epochs * steps_per_epoch)
    evaluate = _build_evaluation(config, run, mesh, workdir, data_dir)
    plain, is_main_process = json.loads(config.to_json()), jax.process_index() == 0
    metadata = _metadata(config, run, taken, data_dir)
    workdirs.claim(workdir, plain, is_main_process=is_main_process)
    manager = checkpoint.create_manager(workdir, keep=config.keep_checkpoints)
    start, state = states.first_state(config, run, training_set, mesh, manager, metadata, num_steps)
    evaluation_due = progress.is_due(config.eval_every_steps, start, num_steps)
    is_unevaluated = evaluation_due and not metric_writers.is_evaluated(workdir, start)
    if start >= num_steps and not is_unevaluated and model_card.is_written(workdir, start):
        logger.info(FINISHED, workdir, start, num_steps)
        return
    workdirs.renew(workdir, plain, is_main_process=is_main_process)
    writer, side_writer = metric_writers.create_writers(workdir, start_step=start, is_main_process=is_main_process)
    if start < num_steps:
        _announce(config, run, state, training_set, mesh, start, num_steps, workdir, side_writer)

    # ---- The loop.
    outputs = (sharding.of_state(mesh, state), sharding.replicated(mesh))
    step_fn = jax.jit(device_cache.on_batch(run.step, mesh), donate_argnums=0, out_shardings=outputs)
    batches, cached, of_teacher = _feed(config, run, taken, metadata, mesh, start)
    length = {"step": start, "num_steps": num_steps, "steps_per_epoch": steps_per_epoch}
    timing = progress.Progress(**length, batch_size=config.batch_size, unit=run.unit)
    current, undescribed, stopping, step = None, None, False, start
    with processes.sigterm_noted() as stop_wanted, jax.set_mesh(mesh), contextlib.closing(writer):
        if is_unevaluated:
            logger.info("step %d was saved and then not evaluated: it is now", start)
            writer.write_scalars(start, evaluate(states.split(state)[0], start))
        for step in range(start + 1, num_steps + 1):
            since = time.perf_counter()
            batch = sharding.to_devices(next(batches), mesh)
            timing.waited(time.perf_counter() - since)
            with timing.compiling(step):
                state, metrics = step_fn(state, batch, cached, of_teacher)
            # The step before is checked while this one runs: the device never waits for the host.
            previous, current = current, (step, metrics)
            divergence.check(previous, workdir)
            stopping = stop_wanted(step)
            log_due = progress.is_due(config.log_every_steps, step, num_steps)
            evaluation_due = progress.is_due(config.eval_every_steps, step, num_steps)
            save_due = progress.is_due(config.checkpoint_every_steps, step, num_steps) or stopping
            if log_due or evaluation_due or save_due:
                divergence.check(current, workdir)
            if log_due:
                _log(step, metrics, float(run.schedule(step - 1)), timing, writer, side_writer)
            elif timing.is_overdue():
                timing.sign_of_life(step)
            # Saved after its line is written: no checkpoint is newer than the last line of metrics.jsonl. And on the
            # disk before it is evaluated, which may fail: what is missing is made up for when the run continues.
            if save_due:
                writer.flush()
                undescribed = states.save(manager, state, step, metadata, workdir, undescribed)
            if stopping and step < num_steps:
                break
            if evaluation_due:
                since = time.perf_counter()
                checkpoint.wait(manager)
                writer.write_scalars(step, evaluate(states.split(state)[0], step))
                timing.paused(time.perf_counter() - since)
        checkpoint.close(manager)
        model_card.describe_run(workdir, is_main_process=is_main_process)
    if stopping and step < num_steps:
        logger.info("stopped by SIGTERM: step %d is saved, the same command continues", step)
        raise SystemExit(128 + signal.SIGTERM)
    logger.info("finished: checkpoints and their cards, metrics and evaluations are in %s", workdir)


def _metadata(
    config: ConfigDict, run: experiment.Run, taken: tuple[sources.Source, ...], data_dir: pathlib.Path
) -> dict[str, Any]:
    """What every checkpoint says of itself: how to build the model, which data it counts batches of, its history."""
    test_sets = {name: face_sets.digest_of(str(data_dir), name) for name in config.evals}
    data = sources.facts(config, taken) | {"test_sets": test_sets, "seed": config.seed}
    plain = json.loads(config.to_json())
    recipe = flatten_dict({name: value for name, value in plain.items() if name != "evals"}, sep=".")
    return {
        "model": _model_arguments(config),
        "data": data,
        "evals": plain["evals"],
        "degradation_rounding": config.augment.rounding,
        **teaching.metadata_of(config, run),
        "history": [lineage.entry("training", **sources.lineage_facts(config, taken), recipe=recipe)],
    }


def _model_arguments(config: ConfigDict) -> dict[str, Any]:
    return {key: value for key, value in config.model.to_dict().items() if key != "batch_norm"}


def _log(step: int, metrics: dict, rate: float, timing: progress.Progress, writer: Any, side_writer: Any) -> None:
    scalars = {f"train/{key}": float(value) for key, value in metrics.items()} | {"train/learning_rate": rate}
    writer.write_scalars(step, scalars)
    line, speeds = timing.line(step, scalars)
    side_writer.write_scalars(step, speeds)
    logger.info(line)


def _announce(config, run, state, training_set, mesh, start: int, num_steps: int, workdir, side_writer: Any) -> None:
    for line in experiment.description(config, run, state.params, training_set, mesh):
        logger.info(line)
    logger.info("steps %d to %d; every parameter: %s", start + 1, num_steps, workdir / PARAMETERS_FILE)
    overview = parameter_overview.get_parameter_overview(state.params, include_stats=False)
    if jax.process_index() == 0:
        paths.write_text(workdir / PARAMETERS_FILE, f"{overview}\n")
    side_writer.write_texts(start, {"config": f"```\n{config}\n```", "parameters": f"```\n{overview}\n```"})


def _feed(
    config: ConfigDict, run: experiment.Run, taken: tuple[sources.Source, ...], metadata: dict, mesh: Mesh, start: int
) -> tuple[Iterator[dict[str, Any]], dict[str, Any], dict[str, Any]]:
    """(batches, what they point into, what the step takes of a teacher)."""
    reading = {name: config.input[name] for name in ("cache", "num_threads", "prefetch_images")}
    batches, cached = device_cache.feed(taken, mesh=mesh, start_batch=start, **reading)
    return teaching.taught(config, run, taken[0], metadata, batches, cached, mesh=mesh, start=start)


def _build_evaluation(
    config: ConfigDict, run: experiment.Run, mesh: Mesh, workdir: paths.AnyPath, data_dir: pathlib.Path
) -> Any:
    planned = evaluation.plan(data_dir, {name: dict(settings) for name, settings in config.evals.items()})
    return own_evaluation.make(
        planned,
        run.backbone,
        model=_model_arguments(config),
        mesh=mesh,
        rounding=config.augment.rounding,
        batch_size=sharding.rounded_up("--config.eval_batch_size", config.eval_batch_size, mesh),
        num_threads=config.input.num_threads,
        workdir=workdir,
        tell=logger.info,
    )
