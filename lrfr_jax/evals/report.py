"""What is written and shown of evaluation results: one json per checkpoint, scalars for the log, a table for people."""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lrfr_jax.errors import UserError
from lrfr_jax.evals.verification import ModeResult, VerificationResult

MODE_TITLES = {"hr_hr": "HR-HR", "hr_lr": "HR-LR", "lr_lr": "LR-LR"}


def metrics_of(results: Mapping[str, VerificationResult]) -> dict[str, float]:
    """Returns flat metrics: `lfw/accuracy`, `lfw/tar@far=0.001`, `lfw/feature_norm`, `lfw/hr_lr_14/accuracy`, ..."""
    flat = {}
    for name, result in results.items():
        flat[f"{name}/feature_norm"] = result.feature_norm
        for mode in result.modes:
            prefix = name if mode.mode == "hr_hr" else f"{name}/{mode.mode}_{mode.resolution}"
            flat |= {f"{prefix}/accuracy": mode.accuracy.mean, f"{prefix}/auc": mode.auc}
            flat |= {f"{prefix}/tar@far={_in_full(far)}": tar for far, tar in mode.tar.items()}
    return flat


def report_of(results: Mapping[str, VerificationResult], *, step: int, checkpoint: str) -> dict[str, Any]:
    """Returns all but the scores as plain json values; rates in [0, 1].

    The schema: {step, checkpoint, sets: {name: {protocol, pairs, folds, feature_norm, results: [{mode, resolution,
    accuracy, accuracy_interval, std, fold_accuracies, thresholds, auc, tar: {far: rate}}]}}}.
    """
    return {"step": step, "checkpoint": checkpoint, "sets": {name: _set_report(r) for name, r in results.items()}}


def write_report(path: str | os.PathLike, report: Mapping[str, Any]) -> None:
    """Writes the json whole or not at all."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(report, indent=1) + "\n")
    os.replace(partial, path)


def read_newest(workdir: str | os.PathLike) -> dict[str, Any]:
    """Reads the report of the highest step in `workdir/eval`.

    Raises:
      UserError: there is none, or it is not what `write_report` writes.
    """
    paths = [path for path in pathlib.Path(workdir).glob("eval/*.json") if path.stem.isdigit()]
    if not paths:
        raise UserError(
            f"{workdir} holds no evaluation (eval/<step>.json): make one with "
            f"`python -m lrfr_jax.evaluate --workdir {workdir} --data_dir DIR`"
        )
    path = max(paths, key=lambda path: int(path.stem))
    try:
        report = json.loads(path.read_text())
        for set_report in report["sets"].values():
            accuracy_rows(set_report)
        return report
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is no evaluation report ({error!r}): evaluate that checkpoint again") from error


def accuracy_rows(set_report: Mapping[str, Any]) -> dict[str, dict[int, dict[str, Any]]]:
    """Returns {mode: {resolution: result}} of one set, resolutions descending.

    HR-HR is the end point of both other modes, so it stands in their rows at its resolution; it has its own row only if
    nothing lower was evaluated.
    """
    full, *lower = sorted(set_report["results"], key=lambda result: (result["mode"] != "hr_hr", -result["resolution"]))
    modes = sorted({result["mode"] for result in lower}) or ["hr_hr"]
    return {
        mode: {result["resolution"]: result for result in [full, *(r for r in lower if r["mode"] == mode)]}
        for mode in modes
    }


def table(report: Mapping[str, Any]) -> str:
    """Lays the accuracies out, in percent: one row per set and mode, one column per resolution."""
    sets = {name: accuracy_rows(set_report) for name, set_report in report["sets"].items()}
    columns = sorted({r for rows in sets.values() for row in rows.values() for r in row}, reverse=True)
    lines = [["accuracy %", "mode", *(f"{r} px" for r in columns)]]
    for name, rows in sets.items():
        for mode, row in rows.items():
            lines.append(
                [name, MODE_TITLES[mode], *(percent(row[r]["accuracy"]) if r in row else "-" for r in columns)]
            )
    return "\n".join([align(lines), *(_full_resolution_line(*item) for item in report["sets"].items())])


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


def _full_resolution_line(name: str, set_report: Mapping[str, Any]) -> str:
    full = next(result for result in set_report["results"] if result["mode"] == "hr_hr")
    facts = [
        f"{percent(full['accuracy'])} +- {percent(full['std'])} at {full['resolution']} px",
        f"AUC {percent(full['auc'])}",
        *(f"TAR {percent(tar)} at FAR {far}" for far, tar in full["tar"].items()),
        f"feature norm {set_report['feature_norm']:.2f}",
    ]
    size = f"{set_report['pairs']} pairs, {set_report['folds']} folds, protocol {set_report['protocol']}"
    return f"{name}: {', '.join(facts)} ({size})"


def _set_report(result: VerificationResult) -> dict[str, Any]:
    return {
        "protocol": result.protocol,
        "pairs": len(result.is_same),
        "folds": result.num_folds,
        "feature_norm": result.feature_norm,
        "results": [_mode_report(mode) for mode in result.modes],
    }


def _mode_report(mode: ModeResult) -> dict[str, Any]:
    return {
        "mode": mode.mode,
        "resolution": mode.resolution,
        "accuracy": mode.accuracy.mean,
        "accuracy_interval": list(mode.interval),
        "std": mode.accuracy.std,
        "fold_accuracies": mode.accuracy.fold_accuracies.tolist(),
        "thresholds": mode.accuracy.thresholds.tolist(),
        "auc": mode.auc,
        "tar": {_in_full(far): tar for far, tar in mode.tar.items()},
    }


def _in_full(far: float) -> str:
    return np.format_float_positional(far, trim="-")
