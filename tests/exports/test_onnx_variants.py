"""Weights of 8 bits: of which nodes, along which axis, and how far the results are."""

import numpy as np
import onnx
import onnxruntime
import pytest

from lrfr_jax.exports import onnx_variants

# Operator -> shape of its input, of its weights and of its result, along which axis the weights have scales.
NODES = {
    "Conv": ((1, 3, 4, 4), (2, 3, 3, 3), (1, 2, 2, 2), 0),
    "Gemm": ((1, 5), (4, 5), (1, 4), 1),
    "MatMul": ((1, 6, 5), (5, 4), (1, 6, 4), 0),
}


@pytest.mark.parametrize("operator", NODES)
def test_each_kind_of_weights_has_scales_of_its_own(operator):
    shape, size, result, axis = NODES[operator]
    draw = np.random.default_rng(0)
    along = [-1 if place == axis else 1 for place in range(len(size))]
    weights = draw.normal(size=size) * 10.0 ** np.arange(size[axis]).reshape(along)
    helper = onnx.helper
    node = helper.make_node(operator, ["x", "w"], ["y"], **({"transB": 1} if operator == "Gemm" else {}))
    ends = [helper.make_tensor_value_info("x", 1, shape)], [helper.make_tensor_value_info("y", 1, result)]
    kept = [onnx.numpy_helper.from_array(weights.astype(np.float32), "w")]
    opset = [helper.make_opsetid("", 17)]
    content = helper.make_model(helper.make_graph([node], "one", *ends, kept), opset_imports=opset, ir_version=8)
    content = content.SerializeToString()
    made = onnx_variants.with_int8_weights(content)
    types = {tensor.name: tensor.data_type for tensor in onnx.load_model_from_string(made).graph.initializer}
    assert types == {"w/levels": onnx.TensorProto.INT8, "w/scale": onnx.TensorProto.FLOAT}
    x = draw.normal(size=shape).astype(np.float32)
    wanted, found = (onnxruntime.InferenceSession(one).run(None, {"x": x})[0] for one in (content, made))
    # Half a level of each weight: scales of another axis would be off by powers of ten.
    most = 0.5 / 127 * np.abs(weights).max() * np.abs(x).sum()
    assert 0 < np.abs(found - wanted).max() < most
    levels, scale = (onnx.numpy_helper.to_array(one) for one in onnx.load_model_from_string(made).graph.initializer)
    assert (np.abs(levels * scale.reshape(along) - weights) < 0.51 * scale.reshape(along)).all()
