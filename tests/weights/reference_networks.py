"""Published networks in evaluation mode, slowly, in numpy float64 with channels first, under their makers' names.

A network makes up each tensor where it first needs it: `state` is the state dict afterwards.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

TORCH = {
    **dict.fromkeys(("weight", "scale", "slope"), "{}.weight"),
    **{"bias": "{}.bias", "mean": "{}.running_mean", "var": "{}.running_var"},
}
MXNET = {
    **{"weight": "arg:{}_weight", "slope": "arg:{}_gamma", "scale": "arg:{}_gamma", "bias": "arg:{}_beta"},
    **{"mean": "aux:{}_moving_mean", "var": "aux:{}_moving_var"},
}


def formula(entry, kind, shape):
    """Values of a tensor by its place in a state dict: of the kinds of `TORCH`."""
    phase = entry + 0.37 * np.arange(np.prod(shape))
    if kind == "var":
        values = 1 + 0.1 * np.abs(np.cos(phase))
    elif kind == "mean":
        values = 0.1 * np.sin(phase)
    elif kind == "bias":
        values = 0.1 * np.cos(phase)
    elif len(shape) == 1:
        values = 1 + 0.1 * np.sin(phase)
    else:
        values = np.sin(phase) * np.sqrt(2 * shape[0] / np.prod(shape))
    return values.astype(np.float32).reshape(shape)


class SlowNet:
    """The layers, by the names of their modules."""

    def __init__(self, names=TORCH, epsilon=1e-5):
        self.names, self.epsilon, self.state = names, epsilon, {}

    def tensor(self, module, kind, shape, name=None):
        name = name or self.names[kind].format(module)
        if name not in self.state:
            self.state[name] = formula(len(self.state), kind, shape)
        assert self.state[name].shape == shape
        return self.state[name].astype(np.float64)

    def conv(self, x, module, channels, kernel, stride=1, *, depthwise=False, border=None):
        columns = kernel if border is None else x.shape[3]
        weight = self.tensor(module, "weight", (channels, 1 if depthwise else x.shape[1], kernel, columns))
        border = kernel // 2 if border is None else border
        padded = np.pad(x, ((0, 0), (0, 0), (border, border), (border, border)))
        windows = sliding_window_view(padded, weight.shape[2:], axis=(2, 3))[:, :, ::stride, ::stride]
        if depthwise:
            return np.einsum("bchwij,cij->bchw", windows, weight[:, 0], optimize=True)
        return np.einsum("bchwij,ocij->bohw", windows, weight, optimize=True)

    def norm(self, x, module, *, affine=("scale", "bias"), epsilon=None):
        if self.names is TORCH:
            self.state[f"{module}.num_batches_tracked"] = np.array(7)
        wanted = {"scale": np.ones(x.shape[1]), "bias": np.zeros(x.shape[1])}
        wanted |= {kind: self.tensor(module, kind, x.shape[1:2]) for kind in (*affine, "mean", "var")}
        arrays = {kind: array.reshape((-1,) + (1,) * (x.ndim - 2)) for kind, array in wanted.items()}
        standard = (x - arrays["mean"]) / np.sqrt(arrays["var"] + (epsilon or self.epsilon))
        return arrays["scale"] * standard + arrays["bias"]

    def prelu(self, x, module):
        return np.where(x > 0, x, self.tensor(module, "slope", x.shape[1:2])[:, None, None] * x)

    def linear(self, x, module, size, bias=None):
        x = x.reshape(len(x), -1)
        return x @ self.tensor(module, "weight", (size, x.shape[1])).T + self.tensor(module, "bias", (size,), bias)


def _blocks(sizes):
    """(stage from 1, block in it, is first) of all blocks."""
    return [(stage, block, block == 0) for stage, size in enumerate(sizes, 1) for block in range(size)]


def arcface_iresnet(net, x, *, sizes, channels, size, before=""):
    """InsightFace's arcface_torch."""
    x = net.linear(_iresnet_body(net, x, sizes, channels, before), f"{before}fc", size)
    net.state[f"{before}features.weight"] = np.ones(size, np.float32)
    return net.norm(x, f"{before}features", affine=("bias",))


def magface_iresnet(net, x, *, sizes, channels, size, before="features.module."):
    """MagFace's: the same with another epsilon, and a scale that is learned."""
    x = net.linear(_iresnet_body(net, x, sizes, channels, before), f"{before}fc", size)
    return net.norm(x, f"{before}features")


def _iresnet_body(net, x, sizes, channels, before):
    x = net.prelu(net.norm(net.conv(x, f"{before}conv1", channels, 3), f"{before}bn1"), f"{before}prelu")
    for stage, block, is_first in _blocks(sizes):
        name, out, stride = f"{before}layer{stage}.{block}", channels * 2 ** (stage - 1), 1 + is_first
        y = net.conv(net.norm(x, f"{name}.bn1"), f"{name}.conv1", out, 3)
        y = net.conv(net.prelu(net.norm(y, f"{name}.bn2"), f"{name}.prelu"), f"{name}.conv2", out, 3, stride)
        if is_first:
            x = net.norm(net.conv(x, f"{name}.downsample.0", out, 1, stride), f"{name}.downsample.1")
        x = x + net.norm(y, f"{name}.bn3")
    return net.norm(x, f"{before}bn2")


def evolve_ir(net, x, *, sizes, channels, size, affine, is_se=False):
    """CurricularFace's and face.evoLVe's IR: no BatchNorm behind a block's first convolution."""
    x = net.prelu(net.norm(net.conv(x, "input_layer.0", channels, 3), "input_layer.1"), "input_layer.2")
    for number, (stage, _, is_first) in enumerate(_blocks(sizes)):
        name, out, stride = f"body.{number}", channels * 2 ** (stage - 1), 1 + is_first
        y = net.conv(net.norm(x, f"{name}.res_layer.0"), f"{name}.res_layer.1", out, 3)
        y = net.conv(net.prelu(y, f"{name}.res_layer.2"), f"{name}.res_layer.3", out, 3, stride)
        y = net.norm(y, f"{name}.res_layer.4")
        y = _gated(net, y, f"{name}.res_layer.5") if is_se else y
        x = _ir_shortcut(net, x, f"{name}.shortcut_layer", out, stride) + y
    x = net.linear(net.norm(x, "output_layer.0"), "output_layer.3", size)
    return net.norm(x, "output_layer.4", affine=affine)


def _gated(net, x, name):
    """Squeeze and excitation."""
    hidden = np.maximum(net.conv(x.mean((2, 3), keepdims=True), f"{name}.fc1", max(1, x.shape[1] // 16), 1), 0)
    return x / (1 + np.exp(-net.conv(hidden, f"{name}.fc2", x.shape[1], 1)))


def _ir_shortcut(net, x, name, out, stride):
    """A shortcut of as many channels takes every second pixel."""
    if x.shape[1] == out:
        return x[:, :, ::stride, ::stride]
    return net.norm(net.conv(x, f"{name}.0", out, 1, stride), f"{name}.1")


def adaface_ir(net, x, *, sizes, channels, size, before="", is_se=False):
    """AdaFace's and CVLface's IR."""
    x = net.conv(x, f"{before}input_layer.0", channels, 3)
    x = net.prelu(net.norm(x, f"{before}input_layer.1"), f"{before}input_layer.2")
    for number, (stage, _, is_first) in enumerate(_blocks(sizes)):
        name, out, stride = f"{before}body.{number}", channels * 2 ** (stage - 1), 1 + is_first
        y = net.norm(net.conv(net.norm(x, f"{name}.res_layer.0"), f"{name}.res_layer.1", out, 3), f"{name}.res_layer.2")
        y = net.norm(
            net.conv(net.prelu(y, f"{name}.res_layer.3"), f"{name}.res_layer.4", out, 3, stride), f"{name}.res_layer.5"
        )
        y = _gated(net, y, f"{name}.res_layer.se_block") if is_se else y
        x = _ir_shortcut(net, x, f"{name}.shortcut_layer", out, stride) + y
    x = net.linear(net.norm(x, f"{before}output_layer.0"), f"{before}output_layer.3", size)
    return net.norm(x, f"{before}output_layer.4", affine=())


def lrfr_resnet(net, x, *, sizes, channels, size, bottleneck):
    """The ResNets released with LRFR; the stride is in the first convolution of 3x3."""
    x = np.maximum(net.norm(net.conv(x, "conv1", channels, 3), "bn1"), 0)
    x = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    x = sliding_window_view(x, (3, 3), axis=(2, 3))[:, :, ::2, ::2].max(axis=(-2, -1))
    for stage, block, is_first in _blocks(sizes):
        name, width, stride = f"layer{stage}.{block}", channels * 2 ** (stage - 1), 2 if is_first and stage > 1 else 1
        plain = [(width, 3, stride), (width, 3, 1)]
        convs = [(width, 1, 1), (width, 3, stride), (4 * width, 1, 1)] if bottleneck else plain
        y = x
        for number, (out, kernel, step) in enumerate(convs, 1):
            y = net.norm(net.conv(y, f"{name}.conv{number}", out, kernel, step), f"{name}.bn{number}")
            y = np.maximum(y, 0) if number < len(convs) else y
        if x.shape != y.shape:
            x = net.norm(net.conv(x, f"{name}.downsample.0", y.shape[1], 1, stride), f"{name}.downsample.1")
        x = np.maximum(x + y, 0)
    x = net.linear(net.norm(x, "output_layer.0"), "output_layer.3", size)
    return net.norm(x, "output_layer.4")


# Inner channels as a multiple of the input's, output channels over the first ones, stride of each block.
_MOBILE_BLOCKS = [(2, 1, 2), *[(2, 1, 1)] * 4, (4, 2, 2), *[(2, 2, 1)] * 6, (4, 2, 2), *[(2, 2, 1)] * 2]


def mobilefacenet(net, x, *, channels, size, unit, labels, last):
    """MobileFaceNet; `unit(label)` names the convolution, the BatchNorm and the PReLU of a unit.

    Args:
      labels: of the first two units, three for each block, the last convolution and the pooling one.
      last: `last(net, x, size)`, linear layer and BatchNorm.
    """
    labels = iter(labels)

    def apply(x, channels, kernel, stride=1, *, depthwise=False, is_linear=False, border=None):
        conv, norm, prelu = unit(next(labels))
        x = net.norm(net.conv(x, conv, channels, kernel, stride, depthwise=depthwise, border=border), norm)
        return x if is_linear else net.prelu(x, prelu)

    x = apply(apply(x, channels, 3, 2), channels, 3, depthwise=True)
    for factor, out, stride in _MOBILE_BLOCKS:
        inner = factor * x.shape[1]
        y = apply(apply(x, inner, 1), inner, 3, stride, depthwise=True)
        y = apply(y, out * channels, 1, is_linear=True)
        x = x + y if x.shape == y.shape else y
    x = apply(x, 8 * channels, 1)
    x = apply(x, 8 * channels, 7, depthwise=True, is_linear=True, border=0)
    return last(net, x, size)


def torch_mobilefacenet(net, x, *, channels, size):
    """MobileFaceNet of PyTorch, as xiaoccer's: blocks are sequences."""

    def unit(label):
        if isinstance(label, str):
            return f"{label}.conv", f"{label}.bn", f"{label}.prelu"
        block, first = label
        return [f"blocks.{block}.conv.{first + step}" for step in range(3)]

    def last(net, x, size):
        weight = net.tensor("linear1.conv", "weight", (size, x.shape[1], 1, 1))
        return net.norm(x.reshape(len(x), -1) @ weight[:, :, 0, 0].T, "linear1.bn")

    blocks = [(block, first) for block in range(len(_MOBILE_BLOCKS)) for first in (0, 3, 6)]
    labels = ["conv1", "dw_conv1", *blocks, "conv2", "linear7"]
    return mobilefacenet(net, x, channels=channels, size=size, unit=unit, labels=labels, last=last)


def arcface_mobilefacenet(net, x, *, channels, size):
    """arcface_torch's MobileFaceNet of scale 1: blocks that change the shape stand apart from those behind them."""

    def unit(label):
        return [f"{label}.layers.{step}" for step in range(3)]

    def last(net, x, size):
        weight = net.tensor("features.layers.2", "weight", (size, x.shape[1]))
        return net.norm(x.reshape(len(x), -1) @ weight.T, "features.layers.3")

    blocks = ["layers.2", *(f"layers.3.layers.{k}" for k in range(4)), "layers.4"]
    blocks += [*(f"layers.5.layers.{k}" for k in range(6)), "layers.6", "layers.7.layers.0", "layers.7.layers.1"]
    parts = [f"{block}.layers.{part}" for block in blocks for part in range(3)]
    labels = ["layers.0", "layers.1", *parts, "conv_sep", "features.layers.0"]
    return mobilefacenet(net, x, channels=channels, size=size, unit=unit, labels=labels, last=last)


def mxnet_mobilefacenet(net, x, *, channels, size):
    """InsightFace's y1 of MXNet."""

    def unit(label):
        return f"{label}_conv2d", f"{label}_batchnorm", f"{label}_relu"

    def last(net, x, size):
        net.state["arg:fc1_gamma"] = np.full(size, 3, np.float32)  # which MXNet takes for 1
        x = net.linear(x, "fc1", size, bias="arg:pre_fc1_bias")
        return net.norm(x, "fc1", affine=("bias",), epsilon=2e-5)

    blocks = ["dconv_23", *(f"res_3_block{k}" for k in range(4)), "dconv_34", *(f"res_4_block{k}" for k in range(6))]
    blocks += ["dconv_45", "res_5_block0", "res_5_block1"]
    parts = [f"{block}_conv_{part}" for block in blocks for part in ("sep", "dw", "proj")]
    labels = ["conv_1", "conv_2_dw", *parts, "conv_6sep", "conv_6dw7_7"]
    return mobilefacenet(net, x, channels=channels, size=size, unit=unit, labels=labels, last=last)


def mxnet_iresnet(net, x, *, sizes, channels, size):
    """InsightFace's LResNet-E-IR of MXNet: units of version 3, output E."""
    x = net.prelu(net.norm(net.conv(x, "conv0", channels, 3), "bn0"), "relu0")
    for stage, block, is_first in _blocks(sizes):
        name, out, stride = f"stage{stage}_unit{block + 1}_", channels * 2 ** (stage - 1), 1 + is_first
        y = net.norm(net.conv(net.norm(x, f"{name}bn1"), f"{name}conv1", out, 3), f"{name}bn2")
        y = net.norm(net.conv(net.prelu(y, f"{name}relu1"), f"{name}conv2", out, 3, stride), f"{name}bn3")
        if is_first:
            x = net.norm(net.conv(x, f"{name}conv1sc", out, 1, stride), f"{name}sc")
        x = x + y
    net.state["arg:fc1_gamma"] = np.full(size, 3, np.float32)  # which MXNet takes for 1
    x = net.linear(net.norm(x, "bn1"), "pre_fc1", size, bias="arg:pre_fc1_bias")
    return net.norm(x, "fc1", affine=("bias",))
