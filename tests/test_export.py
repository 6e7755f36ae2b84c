"""`lrfr_jax.export`: a file, its card, and the proof that it is the model; whatever fails leaves nothing behind."""

import dataclasses
import hashlib

import numpy as np
import onnx
import pytest

import lrfr_jax
from lrfr_jax import export
from lrfr_jax.checkpoints import checkpoint, model_card
from lrfr_jax.errors import UserError
from lrfr_jax.exports import formats
from lrfr_jax.trained.model import digest_of
from tests.evals.test_thresholds import HELD
from tests.exports import networks


@pytest.fixture(scope="module")
def folder(resnet10, tmp_path_factory):
    model = networks.arguments(resnet10, scale=128.0)
    metadata = {"step": 30, "model": model, "degradation_rounding": "uint8"}
    path = tmp_path_factory.mktemp("exported") / "net"
    checkpoint.save_backbone(path, networks.variables_of(model), metadata)
    return path


def call(folder, tmp_path, format, *more):
    output = tmp_path / f"net.{format}"
    export.main(["--checkpoint", str(folder), "--format", format, "--output", str(output), *more])
    return output


@pytest.mark.parametrize("format", formats.FORMATS)
def test_the_file_is_loaded_as_the_checkpoint_is(folder, format, tmp_path, capsys):
    faces = np.random.default_rng(2).integers(0, 256, (3, 112, 112, 3)).astype(np.uint8)
    output = call(folder, tmp_path, format)
    said = capsys.readouterr().out
    assert "on 32 images it differs from the model by a cosine distance of at most" in said
    live, loaded = (lrfr_jax.Embedder.load(path, batch_size=8) for path in (folder, output))
    wanted, found = (one.embed(faces, resolution=[112, 20, 7]) for one in (live, loaded))
    np.testing.assert_allclose((wanted.vectors * found.vectors).sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(found.norms, wanted.norms, rtol=1e-4)
    assert loaded.digest != live.digest
    assert loaded.weights == hashlib.sha256(output.read_bytes()).hexdigest()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [output.name, f"{output.name}.card.json", f"{output.name}.card.md"]


def test_the_card_goes_along(folder, tmp_path):
    variables, metadata = checkpoint.load_backbone(folder)
    held = model_card.of_checkpoint(folder, variables=variables, metadata=metadata)
    card_path = model_card.write(folder, dataclasses.replace(held, thresholds=HELD))
    try:
        output = call(folder, tmp_path, "npz")
    finally:
        card_path.unlink()
        card_path.with_suffix(".md").unlink()
    embedder = lrfr_jax.Embedder.load(output)
    assert embedder.thresholds() == HELD
    card = model_card.read(output, weights=embedder.weights)
    assert card.history[-1]["kind"] == "export"
    assert (card.step, card.model, card.parameters) == (30, metadata["model"], held.parameters)
    text = (tmp_path / "net.npz.card.md").read_text()
    assert f"SHA-256 of the file {embedder.weights}" in text
    assert "Exported as npz; on 32 images it differs" in text
    moved = tmp_path / "moved.npz"
    output.rename(moved)
    with pytest.raises(UserError, match=r"moved\.npz has no card moved\.npz\.card\.json beside it"):
        lrfr_jax.Embedder.load(moved)


def test_another_file_under_the_cards_name(folder, tmp_path):
    output = call(folder, tmp_path, "npz")
    output.write_bytes(output.read_bytes() + b" ")
    with pytest.raises(UserError, match="is the card of other weights"):
        lrfr_jax.Embedder.load(output)


def refused(arguments, sentence, tmp_path, capsys):
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(SystemExit, match="1"):
        export.main(arguments)
    assert sentence in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--format=npz", "--output={there}/file/net.npz"], "--output cannot be written, as"),
        (["--format=onnx", "--output={there}/net.onnx", "--names=released_lrfr_resnet"], "is about tensors with names"),
        (["--format=onnx", "--output={there}/net.onnx"], "onnx needs the extra 'export'"),
        (["--format=npz", "--output={there}/net.npz", "--checkpoint={there}/nowhere"], "nowhere is no checkpoint"),
        (["--format=npz", "--output={there}/net.npz", "--checkpoint={there}/file"], "is an export itself"),
    ],
)
def test_it_is_told_before_the_model_is_loaded(folder, tmp_path, monkeypatch, capsys, more, sentence):
    (tmp_path / "file").touch()
    monkeypatch.setattr(export, "open_model", lambda path: pytest.fail("the model was loaded"))
    monkeypatch.setattr(export, "NEEDS", {"onnx": ("nosuch",)})
    monkeypatch.setattr(formats, "NO_EXTRA", "onnx needs the extra 'export'")
    arguments = [argument.format(there=tmp_path) for argument in more]
    if not any(argument.startswith("--checkpoint") for argument in arguments):
        arguments.append(f"--checkpoint={folder}")
    refused(arguments, sentence, tmp_path, capsys)


def test_the_folder_is_made(folder, tmp_path, capsys):
    output = tmp_path / "new/net.npz"
    export.main(["--checkpoint", str(folder), "--format", "npz", "--output", str(output)])
    assert output.exists()


def test_what_is_there_stays(folder, tmp_path, capsys):
    output = tmp_path / "net.npz"
    arguments = ["--checkpoint", str(folder), "--format", "npz", "--output", str(output)]
    output.write_text("mine")
    refused(arguments, f"{output} is there already", tmp_path, capsys)
    assert output.read_text() == "mine"
    output.rename(tmp_path / "net.npz.card.json")
    refused(arguments, "net.npz.card.json is there already", tmp_path, capsys)


def test_a_card_that_cannot_be_written_leaves_no_file(folder, tmp_path, capsys, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(model_card.paths, "write_text", fail)
    arguments = ["--checkpoint", str(folder), "--format", "npz", "--output", str(tmp_path / "net.npz")]
    refused(arguments, "net.npz.card.json cannot be written: disk full", tmp_path, capsys)


def test_wrong_use(folder, tmp_path, capsys, monkeypatch):
    shared = ["--checkpoint", str(folder), "--format", "onnx"]
    refused([*shared, "--output", str(tmp_path / "net.pb")], "net.pb is no exported model", tmp_path, capsys)
    refused([*shared, "--output", str(tmp_path / "net.npz")], "must end in .onnx", tmp_path, capsys)
    names = ["--names", "insightface_torch_iresnet", "--output", str(tmp_path / "net.safetensors")]
    wrong = ["--checkpoint", str(folder), "--format", "safetensors", *names]
    refused(wrong, "holds iresnet18 or iresnet34 or iresnet50 or iresnet100, and no resnet10", tmp_path, capsys)
    call(folder, tmp_path, "npz")
    again = ["--checkpoint", str(tmp_path / "net.npz"), *shared[2:], "--output", str(tmp_path / "net.onnx")]
    refused(again, "net.npz is an export itself", tmp_path, capsys)


def test_a_network_that_onnx_cannot_hold(tiny_checkpoint, tmp_path, capsys):
    arguments = ["--checkpoint", str(tiny_checkpoint), "--format", "onnx", "--output", str(tmp_path / "net.onnx")]
    refused(arguments, "outside of a known layer: no export", tmp_path, capsys)


UNEQUAL = "the exported model is not the one of"


@pytest.mark.parametrize(
    ("damage", "limit", "sentence"),
    [
        (lambda x: x * 1.01, (np.inf, 1e-3), UNEQUAL),
        (lambda x: x + np.linspace(0, 0.1, x.size, dtype=x.dtype), (1e-5, np.inf), UNEQUAL),
        (lambda x: x * np.nan, (np.inf, np.inf), "not finite"),
    ],
)
def test_an_unequal_file_is_not_kept(folder, tmp_path, capsys, monkeypatch, damage, limit, sentence):
    """By its lengths or by its directions: the other limit is lifted."""
    assert export.MOST["float32"] == (1e-5, 1e-3)
    monkeypatch.setitem(export.MOST, "float32", limit)

    def wrong(variables, model, names):
        neck = variables["params"]["neck"]
        last = {**neck["bn2"], "scale": damage(np.asarray(neck["bn2"]["scale"]))}
        return right({**variables, "params": {**variables["params"], "neck": {**neck, "bn2": last}}}, model, names)

    right = formats.FORMATS["npz"].serialize
    monkeypatch.setitem(export.FORMATS, "npz", formats.FORMATS["npz"]._replace(serialize=wrong))
    arguments = ["--checkpoint", str(folder), "--format", "npz", "--output", str(tmp_path / "net.npz")]
    refused(arguments, sentence, tmp_path, capsys)


@pytest.fixture(scope="module")
def mobile(tmp_path_factory):
    """A checkpoint of a network that ONNX can hold."""
    folder = tmp_path_factory.mktemp("mobile") / "model"
    model = networks.arguments("mobilefacenet", embedding_size=16)
    metadata = {"step": 7, "model": model, "degradation_rounding": "none", "evals": {}, "history": []}
    checkpoint.save_backbone(folder, networks.variables_of(model), metadata)
    return folder


@pytest.mark.parametrize("opset", [11, 17, 21])
def test_another_operator_set(mobile, tmp_path, opset):
    output = tmp_path / "net.onnx"
    export.main(["--checkpoint", str(mobile), "--format", "onnx", "--output", str(output), "--opset", str(opset)])
    made = onnx.load_model(output)
    assert [one.version for one in made.opset_import] == [opset]
    assert made.ir_version == {11: 6, 17: 8, 21: 10}[opset]
    assert made.producer_name == "lrfr_jax"
    assert model_card.read(output, weights=digest_of(output)).history[-1]["opset"] == opset


@pytest.mark.parametrize(
    ("precision", "share", "types"),
    [
        ("float16", 0.7, {onnx.TensorProto.FLOAT16}),
        ("int8_weights", 0.6, {onnx.TensorProto.INT8, onnx.TensorProto.FLOAT}),
    ],
)
def test_fewer_bits(mobile, tmp_path, precision, share, types):
    sizes = {}
    for bits in ("float32", precision):
        output = tmp_path / f"{bits}.onnx"
        arguments = ["--checkpoint", str(mobile), "--format", "onnx", "--precision", bits]
        export.main([*arguments, "--output", str(output)])
        sizes[bits] = output.stat().st_size
    assert sizes[precision] < share * sizes["float32"]
    made = onnx.load_model(output)
    assert {tensor.data_type for tensor in made.graph.initializer} == types
    ends = (*made.graph.input, *made.graph.output)
    assert {end.type.tensor_type.elem_type for end in ends} == {onnx.TensorProto.FLOAT}
    assert model_card.read(output, weights=digest_of(output)).history[-1]["precision"] == precision
    faces = np.random.default_rng(0).integers(0, 256, (2, 112, 112, 3), dtype=np.uint8)
    features = lrfr_jax.Embedder.load(output).embed(list(faces))[0]
    assert features.shape == (2, 16)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--format=npz", "--opset=11"], "--opset is about ONNX files: leave it out, or choose --format onnx"),
        (["--format=npz", "--precision=float16"], "--precision is about ONNX files"),
        (
            ["--format=onnx", "--opset=11", "--precision=int8_weights"],
            "need an operator set of 13 or newer: raise --opset",
        ),
        (["--format=onnx", "--opset=5"], "cannot write this network in opset 5"),
        (["--format=onnx", "--opset=1000"], "cannot write this network in opset 1000"),
    ],
)
def test_wrong_use_of_what_is_onnxs(mobile, tmp_path, capsys, options, sentence):
    output = tmp_path / f"net.{options[0].rpartition('=')[2]}"
    refused([f"--checkpoint={mobile}", f"--output={output}", *options], sentence, tmp_path, capsys)
