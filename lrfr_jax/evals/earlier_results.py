"""Results of one model that come from several evaluations: what was measured before and not now stays."""

import os
from collections.abc import Mapping
from typing import Any

from lrfr_jax.errors import UserError, reason_of
from lrfr_jax.evals import report, tables
from lrfr_jax.files import paths

# What must be the same for two results of a set to be parts of one: the data, and how they are scored.
IDENTITY = ("kind", "digest", "protocol", "is_partial", "pairs", "folds", "images")


def write(path: str | os.PathLike, made: Mapping[str, Any]) -> list[str]:
    """Writes a report with what an earlier one at `path` holds of the same weights and step.

    A file that is of others, or that is no report, is not mixed in and not lost: it gets another name.

    Returns:
      A sentence for each thing that was kept, to be told.

    Raises:
      UserError: the place cannot be written.
    """
    path = paths.of(path)
    if not path.exists():
        report.write_report(path, made)
        return []
    try:
        earlier = report.read(path)
        tables.check(earlier["sets"], path)
        reason = _difference(earlier, made)
        merged = {**made, "sets": merge(earlier["sets"], made["sets"])} if not reason else dict(made)
    except UserError as error:
        earlier, reason, merged = None, str(error), dict(made)
    if reason:
        told = [f"{path.name} held other results ({reason}): they are in {_set_aside(path).name} now"]
    else:
        told = _kept(earlier["sets"], made["sets"])
    report.write_report(path, merged)
    return told


def merge(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Joins the results of one model on test sets, `sets` of `report.report_of`; what is measured again is replaced.

    A comparison at a size is one result. Of a set that was also measured by another protocol, or whose name stood for
    other data, the results of now come first, and the others stand in its list `beside`.
    """
    return {
        **earlier,
        **{name: _merge_set(earlier[name], one) if name in earlier else one for name, one in now.items()},
    }


def _difference(earlier: Mapping[str, Any], made: Mapping[str, Any]) -> str:
    """Why a report is not of the same model as another; reports of older versions name no weights."""
    if earlier.get("step") != made["step"]:
        return f"of step {earlier.get('step')}"
    of_both = {one["weights"] for one in (earlier, made) if one.get("weights")}
    return "of other weights" if len(of_both) > 1 else ""


def _set_aside(path: paths.AnyPath) -> paths.AnyPath:
    """Copies a file to a free name beside it, one that nobody takes for the report of a step."""
    number = 1
    while (target := path.with_name(f"{path.stem}.earlier{number}{path.suffix}")).exists():
        number += 1
    try:
        paths.write_bytes(target, path.read_bytes())
    except OSError as error:
        raise UserError(f"{target} cannot be written ({reason_of(error)}): move {path} elsewhere") from error
    return target


def _kept(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    others = [name for name in earlier if name not in now]
    told = [f"kept from earlier evaluations of these weights: the sets {', '.join(others)}"] if others else []
    for name in (name for name in now if name in earlier):
        for before in versions(earlier[name]):
            if identity(before) != identity(now[name]):
                told.append(f"{name}: kept beside these results: those by {report.scoring_in_words(before)}")
                continue
            measured = {_key(result) for result in now[name]["results"]}
            count = sum(_key(result) not in measured for result in before["results"])
            told += [f"{name}: kept {count} results that were measured before and not now"] if count else []
    return told


def _merge_set(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    found = {identity(one): one for one in versions(now)}
    for one in versions(earlier):
        found[identity(one)] = _join(one, found[identity(one)]) if identity(one) in found else one
    front, *beside = found.values()
    return front | ({"beside": beside} if beside else {})


def versions(set_report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the results of a set, the newest first, and those that are kept beside them."""
    front = {key: value for key, value in set_report.items() if key != "beside"}
    return [front, *set_report.get("beside", [])]


def identity(set_report: Mapping[str, Any]) -> tuple:
    """Returns what must be the same for two results of a set to be parts of one, see `IDENTITY`."""
    return tuple(set_report.get(key, "") for key in IDENTITY)


def _join(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Two evaluations of one set by one protocol; in the order in which one evaluation would have measured all."""
    measured = {_key(result): result for result in earlier["results"]}
    for result in now["results"]:
        before = measured.get(_key(result), {})
        measured[_key(result)] = result | {
            rates: _descending(before.get(rates, {}) | result[rates])
            for rates in ("tar", "tar_intervals")
            if rates in result
        }
    modes = list(dict.fromkeys(result.get("mode") for result in measured.values()))
    ordered = sorted(
        measured.values(),
        key=lambda one: (modes.index(one.get("mode")), -(one.get("first_resolution") or 0), -one["resolution"]),
    )
    return {**now, "ssim": earlier["ssim"] | now["ssim"], "results": ordered}


def _key(result: Mapping[str, Any]) -> tuple:
    return tuple(result.get(key) for key in ("mode", "first_resolution", "name", "group", "resolution"))


def _descending(rates: Mapping[str, Any]) -> dict[str, Any]:
    return dict(sorted(rates.items(), key=lambda one: -float(one[0])))
