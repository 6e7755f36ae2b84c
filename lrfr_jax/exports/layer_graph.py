"""A backbone as a list of operations on channels-first values, for formats that know no JAX.

The list comes from the backbone's own definition: it is traced, each of its layers standing for itself, and read back
from the feature. So a network of known layers needs nothing here, and any other is refused by the name of what it does.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from jax.extend import core

from lrfr_jax.errors import UserError
from lrfr_jax.exports import token_layers
from lrfr_jax.models import layers
from lrfr_jax.models.bridge_student import MaxPoolOfTwo
from lrfr_jax.models.convolution import Conv
from lrfr_jax.models.depthwise import DepthwiseConv
from lrfr_jax.models.mobilefacenet import WeightedSum

IMAGES = "images"  # the name of the network's input
CHANNELS_FIRST = (0, 3, 1, 2)  # the axes here in the order that they have in a list of operations


class Node(NamedTuple):
    """One operation.

    Operations and their arrays, o and i counting output and input channels:
      convolve   kernel [o, i / groups, h, w], bias [o]; of `stride`, `padding` on every side, `groups`
      scale      scale [i], shift [i]: x scale + shift
      product    kernel [o, i], bias [o]
      prelu      slope [i]
      relu, sigmoid, add
      gate       the product of two maps, of which one may have sides or channels of length 1
      pool       `kind` ('mean', 'max') over `axes`, which keep the length 1
      concatenate  along the channels
      flatten    [batch, i, h, w] becomes [batch, i h w], of h w `positions`
      max_pool   of `kernel`, `stride`, `padding`
      resize_columns, resize_rows   matrix [new, old]
      crop       columns `start` to `stop`
      reorder    the channels as `channels` says
    Those on tokens are those of `token_layers`.

    Attributes:
      operation: one of these.
      name: of the operation and of its result.
      inputs: names of other results, or `IMAGES`.
      arrays: float32, or float64 until they are written.
      settings: the integers above.
    """

    operation: str
    name: str
    inputs: tuple[str, ...]
    arrays: Mapping[str, np.ndarray]
    settings: Mapping[str, Any]


# What a layer is: operations with arrays and settings, in a row.
_Parts = list[tuple[str, dict[str, np.ndarray], dict[str, Any]]]


def _convolution(kernel: np.ndarray, *, stride: int, padding: int, groups: int) -> _Parts:
    """`kernel` is [h, w, i / groups, o], as here."""
    arrays = {"kernel": kernel.transpose(3, 2, 0, 1), "bias": np.zeros(kernel.shape[3])}
    return [("convolve", arrays, {"stride": stride, "padding": padding, "groups": groups})]


def _flax_conv(arrays: Mapping, module: nn.Conv, sides: tuple[int, ...]) -> _Parts:
    strides = (module.strides,) if isinstance(module.strides, int) else tuple(module.strides)
    plain = module.feature_group_count == 1 and not module.use_bias and len(set(strides)) == 1
    if not plain or not isinstance(module.padding, int):
        raise UserError(f"the convolution {'/'.join(module.path)} has a bias, groups or a padding by name: no export")
    return _convolution(arrays["kernel"], stride=strides[0], padding=module.padding, groups=1)


def _conv(arrays: Mapping, module: Conv, sides: tuple[int, ...]) -> _Parts:
    return _convolution(arrays["kernel"], stride=module.stride, padding=module.kernel // 2, groups=1)


def _depthwise(arrays: Mapping, module: DepthwiseConv, sides: tuple[int, ...]) -> _Parts:
    kernel = arrays["kernel"]
    groups = kernel.shape[3] // kernel.shape[2]
    return _convolution(kernel, stride=module.stride, padding=module.kernel // 2, groups=groups)


def _weighted_sum(arrays: Mapping, module: WeightedSum, sides: tuple[int, ...]) -> _Parts:
    weights = arrays["weights"]
    return [*_convolution(weights, stride=1, padding=0, groups=weights.shape[3]), ("flatten", {}, {"positions": 1})]


def _batch_norm(arrays: Mapping, module: layers.BatchNorm, sides: tuple[int, ...]) -> _Parts:
    scale = arrays.get("scale", 1.0) / np.sqrt(arrays["var"] + module.epsilon)
    return [("scale", {"scale": scale, "shift": arrays["bias"] - arrays["mean"] * scale}, {})]


def _dense(arrays: Mapping, module: nn.Dense, sides: tuple[int, ...]) -> _Parts:
    kernel = arrays["kernel"]
    if sides:  # of the map that was flattened with its channels last
        kernel = kernel.reshape(*sides, -1).transpose(2, 0, 1, 3).reshape(math.prod(sides), -1)
    return [("product", {"kernel": kernel.T, "bias": arrays.get("bias", np.zeros(kernel.shape[1]))}, {})]


def _max_pool(arrays: Mapping, module: layers.MaxPoolOfRelu, sides: tuple[int, ...]) -> _Parts:
    return [("max_pool", {}, {"kernel": module.kernel, "stride": module.stride, "padding": module.kernel // 2})]


def _max_pool_of_two(arrays: Mapping, module: MaxPoolOfTwo, sides: tuple[int, ...]) -> _Parts:
    return [("max_pool", {}, {"kernel": 2, "stride": 2, "padding": 0})]


def _pooled(arrays: Mapping, module: layers.Pooled, sides: tuple[int, ...]) -> _Parts:
    return [("pool", {}, {"kind": module.kind, "axes": [CHANNELS_FIRST.index(axis) for axis in module.axes]})]


LAYERS: dict[type[nn.Module], Callable[[Mapping, Any, tuple[int, ...]], _Parts]] = {
    Conv: _conv,
    nn.Conv: _flax_conv,
    layers.BatchNorm: _batch_norm,
    nn.Dense: _dense,
    nn.Dropout: lambda *_: [],
    layers.PReLU: lambda arrays, *_: [("prelu", {"slope": arrays["slope"]}, {})],
    layers.MaxPoolOfRelu: _max_pool,
    MaxPoolOfTwo: _max_pool_of_two,
    layers.Pooled: _pooled,
    DepthwiseConv: _depthwise,
    WeightedSum: _weighted_sum,
}

# A layer in a traced network: its input goes in, something of its result's shape comes out.
_layer = core.Primitive("layer")
_layer.def_abstract_eval(lambda *_, result, **__: result)


def trace(backbone: nn.Module, variables: Any, *, sides: tuple[int, int]) -> list[Node]:
    """Returns the operations from images [batch, 3, *sides] to the raw feature, which is the last node's.

    Each stands after those that it needs.

    Args:
      backbone: one that computes in float32, and whose input convention changes nothing.
      variables: its 'params' and 'batch_stats'.
      sides: height and width of the images that its convention gives.

    Raises:
      UserError: the backbone does something that is no operation here.
    """
    found: list[tuple[nn.Module, dict[str, np.ndarray]]] = []

    def stand_for_itself(call, args, kwargs, context):
        result = call(*args, **kwargs)
        if type(context.module) not in LAYERS | token_layers.LAYERS or context.method_name != "__call__":
            return result
        found.append((context.module, _arrays_of(context.module)))
        given = [value for value in args if isinstance(value, jax.Array)]
        return _layer.bind(*given, number=len(found) - 1, result=jax.typeof(result))

    def features(images):
        with nn.intercept_methods(stand_for_itself):
            return backbone.apply(variables, images, train=False)

    jaxpr = jax.make_jaxpr(features)(jax.ShapeDtypeStruct((2, *sides, 3), np.float32)).jaxpr
    nodes, names, flattened = [], {jaxpr.invars[0]: IMAGES}, {}
    for equation in _needed(jaxpr):
        inputs, [output] = _names_of(equation, names), equation.outvars
        before = equation.invars[0] if equation.invars else None
        name, parts = _read(equation, found, number=len(nodes), sides=flattened.get(before, ()))
        for operation, arrays, settings in parts:
            nodes.append(Node(operation, name, inputs, arrays, settings))
            inputs, name = (nodes[-1].name,), f"{name}/and"
        names[output] = inputs[0]
        if equation.primitive is jax.lax.reshape_p and before.aval.ndim == 4:
            flattened[output] = equation.invars[0].aval.shape[1:]
        elif not parts:
            flattened[output] = flattened.get(before, ())
    return nodes


def _arrays_of(module: nn.Module) -> dict[str, np.ndarray]:
    """The parameters and statistics of a layer by their own names, in the precision that folding needs."""
    leaves = {name: leaf for collection in module.variables.values() for name, leaf in collection.items()}
    return {name: np.asarray(leaf, np.float64) for name, leaf in leaves.items() if not isinstance(leaf, Mapping)}


def _needed(jaxpr: core.Jaxpr) -> list[core.JaxprEqn]:
    """The equations that the result depends on, in order: those within layers fall away."""
    wanted, needed = set(jaxpr.outvars), []
    for equation in reversed(jaxpr.eqns):
        if wanted.intersection(equation.outvars):
            needed.append(equation)
            wanted |= {value for value in equation.invars if isinstance(value, core.Var)}
    return needed[::-1]


def _names_of(equation: core.JaxprEqn, names: Mapping[core.Var, str]) -> tuple[str, ...]:
    if not all(isinstance(value, core.Var) and value in names for value in equation.invars):
        raise UserError(f"the network computes {equation.primitive} with numbers that are no layer's: no export")
    return tuple(names[value] for value in equation.invars)


def _read(
    equation: core.JaxprEqn, found: Sequence[tuple[nn.Module, dict]], *, number: int, sides: tuple[int, ...]
) -> tuple[str, _Parts]:
    """The name of an equation's operations, and what they are; `sides` are those of a map that its input flattens."""
    if equation.primitive.name in ("name", "optimization_barrier"):  # of what is kept, or stored: the same values
        return "", []
    if equation.primitive is jax.lax.broadcast_in_dim_p and equation.params["broadcast_dimensions"] == (0, 1, 2, 3):
        return "", []  # to the shape of what it is multiplied with, as formats do of themselves
    if equation.primitive is not _layer:
        operation, settings = _plain_operation(equation)
        return f"{operation}_{number}", [(operation, {}, settings)]
    module, arrays = found[equation.params["number"]]
    name = "/".join(module.path)
    # A layer that is applied twice has two operations.
    if any(other is not arrays and others.path == module.path for others, other in found[: equation.params["number"]]):
        name = f"{name}_{number}"
    if sides and not isinstance(module, nn.Dense | nn.Dropout):
        raise UserError(f"the layer {name} takes a flattened map, whose channels it cannot tell apart: no export")
    shape = equation.outvars[0].aval.shape[1:]
    if isinstance(module, nn.Dense) and len(shape) == 2:
        return name, token_layers.linear(arrays, module, shape)
    if type(module) in token_layers.LAYERS:
        return name, token_layers.LAYERS[type(module)](arrays, module, shape)
    return name, LAYERS[type(module)](arrays, module, sides)


def _plain_operation(equation: core.JaxprEqn) -> tuple[str, dict[str, int]]:
    """What happens between layers, with its settings."""
    shapes = [value.aval.shape for value in (*equation.invars, *equation.outvars)]
    match equation.primitive.name:
        case "add" if len(set(shapes)) == 1:
            return "add", {}
        case "mul" if len(shapes[-1]) == 4:
            return "gate", {}
        case "logistic":
            return "sigmoid", {}
        case "concatenate" if equation.params["dimension"] == 3:
            return "concatenate", {}
        case "reshape" if [len(shape) for shape in shapes] == [4, 2]:
            return "flatten", {"positions": math.prod(shapes[0][1:3])}
        case "reshape" if [len(shape) for shape in shapes] == [3, 2]:
            return "flatten", {"positions": shapes[0][1]}
        case "slice" if shapes[0][::2] == shapes[1][::2] and not any(equation.params["start_indices"]):
            return "first", {"count": shapes[1][1]}
        case "custom_jvp_call" if [part.params.get("name") for part in equation.params["call_jaxpr"].eqns] == ["relu"]:
            return "relu", {}
    raise UserError(f"the network computes {equation.primitive} outside of a known layer: no export")
