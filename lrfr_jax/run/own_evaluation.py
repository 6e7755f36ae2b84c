"""The evaluation of a run's own test sets while it trains: told set by set, and kept in its workdir."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import Mesh

from lrfr_jax.checkpoints import checkpoint
from lrfr_jax.evals import earlier_results, embed, evaluation, report, tables
from lrfr_jax.files import paths
from lrfr_jax.machines import sharding


def make(
    planned: Mapping[str, evaluation.Evaluation],
    backbone: nn.Module,
    *,
    model: Mapping[str, Any],
    mesh: Mesh,
    rounding: str,
    batch_size: int,
    num_threads: int,
    workdir: paths.AnyPath,
    tell: Callable[[str], None],
) -> Callable[[Any, int], dict[str, float]]:
    """Builds what evaluates a state of a run.

    Args:
      planned: from `evaluation.plan`.
      backbone: of the run.
      model: the arguments that it was made of, for the digest of the weights.
      mesh: over which the variables are replicated.
      rounding: as in training.
      batch_size: images at a time over all devices, a multiple of them.
      num_threads: that decode.
      workdir: where `eval/<step>.json` is written, by process 0.
      tell: gets each set's numbers as text as soon as they are known.

    Returns:
      (variables of the backbone, step) -> metrics of all sets.

    Raises:
      UserError: a score without constants, or centering of a set that has no folds to take means from.
    """
    planned = evaluation.with_constants(planned, backbone=model["backbone"], line=None, means={})  # a run has no card
    embedder = embed.make_embedder(
        backbone,
        sizes=evaluation.sizes_of(planned),
        rounding=rounding,
        sharding=sharding.over_batch(mesh),
        mirror=evaluation.needs_mirror(planned),
    )

    def evaluate(variables: Any, step: int) -> dict[str, float]:
        about = {"step": step, "checkpoint": f"{checkpoint.FOLDER}/{step}"}

        def tell_set(name: str, result: evaluation.SetResult) -> None:
            tell(f"step {step}, {name}\n{tables.table(report.report_of({name: result}, **about))}")

        results = evaluation.run(
            planned,
            embedder,
            variables,
            rounding=rounding,
            batch_size=batch_size,
            num_threads=num_threads,
            cache=None,  # every evaluation of a run has other weights
            on_result=tell_set,
        )
        if jax.process_index() == 0:
            weights = checkpoint.model_digest(variables, model)
            summary = report.report_of(results, **about, weights=weights)
            for sentence in earlier_results.write(workdir / "eval" / f"{step}.json", summary):
                tell(sentence)
        return report.metrics_of(results)

    return evaluate
