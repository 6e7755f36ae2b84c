"""Every family of networks as ONNX: the same features in onnxruntime and OpenCV, folded, and named as intended."""

import cv2
import flax.linen as nn
import jax
import numpy as np
import onnx
import onnxruntime
import pytest

from lrfr_jax import models
from lrfr_jax.errors import UserError
from lrfr_jax.exports import onnx_file
from lrfr_jax.models.layers import InputConvention, batch_norm
from lrfr_jax.models.resnet import Bottleneck, ResNet
from tests.exports import networks

OPERATORS = {
    "resnet10": {"Conv", "Relu", "Add", "MaxPool", "Flatten", "Gemm"},
    "resnet14": {"Conv", "Relu", "Add", "MaxPool", "Flatten", "Gemm"},
    "iresnet18": {"Conv", "PRelu", "Add", "BatchNormalization", "Flatten", "Gemm"},
    "mobilefacenet": {"Conv", "PRelu", "Add", "Flatten", "Gemm"},
    "cbam_iresnet18": {"Conv", "PRelu", "Add", "BatchNormalization", "Flatten", "Gemm", "Relu"}
    | {"ReduceMean", "ReduceMax", "Concat", "Sigmoid", "Mul"},
    "bridge_student": {"Conv", "PRelu", "MaxPool", "ReduceMean", "Flatten", "Gemm"},
}

# OpenCV 5.0 refuses a BatchNormalization behind the product of a map with its gates.
NOT_IN_OPENCV = ("cbam_iresnet18",)


@pytest.fixture(scope="module", autouse=True)
def bottleneck(resnet10):
    with pytest.MonkeyPatch.context() as patch:
        made = lambda **settings: ResNet(block=Bottleneck, stage_sizes=(1, 1, 1, 1), **settings)  # noqa: E731
        patch.setitem(models.BACKBONES, "resnet14", made)
        yield


def exported(model):
    variables = networks.variables_of(model)
    return variables, onnx_file.serialize(models.create_backbone(**model), variables)


def run(content, pixels):
    session = onnxruntime.InferenceSession(content)
    return session.run(None, {"images": pixels.transpose(0, 3, 1, 2)})[0]


@pytest.mark.parametrize("backbone", OPERATORS)
def test_runtimes_give_the_models_features(backbone):
    model = networks.arguments(backbone)
    variables, content = exported(model)
    pixels = networks.images(7)
    wanted = networks.features(model, variables, pixels)
    networks.assert_same(run(content, pixels), wanted)
    networks.assert_same(np.concatenate([run(content, pixels[:1]), run(content, pixels[1:])]), wanted)
    if backbone not in NOT_IN_OPENCV:
        net = cv2.dnn.readNetFromONNX(np.frombuffer(content, np.uint8))
        net.setInput(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
        networks.assert_same(net.forward(), wanted)
    graph = onnx.load_from_string(content).graph
    assert {node.op_type for node in graph.node} == OPERATORS[backbone]
    shapes = [
        [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    ]
    assert shapes == [["batch", 3, 112, 112], ["batch", 24]]
    # What makes the insightface package feed raw pixels.
    assert not [node.name for node in graph.node if node.name.lower().startswith(("sub", "_minus", "mul", "_mul"))]
    assert sum(node.op_type == "BatchNormalization" for node in graph.node) == (8 if "iresnet18" in backbone else 0)


@pytest.mark.parametrize(
    ("backbone", "convention", "more"),
    [
        ("resnet10", {"order": "bgr"}, set()),
        ("resnet10", {"scale": 128.0}, set()),
        ("resnet10", {"order": "bgr", "mean": 120.0, "scale": 64.0}, {"Gather", "BatchNormalization"}),
        ("mobilefacenet", {"columns": 96, "order": "bgr"}, {"Slice"}),
        ("bridge_student", {"size": 18, "order": "bgr", "scale": 100.0}, {"MatMul"}),
        ("iresnet18", {"size": 32}, {"MatMul"}),
    ],
)
def test_every_convention_is_fed_alike(backbone, convention, more):
    """(pixel - 127.5) / 127.5 of RGB goes in; order and scale are in the first convolution's kernel."""
    model = networks.arguments(backbone, **convention)
    variables, content = exported(model)
    pixels = networks.images(3)
    networks.assert_same(run(content, pixels), networks.features(model, variables, pixels))
    assert {node.op_type for node in onnx.load_from_string(content).graph.node} == OPERATORS[backbone] | more


class Gated(nn.Module):
    """A network whose last step is `last`, applied to the pooled map."""

    last: str
    input: object = None

    @nn.compact
    def __call__(self, images, train):
        x = nn.Conv(4, (3, 3), strides=8, padding=(self.last != "padding" and 1) or "SAME", use_bias=False)(images)
        if self.last == "gate":
            x = x * nn.tanh(x)
        if self.last == "constant":
            x = x + 1.0
        x = x.reshape(len(x), -1)
        if self.last == "order":
            x = batch_norm(False, dtype="float32", name="bn")(x)
        return nn.Dense(5)(x)


@pytest.mark.parametrize(
    ("last", "sentence"),
    [
        ("gate", "computes tanh outside of a known layer"),
        ("constant", "computes add with numbers that are no layer's"),
        ("order", "bn takes a flattened map"),
        ("padding", "convolution Conv_0 has a bias, groups or a padding by name"),
    ],
)
def test_what_cannot_be_held_is_named(last, sentence):
    net = Gated(last, input=InputConvention(**networks.PLAIN))
    variables = net.init(jax.random.key(0), networks.images(1), train=False)
    with pytest.raises(UserError, match=sentence):
        onnx_file.serialize(net, variables)
