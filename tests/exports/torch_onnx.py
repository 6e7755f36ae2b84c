"""ONNX files as PyTorch's two exporters write them, of the networks that people train there.

The files in tests/golden/onnx hold the graphs alone: `filled` gives them weights. Made anew, with torch and onnxscript:
  python -m tests.exports.torch_onnx
"""

import pathlib

import numpy as np
import onnx

SKELETONS = pathlib.Path(__file__).parent.parent / "golden" / "onnx"
IMAGE = (3, 112, 112)
# What a tensor is, by the operator that reads it and the place there.
_KINDS = {
    "Conv": ("", "kernel", "bias"),
    "Gemm": ("", "kernel", "bias"),
    "MatMul": ("", "matrix"),
    "PRelu": ("", "slope"),
    "BatchNormalization": ("", "scale", "bias", "mean", "var"),
}


NETWORKS, EXPORTERS = ("iresnet18", "mobilefacenet", "mobilefacenet_scale2"), ("script", "dynamo")
NAMES = tuple(f"{network}_{exporter}" for exporter in EXPORTERS for network in NETWORKS)


def filled(name: str, *, seed: int = 0) -> onnx.ModelProto:
    """A file's graph with drawn weights: kernels as large as their fan-in asks for, others near their first values."""
    model = onnx.load_model(SKELETONS / f"{name}.onnx")
    kinds = {}
    for node in model.graph.node:
        for place, value in enumerate(node.input):
            kinds.setdefault(value, _KINDS.get(node.op_type, ())[place : place + 1])
    draw = np.random.default_rng(seed)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and not tensor.raw_data:
            [kind] = kinds[tensor.name] or ["bias"]
            values = draw.normal(size=tuple(tensor.dims))
            if kind in ("kernel", "matrix"):
                inputs = np.prod(tensor.dims[1:]) if kind == "kernel" else tensor.dims[0]
                values = values * np.sqrt(2 / inputs)
            else:
                values = {"scale": 1.0, "var": 1.0, "slope": 0.25}.get(kind, 0.0) + 0.1 * np.tanh(values)
            tensor.raw_data = values.astype(np.float32).tobytes()
    return model


def _networks():
    import torch

    from tests.exports.test_torch import IResNet18

    def layers(inputs, outputs, size, stride, groups, *, linear=False):
        made = [torch.nn.Conv2d(inputs, outputs, size, stride, size // 2 if size < 7 else 0, groups=groups, bias=False)]
        made.append(torch.nn.BatchNorm2d(outputs))
        return made if linear else [*made, torch.nn.PReLU(outputs)]

    class Bottleneck(torch.nn.Module):
        def __init__(self, inputs, hidden, outputs, stride, is_added):
            super().__init__()
            parts = [*layers(inputs, hidden, 1, 1, 1), *layers(hidden, hidden, 3, stride, hidden)]
            self.body = torch.nn.Sequential(*parts, *layers(hidden, outputs, 1, 1, 1, linear=True))
            self.is_added = is_added

        def forward(self, x):
            return x + self.body(x) if self.is_added else self.body(x)

    class Flat(torch.nn.Module):
        def forward(self, x):
            return x.view(x.size(0), -1)

    def mobilefacenet(scale, unit):
        parts = [*layers(3, unit * scale, 3, 2, 1), *layers(unit * scale, unit * scale, 3, 1, unit)]
        inputs = unit * scale
        for hidden, outputs, count, stride in ((2, 1, 5, 2), (4, 2, 1, 2), (4, 2, 6, 1), (8, 2, 1, 2), (4, 2, 2, 1)):
            for number in range(count):
                is_first = number == 0 and (stride == 2 or inputs != outputs * unit * scale)
                step = stride if number == 0 else 1
                parts.append(Bottleneck(inputs, hidden * unit, outputs * unit * scale, step, not is_first))
                inputs = outputs * unit * scale
        last = 8 * unit
        parts += [*layers(inputs, last, 1, 1, 1), *layers(last, last, 7, 1, last, linear=True), Flat()]
        return torch.nn.Sequential(*parts, torch.nn.Linear(last, 16, bias=False), torch.nn.BatchNorm1d(16))

    return {
        "iresnet18": IResNet18(8, 16),
        "mobilefacenet": mobilefacenet(1, 8),
        "mobilefacenet_scale2": mobilefacenet(2, 8),
    }


def main() -> None:
    import torch

    torch.manual_seed(0)
    SKELETONS.mkdir(exist_ok=True)
    for network, module in _networks().items():
        for tensor in module.state_dict().values():  # what is alike would be written once, and what does nothing not
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5)
        for exporter in EXPORTERS:
            path = SKELETONS / f"{network}_{exporter}.onnx"
            is_new = exporter == "dynamo"
            open_axis = {"dynamic_shapes": ({0: "batch"},)} if is_new else {"dynamic_axes": {"images": {0: "batch"}}}
            how = {"dynamo": is_new, "opset_version": 20 if is_new else 11, "input_names": ["images"], **open_axis}
            torch.onnx.export(module.eval(), (torch.randn(2, *IMAGE),), str(path), external_data=False, **how)
            model = onnx.load_model(path)
            for tensor in model.graph.initializer:
                if tensor.data_type == onnx.TensorProto.FLOAT:
                    tensor.ClearField("raw_data")
                    tensor.ClearField("float_data")
            for node in model.graph.node:
                node.ClearField("doc_string")
                node.ClearField("metadata_props")
            del model.graph.value_info[:]
            path.write_bytes(model.SerializeToString())
            print(path.name, path.stat().st_size, [node.op_type for node in model.graph.node][:14])


if __name__ == "__main__":
    main()
