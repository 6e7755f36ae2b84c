"""The figures of an evaluation, from plain arrays and reports; nothing is shown, every function writes one PNG."""

import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import NullLocator

from lrfr_jax.evals import metrics
from lrfr_jax.evals.report import MODE_TITLES, accuracy_rows, full_name
from lrfr_jax.files import paths

# Look, not science: sizes in inches, dots per inch.
PANEL, WIDE_PANEL, DPI = (5.2, 3.8), (8.0, 4.8), 150
BINS, MANY_TICKS = 60, 12
GENUINE, IMPOSTOR, GRID = "#2166ac", "#d6604d", {"alpha": 0.3, "linewidth": 0.6}


def accuracy_by_resolution(
    path: str | os.PathLike, reports: Mapping[str, Mapping[str, Any]], *, sets: Sequence[str]
) -> None:
    """Accuracy against resolution: a row of panels per set, a panel per mode, a line per run; bands are 95 % intervals.

    Args:
      path: the PNG.
      reports: {label of the run: what `report.report_of` returns}.
      sets: names of the sets to show, present in all reports.
    """
    rows = {name: {label: accuracy_rows(report["sets"][name]) for label, report in reports.items()} for name in sets}
    modes = [mode for mode in MODE_TITLES if any(mode in r for runs in rows.values() for r in runs.values())]
    figure, axes = panels(len(sets), len(modes), sharey="row")
    first = next(iter(reports.values()))["sets"]
    for name, line in zip(sets, axes, strict=True):
        drawn = []
        for mode, panel in zip(modes, line, strict=True):
            runs = {label: run[mode] for label, run in rows[name].items() if mode in run}
            if not runs:
                panel.set_axis_off()
                continue
            drawn.append(panel)
            _accuracy_panel(panel, runs)
            panel.set_title(f"{full_name(name, first[name])}, {MODE_TITLES[mode]}")
            panel.legend(loc="lower right", fontsize="small")
        # The row shares one axis, whose numbers would stand at a panel that is off.
        drawn[0].set_ylabel("accuracy (%)")
        drawn[0].tick_params(labelleft=True)
    save(figure, path)


def roc_curves(path: str | os.PathLike, curves: Mapping[str, tuple[np.ndarray, np.ndarray]], *, title: str) -> None:
    """ROC over all pairs, logarithmic in the false accept rate: a curve per entry {label: (similarities, is_same)}."""
    figure, axes = panels(1, 1)
    panel = axes[0, 0]
    roc_panel(panel, curves, scale_colors(len(curves)))
    panel.set_title(title)
    # Beside the panel: at low resolutions the curves cross all of it.
    figure.legend(loc="outside right upper", fontsize="small")
    save(figure, path)


def similarity_histograms(
    path: str | os.PathLike, similarities: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]]
) -> None:
    """Histograms of the similarities of genuine and impostor pairs, with the area that the two share.

    Args:
      path: the PNG.
      similarities: {row title: {panel title: (cosine similarities, is_same)}}; every row has the same number of panels.

    References:
      Ling et al. 2022, arXiv 2302.05621, Fig. 1.
    """
    shown = [cosines for row in similarities.values() for cosines, _ in row.values()]
    edges = np.linspace(min(s.min() for s in shown), max(s.max() for s in shown), BINS + 1)
    figure, axes = panels(len(similarities), max(map(len, similarities.values())), sharex=True)
    for (row_title, row), line in zip(similarities.items(), axes, strict=True):
        for (title, (cosines, is_same)), panel in zip(row.items(), line, strict=True):
            overlap = _histogram_panel(panel, cosines, is_same, edges)
            panel.set_title(f"{row_title}, {title}\noverlap {100 * overlap:.1f} %", fontsize="medium")
        line[0].set_ylabel("density")
    for panel in axes[-1]:
        panel.set_xlabel("cosine similarity")
    # Beside the panels: a peak may lie anywhere in them.
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize="small")
    save(figure, path)


def roc_panel(panel: plt.Axes, curves: Mapping[str, tuple[np.ndarray, np.ndarray]], colors: Sequence) -> None:
    """Draws a curve per entry {label: (similarities, is_same)}, in its color; the left end is one impostor pair."""
    floor = 1.0
    for (label, (similarities, is_same)), color in zip(curves.items(), colors, strict=True):
        fars, tars = metrics.roc_curve(similarities, is_same)
        panel.step(fars, tars, where="post", color=color, label=label, linewidth=1.4)
        floor = min(floor, 1 / np.sum(~is_same))
    # One impostor pair is the finest rate that can be told from zero.
    panel.set(xscale="log", xlim=(floor, 1), ylim=(0, 1.02), xlabel="false accept rate", ylabel="true accept rate")
    panel.grid(**GRID)


def resolution_axis(panel: plt.Axes, resolutions: Sequence[int]) -> None:
    """Makes the horizontal axis one of resolutions, logarithmic, with a tick at each of them."""
    panel.set_xscale("log")
    panel.set_xticks(resolutions, [str(r) for r in resolutions], rotation=90 if len(resolutions) > MANY_TICKS else 0)
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xlabel("resolution (px)")


def scale_colors(count: int) -> list:
    """Colors from dark to light in the order given, so that resolutions read as a scale."""
    return [plt.get_cmap("viridis")(x) for x in np.linspace(0, 0.9, count)]


def panels(rows: int, columns: int, **shared: Any) -> tuple[plt.Figure, np.ndarray]:
    """Opens a figure of panels of the usual size, as `plt.subplots` does; always a grid of rows and columns."""
    size = (columns * PANEL[0], rows * PANEL[1])
    return plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained", **shared)


def save(figure: plt.Figure, path: str | os.PathLike) -> None:
    """Writes the figure as PNG, whole or not at all, and closes it, also where it cannot be written."""
    try:
        png = io.BytesIO()
        figure.savefig(png, dpi=DPI, format="png")
        paths.write_bytes(paths.of(path), png.getvalue())
    finally:
        plt.close(figure)


def _accuracy_panel(panel: plt.Axes, runs: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> None:
    markers = "osD^vPX"
    resolutions = sorted({r for row in runs.values() for r in row})
    for number, (label, row) in enumerate(runs.items()):
        xs = sorted(row)
        low, high = 100 * np.array([row[x]["accuracy_interval"] for x in xs]).T
        marker = markers[number % len(markers)]
        line = panel.plot(xs, [100 * row[x]["accuracy"] for x in xs], marker=marker, markersize=4, label=label)[0]
        panel.fill_between(xs, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    resolution_axis(panel, resolutions)
    panel.grid(**GRID)


def _histogram_panel(panel: plt.Axes, similarities: np.ndarray, is_same: np.ndarray, edges: np.ndarray) -> float:
    densities = []
    for group, label, color in ((is_same, "genuine pairs", GENUINE), (~is_same, "impostor pairs", IMPOSTOR)):
        density, _ = np.histogram(similarities[group], edges, density=True)
        panel.stairs(density, edges, fill=True, alpha=0.45, color=color, label=label)
        panel.stairs(density, edges, color=color, linewidth=0.8)
        densities.append(density)
    panel.grid(**GRID)
    return float(np.sum(np.minimum(*densities) * np.diff(edges)))
