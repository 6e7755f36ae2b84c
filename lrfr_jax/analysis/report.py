"""A study on one page: tables, figures, training curves, how it was made, in one HTML file that needs nothing else.

python -m lrfr_jax.analysis.report --sweep configs/sweeps/finetune_study.py --workdir runs/study --output study.html
python -m lrfr_jax.analysis.report --workdirs runs/baseline,runs/maug --output comparison.html
"""

import argparse
import pathlib
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence

from lrfr_jax.analysis import compare, html_page, run_facts, tables, training_curves
from lrfr_jax.errors import UserError, one_sentence
from lrfr_jax.evals import plots, report
from lrfr_jax.files import paths, sweep_file
from lrfr_jax.run import metric_writers
from lrfr_jax.terminal import comma_list, progress

# What a figure shows, by what its file's name holds; the longest name that fits counts.
CAPTIONS = {
    "similarities": "Cosine similarities of genuine and impostor pairs, and the area that the two histograms share.",
    "resolution": "Accuracy against resolution, and the structural similarity of the reduced images.",
    "gradient_norm": "Norm of the gradient of the backbone's parameters against the resolution of the images.",
    "tsne": "t-SNE of the embeddings of the same faces at several resolutions.",
    "derivatives": "Derivatives of the distance functions by the difference of one dimension.",
    "roc": "ROC curves: true accept rate against false accept rate, over all pairs.",
    "dimension_errors": "Differences between the embeddings at full and at low resolution, dimension by dimension.",
    "pca": "First two principal components of the embeddings of the same faces at several resolutions.",
    "accuracy_by_resolution": "Verification accuracy against resolution; bands are 95 % intervals over the pairs.",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the page that the command line asks for.

    Raises:
      UserError: a bad option, sweep file, run or figure, or a page that cannot be written.
    """
    options = _parser().parse_args(argv)
    paths.require_local(vars(options))
    output = pathlib.Path(options.output)
    paths.check_file(output)
    command = shlex.join(["python", "-m", "lrfr_jax.analysis.report", *(sys.argv[1:] if argv is None else argv)])
    if options.sweep:
        if not options.workdir:
            raise UserError("--sweep needs --workdir, the folder of its runs")
        title, parts, rows = _sweep_tables(options)
    else:
        for flag in ("workdir", "metrics", "reference", "also"):
            if getattr(options, flag):
                raise UserError(f"--{flag} is for a --sweep: leave it out with --workdirs")
        title, parts, rows = _run_tables(comma_list.some_words(options.workdirs, "--workdirs"))
    parts = [html_page.heading("Results", level=2), *parts]
    if options.figures:
        parts += [html_page.heading("Figures", level=2), *_figures(pathlib.Path(options.figures))]
    parts += [html_page.heading("Training", level=2), *_training(rows)]
    parts += [html_page.heading("How it was made", level=2), *_making(rows, command)]
    try:
        paths.write_text(output, html_page.page(title, parts))
    except OSError as error:
        raise UserError(f"--output {output} cannot be written: {error}") from error
    print(f"{output} is written")


def caption_of(name: str) -> str:
    """The caption of a figure by the stem of its file: what its kind shows, and the stem."""
    fitting = [key for key in CAPTIONS if key in name]
    return f"{CAPTIONS[max(fitting, key=len)]} ({name})" if fitting else name.replace("_", " ")


def _sweep_tables(options: argparse.Namespace) -> tuple[str, list[str], dict[str, list[pathlib.Path]]]:
    """Title, tables, and {row: folders of its runs} of a sweep."""
    sweep = sweep_file.read(options.sweep)
    also = tables.named(options.also)
    chosen = {"metrics": options.metrics, "reference": options.reference, "also": also}
    made, notes = tables.fill(sweep, options.workdir, **chosen)
    parts = []
    for table in made:
        parts.append(html_page.heading(table.title, level=3))
        parts.append(html_page.table(tables.lay_out(table), kind="numbers"))
    rows = {
        name: [sweep_file.folder(options.workdir, name, seed) for seed in sweep_file.seeds(options.workdir, name)]
        for name in sweep.rows
    }
    return sweep.title, parts + [html_page.paragraph(note) for note in notes], rows


def _run_tables(workdirs: Sequence[str]) -> tuple[str, list[str], dict[str, list[pathlib.Path]]]:
    """Title, tables with a figure, and {run: [its folder]} of single runs."""
    labels = _short_names(workdirs)
    reports = {label: report.read_newest(workdir) for label, workdir in zip(labels, workdirs, strict=True)}
    reports = compare.alike(reports)
    compare.check_comparable(reports)
    kinds = {name: one["kind"] for name, one in reports[labels[0]]["sets"].items()}
    verification = [name for name, kind in kinds.items() if kind == "verification"]
    blocks = [compare.comparison(reports, sets=verification)] if verification else []
    blocks += [compare.measure_comparison(reports, name=name) for name in kinds if name not in verification]
    parts = [html_page.table(lines, kind="numbers") for lines in blocks]
    parts.append(html_page.paragraph("In percent, differences in points."))
    if verification:
        with tempfile.TemporaryDirectory() as folder:
            png = pathlib.Path(folder) / "accuracy_by_resolution.png"
            plots.accuracy_by_resolution(png, reports, sets=verification)
            parts.append(html_page.figure(png.read_bytes(), CAPTIONS[png.stem]))
    rows = {label: [pathlib.Path(workdir)] for label, workdir in zip(labels, workdirs, strict=True)}
    return f"Comparison of {', '.join(labels)}", parts, rows


def _short_names(workdirs: Sequence[str]) -> list[str]:
    """As few last parts of each path as tell all of them apart."""
    parts = [pathlib.Path(workdir).parts for workdir in workdirs]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(path[-count:]) for path in parts]
        if len(set(names)) == len(names):
            return names
    raise UserError(f"--workdirs {','.join(workdirs)} names a run twice: name each once")


def _figures(folder: pathlib.Path) -> list[str]:
    paths = sorted(path for path in folder.rglob("*.png") if not path.name.startswith("."))
    if not paths:
        raise UserError(f"--figures {folder} holds no PNG: draw some with `python -m lrfr_jax.analysis.figures`")
    parts = []
    for path in paths:
        png = path.read_bytes()
        if not png.startswith(b"\x89PNG"):
            raise UserError(f"{path} is no PNG: draw it again")
        parts.append(html_page.figure(png, caption_of(path.stem)))
    return parts


def _training(rows: Mapping[str, Sequence[pathlib.Path]]) -> list[str]:
    """A figure per row, with a line style per seed."""
    parts = []
    for name, folders in progress.bar(rows.items(), "drawing training curves", "rows"):
        try:
            png = training_curves.draw({folder.name: metric_writers.read_metrics(folder) for folder in folders})
        except (ValueError, KeyError) as error:
            raise UserError(f"a metrics.jsonl of {name} is damaged ({error!r}): leave that run out") from error
        if png:
            runs = f", a line style for each of {', '.join(folder.name for folder in folders)}"
            parts.append(html_page.figure(png, name + (runs if len(folders) > 1 else "")))
    return parts or [html_page.paragraph("No run has logged a step.")]


def _making(rows: Mapping[str, Sequence[pathlib.Path]], command: str) -> list[str]:
    """What differs between the configs, what each run took on which machine, all commands, the first run's config."""
    first = {name: folders[0] for name, folders in rows.items() if folders}
    configs = {name: config for name, folder in first.items() if (config := run_facts.config_of(folder))}
    parts = []
    if len(configs) > 1:
        parts.append(html_page.paragraph("Fields of the config in which the runs differ, seeds aside:"))
        parts.append(html_page.table(run_facts.differing_fields(configs), kind="text"))
    facts = [["run", "seed", "step", "time logged", "devices", "machine"]]
    commands = []
    for name, folders in rows.items():
        for folder in folders:
            facts.append([name, *run_facts.facts_of(folder)])
            commands += run_facts.commands_of(folder)
    parts.append(html_page.table(facts, kind="text"))
    parts.append(html_page.folded("Commands", "\n".join([*dict.fromkeys(commands), command])))
    if configs:
        name, config = next(iter(configs.items()))
        parts.append(html_page.folded(f"Config of {name}", run_facts.as_text(config)))
    return parts


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lrfr_jax.analysis.report", description="A study as one self-contained HTML page."
    )
    runs = parser.add_mutually_exclusive_group(required=True)
    runs.add_argument("--workdirs", metavar="A,B", help="folders of runs; the first one is the reference")
    runs.add_argument("--sweep", metavar="FILE", help="a file of configs/sweeps")
    add = parser.add_argument
    add("--workdir", metavar="ROOT", help="folder of the sweep's runs")
    tables.add_choices(add)
    add("--figures", metavar="DIR", help="folder whose PNGs, also those in folders below, are put on the page")
    add("--output", required=True, metavar="FILE.html", help="the page")
    return parser


if __name__ == "__main__":
    with one_sentence():
        main()
