"""How published evaluations fuse flips, score pairs and choose thresholds; they differ by tenths of a point."""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from lrfr_jax.evals import metrics


@dataclasses.dataclass(frozen=True, eq=False)
class Protocol:
    """One way from raw features to decisions.

    Attributes:
      fuse: features of [image, mirrored image] -> one vector per image.
      score: (vectors, vectors) of pairs -> scores, higher = more similar.
      cosines: scores -> cosine similarities, the axis that figures use.
      thresholds: grid on the score axis; a pair is accepted if score > threshold.
      ties: which of equally good thresholds, see `metrics.kfold_accuracy`.
    """

    fuse: Callable[[np.ndarray], np.ndarray]
    score: Callable[[np.ndarray, np.ndarray], np.ndarray]
    cosines: Callable[[np.ndarray], np.ndarray]
    thresholds: Float[np.ndarray, " grid"]
    ties: str


def unit(vectors: Float[np.ndarray, "*batch dim"]) -> Float[np.ndarray, "*batch dim"]:
    """Divides each vector by its length, in float64; a zero vector stays zero."""
    vectors = np.asarray(vectors, np.float64)
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def sum_flips(features: Float[np.ndarray, "images 2 dim"]) -> Float[np.ndarray, "images dim"]:
    """f(x) + f(flipped x), then unit length: the longer of the two weighs more."""
    return unit(features.astype(np.float64).sum(axis=1))


def concat_flips(features: Float[np.ndarray, "images 2 dim"]) -> Float[np.ndarray, "images 2*dim"]:
    """[f(x), f(flipped x)], each of unit length: their cosine is the mean of the two orientations' cosines."""
    return unit(features).reshape(len(features), -1)


def no_flip(features: Float[np.ndarray, "images 2 dim"]) -> Float[np.ndarray, "images dim"]:
    """f(x) at unit length; the mirrored image is not used."""
    return unit(features[:, 0])


def _cosines_of_squared_l2(scores: np.ndarray) -> np.ndarray:
    # ||x - y||^2 = 2 - 2 cos for unit vectors, and a score is its negative.
    return 1 + scores / 2


_insightface = functools.partial(
    Protocol,
    score=metrics.negative_squared_l2,
    cosines=_cosines_of_squared_l2,
    thresholds=-np.arange(0, 4, 0.01),  # the grid of recognition/arcface_torch/eval/verification.py
    ties="strictest",
)

PROTOCOLS = {
    "insightface": _insightface(fuse=sum_flips),
    "insightface_no_flip": _insightface(fuse=no_flip),
    "released": Protocol(
        fuse=concat_flips,
        score=functools.partial(metrics.cosine, epsilon=1e-5),  # grid and epsilon of LRFR's released src/lfw_eval.py
        cosines=lambda scores: scores,
        thresholds=np.arange(-1, 1, 0.005),
        ties="strictest",
    ),
}
