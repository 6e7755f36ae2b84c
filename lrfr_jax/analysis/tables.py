"""The tables of a sweep: ours beside the paper's, or beside one of its own rows; on screen, as Markdown and CSV.

python -m lrfr_jax.analysis.tables --sweep configs/sweeps/table4.py --workdir runs/paper --output runs/paper/tables
"""

import argparse
import csv
import dataclasses
import io
import pathlib
import statistics
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from lrfr_jax.analysis import sweep_results
from lrfr_jax.analysis.sweep_results import Entry, Spread
from lrfr_jax.errors import UserError, one_sentence
from lrfr_jax.evals import report, tables
from lrfr_jax.files import paths, sweep_file
from lrfr_jax.terminal import comma_list

CSV_COLUMNS = ("table", "row", "column", "metric", "n", "mean", "standard_deviation", "compared_with", "paper")
CSV_COLUMNS += ("difference", "difference_standard_deviation", "difference_n")


@dataclasses.dataclass(frozen=True)
class Table:
    """A table, filled: differences are to 'paper' or to a row.

    Attributes:
      columns: {title of a column: metric}.
      entries: {row: {metric: entry}}.
      compared_with: 'paper' or the name of a row.
      published_only: the rows that cannot run, which have no line of ours.
    """

    title: str
    columns: Mapping[str, str]
    entries: Mapping[str, Mapping[str, Entry]]
    compared_with: str
    published_only: Collection[str]


def main(argv: Sequence[str] | None = None) -> None:
    """Shows and writes the tables of a sweep as the command line says.

    Raises:
      UserError: a bad option, sweep file or evaluation, or an output that cannot be written.
    """
    options = _parser().parse_args(argv)
    paths.require_local(vars(options))
    if options.output:
        paths.check_folder(pathlib.Path(options.output))
    sweep = sweep_file.read(options.sweep)
    also = named(options.also)
    made, notes = fill(sweep, options.workdir, metrics=options.metrics, reference=options.reference, also=also)
    laid_out = {table.title: lay_out(table) for table in made}
    print(sweep.title)
    for title, lines in laid_out.items():
        print(f"\n{title}\n{tables.align(lines)}")
    print("", *notes, sep="\n")
    if options.output:
        stem = pathlib.Path(options.output) / pathlib.Path(options.sweep).stem
        blocks = [f"# {sweep.title}", *(f"## {title}\n\n{markdown(lines)}" for title, lines in laid_out.items())]
        try:
            _write(stem, "\n\n".join([*blocks, *notes]) + "\n", made)
        except OSError as error:
            raise UserError(f"--output {options.output} cannot be written: {error}") from error
        print(f"{stem}.md and {stem}.csv are written")


def fill(
    sweep: sweep_file.Sweep, root: str, *, metrics: str | None, reference: str | None, also: Mapping[str, str]
) -> tuple[list[Table], list[str]]:
    """Reads the runs of a sweep into its tables; returns them and what a reader must know besides.

    Args:
      sweep: the rows and the tables.
      root: folder of all runs.
      metrics: 'metric,title:metric+metric': one table of these in place of the sweep's own; None for its own.
      reference: the row that all are compared with; None for the published numbers or, without any, the first row.
      also: {name: folder with eval/<step>.json}: further rows, which stand first.

    Raises:
      UserError: an unknown row, a title that stands twice, a broken evaluation, or evaluations that cannot be compared.
    """
    has_paper = reference is None and any(row.paper for row in sweep.rows.values())
    published_only = sweep.published_only
    runs = [name for name in sweep.rows if name not in published_only]
    reference = reference or runs[0]
    if reference not in [*also, *runs]:
        raise UserError(f"--reference {reference} is no row that runs: choose one of {', '.join([*also, *runs])}")
    taken = also.keys() & sweep.rows.keys()
    if taken:
        raise UserError(f"--also {min(taken)} has the name of a row of the sweep: give it another")
    reports = {name: {0: report.read_newest(folder)} for name, folder in also.items()}
    of_rows = sweep_results.read_reports(root, list(sweep.rows) if has_paper else runs)
    reports, behind = sweep_results.finished(reports | of_rows)
    setups = sweep_results.setups(reports)
    wanted = sweep.tables
    if metrics:
        wanted = {"Metrics": _once(map(_metric, comma_list.some_words(metrics, "--metrics")), flag="--metrics")}
    names = list(dict.fromkeys(metric for columns in wanted.values() for metric in columns.values()))
    # A metric that was asked for is there or a typo; a sweep's tables may be filled set by set.
    values = sweep_results.values_of(reports, names, need=all if metrics else any)
    if has_paper:
        paper = {name: {} for name in also} | {name: row.paper for name, row in sweep.rows.items()}
        entries = sweep_results.against_paper(values, paper)
    else:
        entries = sweep_results.against_row(values, reference, seedless=also.keys())
    compared_with = "paper" if has_paper else reference
    notes = [_legend(has_paper, reference), _steps(reports), *behind, *(f"{n}: {s}." for n, s in setups.items())]
    if published_only and has_paper:
        notes.append(f"Published numbers alone, as no config trains them: {', '.join(published_only)}.")
    made = [Table(title, columns, entries, compared_with, published_only) for title, columns in wanted.items()]
    return made, notes


def named(also: Sequence[str]) -> dict[str, str]:
    """Returns {name: folder} of what `--also` was given.

    Raises:
      UserError: one is no NAME=DIR, or two have one name.
    """
    return _once(map(_name_and_folder, also), flag="--also")


def _once(pairs: Iterable[tuple[str, str]], *, flag: str) -> dict[str, str]:
    """As `dict` does, but no pair takes the place of another."""
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise UserError(f"{flag} has {name!r} twice: give each a name of its own")
        found[name] = value
    return found


def _name_and_folder(text: str) -> tuple[str, str]:
    name, _, folder = text.partition("=")
    if not name or not folder:
        raise UserError(f"--also {text!r} must be NAME=DIR, such as 'weights as they come=runs/weights'")
    return name, folder


def lay_out(table: Table) -> list[list[str]]:
    """Lays a table out: per row our numbers, the paper's if there are any, and the difference; '-' for no number."""
    lines = [["row", "", *table.columns]]
    for name, row in table.entries.items():
        cells = [row[metric] for metric in table.columns.values()]
        if name not in table.published_only:
            lines.append([name, *_line("ours", [cell.ours for cell in cells], "{:.2f}")])
        if any(cell.paper is not None for cell in cells):
            published = ["-" if cell.paper is None else f"{cell.paper:.2f}" for cell in cells]
            lines.append([name, "paper", *published])
        if any(cell.difference is not None for cell in cells):
            lines.append(
                [name, *_line(f"ours - {table.compared_with}", [cell.difference for cell in cells], "{:+.2f}")]
            )
    return lines


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table of lines whose first is the head; the first two columns are words."""
    head, *body = lines
    rule = ["---", "---", *("--:" for _ in head[2:])]
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in (head, rule, *body))
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def _line(label: str, spreads: Sequence[Spread | None], form: str) -> list[str]:
    """A label with the number of seeds, and the numbers; one that rests on fewer seeds says so itself."""
    most = max((one.count for one in spreads if one), default=0)
    cells = []
    for one in spreads:
        deviation = f" +- {one.std:.2f}" if one and one.count > 1 else ""
        fewer = f" (n={one.count})" if one and one.count < most else ""
        cells.append(f"{form.format(one.mean)}{deviation}{fewer}" if one else "-")
    return [f"{label}, n={most}" if most else label, *cells]


def _write(stem: pathlib.Path, text: str, made: Sequence[Table]) -> None:
    lines = io.StringIO(newline="")
    csv.writer(lines).writerows([CSV_COLUMNS, *(line for table in made for line in _csv_lines(table))])
    # Not by `with_suffix`, which takes a part of a name like `table.v2` for its suffix.
    for end, content in ((".md", text), (".csv", lines.getvalue())):
        paths.write_text(stem.with_name(stem.name + end), content)


def _csv_lines(table: Table) -> list[list]:
    def numbers(one: Spread | None) -> list:
        return ["", "", 0] if one is None else [one.mean, one.std if one.count > 1 else "", one.count]

    lines = []
    for name, row in table.entries.items():
        for column, metric in table.columns.items():
            entry = row[metric]
            mean, std, count = numbers(entry.ours)
            paper = "" if entry.paper is None else entry.paper
            compared_with = "" if entry.difference is None else table.compared_with
            difference = numbers(entry.difference)
            lines.append([table.title, name, column, metric, count, mean, std, compared_with, paper, *difference])
    return lines


def _legend(has_paper: bool, reference: str) -> str:
    text = "In percent, differences in points; a number is the mean over n seeds, +- their standard deviation."
    return text if has_paper else f"{text} Differences to {reference} are taken seed by seed."


def _steps(reports: sweep_results.Reports) -> str:
    steps = {name: next(iter(runs.values()))["step"] for name, runs in reports.items() if runs}
    if not steps:
        return "No run was evaluated yet."
    usual = statistics.mode(steps.values())
    others = [f"{name} is of step {step}" for name, step in steps.items() if step != usual]
    return f"{'; '.join([f'Evaluations are of step {usual}', *others])}."


def _metric(text: str) -> tuple[str, str]:
    title, separator, metric = text.partition(":")
    return (title, metric) if separator else (text, text)


def add_choices(add: Callable) -> None:
    """Declares the options that choose what the tables of a sweep show; `add` is a parser's `add_argument`."""
    add("--metrics", metavar="M,T:M", help="one table of these metrics (T: title) in place of the sweep's own tables")
    add("--reference", metavar="ROW", help="row to compare with (default: published numbers, else the first row)")
    add("--also", action="append", default=[], metavar="NAME=DIR", help="a further row: a folder with eval/<step>.json")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lrfr_jax.analysis.tables", description="The tables of a sweep, from its runs' evaluations."
    )
    add = parser.add_argument
    add("--sweep", required=True, metavar="FILE", help="the sweep: a file of configs/sweeps")
    add("--workdir", required=True, metavar="ROOT", help="folder of all runs, as launch/sweep.py has it")
    add_choices(add)
    add("--output", metavar="DIR", help="folder for the tables as Markdown and CSV")
    return parser


if __name__ == "__main__":
    with one_sentence():
        main(sys.argv[1:])
