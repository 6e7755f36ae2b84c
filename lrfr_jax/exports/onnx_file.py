"""ONNX: a network that any runtime can run, with BatchNorm folded and a batch of any size.

The input is float32 [batch, 3, 112, 112], RGB, (pixel - 127.5) / 127.5, whatever the weights were trained on; the one
output is the raw feature [batch, dim]. Nodes have the names of our modules: the insightface package takes a model whose
first nodes are called Sub and Mul for one that wants raw pixels.

References: https://onnx.ai/onnx/operators/; python-package/insightface/model_zoo/arcface_onnx.py of deepinsight.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import numpy as np

from lrfr_jax.errors import UserError
from lrfr_jax.exports import folding, layer_graph, onnx_tokens
from lrfr_jax.exports.layer_graph import IMAGES, Node
from lrfr_jax.image_ops import HALF_RANGE, IMAGE_SIZE

FEATURES = "features"
OPSET, IR_VERSION = 17, 8  # of 2022: what OpenCV, TensorRT and older runtimes read


def serialize(backbone: nn.Module, variables: Any) -> bytes:
    """Returns an ONNX model of a backbone, in float32.

    Args:
      backbone: a module of `models`, of any input convention.
      variables: its 'params' and 'batch_stats'.

    Raises:
      UserError: without the package onnx, or the backbone does something that has no operation; see `layer_graph`.
    """
    try:
        import onnx  # most users export nothing
    except ImportError as error:
        raise UserError("ONNX needs the extra 'export': pip install -e '.[export]'") from error
    convention = backbone.input
    plain = dataclasses.replace(convention, order="rgb", mean=HALF_RANGE, scale=HALF_RANGE, size=IMAGE_SIZE)
    sides = (convention.size, min(convention.size, convention.columns))
    plain = dataclasses.replace(plain, columns=sides[1])
    body = layer_graph.trace(backbone.clone(input=plain), variables, sides=sides)
    nodes = folding.folded(folding.joined(folding.convention_nodes(convention), body))
    nodes[-1] = nodes[-1]._replace(name=FEATURES)
    made = [_onnx_nodes(onnx.helper, node) for node in nodes]
    graph = onnx.helper.make_graph(
        [one for several, _ in made for one in several],
        "lrfr_jax",
        [onnx.helper.make_tensor_value_info(IMAGES, onnx.TensorProto.FLOAT, ["batch", 3, IMAGE_SIZE, IMAGE_SIZE])],
        [onnx.helper.make_tensor_value_info(FEATURES, onnx.TensorProto.FLOAT, ["batch", backbone.embedding_size])],
        [onnx.numpy_helper.from_array(array, name) for _, arrays in made for name, array in arrays.items()],
    )
    opset = onnx.helper.make_opsetid("", OPSET)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="lrfr_jax")
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _onnx_nodes(helper: Any, node: Node) -> tuple[list[Any], dict[str, np.ndarray]]:
    """The nodes of an operation and the tensors that they read beside results of others."""
    if node.operation in onnx_tokens.OPERATIONS:
        steps = onnx_tokens.Steps(node)
        onnx_tokens.OPERATIONS[node.operation](steps, *node.inputs)
        ended = steps.ended()
        return [
            helper.make_node(step.operator, step.inputs, [step.output], name=step.output, **step.attributes)
            for step in ended
        ], steps.tensors
    operator, arrays, attributes = OPERATORS[node.operation](node)
    tensors = {
        f"{node.name}/{name}": array if array.dtype == np.int64 else array.astype(np.float32)
        for name, array in arrays.items()
    }
    inputs = [*tensors, *node.inputs] if node.operation == "resize_rows" else [*node.inputs, *tensors]
    return [helper.make_node(operator, inputs, [node.name], name=node.name, **attributes)], tensors


def _convolve(node: Node):
    settings = node.settings
    sides = node.arrays["kernel"].shape[2:]
    attributes = {"kernel_shape": sides, "strides": [settings["stride"]] * 2, "pads": [settings["padding"]] * 4}
    return "Conv", node.arrays, attributes | {"group": settings["groups"]}


def _scale(node: Node):
    # One operation that every runtime knows, instead of a Mul and an Add.
    shift = node.arrays["shift"]
    return (
        "BatchNormalization",
        {**node.arrays, "mean": np.zeros_like(shift), "var": np.ones_like(shift)},
        {"epsilon": 0.0},
    )


def _max_pool(node: Node):
    kernel, stride, padding = (node.settings[name] for name in ("kernel", "stride", "padding"))
    return "MaxPool", {}, {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [padding] * 4}


def _pool(node: Node):
    operator = {"mean": "ReduceMean", "max": "ReduceMax"}[node.settings["kind"]]
    return operator, {}, {"axes": node.settings["axes"], "keepdims": 1}


def _crop(node: Node):
    limits = {"starts": node.settings["start"], "ends": node.settings["stop"], "axes": 3}
    return "Slice", {name: np.array([value]) for name, value in limits.items()}, {}


# (a node) -> operator of ONNX, the arrays it reads in their order, attributes.
OPERATORS = {
    "convolve": _convolve,
    "scale": _scale,
    "product": lambda node: ("Gemm", node.arrays, {"transB": 1}),
    "prelu": lambda node: ("PRelu", {"slope": node.arrays["slope"][:, None, None]}, {}),
    "relu": lambda node: ("Relu", {}, {}),
    "sigmoid": lambda node: ("Sigmoid", {}, {}),
    "add": lambda node: ("Add", {}, {}),
    "gate": lambda node: ("Mul", {}, {}),
    "pool": _pool,
    "concatenate": lambda node: ("Concat", {}, {"axis": 1}),
    "flatten": lambda node: ("Flatten", {}, {"axis": 1}),
    "max_pool": _max_pool,
    "resize_columns": lambda node: ("MatMul", {"matrix": node.arrays["matrix"].T}, {}),
    "resize_rows": lambda node: ("MatMul", node.arrays, {}),
    "crop": _crop,
    "reorder": lambda node: ("Gather", {"channels": np.array(node.settings["channels"])}, {"axis": 1}),
}
