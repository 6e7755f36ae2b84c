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

from lrfr_jax.checkpoints import checkpoint, model_card
from lrfr_jax.data import face_sets
from lrfr_jax.data.protocol_arrays import VerificationProtocol
from lrfr_jax.errors import UserError, one_sentence, reason_of
from lrfr_jax.evals import (
    calibration,
    earlier_results,
    embed,
    evaluation,
    plots,
    protocols,
    report,
    set_options,
    tables,
)
from lrfr_jax.evals.embedding_cache import EmbeddingCache
from lrfr_jax.evals.measures import in_full
from lrfr_jax.evals.verification import VerificationResult
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
    planned = evaluation.plan(options.data_dir, evals_of(known.get("evals", {}), options))
    mesh = sharding.make_mesh(class_shards=1)
    batch_size = sharding.rounded_up("--batch_size", options.batch_size, mesh)
    with progress.waiting(f"loading {path}"):
        model = open_model(path)
    metadata = model.metadata
    card = _card(model, planned) if options.calibrate else None
    rounding = metadata["degradation_rounding"]
    embedder = embed.make_embedder(
        model.backbone,
        sizes=evaluation.sizes_of(planned),
        rounding=rounding,
        sharding=sharding.over_batch(mesh),
        mirror=evaluation.needs_mirror(planned),
        is_traced=model.is_traced,
    )
    results = evaluation.run(
        planned,
        embedder,
        jax.device_put(model.variables, sharding.replicated(mesh)),
        rounding=rounding,
        batch_size=batch_size,
        num_threads=os.cpu_count() or 1,
        cache=_cache(options, model),
        on_result=_tell_early(planned),
    )
    made = report.report_of(results, step=metadata["step"], checkpoint=str(path), weights=model.weights)
    # Before anything is written, so that no failure of that loses it.
    print("\n".join([str(path), tables.table(made), *_unresolved(options, results)]), flush=True)
    if output:
        print("\n".join([*earlier_results.write(output, made), f"json: {output}"]))
    if card:
        known = {"results": earlier_results.merge(card.results, made["sets"])}
        known |= {"thresholds": calibration.merge(card.thresholds, calibration.thresholds_of(results))}
        print(f"card: {model_card.write(path, dataclasses.replace(card, **known))}")
    if figures and draw(figures, results, report.read(output) if output else made):
        print(f"plots: {figures}")


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
    if not names:
        raise UserError("this model names no test sets: choose some with --sets")
    kinds = {name: face_sets.open_test_set(options.data_dir, name).kind for name in names}
    taken = {name: _fitting(changes, kind) for name, kind in kinds.items()}
    for key in changes:
        if not any(key in fitting for fitting in taken.values()):
            listed = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
            raise UserError(f"--{key} {changes[key]} fits none of the sets {listed}: see --help for what it is about")
    return {name: {**configured.get(name, {}), **taken[name]} for name in names}


def draw(folder: paths.AnyPath, results: Mapping[str, evaluation.SetResult], made: Mapping[str, Any]) -> bool:
    """Writes accuracy by resolution of the verification sets, and for each its ROC curves and similarity histograms.

    Returns:
      Whether there was anything to draw.

    Raises:
      UserError: the folder cannot be written.
    """
    try:
        with progress.waiting("drawing"):
            return _draw(folder, results, made)
    except OSError as error:
        raise UserError(
            f"the figures cannot be written to {folder} ({reason_of(error)}): choose another folder with --plots"
        ) from error


def _draw(folder: paths.AnyPath, results: Mapping[str, evaluation.SetResult], made: Mapping[str, Any]) -> bool:
    drawn = {name: r.outcome for name, r in results.items() if isinstance(r.outcome, VerificationResult)}
    if not drawn:
        return False
    if not paths.is_remote(folder):
        folder.mkdir(parents=True, exist_ok=True)
    # With the sizes and sets that were measured before; the other figures need the scores, which no json keeps.
    known = [name for name, one in made["sets"].items() if one["kind"] == "verification"]
    plots.accuracy_by_resolution(folder / "accuracy_by_resolution.png", {f"step {made['step']}": made}, sets=known)
    for name, result in drawn.items():
        lower = dict(result.by_mode)
        full = lower.pop(("hr_hr", IMAGE_SIZE))
        rows, shown_name = {}, report.full_name(name, made["sets"][name])
        for mode in sorted({mode for mode, _ in lower}) or ["hr_hr"]:
            title = report.MODE_TITLES[mode]
            entries = [full, *(comparison for which, comparison in lower.items() if which[0] == mode)]
            curves = {f"{c.resolution} px": (c.cosines, result.is_same) for c in entries}
            plots.roc_curves(folder / f"{name}_roc_{mode}.png", curves, title=f"{shown_name}, {title}")
            # The full, a middle and the lowest resolution tell the story; all of them would not fit.
            shown = list(dict.fromkeys([entries[0], entries[len(entries) // 2], entries[-1]]))
            rows[title] = {f"{c.resolution} px": curves[f"{c.resolution} px"] for c in shown}
        plots.similarity_histograms(folder / f"{name}_similarities.png", rows)
    return True


def _unresolved(options: argparse.Namespace, results: Mapping[str, evaluation.SetResult]) -> list[str]:
    """Sentences on the rates that were asked for and are left out, as a set has too few pairs to show them."""
    told = []
    for name, evaluated in ((name, result.evaluation) for name, result in results.items()):
        if options.fars and hasattr(evaluated.rules, "fars"):
            impostors = int((~evaluated.test_set.protocol.is_same).sum())
            missing = ", ".join(in_full(far) for far in evaluated.rules.fars if 1 / impostors > far)
            told += [f"{name}: no TAR at FAR {missing}, as it has {impostors:,} impostor pairs"] if missing else []
    return told


def _card(model: Model, planned: Mapping[str, evaluation.Evaluation]) -> model_card.Card:
    """The card that a calibration adds to, read before anything is embedded: so is what it cannot be made from."""
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
        "compared, to the model's card, for `compare`, `verify` and `demo`; and the results",
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
