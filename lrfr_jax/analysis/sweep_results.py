"""What the runs of a sweep reached: their newest evaluations, summed up over seeds and compared."""

import dataclasses
import os
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from lrfr_jax.analysis.compare import SETUP, alike, digests
from lrfr_jax.errors import UserError
from lrfr_jax.evals import report
from lrfr_jax.files import sweep_file

# {row: {seed: what `report.report_of` returns}}; {row: {metric: {seed: percent}}}
Reports = Mapping[str, Mapping[int, Mapping[str, Any]]]
Values = Mapping[str, Mapping[str, Mapping[int, float]]]


@dataclasses.dataclass(frozen=True)
class Spread:
    """Numbers of several seeds in percent: their mean, their standard deviation (of a sample; 0 for one), how many."""

    mean: float
    std: float
    count: int


@dataclasses.dataclass(frozen=True)
class Entry:
    """One number of a table; None: not measured, not published, nothing to compare with.

    Attributes:
      ours: over the seeds that have run.
      paper: the published number in percent.
      difference: ours minus the paper's, or the differences to the reference row seed by seed.
    """

    ours: Spread | None
    paper: float | int | None
    difference: Spread | None


def read_reports(root: str | os.PathLike, names: Sequence[str]) -> dict[str, dict[int, dict[str, Any]]]:
    """Reads the newest evaluation of every run of the named rows; one without evaluation is left out."""
    read = {
        (name, seed): report.read_newest(workdir)
        for name in names
        for seed in sweep_file.seeds(root, name)
        if any((workdir := sweep_file.folder(root, name, seed)).glob("eval/*.json"))
    }
    found: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in names}
    for (name, seed), one in alike(read).items():
        found[name][seed] = one
    return found


def finished(reports: Reports) -> tuple[dict[str, dict[int, Mapping[str, Any]]], list[str]]:
    """Keeps of each row the seeds that were evaluated at its highest step; names the others as still running."""
    kept, behind = {}, []
    for name, runs in reports.items():
        last = max((run["step"] for run in runs.values()), default=0)
        kept[name] = {seed: run for seed, run in runs.items() if run["step"] == last}
        behind += [
            f"{name} seed {seed} is not counted: step {run['step']} of {last}"
            for seed, run in runs.items()
            if run["step"] < last
        ]
    return kept, behind


def setups(reports: Reports) -> dict[str, str]:
    """Returns what each set holds and how it is scored.

    Raises:
      UserError: two runs were evaluated on different sets of one name, or by different protocols.
    """
    found: dict[str, tuple[str, str]] = {}
    runs = {f"{name} seed {seed}": run for name, seeds in reports.items() for seed, run in seeds.items()}
    for label, run in runs.items():
        for test_set, one in run["sets"].items():
            setup = ", ".join(f"{key} {one[key]}" for key in SETUP if key in one)
            first, wanted = found.setdefault(test_set, (label, setup))
            if setup != wanted:
                raise UserError(
                    f"{label} was evaluated on {test_set} ({setup}) but {first} on ({wanted}): evaluate both alike "
                    "with `python -m lrfr_jax.evaluate --workdir W --data_dir DIR`"
                )
    notes = digests({label: run["sets"] for label, run in runs.items()})
    return {test_set: f"{setup}, {notes[test_set]}" for test_set, (_, setup) in found.items()}


def values_of(reports: Reports, metrics: Sequence[str], *, need: Callable) -> dict[str, dict[str, dict[int, float]]]:
    """Returns {row: {metric: {seed: percent}}}; names joined by '+' are averaged, a seed that lacks one is left out.

    Args:
      reports: the evaluations.
      metrics: names as in `report.flat_metrics`, or several joined by '+'.
      need: `all` if each of the metrics must have been measured by some run, `any` if one is enough.

    Raises:
      UserError: there are evaluations, and they do not hold the metrics needed.
    """
    flat = {name: {seed: report.flat_metrics(run) for seed, run in runs.items()} for name, runs in reports.items()}
    known = {metric for runs in flat.values() for one in runs.values() for metric in one}
    unknown = [metric for metric in metrics if not set(metric.split("+")) <= known]
    if known and not need(metric not in unknown for metric in metrics):
        raise UserError(
            f"no run was evaluated for {', '.join(unknown)}: choose --metrics of {', '.join(sorted(known))}"
        )
    return {
        name: {
            metric: {seed: value for seed, one in runs.items() if (value := _percent(one, metric)) is not None}
            for metric in metrics
        }
        for name, runs in flat.items()
    }


def spread(values: Sequence[float]) -> Spread | None:
    """Mean and standard deviation of one number per seed; None without any."""
    if not values:
        return None
    return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0, len(values))


def against_paper(values: Values, paper: Mapping[str, Mapping[str, float | int]]) -> dict[str, dict[str, Entry]]:
    """Puts the paper's numbers, {row: {metric: percent}}, beside ours; rows and metrics as in `values`."""
    return {
        name: {metric: _beside(spread(list(seeds.values())), paper[name].get(metric)) for metric, seeds in row.items()}
        for name, row in values.items()
    }


def against_row(values: Values, reference: str, *, seedless: Collection[str]) -> dict[str, dict[str, Entry]]:
    """Compares every row with the row `reference`, seed by seed where both have the seed.

    The spread of such differences is free of what a seed does to both rows alike. A row of `seedless` was not trained
    (weights as they come): as the reference it is the same for all seeds, and it is compared with no other row.
    """

    def difference(name: str, metric: str, ours: Mapping[int, float]) -> Spread | None:
        theirs = values[reference][metric]
        if reference in seedless and theirs:
            theirs = dict.fromkeys(ours, *theirs.values())
        pairs = [ours[seed] - theirs[seed] for seed in ours if seed in theirs]
        return None if name == reference or name in seedless else spread(pairs)

    return {
        name: {m: Entry(spread(list(ours.values())), None, difference(name, m, ours)) for m, ours in row.items()}
        for name, row in values.items()
    }


def _percent(flat: Mapping[str, float], metric: str) -> float | None:
    parts = [flat.get(part) for part in metric.split("+")]
    return None if None in parts else 100 * statistics.fmean(parts)


def _beside(ours: Spread | None, paper: float | int | None) -> Entry:
    both = ours is not None and paper is not None
    return Entry(ours, paper, dataclasses.replace(ours, mean=ours.mean - paper) if both else None)
