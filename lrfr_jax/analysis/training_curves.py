"""The course of training, from a run's `metrics.jsonl`: losses, accuracies, the distance and gradient norms."""

import io
import itertools
from collections.abc import Mapping, Sequence

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.lines import Line2D

# {title of a panel: (logarithmic where values differ much, {name of a curve: metric})}; what no run logged is left out.
PANELS = {
    "distance between the views": (True, {"distance": "train/distance"}),
    "gradient norm": (
        True,
        {
            "all": "train/grad_norm",
            "classification": "train/grad_norm_classification",
            "distance term": "train/grad_norm_distance",
        },
    ),
}
# The same of each view: {title of a panel: what the metrics' names begin with}, and titles of the curves.
PANELS_OF_VIEWS = {"classification loss": "train/classification_", "training accuracy": "train/accuracy_"}
VIEWS = {"hr": "high resolution", "lr": "low resolution"}
# Look, not science: sizes in inches, dots per inch.
PANEL, DPI, DECADE = (3.2, 2.3), 90, 10
COLORS, STYLES = ("#2166ac", "#d6604d", "#4d9221"), ("-", "--", ":", "-.")


def draw(runs: Mapping[str, Sequence[Mapping[str, float | int]]]) -> bytes | None:
    """Draws the curves of runs that differ in their seed; None if none has logged a step.

    Args:
      runs: {name of a run: its lines, as `metric_writers.read_metrics` gives them}; a run has a line style.

    Returns:
      A PNG: a panel for each kind of curve that the runs have, a color for each curve of a panel.
    """
    logged = {metric for lines in runs.values() for line in lines for metric in line}
    panels = {title: (False, _curves_of_views(logged, beginning)) for title, beginning in PANELS_OF_VIEWS.items()}
    panels = {title: panel for title, panel in (panels | PANELS).items() if logged & set(panel[1].values())}
    if not panels:
        return None
    size = (len(panels) * PANEL[0], PANEL[1])
    figure, axes = plt.subplots(1, len(panels), figsize=size, squeeze=False, layout="constrained")
    for axis, (title, (is_logarithmic, curves)) in zip(axes[0], panels.items(), strict=True):
        _draw_panel(axis, {name: metric for name, metric in curves.items() if metric in logged}, runs)
        axis.set_title(title, fontsize="small")
        values = [value for line in axis.lines for value in line.get_ydata()]
        # Within a decade a logarithmic axis would have no tick to read.
        if is_logarithmic and 0 < DECADE * min(values) < max(values):
            axis.set_yscale("log")
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=DPI)
    plt.close(figure)
    return png.getvalue()


def _curves_of_views(logged: set[str], beginning: str) -> dict[str, str]:
    names = sorted(metric.removeprefix(beginning) for metric in logged if metric.startswith(beginning))
    return {VIEWS.get(name, name): f"{beginning}{name}" for name in names}


def _draw_panel(
    axis: plt.Axes, curves: Mapping[str, str], runs: Mapping[str, Sequence[Mapping[str, float | int]]]
) -> None:
    colors = dict(zip(curves, COLORS, strict=False))
    for name, metric in curves.items():
        for lines, style in zip(runs.values(), itertools.cycle(STYLES), strict=False):
            points = [(line["step"], line[metric]) for line in lines if metric in line]
            steps, values = zip(*points, strict=True) if points else ((), ())
            axis.plot(steps, values, style, color=colors[name], linewidth=1)
    axis.set_xlabel("step", fontsize="small")
    axis.tick_params(labelsize="x-small")
    axis.grid(alpha=0.3, linewidth=0.6)
    if len(curves) > 1:
        handles = [Line2D([], [], color=color, label=name) for name, color in colors.items()]
        axis.legend(handles=handles, fontsize="x-small")
