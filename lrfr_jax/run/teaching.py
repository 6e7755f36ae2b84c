"""A run with a teacher: what its checkpoints say of it, and what feeds the step."""

from collections.abc import Iterator
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from lrfr_jax.checkpoints import compatibility
from lrfr_jax.data import pipeline
from lrfr_jax.data.batches import Source
from lrfr_jax.machines import sharding
from lrfr_jax.run import device_cache, experiment, teachers
from lrfr_jax.terminal import progress


def metadata_of(config: ConfigDict, run: experiment.Run) -> dict[str, Any]:
    """What checkpoints say of a teacher: the digest of its weights and, if so promised, that embeddings fit it."""
    path = config.teacher.checkpoint
    if run.teacher is None:
        return {}
    with progress.waiting("reading the teacher"):
        of_network, digest = teachers.digests_of(path, run.teacher)
    found: dict[str, Any] = {"teacher": {"checkpoint": path, "digest": digest}}
    if config.teacher.compatible_from:
        resolution = config.teacher.compatible_from
        found[compatibility.KEY] = compatibility.entry(path, digest=of_network, resolution=resolution)
    return found


def taught(
    config: ConfigDict,
    run: experiment.Run,
    source: Source,
    metadata: dict[str, Any],
    batches: Iterator[dict[str, Any]],
    cached: dict[str, Any],
    *,
    mesh: Mesh,
    start: int,
) -> tuple[Iterator[dict[str, Any]], dict[str, Any], dict[str, Any]]:
    """Adds to what feeds a run the teacher's features, if they are kept, and returns else the teacher's weights.

    Args:
      config, run: of the run.
      source: the training set in its order.
      metadata: of the run's checkpoints, which name the teacher.
      batches, cached: what `device_cache.feed` returned.
      mesh: of the run.
      start: the step that the run has reached.

    Returns:
      (batches, what is cached, what the step takes of the teacher).
    """
    if run.teacher is None:
        return batches, cached, {}
    path = config.teacher.checkpoint
    if not run.teacher.is_kept:
        with progress.waiting("loading the teacher"):
            return batches, cached, teachers.load(path, run.teacher, mesh)
    how = {
        "digest": metadata["teacher"]["digest"],
        "batch_size": sharding.rounded_up("--config.eval_batch_size", config.eval_batch_size, mesh),
        "num_threads": config.input.num_threads,
    }
    kept = teachers.kept_features(path, run.teacher, source.training_set, mesh=mesh, **how)
    if cached:
        return batches, cached | {"teacher": device_cache.with_rows(kept, mesh)}, {}
    which = {"start_batch": start, "process_index": jax.process_index(), "process_count": jax.process_count()}
    return teachers.with_kept(batches, pipeline.training_numbers(source, **which), kept), cached, {}
