"""`figures resolution`: accuracy of several models against resolution, beside SSIM (Ling et al. 2022, Fig. 3a)."""

import argparse
import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from lrfr_jax.analysis.figures import look, models_and_faces, option_types, pairs
from lrfr_jax.analysis.figures.models_and_faces import Model
from lrfr_jax.evals import embed, plots, report

SUMMARY = "Fig. 3a: accuracy of several checkpoints on a verification set against resolution, and the images' mean SSIM"
EXAMPLE = """python -m lrfr_jax.analysis.figures resolution --checkpoints runs/baseline,runs/aug,runs/maug \\
      --labels 'baseline,Single-14,Multi' --data_dir data --set lfw --mode lr_lr --output figures"""
# The figure's own: 19 of them.
RESOLUTIONS = (112, 56, 48, 40, 32, 28, 24, 20, 18, 16, 14, 12, 11, 10, 9, 8, 7, 6, 5)
# The paper's difficulties (Sec. 3.1), in pixels: extremely hard, hard, semi-hard; from the darkest.
REGIONS = {"A": (0, 12), "B": (12, 20), "C": (20, 32)}
_SHADES = ("0.87", "0.92", "0.96")


def add_arguments(add: Callable) -> None:
    """Declares the options of the command; `add` is the parser's `add_argument`."""
    models_and_faces.add_models(add)
    models_and_faces.add_set(add, "a verification set")
    models_and_faces.add_resolutions(add, RESOLUTIONS, remark="the paper's 19 from 112 to 5")
    pairs.add_arguments(add, mode="lr_lr")
    add("--images", type=option_types.positive, default=500, metavar="N", help="for SSIM (default %(default)s)")
    add("--seed", type=option_types.seed, default=0, help="seed of their choice (default %(default)s)")


def draw(arguments: argparse.Namespace, png: pathlib.Path) -> dict[str, np.ndarray]:
    """Draws the figure; returns `labels`, `resolutions`, `accuracy` and `interval` by model and resolution, `ssim`."""
    name, resolutions = arguments.set_name, arguments.resolutions
    models, found = pairs.evaluate_models(arguments, sets=[name], resolutions=resolutions)
    results = found[name]
    compared = [[pairs.comparison_at(result, arguments.mode, r) for r in resolutions] for result in results]
    data = {
        "labels": np.array([model.label for model in models]),
        "resolutions": np.array(resolutions),
        "accuracy": np.array([[one.accuracy.mean for one in row] for row in compared]),
        "interval": np.array([[one.interval for one in row] for row in compared]),
        "ssim": mean_ssim(models[0], arguments, resolutions=resolutions),
    }
    title = f"{pairs.set_title(results[0])}, {report.MODE_TITLES[arguments.mode]}"
    plot(png, **{**data, "labels": data["labels"].tolist()}, title=title)
    return data


def mean_ssim(
    model: Model, arguments: argparse.Namespace, *, resolutions: tuple[int, ...]
) -> Float[np.ndarray, " resolutions"]:
    """Measures how similar reduced images are to whole ones, with the rounding of the model's training."""
    faces = models_and_faces.choose_faces(
        arguments.data_dir, arguments.set_name, num_images=arguments.images, seed=arguments.seed
    )
    means = embed.mean_similarity(
        embed.make_similarity_meter(sizes=resolutions, rounding=model.rounding),
        faces.source,
        wanted=dict.fromkeys(resolutions, faces.records),
        batch_size=arguments.batch_size,
        num_threads=os.cpu_count() or 1,
    )
    return np.array([means[r] for r in resolutions])


def plot(
    path: str | os.PathLike,
    *,
    labels: Sequence[str],
    resolutions: np.ndarray,
    accuracy: Float[np.ndarray, "models resolutions"],
    interval: Float[np.ndarray, "models resolutions 2"],
    ssim: Float[np.ndarray, " resolutions"],
    title: str,
) -> None:
    """Writes a line per model with its 95 % interval, the SSIM on the right axis, and the three difficulties shaded."""
    figure, axes = plots.panels(1, 1)
    figure.set_size_inches(*plots.WIDE_PANEL)
    panel = axes[0, 0]
    colors, markers = look.colors(len(labels)), look.markers(len(labels))
    for label, values, ends, color, marker in zip(labels, accuracy, interval, colors, markers, strict=True):
        panel.plot(resolutions, 100 * values, color=color, marker=marker, markersize=4, label=label)
        panel.fill_between(resolutions, *(100 * ends.T), color=color, alpha=0.15, linewidth=0)
    plots.resolution_axis(panel, sorted(resolutions.tolist()))
    panel.set_ylabel("accuracy (%)")
    panel.set_title(title, pad=20)  # above the letters of the regions
    panel.grid(**plots.GRID)
    _shade_regions(panel)

    right = panel.twinx()
    right.plot(resolutions, ssim, color="0.35", linestyle="--", linewidth=1.2)
    right.set(ylim=(0, 1.02), ylabel="mean SSIM")
    panel.plot([], [], color="0.35", linestyle="--", linewidth=1.2, label="SSIM (right axis)")
    look.legend_below(figure, panel)
    plots.save(figure, path)


def _shade_regions(panel) -> None:
    left, right = panel.get_xlim()
    for (name, (low, high)), shade in zip(REGIONS.items(), _SHADES, strict=True):
        low, high = max(low, left), min(high, right)
        if low < high:
            panel.axvspan(low, high, color=shade, zorder=0, linewidth=0)
            middle = np.sqrt(low * high)  # the axis is logarithmic
            panel.text(middle, 1, name, transform=panel.get_xaxis_transform(), ha="center", va="bottom")
    panel.set_xlim(left, right)
