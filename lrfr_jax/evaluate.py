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
from lrfr_jax.data.protocol_arrays import VerificationProtocol
from lrfr_jax.errors import UserError, one_sentence
from lrfr_jax.evals import (
    calibration,
    carried_over,
    earlier_results,
    embed,
    evaluation,
    line_fit,
    means,
    report,
    result_figures,
    set_options,
    tables,
    two_models,
)
from lrfr_jax.evals.embedding_cache import EmbeddingCache
from lrfr_jax.evals.measures import in_full
from lrfr_jax.files import paths
from lrfr_jax.image_ops import IMAGE_SIZE
from lrfr_jax.machines import sharding
from lrfr_jax.terminal import progress
from lrfr_jax.trained import gallery_model
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
    planned = evaluation.plan(options.data_dir, set_options.evals_of(known.get("evals", {}), options))
    _look_at_gallery(options, planned)
    mesh = sharding.make_mesh(class_shards=1)
    batch_size = sharding.rounded_up("--batch_size", options.batch_size, mesh)
    with progress.waiting(f"loading {path}"):
        model = open_model(path)
        gallery = _gallery(options, model)
    if gallery:
        planned = two_models.with_gallery(planned, weights=gallery.model.weights, from_size=gallery.from_size)
    card = _card(options, model, planned)
    variables = jax.device_put(model.variables, sharding.replicated(mesh))
    if fit_set:
        card = _fitted(fit_set, model, variables, card, mesh=mesh, batch_size=batch_size)
    if not planned:
        return
    planned = _with_known(planned, model, card, calibrate=options.calibrate)
    results = _run(options, model, variables, planned, mesh=mesh, batch_size=batch_size, gallery=gallery)
    made = report.report_of(results, step=model.metadata["step"], checkpoint=str(path), weights=model.weights)
    # Before anything is written, so that no failure of that loses it.
    told = [gallery.in_words(path) if gallery else str(path), tables.table(made)]
    carried = carried_over.table(made["sets"]) if options.calibrate else []
    print("\n".join([*told, *_tried(results), *_unresolved(options, results), *carried]), flush=True)
    if output:
        print("\n".join([*earlier_results.write(output, made), f"json: {output}"]))
    if options.calibrate:
        print(f"card: {model_card.write(path, _calibrated(card, results, made))}")
    if figures and result_figures.draw(figures, results, report.read(output) if output else made):
        print(f"plots: {figures}")


def _look_at_gallery(options: argparse.Namespace, planned: Mapping[str, evaluation.Evaluation]) -> None:
    gallery_model.look(options)
    if options.gallery_checkpoint:
        two_models.check(planned)
        if options.fit_qmag:
            raise UserError("--fit_qmag is about one model: leave --gallery_checkpoint out")
        if options.calibrate and any(one.rules.centering != "none" for one in planned.values()):
            raise UserError("--calibrate with --centering keeps means of one model: leave --gallery_checkpoint out")


def _gallery(options: argparse.Namespace, model: Model) -> gallery_model.GalleryModel | None:
    if not options.gallery_checkpoint:
        return None
    return gallery_model.open_fitting(options.gallery_checkpoint, model=model, from_size=options.gallery_from)


def _run(
    options: argparse.Namespace,
    model: Model,
    variables: Any,
    planned: Mapping[str, evaluation.Evaluation],
    *,
    mesh: Mesh,
    batch_size: int,
    gallery: gallery_model.GalleryModel | None,
) -> dict[str, evaluation.SetResult]:
    how = {"sizes": evaluation.sizes_of(planned), "mirror": evaluation.needs_mirror(planned)}
    beside = {}
    if gallery:
        held = jax.device_put(gallery.model.variables, sharding.replicated(mesh))
        beside["gallery"] = embed.Gallery(_embedder(gallery.model, mesh, **how), held, gallery.from_size)
        beside["gallery_cache"] = _cache(options, gallery.model)
    return evaluation.run(
        planned,
        _embedder(model, mesh, **how),
        variables,
        rounding=model.metadata["degradation_rounding"],
        batch_size=batch_size,
        num_threads=os.cpu_count() or 1,
        cache=_cache(options, model),
        on_result=_tell_early(planned),
        **beside,
    )


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
    gallery_model.add_options(parser)
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
