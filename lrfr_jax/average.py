"""`python -m lrfr_jax.average`: a model between two, as a fine-tuned one and the one that it started from.

python -m lrfr_jax.average runs/mine pretrained/r50 --share 0.5 --output averaged

Fine-tuning teaches a network small faces of the people that it saw, and costs it some of what it knew of others. The
mean of its weights and of those that it started from keeps most of both. Both must be the same network, and only
models that have weights in common have a useful mean: one of two runs with random weights recognizes nothing.
"""

import argparse
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from lrfr_jax.checkpoints import checkpoint, compatibility, lineage, model_card
from lrfr_jax.errors import UserError, one_sentence
from lrfr_jax.files import paths
from lrfr_jax.models import statistics
from lrfr_jax.run import warm_start
from lrfr_jax.terminal import progress
from lrfr_jax.trained.model import Model, find_model, open_model


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the checkpoint that the command line asks for; prints what it is, and exits with 1 on bad input."""
    options = _parser().parse_args(argv)
    with one_sentence():
        paths.require_local({"output": options.output})
        print(average(options))


def average(options: argparse.Namespace) -> str:
    """Writes `options.output`, a model between `options.model` and `options.other`, and returns the report.

    Raises:
      UserError: a bad option or model, two networks, or a folder that is there already; nothing is written then.
    """
    if not 0 <= options.share <= 1:
        raise UserError(f"--share {options.share:g} must be from 0, the first model as it is, to 1, the second")
    if pathlib.Path(options.output).exists():
        raise UserError(f"{options.output} is there already: name another folder, or remove it")
    paths.check_folder(pathlib.Path(options.output), flag="--output")
    model, other = map(_opened, (options.model, options.other))
    changes = warm_start.differences(model.metadata["model"], other.metadata["model"])
    if changes:
        raise UserError(f"{model.path} and {other.path} are two networks ({'; '.join(changes)}): they have no mean")
    variables = mean(model.variables, other.variables, share=options.share)
    facts = {"other": other.path.name, "digest": other.weights, "share": options.share}
    metadata = {name: model.metadata[name] for name in ("model", "degradation_rounding", "step")}
    metadata["history"] = [*_both(model, other), lineage.entry("average", **facts)]
    metadata |= _promise(model, other)
    checkpoint.save_backbone(options.output, variables, metadata)
    card = model_card.of_checkpoint(options.output, variables=variables, metadata=metadata)
    model_card.write(options.output, card)
    left_out = [one.path for one in (model, other) if statistics.ADAPTED in one.variables]
    lost = "; statistics by resolution fit other weights and are left out: run lrfr_jax.adapt again" if left_out else ""
    return (
        f"{options.output}: {1 - options.share:g} of the weights of {model.path} and {options.share:g} of those of "
        f"{other.path}{lost}"
    )


def mean(variables: Any, other: Any, *, share: float) -> Any:
    r"""The weights and running statistics between those of two models of one network.

    .. math:: w = (1 - s)\,w_1 + s\,w_2

    A sum in float64, so that a share of 0 or 1 gives one of the two as it is.

    References:
      Wortsman et al. 2022, Robust fine-tuning of zero-shot models (WiSE-FT), arXiv 2109.01903.
    """

    def between(mine: Any, others: Any) -> np.ndarray:
        mine, others = np.asarray(mine), np.asarray(others)
        return ((1 - share) * mine.astype(np.float64) + share * others.astype(np.float64)).astype(mine.dtype)

    return {name: jax.tree.map(between, variables[name], other[name]) for name in variables if name in _AVERAGED}


_AVERAGED = ("params", "batch_stats")


def _opened(name: str) -> Model:
    found = find_model(name)
    if found.is_file():
        raise UserError(f"{found} is an export, whose weights are part of a program: name a checkpoint")
    with progress.waiting(f"loading {found}"):
        return open_model(found)


def _both(model: Model, other: Model) -> list[dict[str, Any]]:
    """The history of the first, with what is in that of the second alone before it: data has licenses there too."""
    mine, others = (list(one.metadata.get("history", ())) for one in (model, other))
    return [entry for entry in others if entry not in mine] + mine


def _promise(model: Model, other: Model) -> dict[str, Any]:
    """`compatible_with` of the mean of two that fit the same embeddings, and then of the smaller faces; or {}.

    A model fits its own embeddings, so what was trained to fit the other keeps its promise.
    """
    shared = compatibility.common(*(compatibility.digests_of(one.weights, one.metadata) for one in (model, other)))
    made = [entry for one in (model, other) if (entry := compatibility.of_metadata(one.metadata))]
    kept = [entry for entry in made if entry["digest"] in shared]
    return {compatibility.KEY: min(kept, key=lambda entry: entry["resolution"])} if kept else {}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lrfr_jax.average",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("model", help="a run's folder (its newest checkpoint is taken), or one checkpoint")
    add("other", help="the same of another model, as that which the first one started from")
    add("--share", type=float, default=0.5, help="of the second model, from 0 to 1 (default %(default)s)")
    add("--output", required=True, metavar="DIR", help="folder of the checkpoint, which must not be there yet")
    return parser


if __name__ == "__main__":
    main()
