"""BatchNorm, and what an input convention does to pixels, taken up by the convolutions and products beside them."""

import collections
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from lrfr_jax.exports.layer_graph import IMAGES, Node
from lrfr_jax.image_ops import HALF_RANGE, IMAGE_SIZE, resampling_operators
from lrfr_jax.models.layers import InputConvention


def convention_nodes(convention: InputConvention) -> list[Node]:
    """Operations that turn normalized RGB images into what a network's weights want; see `layers.to_convention`.

    Their input is `IMAGES`, and they are empty where the two are the same.
    """
    left = (IMAGE_SIZE - convention.columns) // 2
    scale = np.full(3, HALF_RANGE / convention.scale)
    shift = np.full(3, (HALF_RANGE - convention.mean) / convention.scale)
    down, _ = resampling_operators((convention.size,), image_size=IMAGE_SIZE)
    shrink = {"matrix": down[0]}
    steps = {
        "resize_columns": (shrink, {}, convention.size == IMAGE_SIZE),
        "resize_rows": (shrink, {}, convention.size == IMAGE_SIZE),
        "crop": ({}, {"start": left, "stop": left + convention.columns}, convention.columns == IMAGE_SIZE),
        "reorder": ({}, {"channels": (2, 1, 0)}, convention.order == "rgb"),
        "scale": ({"scale": scale, "shift": shift}, {}, convention.mean == convention.scale == HALF_RANGE),
    }
    nodes, before = [], IMAGES
    for operation, (arrays, settings, is_idle) in steps.items():
        if not is_idle:
            nodes.append(Node(operation, f"input_{operation}", (before,), arrays, settings))
            before = nodes[-1].name
    return nodes


def joined(first: Sequence[Node], second: Iterable[Node]) -> list[Node]:
    """Puts operations before others, whose `IMAGES` become the result of the first ones."""
    name = first[-1].name if first else IMAGES
    renamed = [node._replace(inputs=tuple(name if i == IMAGES else i for i in node.inputs)) for node in second]
    return [*first, *renamed]


def folded(nodes: Sequence[Node]) -> list[Node]:
    """Returns fewer operations that give the same feature.

    A scale goes into the convolution or product before it, or else into the one after it: past a flattening too, and
    into a convolution that pads only if it shifts nothing, as the zeros around a map stay zeros. A reordering of
    channels goes into the convolution after it. What can go nowhere stays.
    """
    nodes = list(nodes)
    while True:
        made = {node.name: node for node in nodes}
        users = collections.Counter(name for node in nodes for name in node.inputs)
        pairs = ((made.get(node.inputs[0]), node) for node in nodes if node.inputs)
        merged = ((before, node, _merged(before, node)) for before, node in pairs if before and users[before.name] == 1)
        before, node, instead = next((found for found in merged if found[2]), (None, None, None))
        if not instead:
            return nodes
        place = next(place for place, other in enumerate(nodes) if other is node)
        nodes = [other for other in [*nodes[:place], *instead, *nodes[place + 1 :]] if other is not before]


def _merged(before: Node, node: Node) -> list[Node]:
    """What two operations in a row become, the last one under the name of the second; nothing if they stay."""
    pair, is_dense = (before.operation, node.operation), node.settings.get("groups", 1) == 1
    if pair in (("convolve", "scale"), ("product", "scale")):
        return [before._replace(name=node.name, arrays=_scaled_after(before.arrays, **node.arrays))]
    if pair == ("scale", "flatten"):
        repeated = {name: array.repeat(node.settings["positions"]) for name, array in before.arrays.items()}
        flatten = node._replace(name=before.name, inputs=before.inputs)
        return [flatten, Node("scale", node.name, (flatten.name,), repeated, {})]
    reaches_zeros = node.settings.get("padding", 0) > 0 and before.arrays.get("shift", np.zeros(1)).any()
    if pair == ("scale", "product") or (pair == ("scale", "convolve") and is_dense and not reaches_zeros):
        return [node._replace(inputs=before.inputs, arrays=_scaled_before(node.arrays, **before.arrays))]
    if pair == ("reorder", "convolve") and is_dense:
        kernel = node.arrays["kernel"][:, np.argsort(before.settings["channels"])]
        return [node._replace(inputs=before.inputs, arrays={**node.arrays, "kernel": kernel})]
    return []


def _scaled_after(arrays: Mapping[str, np.ndarray], *, scale: np.ndarray, shift: np.ndarray) -> dict[str, np.ndarray]:
    """(K x + b) s + t = (s K) x + (s b + t)."""
    kernel = arrays["kernel"]
    return {"kernel": kernel * _along(scale, kernel.ndim, axis=0), "bias": arrays["bias"] * scale + shift}


def _scaled_before(arrays: Mapping[str, np.ndarray], *, scale: np.ndarray, shift: np.ndarray) -> dict[str, np.ndarray]:
    """K (s x + t) + b = (K s) x + (K t + b)."""
    kernel = arrays["kernel"]
    shifted = (kernel * _along(shift, kernel.ndim, axis=1)).sum(axis=tuple(range(1, kernel.ndim)))
    return {"kernel": kernel * _along(scale, kernel.ndim, axis=1), "bias": arrays["bias"] + shifted}


def _along(values: np.ndarray, ndim: int, *, axis: int) -> np.ndarray:
    return values.reshape([-1 if number == axis else 1 for number in range(ndim)])
