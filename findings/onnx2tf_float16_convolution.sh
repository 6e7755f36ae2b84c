#!/usr/bin/env bash
# onnx2tf 2.6.9 (PyPI, 2026) writes, beside NAME_float32.tflite, a NAME_float16.tflite whose input and convolutions are
# FLOAT16 throughout. The interpreter that it pins itself (ai-edge-litert 2.1.2) refuses that file on a CPU:
#   RuntimeError: tflite/kernels/conv.cc: input_type == kTfLiteFloat32 || ... was not true. ... CONV_2D failed to prepare
# One would expect what TensorFlow's converter calls float16 quantization: half-precision weights, float32 in and out.
# The float32 file gives what onnxruntime gives. Seen with Python 3.13.0 on x86-64 Linux.
# Source: https://pypi.org/project/onnx2tf/2.6.9/, README, "flatbuffer_direct".
#
# Needs Python 3.12 or newer, by default python3 (PYTHON=...). Installs into a temporary folder; fails when the behavior
# has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnx2tf==2.6.9
cd "$folder"
cat > model.py <<'PY'
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

draw = np.random.default_rng(0)
kernel = numpy_helper.from_array(draw.normal(size=(8, 3, 3, 3)).astype(np.float32), "kernel")
ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, c, 16, 16]) for n, c in (("x", 3), ("y", 8))]
node = helper.make_node("Conv", ["x", "kernel"], ["y"], pads=[1, 1, 1, 1])
graph = helper.make_graph([node], "one_convolution", ends[:1], ends[1:], [kernel])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "one.onnx")
PY
cat > run.py <<'PY'
import numpy as np
import onnxruntime
from ai_edge_litert.interpreter import Interpreter

x = np.random.default_rng(1).normal(size=(1, 3, 16, 16)).astype(np.float32)
[wanted] = onnxruntime.InferenceSession("one.onnx").run(None, {"x": x})
for precision in ("float32", "float16"):
    reader = Interpreter(f"made/one_{precision}.tflite")
    [given], [result] = reader.get_input_details(), reader.get_output_details()
    print(precision, "takes", given["dtype"].__name__)
    try:
        reader.allocate_tensors()
        reader.set_tensor(given["index"], x.transpose(0, 2, 3, 1).astype(given["dtype"]))
        reader.invoke()
    except RuntimeError as error:
        print(precision, "refused:", str(error).split(" was not true")[0])
    else:
        difference = np.abs(reader.get_tensor(result["index"]).transpose(0, 3, 1, 2) - wanted).max()
        print(precision, "differs by less than 1e-4:", bool(difference < 1e-4))
PY
venv/bin/python model.py
venv/bin/onnx2tf -i one.onnx -o made > /dev/null 2>&1
venv/bin/python run.py 2> /dev/null | tee seen.txt
grep -qx "float32 differs by less than 1e-4: True" seen.txt
grep -qx "float16 takes float16" seen.txt
grep -q "^float16 refused: tflite/kernels/conv.cc" seen.txt
