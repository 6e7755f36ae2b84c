"""`figures dimension_errors`: which dimensions differ between the two views (Ling et al. 2022, Fig. 6)."""

import argparse
import math
import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from lrfr_jax.analysis.figures import look, models_and_faces
from lrfr_jax.errors import UserError
from lrfr_jax.evals import plots
from lrfr_jax.image_ops import IMAGE_SIZE

SUMMARY = "Fig. 6: mean difference of full and low resolution, a histogram over dimensions; a panel per two checkpoints"
EXAMPLE = """python -m lrfr_jax.analysis.figures dimension_errors --checkpoints runs/l2,runs/p2,runs/l1,runs/p1 \\
      --labels 'L2,LogExp p=2,L1,LogExp p=1' --data_dir data --set lfw --resolutions 14 --output figures"""
BINS = 30
_PER_PANEL = 2
LEGEND_ROOM = 0.4  # of the highest bar, above it


def add_arguments(add: Callable) -> None:
    """Declares the options of the command; `add` is the parser's `add_argument`."""
    models_and_faces.add_models(add)
    models_and_faces.add_faces(add, num_images=1000)
    models_and_faces.add_resolutions(add, (20, 14, 7), remark="20,14,7: the paper names none; means are over all")


def draw(arguments: argparse.Namespace, png: pathlib.Path) -> dict[str, np.ndarray]:
    """Draws the figure; returns `labels`, and `k/signed` and `k/absolute` by dimension for model number k."""
    faces = models_and_faces.choose_faces(
        arguments.data_dir, arguments.set_name, num_images=arguments.images, seed=arguments.seed
    )
    lower = [r for r in arguments.resolutions if r < IMAGE_SIZE]
    if not lower:
        raise UserError(f"--resolutions {IMAGE_SIZE} is the full one: name a lower one to compare it with")
    models = models_and_faces.load_models(arguments.checkpoints, arguments.labels)
    errors = []
    for model in models:
        sizes = (IMAGE_SIZE, *lower)
        embedded = models_and_faces.embed_faces(model, faces, resolutions=sizes, batch_size=arguments.batch_size)
        errors.append(mean_errors(embedded[0], embedded[1:]))
    title = f"{faces.name}, {len(faces.records)} faces at {', '.join(map(str, lower))} px"
    plot(png, [model.label for model in models], errors, title=title)
    data = {"labels": np.array([model.label for model in models])}
    for number, (signed, absolute) in enumerate(errors):
        data |= {f"{number}/signed": signed, f"{number}/absolute": absolute}
    return data


def mean_errors(
    full: Float[np.ndarray, "faces dim"], reduced: Float[np.ndarray, "resolutions faces dim"]
) -> tuple[Float[np.ndarray, " dim"], Float[np.ndarray, " dim"]]:
    """Returns, for each dimension, the means of f_HR - f_LR and of its absolute value over faces and resolutions."""
    differences = full[None] - reduced
    return differences.mean(axis=(0, 1)), np.abs(differences).mean(axis=(0, 1))


def plot(
    path: str | os.PathLike,
    labels: Sequence[str],
    errors: Sequence[tuple[Float[np.ndarray, " _"], Float[np.ndarray, " _"]]],
    *,
    title: str,
) -> None:
    """Writes a panel for every two models in turn; `errors` holds what `mean_errors` returned for each."""
    count = math.ceil(len(labels) / _PER_PANEL)
    figure, axes = plots.panels(1, count, sharex=True, sharey=True)
    reach = max(np.abs(signed).max() for signed, _ in errors)
    edges = np.linspace(-reach, reach, BINS + 1)
    colors = look.colors(_PER_PANEL)
    for number, (label, (signed, absolute)) in enumerate(zip(labels, errors, strict=True)):
        panel, color = axes[0, number // _PER_PANEL], colors[number % _PER_PANEL]
        counts, _ = np.histogram(signed, edges)
        named = f"{label}\nmean |error| {absolute.mean():.4f}"
        panel.stairs(counts, edges, fill=True, alpha=0.4, color=color, label=named)
        panel.stairs(counts, edges, color=color, linewidth=1)
    for panel in axes[0]:
        panel.set_xlabel(r"mean of $f_{HR} - f_{LR}$ (unit length)")
        panel.legend(fontsize="small")
        panel.grid(**plots.GRID)
    axes[0, 0].set_ylabel("number of dimensions")
    axes[0, 0].margins(y=LEGEND_ROOM)
    figure.suptitle(title, fontsize="medium")
    plots.save(figure, path)
