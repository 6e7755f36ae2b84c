"""What each operator of ONNX becomes: operations of `layer_graph.Node`, on channels-first values.

Sums, products and BatchNorm with constants are the operation `scale` with the arrays mean, var (with epsilon), scale
and shift, of one number or one a channel: (x - mean) / sqrt(var) scale + shift. Convolutions have no bias: a scale
follows. The setting `is_flat` tells values of two axes from maps.

References: https://onnx.ai/onnx/operators/, opset 9 to 20.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from lrfr_jax.exports.layer_graph import Node


class Step(NamedTuple):
    """A node of a file."""

    operator: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    settings: Mapping[str, Any]

    def __str__(self) -> str:
        return f"the node {self.name[:100]}, {self.operator[:50]}"


def in_a_row(first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Two scales as one; the second's statistics stay where the first only shifts."""
    factor, shift = factor_and_shift(first)
    if (factor == 1).all():
        return {**second, "mean": second["mean"] - shift}
    factor_after, shift_after = factor_and_shift(second)
    return scale_by(scale=factor * factor_after, shift=shift * factor_after + shift_after)


def factor_and_shift(arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns a and b of a `scale` as a x + b."""
    factor = arrays["scale"] / np.sqrt(arrays["var"])
    return factor, arrays["shift"] - arrays["mean"] * factor


def product_of_scaled(scale: Node, product: Node) -> tuple[Node, Node]:
    """K (a x + b) as (K a) x, which reads what the scale read, and the sum with K b."""
    kernel = product.arrays["kernel"].astype(np.float64)
    factor, shift = (np.broadcast_to(values, kernel.shape[1]) for values in factor_and_shift(scale.arrays))
    scaled = product._replace(inputs=scale.inputs, arrays={"kernel": kernel * factor})
    return scaled, Node(
        "scale", f"{product.name}/and", (product.name,), scale_by(shift=kernel @ shift), {"is_flat": True}
    )


def scale_by(*, scale: Any = 1.0, shift: Any = 0.0, mean: Any = 0.0, var: Any = 1.0) -> dict[str, np.ndarray]:
    """The arrays of a `scale`, float64; what is not given does nothing."""
    given = {"scale": scale, "shift": shift, "mean": mean, "var": var}
    return {name: np.atleast_1d(np.asarray(values, np.float64)) for name, values in given.items()}


def _per_channel(array: np.ndarray, *, ndim: int) -> np.ndarray:
    """A constant beside a value of so many axes, as one number or one a channel; ValueError where it is neither."""
    shape = (1,) * (ndim - array.ndim) + array.shape
    if array.size == 1:
        return array.reshape(1).astype(np.float64)
    if len(shape) != ndim or shape[1] != array.size:
        raise ValueError(f"a constant of shape {array.shape}")
    return array.reshape(-1).astype(np.float64)


# What a node becomes: operations with arrays and settings, in a row; none where its value is its input's.
_Parts = list[tuple[str, dict[str, np.ndarray], dict[str, Any]]]


def _same(settings: Mapping[str, Any], name: str, default: list[int]) -> int:
    """The one number that an attribute repeats; ValueError where its numbers differ."""
    [value] = set(settings.get(name, default))
    return value


def _convolve(step: Step, x: Node, kernel: np.ndarray, bias: np.ndarray | None = None) -> _Parts:
    settings = step.settings
    if kernel.ndim != 4 or _same(settings, "dilations", [1]) != 1 or settings.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise ValueError("a convolution that is dilated, or padded by a rule")
    padding, stride = _same(settings, "pads", [0]), _same(settings, "strides", [1])
    how = {"stride": stride, "padding": padding, "groups": settings.get("group", 1)}
    parts = [("convolve", {"kernel": kernel}, how)]
    return parts + ([] if bias is None else [("scale", scale_by(shift=bias.reshape(len(kernel))), {})])


def _batch_norm(step: Step, x: Node, scale, shift, mean, var) -> _Parts:
    if step.settings.get("training_mode", 0) or not len(scale) == len(shift) == len(mean) == len(var):
        raise ValueError("statistics of the batch")
    var = var.astype(np.float64) + step.settings.get("epsilon", 1e-5)
    if not (var > 0).all():
        raise ValueError("a variance that is none")
    return [("scale", scale_by(scale=scale, shift=shift, mean=mean, var=var), {})]


def _axes_of(node: Node) -> int:
    return 2 if node.settings.get("is_flat") else 4


def _sum(step: Step, *given: Any) -> _Parts:
    fixed = [value for value in given if isinstance(value, np.ndarray)]
    if not fixed:
        return [("add", {}, _flatness(*given))]
    [x] = [value for value in given if isinstance(value, Node)]
    return [("scale", scale_by(shift=_per_channel(fixed[0], ndim=_axes_of(x))), _flatness(x))]


def _difference(step: Step, first: Any, second: Any) -> _Parts:
    if isinstance(second, np.ndarray):
        return _sum(step, first, np.asarray(-second))
    return [("scale", scale_by(scale=-1.0, shift=_per_channel(first, ndim=_axes_of(second))), _flatness(second))]


def _multiply(step: Step, *given: Any) -> _Parts:
    [factor] = [value for value in given if isinstance(value, np.ndarray)]
    [x] = [value for value in given if isinstance(value, Node)]
    return [("scale", scale_by(scale=_per_channel(factor, ndim=_axes_of(x))), _flatness(x))]


def _divide(step: Step, x: Node, divisor: np.ndarray) -> _Parts:
    if not divisor.all():
        raise ValueError("a division by zero")
    return _multiply(step, x, np.asarray(1 / divisor.astype(np.float64)))


def _flatness(*nodes: Node) -> dict[str, bool]:
    return {"is_flat": True} if all(node.settings.get("is_flat") for node in nodes) else {}


def _prelu(step: Step, x: Node, slope: np.ndarray) -> _Parts:
    # Slopes of the shape [channels] would stand along the columns by ONNX's rules; older exporters write them so.
    is_plain = slope.ndim == 1 and slope.size > 1
    return [("prelu", {"slope": slope.astype(np.float64) if is_plain else _per_channel(slope, ndim=4)}, {})]


def _flatten(step: Step, x: Node, shape: Any = None) -> _Parts:
    axes = step.settings.get("axis", 1) if step.operator == "Flatten" else 1
    if isinstance(shape, np.ndarray) and step.operator == "Reshape":
        axes = shape.size - 1  # [batch, numbers]
    if axes != 1:
        raise ValueError("another shape than [batch, numbers]")
    return [] if x.settings.get("is_flat") else [("flatten", {}, {"is_flat": True})]


def _gemm(step: Step, x: Node, kernel: np.ndarray, bias: np.ndarray | None = None) -> _Parts:
    settings = step.settings
    if settings.get("transA", 0) or settings.get("alpha", 1.0) != 1 or settings.get("beta", 1.0) != 1:
        raise ValueError("a product with a factor")
    return _product(kernel if settings.get("transB", 0) else kernel.T, x, bias)


def _matmul(step: Step, x: Node, kernel: np.ndarray) -> _Parts:
    return _product(kernel.T, x, None)


def _product(kernel: np.ndarray, x: Node, bias: np.ndarray | None) -> _Parts:
    if kernel.ndim != 2 or not x.settings.get("is_flat"):
        raise ValueError("a product of maps")
    parts = [("product", {"kernel": kernel}, {"is_flat": True})]
    return parts + ([] if bias is None else [("scale", scale_by(shift=bias.reshape(-1)), {"is_flat": True})])


def _passed(step: Step, x: Any, *others: Any) -> _Parts:
    return []


OPERATORS: dict[str, Callable[..., _Parts]] = {
    "Conv": _convolve,
    "BatchNormalization": _batch_norm,
    "PRelu": _prelu,
    "Add": _sum,
    "Sum": _sum,
    "Sub": _difference,
    "Mul": _multiply,
    "Div": _divide,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Flatten": _flatten,
    "Reshape": _flatten,
    "Squeeze": _flatten,
    "Identity": _passed,
    "Dropout": _passed,
    "Cast": _passed,
}


def _dequantize(step: Step, levels: np.ndarray, scale: np.ndarray, zero: np.ndarray | None = None) -> np.ndarray:
    """(levels - zero) scale, with one scale, or one for each place along an axis."""
    axis = step.settings.get("axis", 1)
    along = [-1 if place == axis % levels.ndim else 1 for place in range(levels.ndim)]
    sizes = {levels.shape[axis], 1}
    if scale.size not in sizes or scale.ndim > 1 or (zero is not None and zero.size not in sizes):
        raise ValueError("scales of blocks")
    shifted = levels.astype(np.float32) - (0 if zero is None else zero.astype(np.float32).reshape(along))
    return shifted * scale.reshape(along)


# Of constants alone.
ON_ARRAYS: dict[str, Callable[..., Any]] = {
    "Constant": lambda step: np.asarray(next(iter(step.settings.values()))),
    "Identity": lambda step, x: x,
    "Cast": lambda step, x: x,
    "DequantizeLinear": _dequantize,
    "Transpose": lambda step, x: x.transpose(step.settings.get("perm")),
    "Reshape": lambda step, x, shape: x.reshape(shape),
    "Unsqueeze": lambda step, x, axes=None: np.expand_dims(x, tuple(step.settings.get("axes", axes))),
    "Squeeze": lambda step, x, axes=None: np.squeeze(x, tuple(step.settings.get("axes", axes))),
}
