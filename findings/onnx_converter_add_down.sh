#!/usr/bin/env bash
# onnx 1.23.2 (PyPI, 2026): onnx.version_converter.convert_version brings no model with an Add from opset 17 down to 13 or
# below, though its two inputs have one shape and every opset since 7 has that same Add. It ends with
#   RuntimeError: ... adapter_lookup: Assertion `false` failed: No Adapter From Version $14 for Add
# A convolution or a PRelu in its place is converted. So residual networks cannot be lowered by it; a model whose number of
# the operator set is set by hand passes the checker and runs. Seen with Python 3.13.0 and 3.11.7 on x86-64 Linux.
# Source: https://onnx.ai/onnx/api/version_converter.html
#
# Installs into a temporary folder; fails when the behavior has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnx==1.23.2 onnxruntime==1.23.2 numpy
cat > "$folder/run.py" <<'PY'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper, version_converter

x = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2) - 2
kernel, slope = (numpy_helper.from_array(np.full((1, 1, 1, 1), 0.5, np.float32), name) for name in ("k", "s"))
nodes = {"Conv": ["x", "k"], "PRelu": ["x", "s"], "Add": ["x", "x"]}
ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 2, 2]) for name in ("x", "y")]
for operator, inputs in nodes.items():
    kept = [one for one in (kernel, slope) if one.name in inputs]
    graph = helper.make_graph([helper.make_node(operator, inputs, ["y"])], "one", ends[:1], ends[1:], kept)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    try:
        print(operator, "converted to", version_converter.convert_version(model, 13).opset_import[0].version)
    except RuntimeError as error:
        print(operator, "refused:", str(error).split(": ")[-1])
model.opset_import[0].version = 13
onnx.checker.check_model(model, full_check=True)
[y] = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
print("Add at 13 by hand:", y.tolist() == (2 * x).tolist())
PY
"$folder/venv/bin/python" "$folder/run.py" | tee "$folder/seen.txt"
grep -qx "Conv converted to 13" "$folder/seen.txt"
grep -qx "PRelu converted to 13" "$folder/seen.txt"
grep -q '^Add refused: No Adapter From Version \$14 for Add' "$folder/seen.txt"
grep -qx "Add at 13 by hand: True" "$folder/seen.txt"
