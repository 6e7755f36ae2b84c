"""`figures similarities`: how similar genuine and impostor pairs are to each model (Ling et al. 2022, Fig. 1)."""

import argparse
import pathlib
from collections.abc import Callable

import numpy as np

from lrfr_jax.analysis.figures import models_and_faces, pairs
from lrfr_jax.evals import plots

SUMMARY = "Fig. 1: histograms of the similarities of genuine and impostor pairs; a row per set, a column per checkpoint"
EXAMPLE = """python -m lrfr_jax.analysis.figures similarities --checkpoints runs/baseline,runs/maug --data_dir data \\
      --sets lfw,xqlfw --output figures"""


def add_arguments(add: Callable) -> None:
    """Declares the options of the command; `add` is the parser's `add_argument`."""
    models_and_faces.add_models(add)
    pairs.add_sets(add)
    pairs.add_arguments(add, mode="hr_lr")


def draw(arguments: argparse.Namespace, png: pathlib.Path) -> dict[str, np.ndarray]:
    """Draws the figure; returns `labels` and for each set `is_same` and cosines [models, pairs]."""
    similarities, data = pairs.cosines_by_set(arguments)
    plots.similarity_histograms(png, similarities)
    return data
