"""Centering: the mean embedding of each resolution, and embeddings without it.

Networks that never saw small faces put all of these into one corner of the sphere, so that strangers are alike. What
all faces of a resolution share says nothing of who it is, and is taken away.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from lrfr_jax.errors import UserError
from lrfr_jax.evals.fusion import unit

CENTERINGS = ("none", "per_resolution")
# {side length in pixels: mean of unit vectors}.
Means = Mapping[int, Float[np.ndarray, " dim"]]


def mean_of(vectors: Float[np.ndarray, "faces dim"]) -> Float[np.ndarray, " dim"]:
    r"""The mean of vectors at unit length, of length 0 (they lie all around) to 1 (all alike), in float32.

    .. math:: m = \frac{1}{n} \sum_i \frac{v_i}{|v_i|}
    """
    return unit(vectors).mean(axis=0).astype(np.float32)


def center(
    vectors: Float[np.ndarray, "faces dim"], mean: Float[np.ndarray, "*faces dim"]
) -> Float[np.ndarray, "faces dim"]:
    r"""Takes a mean away from vectors at unit length; each keeps the length that it had.

    .. math:: v' = |v|\, \frac{\hat v - m}{|\hat v - m|}

    Args:
      vectors: fused features, of any length.
      mean: of `mean_of`, one for all or one for each.

    References:
      MagFace's released 1:1 evaluation subtracts one mean, of the training folds; here each resolution has its own.
    """
    mean = np.broadcast_to(mean, vectors.shape)
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=-1, keepdims=True)
    return lengths * unit(unit(vectors) - mean)


def nearest(measured: Collection[int], size: int) -> int:
    """The measured resolution that is nearest to a size in their ratio; of two equally near the larger one."""
    return min(sorted(measured, reverse=True), key=lambda one: max(one / size, size / one))


def center_each(
    vectors: Float[np.ndarray, "faces dim"], means: Means, sizes: Int[np.ndarray, " faces"]
) -> Float[np.ndarray, "faces dim"]:
    """Takes the mean of each face's own size away, of the nearest one that was measured."""
    centered = np.array(vectors, np.float64)
    for size in np.unique(sizes):
        rows = sizes == size
        centered[rows] = center(vectors[rows], means[nearest(means, int(size))])
    return centered


def check(means: Means, resolutions: Sequence[int]) -> None:
    """Raises `UserError` if a resolution that is asked for has no mean."""
    missing = sorted(set(resolutions) - set(means), reverse=True)
    if missing:
        held = f"only at {', '.join(map(str, sorted(means, reverse=True)))} px" if means else "at no size"
        raise UserError(
            f"centering per_resolution needs the mean embedding of faces at {missing[0]} px, which this model's card "
            f"holds {held} for this fusion: measure it with `python -m lrfr_jax.evaluate --calibrate --resolutions "
            f"{','.join(map(str, missing))}`"
        )
