"""The transformers as ONNX and StableHLO: the same features, of the template's keypoints, and no BatchNorm left."""

import functools

import jax
import numpy as np
import onnx
import onnxruntime
import pytest

from lrfr_jax import models
from lrfr_jax.exports import onnx_file, stablehlo_file
from lrfr_jax.models.kprpe import KeypointTransformer
from lrfr_jax.models.vit import FaceTransformer
from tests.exports import networks

RAW = {"mean": 0.0, "scale": 1.0}
SHORT = {
    "vit_p8s8": functools.partial(FaceTransformer, patch=8, depth=4),
    "vit_p12s8": functools.partial(FaceTransformer, patch=12, depth=4),
    "vit_kprpe_small": functools.partial(KeypointTransformer, depth=4, head=64, mlp_ratio=5),
}


def model_of(backbone, monkeypatch):
    monkeypatch.setitem(models.BACKBONES, backbone, SHORT[backbone])
    monkeypatch.setitem(networks.GROWTH, backbone, 1)
    convention = {} if backbone == "vit_kprpe_small" else RAW
    return networks.arguments(backbone, embedding_size=64, **convention)


@pytest.mark.parametrize("backbone", SHORT)
def test_onnx_gives_the_models_features(backbone, monkeypatch):
    model, pixels = model_of(backbone, monkeypatch), networks.images(3)
    variables = networks.variables_of(model)
    content = onnx_file.serialize(models.create_backbone(**model), variables)
    wanted = networks.features(model, variables, pixels)
    session = onnxruntime.InferenceSession(content)
    run = functools.partial(session.run, None)
    networks.assert_same(run({"images": pixels.transpose(0, 3, 1, 2)})[0], wanted)
    single = run({"images": pixels[:1].transpose(0, 3, 1, 2)})[0]
    np.testing.assert_allclose(single, wanted[:1], atol=1e-5 * np.linalg.norm(wanted[0]))
    operators = {node.op_type for node in onnx.load_from_string(content).graph.node}
    assert {"LayerNormalization", "Softmax", "MatMul"} < operators
    assert ("Gemm" in operators) == (backbone == "vit_kprpe_small")
    assert ("BatchNormalization" in operators) == (backbone == "vit_p12s8")  # its padding is of raw pixels


def test_stablehlo_gives_the_models_features(monkeypatch):
    model, pixels = model_of("vit_kprpe_small", monkeypatch), networks.images(2)
    variables = networks.variables_of(model)
    program = jax.export.deserialize(bytearray(stablehlo_file.serialize(models.create_backbone(**model), variables)))
    networks.assert_same(
        np.asarray(program.call(pixels.transpose(0, 3, 1, 2))), networks.features(model, variables, pixels)
    )
