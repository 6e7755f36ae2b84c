"""`figures roc`: true against false accept rates of several models (Ling et al. 2022, Fig. 5)."""

import argparse
import math
import os
import pathlib
from collections.abc import Callable, Mapping

import numpy as np

from lrfr_jax.analysis.figures import look, models_and_faces, pairs
from lrfr_jax.evals import metrics, plots

SUMMARY = "Fig. 5: ROC curves over all pairs, false accept rate logarithmic; a panel per set, a curve per checkpoint"
EXAMPLE = """python -m lrfr_jax.analysis.figures roc --checkpoints runs/baseline,runs/maug --labels 'HR only,MAug' \\
      --data_dir data --sets lfw,xqlfw --resolutions 112,14 --output figures/roc.png"""
_COLUMNS = 2  # of panels, as the paper sets them


def add_arguments(add: Callable) -> None:
    """Declares the options of the command; `add` is the parser's `add_argument`."""
    models_and_faces.add_models(add)
    pairs.add_sets(add)
    pairs.add_arguments(add, mode="hr_lr")


def draw(arguments: argparse.Namespace, png: pathlib.Path) -> dict[str, np.ndarray]:
    """Draws the figure; returns `labels` and for each set `is_same` and cosines [models, pairs]."""
    curves, data = pairs.cosines_by_set(arguments)
    plot(png, curves)
    return data


def plot(path: str | os.PathLike, curves: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]]) -> None:
    """Writes a panel per entry {title: {label: (similarities, is_same)}}; the labels are the same in all."""
    columns = min(len(curves), _COLUMNS)
    figure, axes = plots.panels(math.ceil(len(curves) / columns), columns)
    for panel in axes.flat[len(curves) :]:
        panel.set_axis_off()
    for (title, one), panel in zip(curves.items(), axes.flat, strict=False):
        plots.roc_panel(panel, one, look.colors(len(one)))
        panel.set(title=title, ylim=(_bottom(one), 1.01))
    look.legend_below(figure, axes[0, 0])
    plots.save(figure, path)


def _bottom(curves: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> float:
    """The lowest rate shown, in tenths: that of the worst curve before the first impostor pair is accepted."""
    rates = [metrics.tar_at_far(similarities, is_same, far=0.0) for similarities, is_same in curves.values()]
    return math.floor(10 * min(rates)) / 10
