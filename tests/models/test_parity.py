"""The backbones against PyTorch's layouts: the released networks' embeddings, and slow numpy forwards of narrow nets.

Every weight is a formula of its place in PyTorch's state_dict: entry i (num_batches_tracked counts too), flat index j.
"""

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from numpy.lib.stride_tricks import sliding_window_view

from lrfr_jax.models import create_backbone
from lrfr_jax.models.iresnet import IResNet
from lrfr_jax.models.resnet import BasicBlock, Bottleneck, ResNet

BASIC = ["conv1", "bn1", "conv2", "bn2", "shortcut_conv", "shortcut_bn"]
BOTTLENECK = ["conv1", "bn1", "conv2", "bn2", "conv3", "bn3", "shortcut_conv", "shortcut_bn"]
PRE_NORMALIZED = ["bn1", "conv1", "bn2", "prelu", "conv2", "bn3", "shortcut_conv", "shortcut_bn"]
NECK = ["neck/bn1", "neck/linear", "neck/bn2"]
ORDERS = {BasicBlock: BASIC, Bottleneck: BOTTLENECK}


def modules_in_order(net):
    """Module paths in the order of PyTorch's state_dict; shortcuts that a block does not have are among them."""
    pre_normalized = isinstance(net, IResNet)
    order = PRE_NORMALIZED if pre_normalized else ORDERS[net.block]
    paths = ["stem_conv", "stem_bn"] + ["stem_prelu"] * pre_normalized
    for stage, size in enumerate(net.stage_sizes):
        paths += [f"stage{stage + 1}/block{block}/{name}" for block in range(size) for name in order]
    return paths + NECK


def formula(entry, name, shape):
    phase = entry + 0.37 * np.arange(np.prod(shape))
    if name == "running_var":
        values = 1 + 0.1 * np.abs(np.cos(phase))
    elif name == "running_mean":
        values = 0.1 * np.sin(phase)
    elif name == "bias":
        values = 0.1 * np.cos(phase)
    elif len(shape) == 1:
        values = 1 + 0.1 * np.sin(phase)
    else:
        values = np.sin(phase) * np.sqrt(2 * shape[0] / np.prod(shape))
    return values.astype(np.float32).reshape(shape)


def torch_shapes(path, shapes):
    """Names and PyTorch shapes of one module, from its flax shapes; None stands for num_batches_tracked."""
    if f"{path}/kernel" in shapes:
        kernel = shapes[f"{path}/kernel"]
        weight = (kernel[3], kernel[2], *kernel[:2]) if len(kernel) == 4 else kernel[::-1]
        bias = {"bias": shapes[f"{path}/bias"]} if f"{path}/bias" in shapes else {}
        return {"weight": weight} | bias
    if f"{path}/slope" in shapes:
        return {"weight": shapes[f"{path}/slope"]}
    names = ("weight", "bias", "running_mean", "running_var") if f"{path}/bias" in shapes else ()
    return dict.fromkeys(names, shapes.get(f"{path}/bias")) | ({"num_batches_tracked": None} if names else {})


def torch_state(net):
    """{module path: {PyTorch name: array in PyTorch's layout}} by the formula."""
    images = jax.ShapeDtypeStruct((1, 112, 112, 3), np.float32)
    variables = jax.eval_shape(lambda images: net.init(jax.random.key(0), images, train=False), images)
    shapes = {path: leaf.shape for path, leaf in flatten_dict(variables["params"], sep="/").items()}
    state, entry = {}, 0
    for path in modules_in_order(net):
        named = torch_shapes(path, shapes)
        arrays = {}
        for name, shape in named.items():
            if shape is not None:
                arrays[name] = formula(entry, name, shape)
            entry += 1
        if arrays:
            state[path] = arrays
    return state


def flax_variables(net, state):
    """The same weights as flax variables: OIHW -> HWIO; the linear layer's C,H,W columns -> H,W,C rows."""
    params, batch_stats = {}, {}
    for path, arrays in state.items():
        weight = arrays["weight"]
        if "running_mean" in arrays:
            if not (path == "neck/bn2" and isinstance(net, IResNet)):
                params[f"{path}/scale"] = weight
            batch_stats |= {f"{path}/mean": arrays["running_mean"], f"{path}/var": arrays["running_var"]}
        elif weight.ndim == 1:
            params[f"{path}/slope"] = weight
        elif weight.ndim == 4:
            params[f"{path}/kernel"] = weight.transpose(2, 3, 1, 0)
        else:
            channels = weight.shape[1] // 49
            columns = weight.reshape(-1, channels, 7, 7).transpose(2, 3, 1, 0)
            params[f"{path}/kernel"] = columns.reshape(-1, len(weight))
        if "bias" in arrays:
            params[f"{path}/bias"] = arrays["bias"]
    return {"params": unflatten_dict(params, sep="/"), "batch_stats": unflatten_dict(batch_stats, sep="/")}


def unit_embeddings(net, variables, images):
    features = jax.jit(lambda v, x: net.apply(v, x, train=False))(variables, images)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("name", "parameters"), [("ResNet18", 24016448), ("ResNet34", 34124608), ("ResNet50", 74886208)]
)
def test_released_resnets(reference, name, parameters):
    saved = reference("resnet_formula")
    net = create_backbone(name.lower(), width=1.0, embedding_size=512, dropout=0.4, dtype="float32")
    variables = flax_variables(net, torch_state(net))
    assert sum(array.size for array in jax.tree.leaves(variables["params"])) == parameters
    images = (saved["images"].astype(np.float32) / 255 - 0.5) / 0.5
    np.testing.assert_allclose(unit_embeddings(net, variables, images), saved[name], atol=1e-4)


class SlowNet:
    """Evaluation mode in numpy float64, channels first, with PyTorch's layouts."""

    def __init__(self, state):
        self.state = state

    def conv(self, x, path, stride):
        weight = self.state[path]["weight"].astype(np.float64)
        border = weight.shape[-1] // 2
        padded = np.pad(x, ((0, 0), (0, 0), (border, border), (border, border)))
        windows = sliding_window_view(padded, weight.shape[2:], axis=(2, 3))[:, :, ::stride, ::stride]
        return np.einsum("bchwij,ocij->bohw", windows, weight, optimize=True)

    def norm(self, x, path):
        arrays = {k: v.astype(np.float64).reshape((-1,) + (1,) * (x.ndim - 2)) for k, v in self.state[path].items()}
        standard = (x - arrays["running_mean"]) / np.sqrt(arrays["running_var"] + 1e-5)
        return arrays["weight"] * standard + arrays["bias"]

    def prelu(self, x, path):
        return np.where(x > 0, x, self.state[path]["weight"].astype(np.float64)[:, None, None] * x)

    def shortcut(self, x, block, stride):
        if f"{block}/shortcut_conv" not in self.state:
            return x
        return self.norm(self.conv(x, f"{block}/shortcut_conv", stride), f"{block}/shortcut_bn")

    def post_activation(self, x, block, stride, stride_of):
        y = x
        last = max(n for n in (2, 3) if f"{block}/conv{n}" in self.state)
        for n in range(1, last + 1):
            y = self.norm(self.conv(y, f"{block}/conv{n}", stride if n == stride_of else 1), f"{block}/bn{n}")
            y = np.maximum(y, 0) if n < last else y
        return np.maximum(y + self.shortcut(x, block, stride), 0)

    def pre_normalized(self, x, block, stride):
        y = self.conv(self.norm(x, f"{block}/bn1"), f"{block}/conv1", 1)
        y = self.prelu(self.norm(y, f"{block}/bn2"), f"{block}/prelu")
        y = self.norm(self.conv(y, f"{block}/conv2", stride), f"{block}/bn3")
        return y + self.shortcut(x, block, stride)

    def stem(self, x, prelu):
        x = self.norm(self.conv(x, "stem_conv", 1), "stem_bn")
        if prelu:
            return self.prelu(x, "stem_prelu")
        padded = np.pad(np.maximum(x, 0), ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
        return sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::2, ::2].max(axis=(-2, -1))

    def neck(self, x):
        x = self.norm(x, "neck/bn1").reshape(len(x), -1)
        return self.norm(x @ self.state["neck/linear"]["weight"].T + self.state["neck/linear"]["bias"], "neck/bn2")


def slow_features(net, state, images):
    slow, pre_normalized = SlowNet(state), isinstance(net, IResNet)
    x = slow.stem(images.transpose(0, 3, 1, 2).astype(np.float64), pre_normalized)
    for stage, size in enumerate(net.stage_sizes):
        for number in range(size):
            block = f"stage{stage + 1}/block{number}"
            if pre_normalized:
                x = slow.pre_normalized(x, block, 2 if number == 0 else 1)
            else:
                stride = 2 if number == 0 and stage > 0 else 1
                x = slow.post_activation(x, block, stride, 1 if net.block is BasicBlock else 2)
    return slow.neck(x)


SHAPE = {"stage_sizes": (1, 2, 1, 1), "width": 0.125, "embedding_size": 24, "dropout": 0.5, "dtype": "float32"}


@pytest.mark.parametrize(
    "net",
    [ResNet(block=BasicBlock, **SHAPE), ResNet(block=Bottleneck, **SHAPE), IResNet(**SHAPE)],
    ids=["basic", "bottleneck", "pre_normalized"],
)
def test_narrow_nets_equal_slow_numpy(net):
    images = np.random.default_rng(0).uniform(-1, 1, (2, 112, 112, 3)).astype(np.float32)
    state = torch_state(net)
    if isinstance(net, IResNet):
        state["neck/bn2"]["weight"] = np.ones_like(state["neck/bn2"]["weight"])  # fixed there
    expected = slow_features(net, state, images)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    variables = flax_variables(net, state)
    np.testing.assert_allclose(unit_embeddings(net, variables, images), expected, atol=1e-4)
