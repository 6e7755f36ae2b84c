"""Embeddings of the same faces at several resolutions in two dimensions: the drawing that t-SNE and PCA share."""

import argparse
import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from lrfr_jax.analysis.figures import models_and_faces
from lrfr_jax.errors import UserError
from lrfr_jax.evals import plots
from lrfr_jax.image_ops import IMAGE_SIZE

# Inches: panels are square, the legend stands on their right, and square panels leave no height for the title.
_SIDE, _LEGEND, _TITLE = 4.4, 1.2, 0.7
_CENTER_SIZES = 190, 50  # from the lowest to the full resolution


def embed_choice(
    arguments: argparse.Namespace, *, check: Callable[[int], None] | None = None
) -> tuple[str, dict[str, Float[np.ndarray, "resolutions faces _"]]]:
    """Embeds the faces and resolutions of the command line by each model.

    Args:
      arguments: the command line.
      check: gets the number of embeddings before there are any.

    Returns:
      (title of the faces, {label: unit embeddings}).

    Raises:
      UserError: a model or the set cannot be read, or one embedding in all is no plane.
    """
    faces = models_and_faces.choose_faces(
        arguments.data_dir, arguments.set_name, num_images=arguments.images, seed=arguments.seed
    )
    sizes, batch_size = arguments.resolutions, arguments.batch_size
    if len(faces.records) * len(sizes) < 2:
        raise UserError(f"one face of {faces.name} at one resolution is no map: raise --images or --resolutions")
    if check:
        check(len(faces.records) * len(sizes))
    models = models_and_faces.load_models(arguments.checkpoints, arguments.labels)
    embedded = {
        m.label: models_and_faces.embed_faces(m, faces, resolutions=sizes, batch_size=batch_size) for m in models
    }
    return f"{faces.name}, {len(faces.records)} faces", embedded


def add_arguments(add: Callable, *, resolutions: tuple[int, ...]) -> None:
    """Declares the options that both kinds have."""
    models_and_faces.add_models(add)
    models_and_faces.add_faces(add, num_images=100)
    models_and_faces.add_resolutions(add, resolutions, remark=",".join(map(str, resolutions)))


def plot(
    path: str | os.PathLike,
    points: Mapping[str, Float[np.ndarray, "resolutions faces 2"]],
    *,
    resolutions: Sequence[int],
    title: str,
    axis_labels: Mapping[str, tuple[str, str]],
    is_shared: bool,
) -> None:
    """Writes a panel per model; the color is the resolution, a large dot the center of all faces at it.

    Args:
      points: {label of the model: places of the faces}.
      axis_labels: {label of the model: names of the two axes}.
      is_shared: whether lengths can be compared between panels: if so, they have the same axes, else no ticks.
    """
    figure, axes = plots.panels(1, len(points), sharex=is_shared, sharey=is_shared)
    figure.set_size_inches(_SIDE * len(points) + _LEGEND, _SIDE + _TITLE)
    colors, sizes = plots.scale_colors(len(resolutions)), np.linspace(*_CENTER_SIZES, len(resolutions))
    for (label, places), panel in zip(points.items(), axes[0], strict=True):
        for resolution, at_resolution, color in zip(resolutions, places, colors, strict=True):
            name = f"{resolution} px{' (HR)' if resolution == IMAGE_SIZE else ''}"
            panel.scatter(*at_resolution.T, s=10, color=color, alpha=0.6, linewidths=0, label=name)
        # Above all small dots; the full resolution last and smallest, so that centers in one place show as rings.
        centers = places.mean(axis=1)[::-1]
        panel.scatter(*centers.T, s=sizes, color=colors[::-1], edgecolors="white", linewidths=1, zorder=3)
        panel.set(title=label, xlabel=axis_labels[label][0], ylabel=axis_labels[label][1])
        panel.set_aspect("equal", adjustable="box" if is_shared else "datalim")
        panel.grid(**plots.GRID)
        if not is_shared:
            panel.set(xticks=[], yticks=[])
    figure.suptitle(title, fontsize="medium")
    legend = figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center", fontsize="small")
    for handle in legend.legend_handles:
        handle.set(sizes=[40], alpha=1)
    plots.save(figure, path)
