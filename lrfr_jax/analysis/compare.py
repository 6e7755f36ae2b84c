"""Several runs side by side: their newest evaluations in one table and one figure.

python -m lrfr_jax.analysis.compare --workdirs runs/hr,runs/maug --labels baseline,multi-resolution --output comparison
"""

import argparse
import csv
import io
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from lrfr_jax.errors import UserError, one_sentence
from lrfr_jax.evals import earlier_results, plots, report, tables
from lrfr_jax.files import paths
from lrfr_jax.terminal import comma_list

# What must be the same for two numbers to be comparable.
SETUP = ("kind", "is_partial", "protocol", "pairs", "folds", "images")


def main(argv: Sequence[str] | None = None) -> None:
    """Compares runs as the command line says.

    Raises:
      UserError: a run without evaluation, labels that do not match, evaluations of different sets, or an output that
        cannot be written.
    """
    options = _parser().parse_args(argv)
    folder = paths.local(options.output, "--output")
    paths.check_folder(folder)
    workdirs = comma_list.some_words(options.workdirs, "--workdirs")
    labels = comma_list.words(options.labels) if options.labels else [paths.of(workdir).name for workdir in workdirs]
    if len(labels) != len(workdirs) or len(set(labels)) != len(labels):
        raise UserError(
            f"the labels {', '.join(labels)} must be {len(workdirs)} different names: set them with --labels"
        )
    reports = alike({label: report.read_newest(workdir) for label, workdir in zip(labels, workdirs, strict=True)})
    check_comparable(reports)

    kinds = {name: one["kind"] for name, one in reports[labels[0]]["sets"].items()}
    verification = [name for name, kind in kinds.items() if kind == "verification"]
    blocks = [comparison(reports, sets=verification)] if verification else []
    blocks += [measure_comparison(reports, name=name) for name in kinds if name not in verification]
    print("\n\n".join(map(tables.align, blocks)))
    rows = io.StringIO(newline="")
    for lines in blocks:
        csv.writer(rows).writerows(lines)
    written = ["table.md", "table.csv"]
    try:
        paths.write_text(folder / "table.md", _markdown(blocks, reports))
        paths.write_text(folder / "table.csv", rows.getvalue())
        if verification:
            plots.accuracy_by_resolution(folder / "accuracy_by_resolution.png", reports, sets=verification)
            written.append("accuracy_by_resolution.png")
    except OSError as error:
        raise UserError(f"--output {folder} cannot be written: {error}") from error
    print(f"{', '.join(written)} are in {folder}")


def alike(reports: Mapping[Any, Mapping[str, Any]]) -> dict[Any, dict[str, Any]]:
    """Takes of each set the newest results by a protocol and of data that all runs have, if there are any.

    A run that was evaluated in another way since then keeps those beside its newest ones, see `earlier_results`.
    """
    made = {label: {**one, "sets": dict(one["sets"])} for label, one in reports.items()}
    for name in {name for one in made.values() for name in one["sets"]}:
        runs = [one["sets"] for one in made.values() if name in one["sets"]]
        kept = [{earlier_results.identity(one): one for one in earlier_results.versions(sets[name])} for sets in runs]
        common = next((which for which in kept[0] if all(which in held for held in kept)), None)
        if common is not None:
            for sets, held in zip(runs, kept, strict=True):
                sets[name] = held[common]
    return made


def check_comparable(reports: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises UserError unless all runs were evaluated on the same sets, pairs and resolutions by the same protocol.

    Sets are the same if their contents are: see `digests`.
    """
    (first, reference), *others = reports.items()
    for label, other in others:
        if other["sets"].keys() != reference["sets"].keys():
            raise _not_comparable(label, ", ".join(other["sets"]), first, ", ".join(reference["sets"]))
        for name in reference["sets"]:
            found, wanted = (_setup(name, one["sets"][name]) for one in (other, reference))
            if found != wanted:
                raise _not_comparable(label, found, first, wanted)
    digests({label: one["sets"] for label, one in reports.items()})


def digests(runs: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, str]:
    """Returns a note on the content of each set, for the foot of a table: its digest, or that some run tells none.

    Args:
      runs: {run: {set: its report}}.

    Raises:
      UserError: two runs were evaluated on sets of one name whose images, pairs or folds differ.
    """
    found: dict[str, tuple[str, str]] = {}
    untold: dict[str, str] = {}
    for label, sets in runs.items():
        for name, one in sets.items():
            digest = one.get("digest", "")
            if not digest:
                untold.setdefault(name, label)
                continue
            first, wanted = found.setdefault(name, (label, digest))
            if digest != wanted:
                raise UserError(
                    f"{label} was evaluated on another {name} than {first}: images, pairs or folds differ (digest "
                    f"{digest}, not {wanted}): evaluate both on one set with `python -m lrfr_jax.evaluate`"
                )
    notes = {name: f"digest {digest}" for name, (_, digest) in found.items()}
    advice = "prepare the set again and evaluate again to be sure that all used the same"
    return notes | {name: f"{run} does not tell the content of its set: {advice}" for name, run in untold.items()}


def comparison(reports: Mapping[str, Mapping[str, Any]], *, sets: Sequence[str]) -> list[list[str]]:
    """Lays out accuracies in percent: per set and mode a row per run, and its difference to the first run in points.

    Resolutions go from full to low; the full one is HR-HR in the rows of both modes. '-': not evaluated for that set.
    """
    first, *others = reports
    rows = {label: {name: report.accuracy_rows(one["sets"][name]) for name in sets} for label, one in reports.items()}
    columns = sorted({r for modes in rows[first].values() for row in modes.values() for r in row}, reverse=True)

    def cells(accuracies: Mapping[int, float], form: str) -> list[str]:
        return [form.format(100 * accuracies[r]) if r in accuracies else "-" for r in columns]

    lines = [["run", "mode", *(f"{r} px" for r in columns)]]
    for name, modes in rows[first].items():
        for mode in modes:
            title = f"{report.full_name(name, reports[first]['sets'][name])} {report.MODE_TITLES[mode]}"
            accuracy = {label: {r: x["accuracy"] for r, x in rows[label][name][mode].items()} for label in reports}
            lines += [[label, title, *cells(accuracy[label], "{:.2f}")] for label in reports]
            for label in others:
                gain = {r: accuracy[label][r] - accuracy[first][r] for r in accuracy[first]}
                lines.append([f"{label} - {first}", title, *cells(gain, "{:+.2f}")])
    return lines


def measure_comparison(reports: Mapping[str, Mapping[str, Any]], *, name: str) -> list[list[str]]:
    """Lays out the metrics of an identification or template set in percent, as `comparison` does accuracies."""
    first, *others = reports
    rows = {label: report.measure_rows(one["sets"][name]) for label, one in reports.items()}
    metrics = list(dict.fromkeys(metric for row in rows[first].values() for metric in row))
    lines = [["run", "probes", *metrics]]
    for group, resolution in rows[first]:
        title = f"{report.full_name(name, reports[first]['sets'][name])} {group} {resolution} px"
        values = {
            label: {metric: result["value"] for metric, result in rows[label][group, resolution].items()}
            for label in reports
        }

        def cells(row: Mapping[str, float], form: str) -> list[str]:
            return [form.format(100 * row[metric]) if metric in row else "-" for metric in metrics]

        lines += [[label, title, *cells(values[label], "{:.2f}")] for label in reports]
        for label in others:
            gain = {metric: values[label][metric] - value for metric, value in values[first].items()}
            lines.append([f"{label} - {first}", title, *cells(gain, "{:+.2f}")])
    return lines


def _setup(name: str, set_report: Mapping[str, Any]) -> str:
    if set_report["kind"] == "verification":
        modes = report.accuracy_rows(set_report)
        measured = "; ".join(f"{mode} {','.join(map(str, row))}" for mode, row in modes.items())
    else:
        rows = report.measure_rows(set_report)
        measured = "; ".join(f"{group} {resolution} px {','.join(row)}" for (group, resolution), row in rows.items())
    return f"{name}: {', '.join(f'{key} {set_report[key]}' for key in SETUP if key in set_report)}, {measured}"


def _not_comparable(label: str, found: str, first: str, wanted: str) -> UserError:
    return UserError(
        f"{label} was evaluated on ({found}) but {first} on ({wanted}): evaluate both alike with "
        "`python -m lrfr_jax.evaluate --workdir W --data_dir DIR --sets ... --resolutions ... --protocol ...`"
    )


def _markdown(blocks: Sequence[Sequence[Sequence[str]]], reports: Mapping[str, Mapping[str, Any]]) -> str:
    laid_out = []
    for head, *body in blocks:
        rule = ["---", "---", *("--:" for _ in head[2:])]
        lines = ("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in (head, rule, *body))
        laid_out.append("\n".join(lines))
    _, reference = next(iter(reports.items()))
    notes = digests({label: one["sets"] for label, one in reports.items()})
    sets = [f"{_setup(name, one)}; {notes[name]}." for name, one in reference["sets"].items()]
    steps = [f"{label}: step {one['step']}." for label, one in reports.items()]
    return "\n\n".join(["In percent; differences in points.", *laid_out, *sets, " ".join(steps)]) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lrfr_jax.analysis.compare",
        description="One table and one figure over the newest evaluations of runs.",
    )
    parser.add_argument(
        "--workdirs", required=True, metavar="A,B", help="folders of runs; the first one is the reference"
    )
    parser.add_argument("--labels", metavar="X,Y", help="names in table and figure; default: the folders' names")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for table.md, table.csv and the figure")
    return parser


if __name__ == "__main__":
    with one_sentence():
        main(sys.argv[1:])
