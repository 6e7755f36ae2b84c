"""Our variables under the names and in the shapes of others: the reverse of `conversion`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from lrfr_jax.errors import UserError
from lrfr_jax.image_ops import IMAGE_SIZE
from lrfr_jax.models.layers import BATCH_NORM_EPSILON
from lrfr_jax.weights.conversion import LAST_MEAN, names_in
from lrfr_jax.weights.layouts import LAYOUTS, Layout, Path

STEM = ("params", "stem_conv", "kernel")
LINEAR_BIAS = ("params", "neck", "linear", "bias")


def to_layout(variables: Any, *, model: Mapping[str, Any], layout: str) -> dict[str, np.ndarray]:
    """Returns the tensors with which a PyTorch network of this layout gives the same features.

    They want images as the layout's networks do: color order and scale of ours go into the first convolution.

    Args:
      variables: 'params' and 'batch_stats'.
      model: arguments of `models.create_backbone`.
      layout: a key of `LAYOUTS`, of PyTorch networks of 112x112 images.

    Raises:
      UserError: the layout has no such backbone, or cannot hold these weights.
    """
    row, convention = LAYOUTS[layout], model["input"]
    if model["backbone"] not in row.backbones:
        raise UserError(f"layout {layout} holds {' or '.join(row.backbones)}, and no {model['backbone']}")
    if convention["mean"] != row.input["mean"] or {convention["columns"], convention.get("size", IMAGE_SIZE)} != {
        IMAGE_SIZE
    }:
        raise UserError(
            f"layout {layout} wants {IMAGE_SIZE} columns and a mean of {row.input['mean']:g}, but this model's input "
            f"is {dict(convention)}: export it under our names"
        )
    leaves = {path: np.asarray(leaf, np.float64) for path, leaf in flatten_dict(variables).items()}
    if convention["order"] != row.input["order"]:
        leaves[STEM] = leaves[STEM][:, :, ::-1]
    leaves[STEM] = leaves[STEM] * (row.input["scale"] / convention["scale"])
    if row.constant_of(LINEAR_BIAS[1:]):
        # BatchNorm, which follows, subtracts a mean: one that is as much smaller does what the bias did.
        leaves[LAST_MEAN] = leaves[LAST_MEAN] - leaves[LINEAR_BIAS]
        leaves[LINEAR_BIAS] = np.zeros_like(leaves[LINEAR_BIAS])
    _check_constants(leaves, row, layout=layout)
    channels = len(leaves["params", "neck", "bn1", "scale"])
    tensors = {
        name: _theirs(path, leaves[path], row, channels=channels) for path, name in names_in(row, leaves).items()
    }
    if row.last_scale:
        tensors[row.last_scale] = np.ones(leaves[LAST_MEAN].shape, np.float32)
    counters = [name.replace("running_mean", "num_batches_tracked") for name in tensors if "running_mean" in name]
    tensors |= {name: np.zeros((), np.int64) for name in counters}
    return {row.beginning + name: tensor for name, tensor in tensors.items()}


def _check_constants(leaves: Mapping[Path, np.ndarray], row: Layout, *, layout: str) -> None:
    for path, leaf in leaves.items():
        make = row.constant_of(path[1:])
        if make and not np.array_equal(leaf, make(leaf.shape)):
            raise UserError(
                f"layout {layout} has no {'/'.join(path[1:])}, which this model needs: export it under our names"
            )


def _theirs(path: Path, array: np.ndarray, row: Layout, *, channels: int) -> np.ndarray:
    """One of our variables with their order of axes, in which a flattened map has its channels first."""
    if path[-1] == "var":
        epsilon = row.last_epsilon if path[1:3] == ("neck", "bn2") else row.epsilon
        array = array - (epsilon - BATCH_NORM_EPSILON)
    elif path[1:] == ("neck", "linear", "kernel"):
        dim = array.shape[1]
        array = array.reshape(-1, channels, dim).transpose(2, 1, 0).reshape(dim, -1)
    elif array.ndim == 4:
        array = array.transpose(3, 2, 0, 1)
    return np.ascontiguousarray(array, np.float32)
