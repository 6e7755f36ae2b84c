"""Each format is read back as a network that gives the same features; what is no such file is told in a sentence."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest
import safetensors.numpy

from lrfr_jax import export
from lrfr_jax.errors import UserError
from lrfr_jax.exports import formats
from lrfr_jax.exports.formats import FORMATS
from tests.exports import networks

NAMED = [("iresnet18", "insightface_torch_iresnet"), ("mobilefacenet", "insightface_torch_mobilefacenet")]


@pytest.fixture(scope="module")
def model(resnet10):
    return networks.arguments(resnet10, order="bgr", scale=128.0)


@pytest.fixture(scope="module")
def variables(model):
    return networks.variables_of(model)


def facts(model, names="ours", version=jax.__version__):
    return formats.Facts(model, names, version)


def features(opened, pixels):
    return export._features(opened, pixels)


@pytest.mark.parametrize("format", FORMATS)
def test_round_trip(format, model, variables, tmp_path):
    path = tmp_path / f"net.{format}"
    path.write_bytes(FORMATS[format].serialize(variables, model, "ours"))
    pixels = networks.images(3)
    networks.assert_same(
        features(formats.open_file(path, facts=facts(model)), pixels), networks.features(model, variables, pixels)
    )


@pytest.mark.parametrize(("backbone", "names"), NAMED)
def test_foreign_names_are_read_back(backbone, names, tmp_path):
    """A width is known, so it need not show in the shapes of a single layer."""
    model = networks.arguments(backbone, order="bgr", scale=128.0) | {"width": 0.17}
    variables = networks.variables_of(model)
    path = tmp_path / "net.safetensors"
    path.write_bytes(FORMATS["safetensors"].serialize(variables, model, names))
    pixels = networks.images(3)
    opened = formats.open_file(path, facts=facts(model, names))
    networks.assert_same(features(opened, pixels), networks.features(model, variables, pixels))
    assert opened.backbone.width == 0.17


def test_bfloat16_models_become_float32(model, variables):
    """The weights are float32 anyway, and few runtimes compute in bfloat16."""
    for format in FORMATS:
        plain, half = (
            FORMATS[format].serialize(variables, model | {"dtype": t}, "ours") for t in ("float32", "bfloat16")
        )
        assert plain == half


def test_our_tensors_have_our_names(model, variables):
    tensors = safetensors.numpy.load(FORMATS["safetensors"].serialize(variables, model, "ours"))
    np.testing.assert_array_equal(tensors["params/stem_conv/kernel"], variables["params"]["stem_conv"]["kernel"])


def test_stablehlo_needs_no_code_of_ours(model, variables, tmp_path):
    path, pixels = tmp_path / "net.stablehlo", networks.images(2)
    path.write_bytes(FORMATS["stablehlo"].serialize(variables, model, "ours"))
    np.save(tmp_path / "pixels.npy", pixels.transpose(0, 3, 1, 2))
    code = f"""
import json, sys, jax, jax.export, numpy as np
program = jax.export.deserialize(bytearray(open({str(path)!r}, 'rb').read()))
out = np.asarray(program.call(np.load({str(tmp_path / "pixels.npy")!r})))
ours = [name for name in sys.modules if name.split('.')[0] in ('lrfr_jax', 'flax')]
print(json.dumps([out.tolist(), list(program.platforms), ours]))
"""
    made = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    found, platforms, imported = json.loads(made.stdout)
    networks.assert_same(np.array(found), networks.features(model, variables, pixels))
    assert platforms == ["cpu", "cuda", "tpu"]
    assert imported == []


def test_programs_are_written_for_the_oldest_jax(model, variables):
    program = jax.export.deserialize(bytearray(FORMATS["stablehlo"].serialize(variables, model, "ours")))
    assert b"StableHLO_v1.13.0" in program.mlir_module_serialized[:64]


def test_a_program_of_another_jax_is_told_when_it_is_opened(model, variables, tmp_path, monkeypatch):
    """jax reads a program at its first call, after all pictures were read."""
    path = tmp_path / "net.stablehlo"
    path.write_bytes(FORMATS["stablehlo"].serialize(variables, model, "ours"))
    assert formats.open_file(path, facts=facts(model, version="99.1")).is_traced  # readable, so it may run

    def fail(*_):
        raise RuntimeError("Failed to deserialize StableHLO\nand more")

    monkeypatch.setattr(jax.export.Exported, "mlir_module", fail)
    with pytest.raises(UserError) as raised:
        formats.open_file(path, facts=facts(model, version="99.1"))
    assert str(raised.value) == (
        f"{path} was written by jax 99.1 and cannot be read by jax {jax.__version__}, which runs here (Failed to "
        "deserialize StableHLO): install that version, or export the model again with this one"
    )


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("net.onnx", b"no", r"net\.onnx cannot be read by onnxruntime"),
        ("net.stablehlo", b"no", r"net\.stablehlo holds no exported program"),
        ("net.safetensors", b"no", r"net\.safetensors is none of the weight files"),
        ("net.tflite", b"no", r"net\.tflite is no exported model: its name ends in none of \.onnx, \.stablehlo"),
    ],
)
def test_no_such_file(name, content, sentence, model, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        formats.open_file(tmp_path / name, facts=facts(model))


def test_other_weights_than_the_cards(model, variables, tmp_path):
    path = tmp_path / "net.npz"
    path.write_bytes(FORMATS["npz"].serialize(variables, model, "ours"))
    with pytest.raises(UserError, match="does not hold the iresnet18 of its card"):
        formats.open_file(path, facts=facts(networks.arguments("iresnet18")))


@pytest.mark.parametrize("format", ["onnx", "stablehlo"])
def test_another_size_than_the_cards(format, model, variables, tmp_path):
    path = tmp_path / f"net.{format}"
    path.write_bytes(FORMATS[format].serialize(variables, model, "ours"))
    with pytest.raises(UserError, match=rf"net\.{format} gives 24 numbers an image, its card says 25: get both"):
        formats.open_file(path, facts=facts(model | {"embedding_size": 25}))


def test_names_are_for_tensors(model, variables):
    for format in ("onnx", "stablehlo"):
        with pytest.raises(UserError, match="--names released_lrfr_resnet is about tensors with names"):
            FORMATS[format].serialize(variables, model, "released_lrfr_resnet")
