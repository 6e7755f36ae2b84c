"""`figures gradient_norm`: how strongly images of each resolution pull the weights (Ling et al. 2022, Fig. 3b)."""

import argparse
import dataclasses
import functools
import itertools
import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8

from lrfr_jax.analysis.figures import look, models_and_faces, option_types
from lrfr_jax.analysis.figures.gradient_meter import BATCH_NORMS, LOSSES, make_meter
from lrfr_jax.analysis.figures.models_and_faces import Faces, Model
from lrfr_jax.analysis.figures.resolution import RESOLUTIONS
from lrfr_jax.checkpoints import checkpoint
from lrfr_jax.data import face_sets
from lrfr_jax.errors import UserError
from lrfr_jax.evals import plots
from lrfr_jax.image_ops import IMAGE_SIZE
from lrfr_jax.objective import distances, margins
from lrfr_jax.terminal import progress

SUMMARY = "Fig. 3b: norm of the gradient of the backbone's weights against the resolution of the images"
EXAMPLE = """python -m lrfr_jax.analysis.figures gradient_norm --checkpoints runs/baseline,runs/aug,runs/maug \\
      --labels 'baseline,Single-14,Multi' --data_dir data --set casia --images 512 --output figures"""
NORMS = {"global": "norm of the gradient", "sum": "sum of the gradient's norms"}
CENTERS = ("own", "mean_embedding")
_LOSS_TITLES = {"classification": "classification", "distance": "distance to HR", "both": "classification and distance"}


@dataclasses.dataclass(frozen=True, eq=False)
class Centers:
    """Class centers, the label of each face among them, and whether they are the checkpoint's own."""

    values: np.ndarray
    labels: np.ndarray
    is_own: bool


def add_arguments(add: Callable) -> None:
    """Declares the options of the command; `add` is the parser's `add_argument`."""
    models_and_faces.add_models(add)
    models_and_faces.add_faces(add, num_images=512)
    models_and_faces.add_resolutions(add, RESOLUTIONS, remark="the paper's 19 from 112 to 5")
    add(
        "--loss",
        choices=LOSSES,
        default="classification",
        help="of the reduced images; 'both' is Eq. 7 (default %(default)s)",
    )
    add("--batch_norm", choices=BATCH_NORMS, default="running", help="statistics of BatchNorm (default %(default)s)")
    add(
        "--norm",
        choices=NORMS,
        default="global",
        help="over all weights together, or added up over the tensors (default %(default)s; the data hold both)",
    )
    add(
        "--centers",
        choices=CENTERS,
        default=CENTERS[0],
        help="class centers: the checkpoint's, if it was trained on this set, or each identity's mean embedding over "
        "the chosen images at full resolution (default %(default)s)",
    )
    add("--margin_type", choices=sorted(margins.MARGINS), default="cosface", help="(default %(default)s)")
    add("--scale", type=option_types.above_zero, default=48.0, help="of the margin (default %(default)s)")
    add("--margin", type=option_types.finite, default=0.4, help="(default %(default)s)")
    add("--distance", choices=sorted(distances.DISTANCES), default="logexp", help="(default %(default)s)")
    add("--p", type=option_types.at_least_one, default=1.0, help="exponent of the distance (default %(default)s)")
    add("--reduction", choices=distances.REDUCTIONS, default="paper", help="of the distance (default %(default)s)")
    lambda_text = "lambda, with --loss both (default %(default)s)"
    add("--distance_weight", type=option_types.at_least_zero, default=1.0, help=lambda_text)


def draw(arguments: argparse.Namespace, png: pathlib.Path) -> dict[str, np.ndarray]:
    """Draws the figure; returns `labels`, `resolutions`, `has_own_centers`, and both norms by model, size, batch."""
    faces = models_and_faces.choose_faces(
        arguments.data_dir, arguments.set_name, num_images=arguments.images, seed=arguments.seed
    )
    if arguments.loss != "distance" and faces.labels is None:
        raise UserError(
            f"--loss {arguments.loss} needs identities, {faces.name} has none: --set must be a training set"
        )
    models = models_and_faces.load_models(arguments.checkpoints, arguments.labels)
    images = models_and_faces.decode_faces(faces)
    own, norms = [], []
    for model in models:
        centers = None if arguments.loss == "distance" else _centers(model, faces, arguments)
        own.append(centers is not None and centers.is_own)
        norms.append(_norms(model, images, centers, arguments))
    data = {
        "labels": np.array([model.label for model in models]),
        "resolutions": np.array(arguments.resolutions),
        "has_own_centers": np.array(own),
        "global": np.stack([one[..., 0] for one in norms]),
        "sum": np.stack([one[..., 1] for one in norms]),
    }
    marks = ["" if is_own or arguments.loss == "distance" else " (centers: mean embeddings)" for is_own in own]
    plot(
        png,
        [model.label + mark for model, mark in zip(models, marks, strict=True)],
        data["resolutions"],
        data[arguments.norm],
        title=_title(faces, arguments, num_batches=data["global"].shape[-1]),
        quantity=NORMS[arguments.norm],
    )
    return data


def mean_centers(
    embeddings: Float[np.ndarray, "faces dim"], labels: Int[np.ndarray, " faces"]
) -> tuple[Float[np.ndarray, "identities dim"], Int[np.ndarray, " faces"]]:
    """Returns each identity's mean embedding, in order of labels, and the row of every face in them."""
    present, rows = np.unique(labels, return_inverse=True)
    sums = np.zeros((len(present), embeddings.shape[1]), np.float32)
    np.add.at(sums, rows, embeddings)
    return sums / np.bincount(rows)[:, None], rows.astype(np.int32)


def plot(
    path: str | os.PathLike,
    labels: Sequence[str],
    resolutions: np.ndarray,
    norms: Float[np.ndarray, "models resolutions batches"],
    *,
    title: str,
    quantity: str,
) -> None:
    """Writes a line per model: the mean over batches, and a band of one standard deviation if there are several."""
    figure, axes = plots.panels(1, 1)
    figure.set_size_inches(*plots.WIDE_PANEL)
    panel = axes[0, 0]
    for label, values, color, marker in zip(
        labels, norms, look.colors(len(labels)), look.markers(len(labels)), strict=True
    ):
        mean, spread = values.mean(axis=1), values.std(axis=1)
        panel.plot(resolutions, mean, color=color, marker=marker, markersize=4, label=label)
        panel.fill_between(resolutions, mean - spread, mean + spread, color=color, alpha=0.15, linewidth=0)
    plots.resolution_axis(panel, sorted(resolutions.tolist()))
    panel.set(ylabel=quantity, ylim=(0, None))
    panel.set_title(title, fontsize="medium")
    panel.grid(**plots.GRID)
    look.legend_below(figure, panel)
    plots.save(figure, path)


def _norms(
    model: Model, images: UInt8[np.ndarray, "faces 112 112 3"], centers: Centers | None, arguments: argparse.Namespace
) -> Float[np.ndarray, "resolutions batches 2"]:
    """Measures full batches only; the faces that are left over are not used."""
    meter = make_meter(
        model.metadata["model"],
        loss=arguments.loss,
        batch_norm=arguments.batch_norm,
        sizes=tuple(sorted({IMAGE_SIZE, *arguments.resolutions})),
        rounding=model.rounding,
        scale=arguments.scale,
        target_logit=functools.partial(
            margins.MARGINS[arguments.margin_type], scale=arguments.scale, margin=arguments.margin
        ),
        pair_distance=functools.partial(
            distances.pair_distance, distance=arguments.distance, p=arguments.p, reduction=arguments.reduction
        ),
        distance_weight=arguments.distance_weight,
    )
    size = min(arguments.batch_size, len(images))
    batches = [slice(first, first + size) for first in range(0, len(images) - size + 1, size)]
    values = None if centers is None else centers.values

    def measure(resolution: int, batch: slice) -> np.ndarray:
        labels = None if centers is None else centers.labels[batch]
        wanted = np.full(size, resolution, np.int32)
        return np.asarray(meter(model.variables, values, images[batch], labels, wanted))

    wanted = list(itertools.product(arguments.resolutions, batches))
    try:
        measured = [measure(*one) for one in progress.bar(wanted, f"measuring gradients of {model.label}", "batches")]
        return np.array(measured).reshape(len(arguments.resolutions), len(batches), 2)
    except ValueError as error:
        raise UserError(f"the loss does not fit together: {error}") from error


def _centers(model: Model, faces: Faces, arguments: argparse.Namespace) -> Centers:
    trained = model.metadata.get("data", {})
    if arguments.centers == "own" and trained.get("dataset") == faces.name:
        known = face_sets.open_training_set(arguments.data_dir, faces.name).num_identities
        values = checkpoint.load_class_centers(model.path)
        if values is not None and len(values) == known:
            return Centers(np.asarray(values), faces.labels, True)
    full = models_and_faces.embed_faces(model, faces, resolutions=(IMAGE_SIZE,), batch_size=arguments.batch_size)[0]
    return Centers(*mean_centers(full, faces.labels), False)


def _title(faces: Faces, arguments: argparse.Namespace, *, num_batches: int) -> str:
    size = min(arguments.batch_size, len(faces.records))
    return (
        f"{faces.name}: {_LOSS_TITLES[arguments.loss]} loss, BatchNorm by {arguments.batch_norm} statistics,\n"
        f"mean of {num_batches} batch{'es' if num_batches > 1 else ''} of {size}"
    )
