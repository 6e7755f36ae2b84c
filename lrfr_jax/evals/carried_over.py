"""Thresholds that were found on one population, measured on the impostors of another."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lrfr_jax.evals import calibration, metrics, protocols
from lrfr_jax.evals.evaluation import SetResult
from lrfr_jax.evals.verification import VerificationResult

Row = dict[str, Any]
KEY = "carried_over"


def measure(results: Mapping[str, SetResult]) -> dict[str, list[Row]]:
    """What the thresholds of each verification set accept of the impostor pairs of every other one.

    Of the rules that were asked for alone, at the sizes that both sets have and the rates that the first supports.

    Returns:
      {set: [{'set' whose threshold, 'mode', 'resolution', 'far' that it stands for, 'threshold', 'accepted': the share
      of the impostor pairs of this set, 'far_low' and 'far_high' of it}]}, without sets for which there are none.
    """
    verified = {name: one for name, one in results.items() if isinstance(one.outcome, VerificationResult)}
    reading = {name: protocols.reading_of(one.evaluation.rules) for name, one in verified.items()}
    found: dict[str, list[Row]] = {}
    for name, other in itertools.permutations(verified, 2):
        if reading[name] == reading[other]:
            rows = _rows(verified[name].outcome, verified[other].outcome)
            found.setdefault(other, []).extend({"set": name, **row} for row in rows)
    return {name: rows for name, rows in found.items() if rows}


def _rows(one: VerificationResult, other: VerificationResult) -> Iterator[Row]:
    for mode, resolution in (key for key in one.by_mode if key in other.by_mode):
        here = one.by_mode[mode, resolution].cosines[~one.is_same]
        there = other.by_mode[mode, resolution].cosines[~other.is_same]
        for far in calibration.rates_of(here):
            threshold = float(metrics.strictest_threshold(here, far))
            accepted = float((there > threshold).mean())
            low, high = metrics.wilson_interval(accepted, len(there), confidence=metrics.CONFIDENCE)
            asked = {"mode": mode, "resolution": resolution, "far": far, "threshold": threshold}
            yield {**asked, "accepted": accepted, "far_low": low, "far_high": high}


def kept_in(sets: Mapping[str, Any], found: Mapping[str, Sequence[Row]]) -> dict[str, Any]:
    """Returns a report's `sets` with what was measured on each as its 'carried_over'."""
    return {name: one | ({KEY: found[name]} if name in found else {}) for name, one in sets.items()}


def table(sets: Mapping[str, Any]) -> list[str]:
    """The lines of a Markdown table of what a report's sets keep of it, and how far both thresholds lie apart."""
    found = {name: one[KEY] for name, one in sets.items() if KEY in one}
    if not found:
        return []
    lines = ["thresholds of one set on the impostor pairs of another:", ""]
    lines += ["| threshold of | on | mode | px | stands for | threshold | apart | accepts (95 %) |", "|---" * 8 + "|"]
    by_key = {(row["set"], name, *_asked(row)): row["threshold"] for name, rows in found.items() for row in rows}
    for name, row in ((name, row) for name, rows in found.items() for row in rows):
        back = by_key.get((name, row["set"], *_asked(row)))
        apart = "" if back is None else f"{row['threshold'] - back:+.3f}"
        asked = f"{protocols.MODE_TITLES[row['mode']]} | {row['resolution']} | {row['far']:g} | {row['threshold']:.4f}"
        accepts = f"{row['accepted']:.2g} ({row['far_low']:.2g} to {row['far_high']:.2g})"
        lines.append(f"| {row['set']} | {name} | {asked} | {apart} | {accepts} |")
    return lines


def _asked(row: Row) -> tuple[str, int, float]:
    return row["mode"], row["resolution"], row["far"]
