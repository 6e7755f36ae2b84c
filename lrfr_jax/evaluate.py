"""A checkpoint in, every verification set out: table, json, figures.

python -m lrfr_jax.evaluate --workdir runs/maug --data_dir data
python -m lrfr_jax.evaluate --checkpoint runs/maug/checkpoints/2000 --data_dir data --sets lfw --resolutions 20,14,7
"""

import argparse
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from lrfr_jax import checkpoint, models, sharding
from lrfr_jax.errors import UserError, one_sentence
from lrfr_jax.evals import embed, plots, report, verification
from lrfr_jax.evals.protocols import PROTOCOLS


def main(argv: Sequence[str] | None = None) -> None:
    """Evaluates one checkpoint as the command line says.

    Raises:
      UserError: a bad option, checkpoint or set.
    """
    options = _parser().parse_args(argv)
    path = pathlib.Path(options.checkpoint) if options.checkpoint else checkpoint.newest(options.workdir)
    variables, metadata = checkpoint.load_backbone(path)
    evals = evals_of(metadata.get("evals", {}), options)
    mesh = sharding.make_mesh()
    sharding.check_batch_size("--batch_size", options.batch_size, mesh)
    embedder = embed.make_embedder(
        models.create_backbone(**metadata["model"]),
        sizes=verification.sizes_of(evals),
        rounding=metadata["degradation_rounding"],
        sharding=sharding.over_batch(mesh),
    )
    results = verification.run_evals(
        embedder,
        jax.device_put(variables, sharding.replicated(mesh)),
        data_dir=options.data_dir,
        evals=evals,
        batch_size=options.batch_size,
        num_threads=os.cpu_count() or 1,
    )
    made = report.report_of(results, step=metadata["step"], checkpoint=str(path))
    print(f"{path}\n{report.table(made)}", flush=True)
    output = _output(options, metadata["step"])
    if output:
        report.write_report(output, made)
        print(f"json: {output}")
    figures = options.plots or (output and output.with_suffix(""))
    if figures:
        draw(pathlib.Path(figures), results, made)
        print(f"plots: {figures}")


def evals_of(configured: Mapping[str, Mapping[str, Any]], options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Returns what `verification.run_evals` takes: the run's own settings, changed by the options given.

    Raises:
      UserError: there is no set to evaluate, a setting is bad, or a set that the run does not know has no settings.
    """
    changes = {"protocol": options.protocol, "resolutions": options.resolutions, "fars": options.fars}
    changes = {key: value for key, value in changes.items() if value is not None}
    names = options.sets or list(configured)
    if not names:
        raise UserError("this checkpoint names no verification sets: choose some with --sets")
    evals = {name: {**configured.get(name, {}), **changes} for name in names}
    for name, settings in evals.items():
        missing = verification.SETTINGS - set(settings)
        if missing:
            wanted = ", ".join(f"--{key}" for key in sorted(missing))
            raise UserError(
                f"{name} is not among the run's own sets ({', '.join(configured) or 'none'}): give {wanted}"
            )
        verification.check_settings(name, settings)
    return evals


def draw(folder: pathlib.Path, results: Mapping[str, verification.VerificationResult], made: Mapping[str, Any]) -> None:
    """Writes accuracy by resolution over all sets, and for each set its ROC curves and similarity histograms."""
    folder.mkdir(parents=True, exist_ok=True)
    plots.accuracy_by_resolution(
        folder / "accuracy_by_resolution.png", {f"step {made['step']}": made}, sets=list(results)
    )
    for name, result in results.items():
        full, *lower = result.modes
        rows = {}
        for mode in sorted({m.mode for m in lower}) or ["hr_hr"]:
            title = report.MODE_TITLES[mode]
            entries = [full, *(m for m in lower if m.mode == mode)]
            curves = {f"{m.resolution} px": (m.cosines, result.is_same) for m in entries}
            plots.roc_curves(folder / f"{name}_roc_{mode}.png", curves, title=f"{name}, {title}")
            # The full, a middle and the lowest resolution tell the story; all of them would not fit.
            shown = list(dict.fromkeys([entries[0], entries[len(entries) // 2], entries[-1]]))
            rows[title] = {f"{m.resolution} px": curves[f"{m.resolution} px"] for m in shown}
        plots.similarity_histograms(folder / f"{name}_similarities.png", rows)


def _output(options: argparse.Namespace, step: int) -> pathlib.Path | None:
    """The json's place: as given; for --workdir W by default W/eval/<step>.json; for --checkpoint none by default."""
    if options.output:
        return pathlib.Path(options.output)
    return pathlib.Path(options.workdir) / "eval" / f"{step}.json" if options.workdir else None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lrfr_jax.evaluate",
        description="Verification accuracy of a checkpoint at full resolution, HR-LR and LR-LR.",
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--workdir", help="folder of a run: its newest checkpoint is evaluated")
    which.add_argument("--checkpoint", help="one checkpoint, W/checkpoints/<step>")
    parser.add_argument("--data_dir", required=True, help="folder of the prepared sets")
    parser.add_argument("--sets", type=_list_of(str), metavar="A,B", help="verification sets; default: the run's own")
    parser.add_argument(
        "--resolutions",
        type=_list_of(int),
        metavar="R,R",
        help="side lengths in pixels to reduce to; the full one is always added; default: the run's own",
    )
    parser.add_argument("--protocol", choices=sorted(PROTOCOLS), help="scoring rules; default: the run's own")
    parser.add_argument(
        "--fars", type=_list_of(float), metavar="F,F", help="false accept rates of TAR@FAR; default: the run's own"
    )
    parser.add_argument("--output", metavar="FILE.json", help="default with --workdir W: W/eval/<step>.json")
    parser.add_argument("--plots", metavar="DIR", help="folder of the figures; default: the json's name without .json")
    parser.add_argument("--batch_size", type=int, default=64, help="images at a time over all devices (default 64)")
    return parser


def _list_of(kind: type):
    def parse(text: str) -> tuple:
        return tuple(kind(part) for part in text.split(",") if part)

    parse.__name__ = f"comma-separated {kind.__name__}"
    return parse


if __name__ == "__main__":
    with one_sentence():
        main(sys.argv[1:])
