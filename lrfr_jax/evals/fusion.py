"""From the raw features of an image and of its mirror image to the one vector that is compared."""

import numpy as np
from jaxtyping import Float

# Images at a time: float64 intermediate results of a large gallery would take gigabytes.
_CHUNK = 8192


def unit(vectors: Float[np.ndarray, "*batch dim"]) -> Float[np.ndarray, "*batch dim"]:
    """Divides each vector by its length, in float64; a zero vector stays zero."""
    vectors = np.asarray(vectors, np.float64)
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def no_flip(features: Float[np.ndarray, "images views dim"]) -> Float[np.ndarray, "images dim"]:
    """f(x) at unit length; the mirrored image is not used."""
    return unit(features[:, 0])


def sum_flips(features: Float[np.ndarray, "images views dim"]) -> Float[np.ndarray, "images dim"]:
    """f(x) + f(flipped x), then unit length: the longer of the two weighs more.

    References:
      InsightFace, recognition/arcface_torch/eval/verification.py; AdaFace's `fuse_features_with_norm`, which weighs
      unit vectors by their norms and so gives the same.
    """
    return unit(features.astype(np.float64).sum(axis=1))


def sum_unit_flips(features: Float[np.ndarray, "images views dim"]) -> Float[np.ndarray, "images dim"]:
    """Both features at unit length, added, then unit length: the two weigh the same.

    References:
      CVLface, evaluations.
    """
    return unit(unit(features).sum(axis=1))


def concat_flips(features: Float[np.ndarray, "images views dim"]) -> Float[np.ndarray, "images views*dim"]:
    """[f(x), f(flipped x)], each of unit length, together of length sqrt(2).

    The cosine of two of them is the mean of the two orientations' cosines.

    References:
      LRFR (arXiv 2302.05621), released src/lfw_eval.py.
    """
    return np.concatenate(unit(features).swapaxes(0, 1), axis=1)


FUSIONS = {
    "none": no_flip,
    "sum": sum_flips,
    "unit_sum": sum_unit_flips,
    "concat": concat_flips,
    "norm_weighted": sum_flips,  # AdaFace's name; the backbones here return raw features, whose sum it is
}


def fuse(features: Float[np.ndarray, "images views dim"], *, fusion: str) -> Float[np.ndarray, "images fused"]:
    """Fuses by a row of `FUSIONS`, in float32 and by chunks: for galleries too large for float64."""
    starts = range(0, max(len(features), 1), _CHUNK)  # no images make one empty chunk
    return np.concatenate([FUSIONS[fusion](features[i : i + _CHUNK]).astype(np.float32) for i in starts])
