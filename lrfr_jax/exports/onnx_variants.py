"""An ONNX model in another operator set, or with fewer bits a number."""

from typing import Any

import numpy as np

from lrfr_jax.errors import UserError, reason_of

PRECISIONS = ("float32", "float16", "int8_weights")
_LEVELS = 127  # of a weight, on either side of 0
_OLDEST_WITH_SCALES = 13
# Output channels of a convolution, inputs of a product.
_SCALED_ALONG = {"Conv": 0, "Gemm": 1, "MatMul": 0}


def at_opset(content: bytes, opset: int) -> bytes:
    """Returns the model of a file in another operator set, with the lowest format version that this set needs.

    An older set holds our nodes as they are, or not at all; the converter of onnx 1.23 knows no way down for a sum.

    Raises:
      UserError: the package onnx cannot convert it.
    """
    import onnx
    from onnx import version_converter

    model = onnx.load_model_from_string(content)
    try:
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        changed.opset_import[0].version = opset
        if opset > model.opset_import[0].version:
            changed = version_converter.convert_version(model, opset)
        changed.ir_version = onnx.helper.find_min_ir_version_for(changed.opset_import)
        onnx.checker.check_model(changed, full_check=True)
    except Exception as error:  # of its C++ side, a class for each reason
        raise UserError(
            f"onnx {onnx.__version__} cannot write this network in opset {opset} ({reason_of(error)}): choose another "
            "--opset"
        ) from error
    return _serialized(model, changed)


def in_half(content: bytes) -> bytes:
    """Returns the model of a file with weights and inner values in float16; images and feature stay float32."""
    import onnx
    from onnxruntime.transformers import float16  # the converter that ONNX's makers moved there

    model = onnx.load_model_from_string(content)
    return _serialized(model, float16.convert_float_to_float16(model, keep_io_types=True))


def with_int8_weights(content: bytes) -> bytes:
    r"""Returns the model of a file with 8 bits a weight: kernels of convolutions and products; biases stay float32.

    .. math:: w \approx s_c\, q, \quad s_c = \max |w_c| / 127, \quad q \in \{-127 \ldots 127\}

    with a scale for each output channel c of a convolution, and for each input of a product, into whose columns the
    folded BatchNorm before it brought scales of its own. Runtimes multiply the weights back once and compute in
    float32.

    Raises:
      UserError: the file's operator set is older than 13, which has no scales along an axis.
    """
    import onnx

    model = onnx.load_model_from_string(content)
    axes = {node.input[1]: _SCALED_ALONG.get(node.op_type) for node in model.graph.node if len(node.input) > 1}
    if model.opset_import[0].version < _OLDEST_WITH_SCALES:
        raise UserError(f"weights of 8 bits need an operator set of {_OLDEST_WITH_SCALES} or newer: raise --opset")
    for tensor in [tensor for tensor in model.graph.initializer if axes.get(tensor.name) is not None]:
        name, axis, weights = tensor.name, axes[tensor.name], onnx.numpy_helper.to_array(tensor).astype(np.float64)
        scale = np.abs(weights).max(axis=tuple(set(range(weights.ndim)) - {axis}), keepdims=True) / _LEVELS
        scale[scale == 0] = 1.0  # of a channel without weights
        levels = np.rint(weights / scale).astype(np.int8)
        tensor.CopyFrom(onnx.numpy_helper.from_array(levels, f"{name}/levels"))
        flat = scale.reshape(-1).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(flat, f"{name}/scale"))
        inputs = [f"{name}/levels", f"{name}/scale"]
        model.graph.node.insert(0, onnx.helper.make_node("DequantizeLinear", inputs, [name], name, axis=axis))
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _serialized(model: Any, changed: Any) -> bytes:
    """The bytes of a changed model, under the maker's name of the first one."""
    changed.producer_name = model.producer_name
    return changed.SerializeToString()
