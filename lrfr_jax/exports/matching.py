"""The operations of an ONNX file, fitted to one of our backbones: its variables, or the first node that differs.

Our backbone is traced to its own operations, and both lists are walked from the images on: each of ours must find its
like among those that read the same values there. BatchNorm alone may be missing, as exporters fold it into what stands
before it; then its statistics are 0 and 1, and its shift is the bias that stands there.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import unflatten_dict

from lrfr_jax.errors import UserError
from lrfr_jax.exports import layer_graph
from lrfr_jax.exports.layer_graph import IMAGES, Node
from lrfr_jax.exports.onnx_graph import OnnxGraph
from lrfr_jax.exports.onnx_operators import factor_and_shift
from lrfr_jax.files.inert_pickle import Refused
from lrfr_jax.image_ops import HALF_RANGE, IMAGE_SIZE
from lrfr_jax.models import create_backbone
from lrfr_jax.models.layers import BATCH_NORM_EPSILON
from lrfr_jax.weights.conversion import Converted, shapes_of
from lrfr_jax.weights.tensor_bytes import require


class Known(NamedTuple):
    """Channels of the first convolution at width 1, and how many convolutions there are."""

    stem: int
    convolutions: int


# Whose layers all have a like among the operations that are read.
NETWORKS = {
    "iresnet18": Known(64, 21),
    "iresnet34": Known(64, 37),
    "iresnet50": Known(64, 53),
    "iresnet100": Known(64, 103),
    "mobilefacenet": Known(64, 49),
    "mobilefacenet_scale2": Known(128, 49),
}
SMALLEST = 1e-6  # that pixels may be multiplied by
_IN_WORDS = {
    "convolve": "a convolution of {shape}, stride {stride}, padding {padding}, {groups} groups",
    "product": "a product of {shape}",
}


class Fitted(NamedTuple):
    """A pair of operations: ours, and theirs or None for a BatchNorm that is folded there."""

    ours: Node
    theirs: Node | None


def fit(
    graph: OnnxGraph, *, source: str | os.PathLike, backbone: str | None, convention: Mapping[str, Any]
) -> Converted:
    """Returns the backbone that a graph is, and its variables.

    Args:
      graph: the operations of a file.
      source: the file, for messages.
      backbone: a key of `NETWORKS`; None for the one with as many convolutions.
      convention: fields of `layers.InputConvention` that replace what the graph says, which otherwise is RGB; and mean
        and scale of half the range where it does not begin with them.

    Raises:
      UserError: it is none of them, or not the one that was named.
    """
    try:
        nodes, numbers = _without_convention(graph.nodes)
        told = sorted(numbers.keys() & convention.keys())
        require(not told, f"says its own {' and '.join(told)}: leave --{' and --'.join(told)} out")
        require(graph.sides[0] == IMAGE_SIZE, f"takes images {graph.sides[0]} pixels high instead of {IMAGE_SIZE}")
        columns, plain = {"columns": graph.sides[1]}, {"order": "rgb", "mean": HALF_RANGE, "scale": HALF_RANGE}
        model, pairs = _first_fit(nodes, _candidates(nodes, backbone, input=plain | columns))
    except Refused as reason:
        raise UserError(f"{source} {reason}") from reason
    model = model | {"input": plain | numbers | columns | convention}
    return Converted(model, _variables(pairs, model), [])


def _candidates(nodes: Sequence[Node], backbone: str | None, *, input: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Arguments of `create_backbone` for the backbone that was named, or those with as many convolutions."""
    kernels = [node.arrays["kernel"] for node in nodes if node.operation == "convolve"]
    products = [node.arrays["kernel"] for node in nodes if node.operation == "product"]
    require(kernels and products, f"has no convolution and product as {' or '.join(NETWORKS)} have")
    names = [name for name, known in NETWORKS.items() if backbone in (None, name)]
    require(names, f"cannot be read as {backbone}, but as {', '.join(NETWORKS)}: take its safetensors")
    alike = [name for name in names if backbone or NETWORKS[name].convolutions == len(kernels)]
    require(alike, f"has {len(kernels)} convolutions, as none of {', '.join(NETWORKS)} has: it is another network")
    settings = {"embedding_size": len(products[-1]), "dropout": 0.0, "dtype": "float32", "input": dict(input)}
    return [{"backbone": name, "width": len(kernels[0]) / NETWORKS[name].stem, **settings} for name in alike]


def _without_convention(nodes: Sequence[Node]) -> tuple[list[Node], dict[str, float]]:
    """The operations without the one that normalizes pixels, and the mean and scale that it takes."""
    first = [node for node in nodes if IMAGES in node.inputs]
    if len(first) != 1 or first[0].operation != "scale":
        return list(nodes), {}
    factor, shift = factor_and_shift(first[0].arrays)
    what = f"has the node {first[0].name}, which normalizes the images otherwise than by one mean and scale"
    require(len({*factor}) == 1 and len({*shift}) == 1 and SMALLEST < factor[0] < 1 / SMALLEST, what)
    require(abs(shift[0]) < 1 / SMALLEST, what)
    # Files hold them in float32, 1/128 and the like.
    mean, scale = (float(f"{value:.6g}") for value in (-shift[0] / factor[0], 1 / factor[0]))
    rest = [node for node in nodes if node is not first[0]]
    renamed = [
        node._replace(inputs=tuple(IMAGES if name == first[0].name else name for name in node.inputs)) for node in rest
    ]
    return renamed, {"mean": mean, "scale": scale}


def _trace(model: Mapping[str, Any]) -> list[Node]:
    """Our operations, a flattening of one position after the BatchNorm that follows it, as in other frameworks."""
    variables = unflatten_dict({path: np.zeros(shape, np.float32) for path, shape in shapes_of(model).items()})
    columns = model["input"]["columns"]
    nodes = layer_graph.trace(create_backbone(**model), variables, sides=(IMAGE_SIZE, columns))
    for place in range(1, len(nodes)):
        flatten, scale = nodes[place - 1 : place + 1]
        if (flatten.operation, scale.operation) == ("flatten", "scale"):
            nodes[place - 1] = scale._replace(inputs=flatten.inputs)
            nodes[place] = flatten._replace(inputs=(scale.name,))
            nodes[place + 1] = nodes[place + 1]._replace(inputs=(flatten.name,))
    return nodes


def _first_fit(nodes: Sequence[Node], models: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], list[Fitted]]:
    """The first of several backbones that fits; what the first one lacks if none does."""
    reasons = []
    for model in models:
        try:
            return model, _pairs(nodes, _trace(model), model["backbone"])
        except Refused as reason:
            reasons.append(reason)
    raise reasons[0]


def _pairs(nodes: Sequence[Node], ours: Sequence[Node], backbone: str) -> list[Fitted]:
    values, left, pairs = {IMAGES: IMAGES}, list(nodes), []
    for node in ours:
        inputs = sorted(values[name] for name in node.inputs)
        readers = [other for other in left if sorted(other.inputs) == inputs]
        found = next((other for other in readers if _fits(node, other)), None)
        require(found or node.operation == "scale", _differs(node, readers, backbone))
        values[node.name] = found.name if found else inputs[0]
        pairs.append(Fitted(node, found))
        left = [other for other in left if other is not found]
    require(not left, f"has the node {left[0].name if left else ''}, which {backbone} has not")
    return pairs


def _fits(ours: Node, theirs: Node) -> bool:
    if ours.operation != theirs.operation:
        return False
    if ours.operation in ("scale", "prelu"):  # one number or one a channel
        sizes = {array.size for array in theirs.arrays.values()}
        return sizes <= {1, *(array.size for array in ours.arrays.values())}
    is_like = all(theirs.arrays[name].shape == array.shape for name, array in ours.arrays.items() if name == "kernel")
    how = ("stride", "padding", "groups") if ours.operation == "convolve" else ()
    return is_like and all(ours.settings[name] == theirs.settings[name] for name in how)


def _differs(ours: Node, readers: Sequence[Node], backbone: str) -> str:
    wanted = f"{backbone} has {ours.name}, {_in_words(ours)}"
    if not readers:
        return f"ends where {wanted}"
    return f"has the node {readers[0].name}, {_in_words(readers[0])}, where {wanted}"


def _in_words(node: Node) -> str:
    shape = " x ".join(map(str, node.arrays["kernel"].shape)) if "kernel" in node.arrays else ""
    return _IN_WORDS.get(node.operation, node.operation).format(shape=shape, **node.settings)


def _variables(pairs: Sequence[Fitted], model: Mapping[str, Any]) -> dict[str, Any]:
    shapes, leaves = shapes_of(model), {}
    positions = 1
    for ours, theirs in pairs:
        path = tuple(ours.name.split("/"))
        if ours.operation == "flatten":
            positions = ours.settings["positions"]
        elif ours.operation == "convolve":
            kind = "kernel" if ("params", *path, "kernel") in shapes else "weights"
            leaves["params", *path, kind] = theirs.arrays["kernel"].transpose(2, 3, 1, 0)
        elif ours.operation == "prelu":
            [size] = shapes["params", *path, "slope"]
            leaves["params", *path, "slope"] = np.broadcast_to(theirs.arrays["slope"], size)
        elif ours.operation == "product":
            kernel = theirs.arrays["kernel"].astype(np.float64)
            ordered = kernel.reshape(len(kernel), -1, positions).transpose(2, 1, 0).reshape(-1, len(kernel))
            leaves["params", *path, "kernel"] = ordered
            leaves["params", *path, "bias"] = np.zeros(len(kernel))
        elif ours.operation == "scale":
            _take_batch_norm(leaves, path, theirs, shapes)
    return unflatten_dict({path: np.asarray(leaves[path], np.float32) for path in shapes})


def _take_batch_norm(
    leaves: dict[tuple[str, ...], np.ndarray],
    path: tuple[str, ...],
    theirs: Node | None,
    shapes: Mapping[tuple[str, ...], tuple[int, ...]],
) -> None:
    """Sets a BatchNorm; where ours has no scale, the linear layer before it takes it up."""
    [size] = shapes["params", *path, "bias"]
    folded = {"scale": 1.0, "shift": 0.0, "mean": 0.0, "var": 1.0}
    found = {name: np.broadcast_to(array, size) for name, array in (theirs.arrays if theirs else folded).items()}
    scale, mean = found["scale"], found["mean"]
    if ("params", *path, "scale") in shapes:
        leaves["params", *path, "scale"] = scale
    else:  # s (W x - m) / sigma + b
        linear = ("params", *path[:-1], "linear")
        leaves[*linear, "kernel"] = leaves[*linear, "kernel"] * scale
        leaves[*linear, "bias"] = leaves[*linear, "bias"] * scale
        mean = mean * scale
    leaves["params", *path, "bias"] = found["shift"]
    leaves["batch_stats", *path, "mean"] = mean
    leaves["batch_stats", *path, "var"] = found["var"] - BATCH_NORM_EPSILON
