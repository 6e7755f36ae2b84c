"""The figures of an evaluation: accuracy by resolution, ROC curves and similarities of its verification sets."""

from collections.abc import Mapping
from typing import Any

from lrfr_jax.errors import UserError, reason_of
from lrfr_jax.evals import evaluation, plots, report
from lrfr_jax.evals.verification import VerificationResult
from lrfr_jax.files import paths
from lrfr_jax.image_ops import IMAGE_SIZE
from lrfr_jax.terminal import progress


def draw(folder: paths.AnyPath, results: Mapping[str, evaluation.SetResult], made: Mapping[str, Any]) -> bool:
    """Writes accuracy by resolution of the verification sets, and for each its ROC curves and similarity histograms.

    Returns:
      Whether there was anything to draw.

    Raises:
      UserError: the folder cannot be written.
    """
    try:
        with progress.waiting("drawing"):
            return _draw(folder, results, made)
    except OSError as error:
        raise UserError(
            f"the figures cannot be written to {folder} ({reason_of(error)}): choose another folder with --plots"
        ) from error


def _draw(folder: paths.AnyPath, results: Mapping[str, evaluation.SetResult], made: Mapping[str, Any]) -> bool:
    drawn = {name: r.outcome for name, r in results.items() if isinstance(r.outcome, VerificationResult)}
    if not drawn:
        return False
    if not paths.is_remote(folder):
        folder.mkdir(parents=True, exist_ok=True)
    # With the sizes and sets that were measured before; the other figures need the scores, which no json keeps.
    known = [name for name, one in made["sets"].items() if one["kind"] == "verification"]
    plots.accuracy_by_resolution(folder / "accuracy_by_resolution.png", {f"step {made['step']}": made}, sets=known)
    for name, result in drawn.items():
        lower = dict(result.by_mode)
        full = lower.pop(("hr_hr", IMAGE_SIZE))
        rows, shown_name = {}, report.full_name(name, made["sets"][name])
        for mode in sorted({mode for mode, _ in lower}) or ["hr_hr"]:
            title = report.MODE_TITLES[mode]
            entries = [full, *(comparison for which, comparison in lower.items() if which[0] == mode)]
            curves = {f"{c.resolution} px": (c.cosines, result.is_same) for c in entries}
            plots.roc_curves(folder / f"{name}_roc_{mode}.png", curves, title=f"{shown_name}, {title}")
            # The full, a middle and the lowest resolution tell the story; all of them would not fit.
            shown = list(dict.fromkeys([entries[0], entries[len(entries) // 2], entries[-1]]))
            rows[title] = {f"{c.resolution} px": curves[f"{c.resolution} px"] for c in shown}
        plots.similarity_histograms(folder / f"{name}_similarities.png", rows)
    return True
