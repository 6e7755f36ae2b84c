"""`figures tsne`: embeddings of the same faces at several resolutions by neighborhood (Ling et al. 2022, Fig. 3c)."""

import argparse
import functools
import pathlib
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from lrfr_jax.analysis.figures import maps
from lrfr_jax.errors import UserError
from lrfr_jax.terminal import progress

SUMMARY = "Fig. 3c: t-SNE of the same faces at several resolutions; a panel per checkpoint (needs scikit-learn)"
EXAMPLE = """python -m lrfr_jax.analysis.figures tsne --checkpoints runs/baseline --data_dir data --set lfw \\
      --images 100 --output figures"""
# The paper shows seven and names six of them, with its Fig. 7.
RESOLUTIONS = (112, 56, 42, 28, 20, 14, 7)


def add_arguments(add: Callable) -> None:
    """Declares the options of the command; `add` is the parser's `add_argument`."""
    maps.add_arguments(add, resolutions=RESOLUTIONS)
    add("--perplexity", type=float, default=30.0, help="how many neighbors count, about (default %(default)s)")


def draw(arguments: argparse.Namespace, png: pathlib.Path) -> dict[str, np.ndarray]:
    """Draws the figure; returns `labels`, `resolutions` and `points` [models, resolutions, faces, 2]."""
    _scikit_learn()
    title, embedded = maps.embed_choice(
        arguments, check=functools.partial(_check_perplexity, perplexity=arguments.perplexity)
    )
    points = {
        label: neighborhood_plane(embeddings, perplexity=arguments.perplexity, seed=arguments.seed)
        for label, embeddings in embedded.items()
    }
    names = {label: ("t-SNE 1", "t-SNE 2") for label in points}
    maps.plot(png, points, resolutions=arguments.resolutions, title=title, axis_labels=names, is_shared=False)
    return {
        "labels": np.array(list(points)),
        "resolutions": np.array(arguments.resolutions),
        "points": np.stack(list(points.values())),
    }


def neighborhood_plane(
    embeddings: Float[np.ndarray, "resolutions faces dim"], *, perplexity: float, seed: int
) -> Float[np.ndarray, "resolutions faces 2"]:
    """Lays all embeddings together into the plane by t-SNE, from their principal components on.

    Raises:
      UserError: scikit-learn is missing, or there are not more embeddings than `perplexity`.

    References:
      van der Maaten and Hinton 2008, Visualizing data using t-SNE.
    """
    rows = embeddings.reshape(-1, embeddings.shape[-1])
    _check_perplexity(len(rows), perplexity=perplexity)
    method = _scikit_learn()(n_components=2, perplexity=perplexity, init="pca", random_state=seed)
    with progress.waiting(f"laying {len(rows)} embeddings into the plane"):
        return method.fit_transform(rows).reshape(*embeddings.shape[:2], 2)


def _check_perplexity(count: int, *, perplexity: float) -> None:
    if not 0 < perplexity < count:
        raise UserError(f"--perplexity={perplexity} must lie between 0 and the number of embeddings, {count}")


def _scikit_learn() -> Callable:
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise UserError("t-SNE needs scikit-learn: `pip install -e '.[analysis]'`") from error
    return TSNE
