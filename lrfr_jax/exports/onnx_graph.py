"""An ONNX file as a list of operations: whoever wrote it, and however it numbered its nodes.

The graph is walked, not its names. BatchNorm, a convolution's bias and sums or products with constants all become the
operation `scale`; casts, dropout and the arithmetic of shapes fall away. Nothing in the file is run.

References: https://onnx.ai/onnx/operators/, opset 9 to 20; onnx.proto of the package onnx for the file's layout.
"""

import collections
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lrfr_jax.errors import UserError
from lrfr_jax.exports import onnx_operators
from lrfr_jax.exports.layer_graph import IMAGES, Node
from lrfr_jax.exports.onnx_operators import Step
from lrfr_jax.files.inert_pickle import Refused
from lrfr_jax.weights.tensor_bytes import BFLOAT16, as_weights, require

LARGEST_FILE = 2**31 - 1  # of a protobuf; larger networks keep their weights beside it
LARGEST_WEIGHTS = 2**32
CHANNELS = 3
_SHAPE_ARITHMETIC = {"Shape", "Gather", "Unsqueeze", "Squeeze", "Concat", "Slice", "Cast", "Mul", "Size", "Div"}
_OF_SHAPES = object()  # the value of what is computed from shapes, which only a reshape may read


class OnnxGraph(NamedTuple):
    """A network as its operations on channels-first values, and the height and width of its images.

    Operations are those of `layer_graph.Node`, but convolutions have no bias, and a `scale` has the arrays mean, var
    (with epsilon), scale and shift, each of one number or one a channel: (x - mean) / sqrt(var) scale + shift. The
    nodes keep the order of the file, and the last one gives the feature.
    """

    nodes: list[Node]
    sides: tuple[int, int]

    def __repr__(self) -> str:
        return f"<OnnxGraph of {len(self.nodes)} operations on images of {self.sides}>"


def read_graph(path: str | os.PathLike) -> OnnxGraph:
    """Reads an ONNX file, with the weights that it keeps in files beside it.

    Raises:
      UserError: without the package onnx; the file is damaged, too large or names files outside of its folder; it has
        another input than [batch, 3, height, width] or several outputs; or a node does what no network here does.
    """
    try:
        import onnx  # most users read none
    except ImportError as error:
        raise UserError(f"{path} needs the extra 'export': pip install -e '.[export]'") from error
    try:
        require(os.path.getsize(path) <= LARGEST_FILE, f"has over {LARGEST_FILE:,} bytes, more than any ONNX file")
        model = onnx.ModelProto()
        try:
            model.ParseFromString(pathlib.Path(path).read_bytes())
        except Exception as error:  # of the protobuf library
            raise Refused("is no ONNX file, or is truncated or damaged: get it again") from error
        return _Reader(onnx, pathlib.Path(path).parent).graph(model)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    except Refused as reason:
        raise UserError(f"{path} {reason}") from reason


class _Reader:
    """What is known of each value of a file while its nodes are read: an array, `_OF_SHAPES`, or the node it is of."""

    def __init__(self, onnx: Any, folder: pathlib.Path):
        self._onnx = onnx
        self._folder = folder.resolve()
        self._left = LARGEST_WEIGHTS
        self._values: dict[str, Any] = {}
        self._nodes: dict[str, Node] = {}

    def graph(self, model: Any) -> OnnxGraph:
        graph = model.graph
        require(graph.node, "is no ONNX file, or holds no network: it has no nodes")
        require(not model.functions, "keeps its layers in functions: export it again with these expanded (`inline`)")
        _check_names(graph)
        for tensor in graph.initializer:
            self._values[tensor.name] = self._array(tensor)
        sides = self._take_input([value for value in graph.input if value.name not in self._values])
        outputs = [value.name for value in graph.output]
        require(len(outputs) == 1, f"has {len(outputs)} outputs ({', '.join(outputs)[:100]}) instead of one feature")
        for number, node in enumerate(graph.node):
            self._read(self._step(node, number))
        last = self._values.get(outputs[0])
        require(isinstance(last, Node), f"computes its output {outputs[0]} from no image")
        return OnnxGraph(_tidied(list(self._nodes.values()), last.name), sides)

    def _take_input(self, inputs: Sequence[Any]) -> tuple[int, int]:
        require(len(inputs) == 1, f"has {len(inputs)} inputs instead of one, the images")
        shape = [side.dim_value for side in inputs[0].type.tensor_type.shape.dim]
        # A length that is left open is 0.
        require(
            len(shape) == 4 and shape[1] == CHANNELS and all(side > 0 for side in shape[2:]),
            f"takes images of shape {shape}, 0 being open: they must be [batch, 3, height, width] of a fixed size",
        )
        self._values[inputs[0].name] = Node("images", IMAGES, (), {}, {})
        return shape[2], shape[3]

    def _step(self, node: Any, number: int) -> Step:
        name = node.name or f"number {number}"
        what = f"has the node {name[:100]}, {node.op_type[:50]}"
        require(node.domain in ("", "ai.onnx"), f"{what} of {node.domain[:50]}, which is no operator of ONNX")
        missing = [one for one in node.input if one and one not in self._values]
        require(not missing, f"{what}, which reads {missing[:1]}: no node before it gives that")
        types, settings = self._onnx.AttributeProto, {}
        for attribute in node.attribute:
            is_graph = attribute.type in (types.GRAPH, types.GRAPHS)
            require(not is_graph, f"{what}, a loop or branch, which no network here has")
            try:
                value = self._onnx.helper.get_attribute_value(attribute)
            except ValueError as error:
                raise Refused(f"{what}, with a setting of no type: it is damaged") from error
            settings[attribute.name] = self._array(value) if attribute.type == types.TENSOR else value
        return Step(node.op_type, name, tuple(node.input), tuple(node.output), settings)

    def _read(self, step: Step) -> None:
        given = [self._values[name] if name else None for name in step.inputs]
        try:
            result = self._result(step, given)
        except (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError) as error:
            raise Refused(f"has the node {step.name[:100]}, {step.operator}, of bad settings or shapes") from error
        require(step.outputs, f"has the node {step.name[:100]}, {step.operator}, without a result")
        # The others of a BatchNorm or a dropout are for training.
        for name in step.outputs:
            require(name not in self._values, f"computes {name[:100]} twice")
        self._values[step.outputs[0]] = result

    def _result(self, step: Step, given: list[Any]) -> Any:
        is_fixed = all(value is None or isinstance(value, np.ndarray) for value in given)
        if is_fixed:
            require(step.operator in onnx_operators.ON_ARRAYS, _unfit(step))
            return onnx_operators.ON_ARRAYS[step.operator](step, *given)
        if step.operator in _SHAPE_ARITHMETIC and (step.operator == "Shape" or any(v is _OF_SHAPES for v in given)):
            return _OF_SHAPES
        require(step.operator in onnx_operators.OPERATORS, _unfit(step))
        result = given[0]
        for operation, arrays, settings in onnx_operators.OPERATORS[step.operator](step, *given):
            computed = [value for value in given if isinstance(value, Node)] if result is given[0] else [result]
            name = step.name if step.name not in self._nodes else f"{step.name}#{len(self._nodes)}"
            result = Node(operation, name, tuple(node.name for node in computed), arrays, settings)
            self._nodes[name] = result
        require(isinstance(result, Node), _unfit(step))
        return result

    def _array(self, tensor: Any) -> np.ndarray:
        """A tensor of the file or of one beside it; floats of any width as float32."""
        types = self._onnx.TensorProto
        known = (types.FLOAT, types.FLOAT16, types.DOUBLE, types.BFLOAT16, types.BOOL)
        known += (types.INT64, types.INT32, types.INT8, types.UINT8)
        of = tensor.name[:100] or "a constant"
        require(tensor.data_type in known, f"holds {of} of another type than floats and integers")
        size = math.prod(tensor.dims) * 8
        require(all(side >= 0 for side in tensor.dims) and size < LARGEST_WEIGHTS * 8, f"gives {of} no possible shape")
        if tensor.data_location == types.EXTERNAL:
            tensor.raw_data = self._beside({entry.key: entry.value for entry in tensor.external_data}, of)
            tensor.data_location = types.DEFAULT
        self._left -= tensor.ByteSize()
        require(self._left >= 0, f"holds over {LARGEST_WEIGHTS:,} bytes of weights")
        if tensor.data_type == types.BFLOAT16 and tensor.raw_data:
            return as_weights(np.frombuffer(tensor.raw_data, BFLOAT16).reshape(tensor.dims), of=of)
        try:
            return as_weights(self._onnx.numpy_helper.to_array(tensor), of=of)
        except (ValueError, TypeError) as error:
            raise Refused(f"gives {of} a shape that does not fit its numbers: it is damaged") from error

    def _beside(self, place: Mapping[str, str], of: str) -> bytes:
        """The bytes of a tensor that is kept in another file of the same folder."""
        location = place.get("location", "")
        path = self._folder / location
        is_inside = location and not os.path.isabs(location) and path.resolve().is_relative_to(self._folder)
        require(is_inside, f"keeps {of} outside of its folder, which is never read: {location[:100]!r}")
        require(path.is_file(), f"keeps {of} in {location[:100]}, which is not beside it: get that file too")
        try:
            offset, length = int(place.get("offset", 0)), int(place.get("length", -1))
        except ValueError as error:
            raise Refused(f"gives no place of {of} in {location[:100]}: it is damaged") from error
        size = path.stat().st_size
        length = size - offset if length < 0 else length
        require(offset >= 0 and offset + length <= size, f"keeps {of} beyond the end of {location[:100]}")
        require(length <= self._left, f"holds over {LARGEST_WEIGHTS:,} bytes of weights")
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(length)


def _check_names(graph: Any) -> None:
    """All names must be text that can be shown; protobuf gives others as bytes."""
    named = [
        *graph.initializer,
        *graph.input,
        *graph.output,
        *graph.node,
        *(a for n in graph.node for a in n.attribute),
    ]
    names = [one.name for one in named]
    names += [name for n in graph.node for name in (*n.input, *n.output, n.op_type, n.domain)]
    is_text = all(isinstance(name, str) and name.isprintable() for name in names)
    require(is_text, "has a name that is no text: it is damaged")


def _unfit(step: Step) -> str:
    return f"has the node {step.name[:100]}, {step.operator[:50]}, which no network here has"


def _tidied(nodes: Sequence[Node], last: str) -> list[Node]:
    """The operations that the feature needs, scales in a row as one, and in the product that they stand before."""
    needed, kept = {last}, []
    for node in reversed(nodes):
        if node.name in needed:
            needed.update(node.inputs)
            kept.append(node)
    users = collections.Counter(name for node in kept for name in node.inputs)
    tidied: dict[str, Node] = {}
    renamed: dict[str, str] = {}
    for node in kept[::-1]:
        node = node._replace(inputs=tuple(renamed.get(name, name) for name in node.inputs))
        before = tidied.get(node.inputs[0])
        follows = before and before.operation == "scale" and users[before.name] == 1
        if follows and node.operation == "scale":
            tidied[before.name] = before._replace(arrays=onnx_operators.in_a_row(before.arrays, node.arrays))
            users[before.name], renamed[node.name] = users[node.name], before.name
        elif follows and node.operation == "product":
            product, shift = onnx_operators.product_of_scaled(before, node)
            tidied |= {product.name: product, shift.name: shift}
            users[product.name], users[shift.name], renamed[node.name] = 1, users[node.name], shift.name
            del tidied[before.name]
        else:
            tidied[node.name] = node
    return list(tidied.values())
