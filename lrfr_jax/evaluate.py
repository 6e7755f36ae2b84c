"""A trained model in, its numbers on every test set out: table, json, figures.

python -m lrfr_jax.evaluate --workdir runs/maug --data_dir data
python -m lrfr_jax.evaluate --checkpoint runs/maug/checkpoints/2000 --data_dir data --sets lfw --resolutions 20,14,7
python -m lrfr_jax.evaluate --checkpoint model.onnx --data_dir data --sets lfw
"""

import argparse
import dataclasses
import os
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from lrfr_jax.checkpoints import checkpoint, model_card
from lrfr_jax.data import face_sets
from lrfr_jax.data.protocol_arrays import VerificationProtocol
from lrfr_jax.errors import UserError, one_sentence
from lrfr_jax.evals import (
    calibration,
    earlier_results,
    embed,
    evaluation,
    line_fit,
    means,
    protocols,
    report,
    result_figures,
    set_options,
    tables,
)
from lrfr_jax.evals.embedding_cache import EmbeddingCache
from lrfr_jax.evals.measures import in_full
from lrfr_jax.files import paths
from lrfr_jax.image_ops import IMAGE_SIZE
from lrfr_jax.machines import sharding
from lrfr_jax.terminal import progress
from lrfr_jax.trained.model import Model, card_of, find_model, open_model


def main(argv: Sequence[str] | None = None) -> None:
    """Evaluates one model as the command line says.

    Raises:
      UserError: a bad option, model or set, or a place that cannot be written.
    """
    options = _parser().parse_args(argv)
    path = find_model(options.checkpoint or checkpoint.newest(options.workdir))
    known = {} if path.is_file() else checkpoint.load_metadata(path)
    output, figures = _places(options, known.get("step"))
    fit_set = line_fit.opened(options)
    planned = evaluation.plan(options.data_dir, evals_of(known.get("evals", {}), options))
    mesh = sharding.make_mesh(class_shards=1)
    batch_size = sharding.rounded_up("--batch_size", options.batch_size, mesh)
    with progress.waiting(f"loading {path}"):
        model = open_model(path)
    card = _card(options, model, planned)
    variables = jax.device_put(model.variables, sharding.replicated(mesh))
    if fit_set:
        card = _fitted(fit_set, model, variables, card, mesh=mesh, batch_size=batch_size)
    if not planned:
        return
    planned = _with_known(planned, model, card, calibrate=options.calibrate)
    results = evaluation.run(
        planned,
        _embedder(model, mesh, sizes=evaluation.sizes_of(planned), mirror=evaluation.needs_mirror(planned)),
        variables,
        rounding=model.metadata["degradation_rounding"],
        batch_size=batch_size,
        num_threads=os.cpu_count() or 1,
        cache=_cache(options, model),
        on_result=_tell_early(planned),
    )
    made = report.report_of(results, step=model.metadata["step"], checkpoint=str(path), weights=model.weights)
    # Before anything is written, so that no failure of that loses it.
    print("\n".join([str(path), tables.table(made), *_tried(results), *_unresolved(options, results)]), flush=True)
    if output:
        print("\n".join([*earlier_results.write(output, made), f"json: {output}"]))
    if options.calibrate:
        print(f"card: {model_card.write(path, _calibrated(card, results, made))}")
    if figures and result_figures.draw(figures, results, report.read(output) if output else made):
        print(f"plots: {figures}")


def _embedder(model: Model, mesh: Mesh, *, sizes: tuple[int, ...], mirror: bool) -> embed.Embedder:
    return embed.make_embedder(
        model.backbone,
        sizes=sizes,
        rounding=model.metadata["degradation_rounding"],
        sharding=sharding.over_batch(mesh),
        mirror=mirror,
        is_traced=model.is_traced,
    )


def _fitted(
    fit_set: line_fit.FitSet, model: Model, variables: Any, card: model_card.Card, *, mesh: Mesh, batch_size: int
) -> model_card.Card:
    """Fits the constants of the score qmag, tells them, and keeps them in the card."""
    embedder = _embedder(model, mesh, sizes=(IMAGE_SIZE,), mirror=False)
    found = line_fit.fit(fit_set, embedder, variables, batch_size=batch_size)
    card = dataclasses.replace(card, qmag=found)
    pairs = f"{found['genuine_pairs']:,} genuine and {found['impostor_pairs']:,} impostor pairs of {found['set']}"
    print(f"qmag: alpha {found['alpha']:.6f}, beta {found['beta']:.6f}, from {pairs}", flush=True)
    print(f"card: {model_card.write(model.path, card)}", flush=True)
    return card


def _with_known(
    planned: Mapping[str, evaluation.Evaluation], model: Model, card: model_card.Card | None, *, calibrate: bool
) -> dict[str, evaluation.Evaluation]:
    """Puts in what the model's card knows, and what a calibration tries beside what is asked."""
    planned = evaluation.with_constants(
        planned,
        backbone=model.metadata["model"]["backbone"],
        line=card.line if card else None,
        means=means.by_fusion(card.means if card else []),
    )
    return {name: calibration.with_other_centering(one) if calibrate else one for name, one in planned.items()}


def _calibrated(
    card: model_card.Card, results: Mapping[str, evaluation.SetResult], made: Mapping[str, Any]
) -> model_card.Card:
    """The card with the results, thresholds and means of this call."""
    measured = calibration.means_of(results)
    found = calibration.merge(card.thresholds, calibration.thresholds_of(results), means=measured)
    merged = earlier_results.merge(card.results, made["sets"])
    return dataclasses.replace(card, results=merged, thresholds=found, means=means.merge(card.means, measured))


def _tell_early(planned: Mapping[str, evaluation.Evaluation]) -> Callable[[str, evaluation.SetResult], None]:
    """Returns what tells the numbers of a set beside the results, as long as others are to come."""
    waiting = set(planned)

    def tell(name: str, result: evaluation.SetResult) -> None:
        waiting.discard(name)
        if waiting:
            print(tables.table(report.report_of({name: result}, step=0, checkpoint="")), file=sys.stderr, flush=True)

    return tell


def evals_of(configured: Mapping[str, Mapping[str, Any]], options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Returns what `evaluation.plan` takes: the run's own settings, changed by the options given.

    A set that the run does not know gets the settings of its own protocol. An option counts for the sets whose kind has
    such a setting.

    Raises:
      UserError: there is no set to evaluate, or an option is for none of them.
    """
    changes = {key: getattr(options, key) for key in set_options.SETTINGS if getattr(options, key) is not None}
    names = options.sets or list(configured)
    if not names and options.fit_qmag:
        return {}
    if not names:
        raise UserError("this model names no test sets: choose some with --sets")
    kinds = {name: face_sets.open_test_set(options.data_dir, name).kind for name in names}
    taken = {name: _fitting(changes, kind) for name, kind in kinds.items()}
    for key in changes:
        if not any(key in fitting for fitting in taken.values()):
            listed = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
            raise UserError(f"--{key} {changes[key]} fits none of the sets {listed}: see --help for what it is about")
    return {name: {**configured.get(name, {}), **taken[name]} for name in names}


def _tried(results: Mapping[str, evaluation.SetResult]) -> list[str]:
    """The numbers by other rules than those that were asked for."""
    others = {
        f"{name}, centering {one.evaluation.rules.centering}": one
        for name, result in results.items()
        for one in result.also
    }
    return ["tried as well:", tables.table(report.report_of(others, step=0, checkpoint=""))] if others else []


def _unresolved(options: argparse.Namespace, results: Mapping[str, evaluation.SetResult]) -> list[str]:
    """Sentences on the rates that were asked for and are left out, as a set has too few pairs to show them."""
    told = []
    for name, evaluated in ((name, result.evaluation) for name, result in results.items()):
        if options.fars and hasattr(evaluated.rules, "fars"):
            impostors = int((~evaluated.test_set.protocol.is_same).sum())
            missing = ", ".join(in_full(far) for far in evaluated.rules.fars if 1 / impostors > far)
            told += [f"{name}: no TAR at FAR {missing}, as it has {impostors:,} impostor pairs"] if missing else []
    return told


def _card(
    options: argparse.Namespace, model: Model, planned: Mapping[str, evaluation.Evaluation]
) -> model_card.Card | None:
    """The card where something is taken from it or added to it, read before anything is embedded, as is what a
    calibration cannot be made from."""
    asked = any(one.rules.score != "cosine" or one.rules.centering != "none" for one in planned.values())
    if not (asked or options.calibrate or options.fit_qmag):
        return None
    if options.calibrate:
        kinds = {name: one.test_set.protocol for name, one in planned.items()}
        calibration.check({n: kept.is_same for n, kept in kinds.items() if isinstance(kept, VerificationProtocol)})
    card = card_of(model)
    tables.check(card.results, model_card.path_of(model.path))
    return card


def _fitting(changes: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The changes that a set of this kind can take; a protocol only if it is one for this kind."""
    keys = protocols.settings_of(kind)
    fitting = {key: value for key, value in changes.items() if key in keys}
    if "protocol" in fitting and not isinstance(protocols.PROTOCOLS[fitting["protocol"]], protocols.KIND_RULES[kind]):
        del fitting["protocol"]
    return fitting


def _cache(options: argparse.Namespace, model: Model) -> EmbeddingCache | None:
    kept = options.workdir and not paths.is_remote(options.workdir)
    folder = options.embeddings or (kept and pathlib.Path(options.workdir, "embeddings"))
    if not folder or options.no_cache:
        return None
    description = model.metadata["model"] | {"rounding": model.metadata["degradation_rounding"]}
    if model.path.is_file():
        description |= {"file": model.weights}  # a program has no variables that would tell it from another
    return EmbeddingCache(paths.local(folder, "--embeddings"), checkpoint.model_digest(model.variables, description))


def _places(options: argparse.Namespace, step: int | None) -> tuple[paths.AnyPath | None, paths.AnyPath | None]:
    """The json and the folder of figures, if any, looked at before anything is loaded.

    As given; for --workdir W by default W/eval/<step>.json; for --checkpoint none by default.
    """
    output = paths.of(options.workdir) / "eval" / f"{step}.json" if options.workdir else None
    output = paths.of(options.output) if options.output else output
    if output and output.suffix != ".json":
        raise UserError(f"--output {output} must end in .json")
    figures = paths.of(options.plots) if options.plots else output and output.with_suffix("")
    if output:
        paths.check_file(output)
    if figures:
        paths.check_folder(figures, flag="--plots")
    if options.embeddings and not options.no_cache:
        paths.check_folder(paths.local(options.embeddings, "--embeddings"), flag="--embeddings")
    return output, figures


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lrfr_jax.evaluate",
        description="Every number of a trained model: verification, identification and templates, at any resolutions.",
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--workdir", help="folder of a run: its newest checkpoint is evaluated")
    which.add_argument("--checkpoint", help="one checkpoint, W/checkpoints/<step>, or an exported file")
    parser.add_argument("--data_dir", required=True, help="folder of the prepared sets")
    parser.add_argument(
        "--sets", "--set", type=set_options.list_of(str), metavar="A,B", help="test sets; default: the run's own"
    )
    set_options.add(parser)
    line_fit.add_options(parser)
    parser.add_argument(
        "--output",
        metavar="FILE.json",
        help="default with --workdir W: W/eval/<step>.json; a file that holds results of these weights keeps those "
        "that are not measured again, and one with other results gets another name",
    )
    parser.add_argument("--plots", metavar="DIR", help="folder of the figures; default: the json's name without .json")
    parser.add_argument(
        "--calibrate",
        action="store_true",
        help="add the thresholds at false accept rates that the verification sets support, for every size that is "
        "compared, to the model's card, for `compare`, `verify` and `demo`; and the results, with and without "
        "centering, and the mean embeddings that centering takes away",
    )
    parser.add_argument("--batch_size", type=int, default=64, help="images at a time over all devices (default 64)")
    parser.add_argument(
        "--embeddings",
        metavar="DIR",
        help="where features are kept for the next call; default with --workdir W on this machine: W/embeddings",
    )
    parser.add_argument("--no_cache", action="store_true", help="neither look features up nor keep them")
    return parser


if __name__ == "__main__":
    with one_sentence():
        main(sys.argv[1:])
