"""Evaluation reports as text: columns of numbers in percent, for a terminal."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from lrfr_jax.errors import UserError
from lrfr_jax.evals import report


def table(made: Mapping[str, Any]) -> str:
    """Lays a report out: accuracies by resolution of all verification sets, then what each set measured besides."""
    verification, others = {}, {}
    for name, set_report in made["sets"].items():
        (verification if set_report["kind"] == "verification" else others)[name] = set_report
    blocks = [_accuracy_table(verification)] if verification else []
    for name, set_report in verification.items():
        blocks += [_full_resolution_line(name, set_report), *_further_blocks(name, set_report)]
    blocks += [_measure_table(name, set_report) for name, set_report in others.items()]
    blocks += [_beside_line(name, set_report) for name, set_report in made["sets"].items() if "beside" in set_report]
    return "\n".join(blocks)


def check(sets: Mapping[str, Any], where: os.PathLike) -> None:
    """Raises `UserError` if sets of a report, which lie in the file `where`, cannot be laid out."""
    try:
        versions = [{name: one} for name, kept in sets.items() for one in (kept, *kept.get("beside", ()))]
        for one in versions:
            table({"sets": one})
            report.flat_metrics({"sets": one})
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"the results in {where} are not what `evaluate` writes ({error!r}): remove them there, and evaluate again"
        ) from error


def percent(rate: float) -> str:
    """A rate in [0, 1] as papers print it."""
    return f"{100 * rate:.2f}"


def align(lines: Sequence[Sequence[str]]) -> str:
    """Pads cells to columns: words to the left (the first two columns), numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def _accuracy_table(sets: Mapping[str, Mapping[str, Any]]) -> str:
    """One row per set and mode, one column per resolution."""
    rows = {name: report.accuracy_rows(set_report) for name, set_report in sets.items()}
    columns = sorted({r for modes in rows.values() for row in modes.values() for r in row}, reverse=True)
    lines = [["accuracy %", "mode", *(f"{r} px" for r in columns)]]
    for name, modes in rows.items():
        title = report.full_name(name, sets[name])
        for mode, row in modes.items():
            cells = (percent(row[r]["accuracy"]) if r in row else "-" for r in columns)
            lines.append([title, report.MODE_TITLES[mode], *cells])
        if sets[name]["ssim"]:
            ssim = sets[name]["ssim"]
            lines.append([title, "SSIM", *(f"{ssim[str(r)]:.3f}" if str(r) in ssim else "-" for r in columns)])
    return align(lines)


def _full_resolution_line(name: str, set_report: Mapping[str, Any]) -> str:
    full = next(result for result in set_report["results"] if result["mode"] == "hr_hr")
    facts = [
        f"{percent(full['accuracy'])} +- {percent(full['std'])} at {full['resolution']} px",
        f"AUC {percent(full['auc'])}",
        *(f"TAR {percent(tar)} at FAR {far}" for far, tar in full["tar"].items()),
        f"feature norm {set_report['feature_norm']:.2f}",
    ]
    size = f"{set_report['pairs']} pairs, {set_report['folds']} folds, protocol {set_report['protocol']}"
    return f"{report.full_name(name, set_report)}: {', '.join(facts)} ({size})"


def _further_blocks(name: str, set_report: Mapping[str, Any]) -> list[str]:
    """The matrix of resolutions, first images down and second ones across, and the accuracies by size lists."""
    title, blocks = report.full_name(name, set_report), []
    matrix = report.matrix_rows(set_report)
    if matrix:
        matrix = dict(sorted(matrix.items(), reverse=True))
        columns = sorted({resolution for row in matrix.values() for resolution in row}, reverse=True)
        lines = [[f"{title}, accuracy %", "first \\ second", *(f"{r} px" for r in columns)]]
        lines += [["", f"{r} px", *(_cell(matrix[r], c) for c in columns)] for r in matrix]
        blocks.append(align(lines))
    for size_list, result in report.size_list_rows(set_report).items():
        blocks.append(
            f"{title}, sizes {size_list}: {percent(result['accuracy'])} +- {percent(result['std'])}, "
            f"AUC {percent(result['auc'])}"
        )
    return blocks


def _cell(row: Mapping[int, Mapping[str, Any]], resolution: int) -> str:
    # A matrix of two evaluations at different sizes has not every cell.
    return percent(row[resolution]["accuracy"]) if resolution in row else "-"


def _beside_line(name: str, set_report: Mapping[str, Any]) -> str:
    kept = "; ".join(report.scoring_in_words(one) for one in set_report["beside"])
    return f"{name}: kept in the json beside these: {kept}"


def _measure_table(name: str, set_report: Mapping[str, Any]) -> str:
    """One row per group and resolution, one column per metric; +- is the deviation over splits."""
    rows = report.measure_rows(set_report)
    columns = list(dict.fromkeys(metric for row in rows.values() for metric in row))
    lines = [[f"{report.full_name(name, set_report)}, %", "probes", *columns]]
    for (group, resolution), row in rows.items():
        cells = (_measured(row[metric]) if metric in row else "-" for metric in columns)
        lines.append([group, f"{resolution} px", *cells])
    return "\n".join([align(lines), f"({set_report['images']} images, protocol {set_report['protocol']})"])


def _measured(result: Mapping[str, Any]) -> str:
    spread = f" +- {percent(result['std'])}" if len(result["parts"]) > 1 else ""
    return percent(result["value"]) + spread
