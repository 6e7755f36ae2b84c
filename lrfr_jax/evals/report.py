"""What is written and shown of evaluation results: one json per checkpoint, scalars for the log, a table for people."""

import json
import os
from collections.abc import Mapping
from typing import Any

from lrfr_jax.errors import UserError, reason_of
from lrfr_jax.evals import carried_over, protocols
from lrfr_jax.evals.evaluation import SetResult
from lrfr_jax.evals.measures import Measure, in_full
from lrfr_jax.evals.protocols import MODE_TITLES, in_modes
from lrfr_jax.evals.verification import Comparison, VerificationResult
from lrfr_jax.files import paths
from lrfr_jax.image_ops import IMAGE_SIZE


def metrics_of(results: Mapping[str, SetResult]) -> dict[str, float]:
    """Returns the flat metrics of evaluation results, see `flat_metrics`."""
    return flat_metrics(report_of(results, step=0, checkpoint=""))


def flat_metrics(report: Mapping[str, Any]) -> dict[str, float]:
    """Returns what a report holds as `lfw/accuracy`, `lfw/hr_lr_14/tar@far=0.001`, `scface_d1/rank1`, `tinyface/map`...

    Of a set without the official counts they are `partial/lfw/accuracy`, ...
    """
    flat = {}
    for name, set_report in report["sets"].items():
        made = _verification_metrics if set_report["kind"] == "verification" else _measure_metrics
        prefix = "partial/" if set_report["is_partial"] else ""
        flat |= {f"{prefix}{name}{key}": value for key, value in made(set_report).items()}
        flat |= {f"{prefix}{name}/ssim_{resolution}": value for resolution, value in set_report["ssim"].items()}
    return flat


def report_of(results: Mapping[str, SetResult], *, step: int, checkpoint: str, weights: str = "") -> dict[str, Any]:
    """Returns all but the scores as plain json values; rates in [0, 1].

    The schema: {step, checkpoint, weights, sets: {name: {kind, protocol, is_partial, digest, ssim: {resolution:
    value}, ...}}}; `weights` as `model_card.Card.weights`, `digest` of the set as `face_sets.TestSet`. A verification
    set has {pairs, folds, feature_norm, results: [{mode, resolution, first_resolution, accuracy, accuracy_interval,
    std, fold_accuracies, thresholds, auc, auc_interval, tar: {far: rate}, tar_intervals}], carried_over: as
    `carried_over.measure` returns it, where there are several}, the others {images,
    results: [{name, group, resolution, value, interval, std, parts, trials}]}. Intervals are of 95 %.
    {beside: [set, ...]} holds results by other rules; `earlier_results` adds those of other data.
    """
    sets = {name: _with_others(result) for name, result in results.items()}
    sets = carried_over.kept_in(sets, carried_over.measure(results))
    return {"step": step, "checkpoint": checkpoint, "weights": weights, "sets": sets}


def write_report(path: str | os.PathLike, report: Mapping[str, Any]) -> None:
    """Writes the json whole or not at all.

    Raises:
      UserError: the place cannot be written.
    """
    try:
        paths.write_text(paths.of(path), json.dumps(report, indent=1) + "\n")
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({reason_of(error)}): make room or get the right to write there"
        ) from error


def read_newest(workdir: str | os.PathLike) -> dict[str, Any]:
    """Reads the report of the highest step in `workdir/eval`.

    Raises:
      UserError: there is none, or it is not what `write_report` writes.
    """
    found = [path for path in paths.of(workdir).glob("eval/*.json") if path.stem.isdigit()]
    if not found:
        raise UserError(
            f"{workdir} holds no evaluation (eval/<step>.json): make one with "
            f"`python -m lrfr_jax.evaluate --workdir {workdir} --data_dir DIR`"
        )
    return read(max(found, key=lambda path: int(path.stem)))


def accuracy_rows(set_report: Mapping[str, Any]) -> dict[str, dict[int, dict[str, Any]]]:
    """Returns {mode: {resolution: result}} of a verification set, resolutions descending.

    HR-HR is the end point of HR-LR and LR-LR, so it stands in their rows at its resolution; it has its own row only if
    nothing lower was evaluated. Cells of a matrix that are HR-LR or LR-LR stand here as well; of the whole matrix, and
    of size lists, see `matrix_rows` and `size_list_rows`.
    """
    found = _in_modes(set_report)
    full = found.pop(("hr_hr", IMAGE_SIZE))
    modes = sorted({mode for mode, _ in found}) or ["hr_hr"]
    lower = sorted(found, key=lambda which: -which[1])
    return {
        mode: {full["resolution"]: full} | {which[1]: found[which] for which in lower if which[0] == mode}
        for mode in modes
    }


def matrix_rows(set_report: Mapping[str, Any]) -> dict[int, dict[int, dict[str, Any]]]:
    """Returns {resolution of the first images: {of the second ones: result}} of a verification set; {} if not asked."""
    rows: dict[int, dict] = {}
    for result in set_report["results"]:
        if result["mode"] == "matrix":
            rows.setdefault(result["first_resolution"], {})[result["resolution"]] = result
    return rows


def size_list_rows(set_report: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns {name of a size list: result} of a verification set."""
    prefix = "sizes_"
    return {
        result["mode"].removeprefix(prefix): result
        for result in set_report["results"]
        if result["mode"].startswith(prefix)
    }


def measure_rows(set_report: Mapping[str, Any]) -> dict[tuple[str, int], dict[str, dict[str, Any]]]:
    """Returns {(group, resolution): {metric: result}} of an identification or template set."""
    rows: dict[tuple[str, int], dict] = {}
    for result in set_report["results"]:
        rows.setdefault((result["group"], result["resolution"]), {})[result["name"]] = result
    return rows


def full_name(name: str, set_report: Mapping[str, Any]) -> str:
    """The set's name, with a mark if it has not the official counts."""
    return f"{name} (partial)" if set_report["is_partial"] else name


def scoring_in_words(set_report: Mapping[str, Any]) -> str:
    """Names what tells results of one set apart: how they were scored, on which data."""
    digest = set_report.get("digest", "")
    data = f"data {short(digest)}" if digest else "data without a digest"
    count = f"{set_report[key]} {key}" if (key := "pairs" if "pairs" in set_report else "images") in set_report else ""
    return ", ".join(filter(None, (f"protocol {set_report['protocol']}", data, count)))


def short(digest: str) -> str:
    """The beginning of a set's digest, enough to tell two sets of one name apart."""
    return digest.rpartition(":")[2][:8]


def read(path: paths.AnyPath) -> dict[str, Any]:
    """Reads one report.

    Raises:
      UserError: it is not what `write_report` writes.
    """
    try:
        report = json.loads(path.read_text())
        for set_report in report["sets"].values():
            (accuracy_rows if set_report["kind"] == "verification" else measure_rows)(set_report)
        return report
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is no evaluation report ({error!r}): evaluate that checkpoint again") from error


def _verification_metrics(set_report: Mapping[str, Any]) -> dict[str, float]:
    flat = {"/feature_norm": set_report["feature_norm"]}
    named = {_comparison_name(result): result for result in set_report["results"]}
    of_matrix = {which: result for which, result in _in_modes(set_report).items() if result["mode"] == "matrix"}
    named |= {f"/{mode}_{resolution}": result for (mode, resolution), result in of_matrix.items()}
    for comparison, result in named.items():
        flat |= {f"{comparison}/{key}": result[key] for key in ("accuracy", "auc")}
        flat |= {f"{comparison}/tar@far={far}": tar for far, tar in result["tar"].items()}
    return flat


def _in_modes(set_report: Mapping[str, Any]) -> dict[tuple[str, int], dict[str, Any]]:
    return in_modes(
        set_report["results"], name=lambda one: (one["mode"], one.get("first_resolution"), one["resolution"])
    )


def _comparison_name(result: Mapping[str, Any]) -> str:
    mode, resolution = result["mode"], result["resolution"]
    if mode == "hr_hr":
        return ""
    if mode == "matrix":
        return f"/matrix_{result['first_resolution']}_{resolution}"
    return f"/{mode}_{resolution}" if mode in MODE_TITLES else f"/{mode}"


def _measure_metrics(set_report: Mapping[str, Any]) -> dict[str, float]:
    flat = {}
    for result in set_report["results"]:
        group = f"_{result['group']}" if result["group"] else ""
        lower = f"/lr_{result['resolution']}" if result["resolution"] < IMAGE_SIZE else ""
        flat[f"{group}{lower}/{result['name']}"] = result["value"]
    return flat


def _with_others(result: SetResult) -> dict[str, Any]:
    others = [_set_report(one) for one in result.also]
    return _set_report(result) | ({"beside": others} if others else {})


def _set_report(result: SetResult) -> dict[str, Any]:
    evaluation = result.evaluation
    shared = {
        "kind": evaluation.test_set.kind,
        "protocol": protocols.description(evaluation.protocol, evaluation.rules),
        "is_partial": evaluation.test_set.is_partial,
        "digest": evaluation.test_set.digest,
        "ssim": {str(resolution): value for resolution, value in result.ssim.items()},
    }
    outcome = result.outcome
    if isinstance(outcome, VerificationResult):
        return shared | {
            "pairs": len(outcome.is_same),
            "folds": outcome.num_folds,
            "feature_norm": outcome.feature_norm,
            "results": [_comparison_report(comparison) for comparison in outcome.comparisons],
        }
    return shared | {
        "images": len(evaluation.test_set.source),
        "results": [_measure_report(measure) for measure in outcome],
    }


def _comparison_report(comparison: Comparison) -> dict[str, Any]:
    return {
        "mode": comparison.mode,
        "resolution": comparison.resolution,
        "first_resolution": comparison.first_resolution,
        "accuracy": comparison.accuracy.mean,
        "accuracy_interval": list(comparison.interval),
        "std": comparison.accuracy.std,
        "fold_accuracies": comparison.accuracy.fold_accuracies.tolist(),
        "thresholds": comparison.accuracy.thresholds.tolist(),
        "auc": comparison.auc,
        "auc_interval": list(comparison.auc_interval),
        "tar": {in_full(far): tar for far, tar in comparison.tar.items()},
        "tar_intervals": {in_full(far): list(interval) for far, interval in comparison.tar_intervals.items()},
    }


def _measure_report(measure: Measure) -> dict[str, Any]:
    return {
        "name": measure.name,
        "group": measure.group,
        "resolution": measure.resolution,
        "value": measure.value,
        "interval": list(measure.interval),
        "std": measure.std,
        "parts": list(measure.parts),
        "trials": measure.trials,
    }
