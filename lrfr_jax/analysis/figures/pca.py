"""`figures pca`: embeddings of the same faces at several resolutions, in their plane (Ling et al. 2022, Fig. 7)."""

import argparse
import pathlib
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from lrfr_jax.analysis.figures import maps

SUMMARY = "Fig. 7: principal components of the same faces at several resolutions; a panel per checkpoint"
EXAMPLE = """python -m lrfr_jax.analysis.figures pca --checkpoints runs/maug_l1,runs/maug_logexp --labels 'L1,LogExp' \\
      --data_dir data --set lfw --images 100 --output figures"""
RESOLUTIONS = (112, 42, 28, 20, 14, 7)


def add_arguments(add: Callable) -> None:
    """Declares the options of the command; `add` is the parser's `add_argument`."""
    maps.add_arguments(add, resolutions=RESOLUTIONS)


def draw(arguments: argparse.Namespace, png: pathlib.Path) -> dict[str, np.ndarray]:
    """Draws the figure; returns `labels`, `resolutions`, `points` [models, resolutions, faces, 2] and `variance`."""
    title, embedded = maps.embed_choice(arguments)
    fitted = {label: principal_plane(embeddings) for label, embeddings in embedded.items()}
    points = {label: places for label, (places, _) in fitted.items()}
    names = {
        label: tuple(f"component {k + 1} ({100 * share:.0f} % of the variance)" for k, share in enumerate(shares))
        for label, (_, shares) in fitted.items()
    }
    maps.plot(png, points, resolutions=arguments.resolutions, title=title, axis_labels=names, is_shared=True)
    return {
        "labels": np.array(list(points)),
        "resolutions": np.array(arguments.resolutions),
        "points": np.stack(list(points.values())),
        "variance": np.stack([shares for _, shares in fitted.values()]),
    }


def principal_plane(
    embeddings: Float[np.ndarray, "resolutions faces dim"],
) -> tuple[Float[np.ndarray, "resolutions faces 2"], Float[np.ndarray, "2"]]:
    """Projects all embeddings together onto their two principal components; the larger end of each is positive.

    Returns:
      (places, share of the variance along each component).
    """
    rows = embeddings.reshape(-1, embeddings.shape[-1])
    _, singular, components = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    places = (rows - rows.mean(axis=0)) @ components[:2].T
    # A component's sign is arbitrary: this rule makes the figure the same everywhere.
    farthest = places[np.argmax(np.abs(places), axis=0), [0, 1]]
    places = places * np.sign(farthest)
    return places.reshape(*embeddings.shape[:2], 2), singular[:2] ** 2 / np.sum(singular**2)
