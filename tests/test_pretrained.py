"""The command: a file in, a checkpoint out that says what it is; or one sentence, and nothing written."""

import dataclasses
import hashlib
import io
import json

import jax
import numpy as np
import onnx
import onnxruntime
import pytest

from lrfr_jax import export, models, pretrained
from lrfr_jax.checkpoints import checkpoint, lineage, model_card
from lrfr_jax.exports import matching, onnx_file, onnx_graph
from lrfr_jax.trained.embedder import Embedder
from lrfr_jax.weights.layouts import LAYOUTS
from tests.evals.test_thresholds import HELD
from tests.exports import networks, torch_onnx
from tests.weights import reference_networks as made
from tests.weights import torch_writer


@pytest.fixture(autouse=True)
def few_networks(monkeypatch):
    """To look for the one that a file holds, all of a layout are traced."""
    row = dataclasses.replace(LAYOUTS["adaface_ir"], backbones=("iresnet18", "iresnet34"))
    monkeypatch.setitem(LAYOUTS, "adaface_ir", row)


@pytest.fixture(scope="module")
def state():
    net = made.SlowNet()
    made.adaface_ir(net, np.zeros((1, 3, 112, 112)), sizes=(2, 2, 2, 2), channels=8, size=16, before="model.")
    return net.state | {"head.kernel": np.ones((16, 3), np.float32)}


def run(tmp_path, content, *options):
    (tmp_path / "weights.ckpt").write_bytes(content)
    how = ["--source", str(tmp_path / "weights.ckpt"), "--backbone", "iresnet18", "--out", str(tmp_path / "out")]
    pretrained.main([*how, *options])
    return checkpoint.load_backbone(tmp_path / "out")


def test_the_checkpoint_says_what_it_is(tmp_path, state, capsys):
    content = torch_writer.write_zip({"epoch": 3, "state_dict": state})
    variables, metadata = run(tmp_path, content)
    model = {"backbone": "iresnet18", "width": 0.125, "embedding_size": 16, "dropout": 0.0, "dtype": "float32"}
    [history] = metadata.pop("history")
    facts = {"file": "weights.ckpt", "sha256": hashlib.sha256(content).hexdigest(), "layout": "adaface_ir"}
    assert {key: history[key] for key in ("kind", *facts, "licence")} == {"kind": "import", **facts, "licence": ""}
    assert "Imported from weights.ckpt (layout adaface_ir" in (tmp_path / "out" / "card.md").read_text()
    assert metadata == {
        "step": 0,
        "model": model | {"input": {"order": "bgr", "mean": 127.5, "scale": 127.5, "columns": 112}},
        "degradation_rounding": "uint8",
        "evals": {},
    }
    net = models.create_backbone(**metadata["model"])
    wanted = jax.eval_shape(lambda x: net.init(jax.random.key(0), x, train=False), np.zeros((1, 112, 112, 3), "f4"))
    jax.tree.map(lambda leaf, ours: np.testing.assert_equal(leaf.shape, ours.shape), wanted, variables)
    counters = sum(name.endswith("num_batches_tracked") for name in state)
    printed = capsys.readouterr().out
    for line in (
        "of width 0.125, ",
        "embedding of 16, from layout adaface_ir",
        "its input: bgr, (pixel - 127.5) / 127.5, the middle 112 columns",
        f"left aside: {counters} counters of batches",
        "left aside: head.kernel\n",
        f"lrfr_jax.evaluate --checkpoint {tmp_path / 'out'} --data_dir",
        "finetune.py:dataset=NAME,backbone=iresnet18,embedding_size=16 "
        f"--config.init_from={tmp_path / 'out'} --config.model.input.order=bgr --config.model.width=0.125 --workdir",
    ):
        assert line in printed


def test_options_replace_the_layout_and_its_convention(tmp_path, state):
    file = io.BytesIO()
    np.savez(file, **state)
    _, metadata = run(tmp_path, file.getvalue(), "--layout", "cvlface_ir", "--mean", "100", "--scale", "64")
    assert metadata["history"][0]["layout"] == "cvlface_ir"
    assert metadata["model"]["input"] == {"order": "rgb", "mean": 100.0, "scale": 64.0, "columns": 112}


@pytest.mark.parametrize(
    ("change", "options", "sentence"),
    [
        ({"model.body.1.res_layer.4.weight": np.ones((2, 2, 3, 3), np.float32)}, (), "res_layer.4.weight float32[2"),
        ({}, ("--backbone", "iresnet34"), "weights.ckpt holds iresnet18, no iresnet34: leave --backbone out"),
        ({"model.body.0.res_layer.1.weight": torch_writer.Call("os system", ("touch pwned",))}, (), "os"),
    ],
)
def test_failures_write_nothing(tmp_path, state, change, options, sentence, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        run(tmp_path, torch_writer.write_zip({"state_dict": state | change}), *options)
    assert stopped.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert sentence in error
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["weights.ckpt"]


def test_a_folder_is_never_overwritten(tmp_path, state, capsys):
    (tmp_path / "out").mkdir()
    with pytest.raises(SystemExit):
        run(tmp_path, b"never read")
    assert "out is there already" in capsys.readouterr().err


@pytest.fixture(scope="module")
def exported(tmp_path_factory, resnet10):
    """(the checkpoint, its variables, a function that exports it)."""
    model = networks.arguments(resnet10, order="bgr", scale=128.0) | {"width": 0.17}
    variables, folder = networks.variables_of(model), tmp_path_factory.mktemp("exported")
    history = [lineage.entry("import", file="a.pth", sha256="0f", layout="released_lrfr_resnet", licence="free")]
    metadata = {"step": 30, "model": model, "degradation_rounding": "none", "history": history}
    checkpoint.save_backbone(folder / "net", variables, metadata)
    card = model_card.of_checkpoint(folder / "net", variables=variables, metadata=metadata)
    model_card.write(folder / "net", dataclasses.replace(card, thresholds=HELD))

    def make(name, *more):
        format = name.rpartition(".")[2]
        export.main(["--checkpoint", str(folder / "net"), "--format", format, "--output", str(folder / name), *more])
        return folder / name

    return metadata, variables, make


@pytest.mark.parametrize("name", ["own.safetensors", "own.npz"])
def test_what_we_export_we_import(exported, name, tmp_path, capsys):
    metadata, variables, make = exported
    source, out = make(name), tmp_path / "out"
    pretrained.main(["--source", str(source), "--out", str(out), "--licence", "mine"])
    found, told = checkpoint.load_backbone(out)
    jax.tree.map(np.testing.assert_array_equal, found, jax.tree.map(np.asarray, variables))
    assert {key: told[key] for key in ("step", "model", "degradation_rounding")} == {
        key: metadata[key] for key in ("step", "model", "degradation_rounding")
    }
    assert [entry["kind"] for entry in told["history"]] == ["import", "export", "import"]
    assert (told["history"][0]["file"], told["history"][2]["layout"]) == ("a.pth", "ours")
    assert Embedder.load(out).thresholds() == HELD
    assert "of width 0.17, " in capsys.readouterr().out


def test_what_we_export_under_their_names_keeps_its_facts(exported, tmp_path, monkeypatch, resnet10):
    """Its tensors are what their network wants, the rest is known from the card."""
    metadata, variables, make = exported
    row = LAYOUTS["released_lrfr_resnet"]
    monkeypatch.setitem(LAYOUTS, "released_lrfr_resnet", dataclasses.replace(row, backbones=(resnet10,)))
    source, out = make("theirs.npz", "--names", "released_lrfr_resnet"), tmp_path / "out"
    pretrained.main(["--source", str(source), "--backbone", resnet10, "--out", str(out)])
    found, told = checkpoint.load_backbone(out)
    assert told["model"] == metadata["model"] | {"input": networks.PLAIN}
    assert told["degradation_rounding"] == "none"
    pixels = networks.images(2)
    networks.assert_same(
        networks.features(told["model"], found, pixels), networks.features(metadata["model"], variables, pixels)
    )


def refused(arguments, sentence, tmp_path, capsys):
    with pytest.raises(SystemExit, match="1"):
        pretrained.main([*arguments, "--out", str(tmp_path / "out")])
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_wrong_use_of_exports(exported, tmp_path, capsys):
    source = exported[2]("again.npz")
    said = "is not what " + str(source) + ".card.json says of " + str(source)
    for option, value in (("backbone", "iresnet18"), ("layout", "adaface_ir"), ("order", "rgb")):
        sentence = f"--{option} {value} {said}: leave --{option} out"
        refused(["--source", str(source), f"--{option}", value], sentence, tmp_path, capsys)
    (tmp_path / "net.stablehlo").write_bytes(b"any")
    refused(["--source", str(tmp_path / "net.stablehlo")], "is a program, whose weights cannot", tmp_path, capsys)
    refused(["--source", str(tmp_path / "no.npz")], "no.npz is no file", tmp_path, capsys)
    alone = tmp_path / "alone.npz"
    alone.write_bytes(source.read_bytes())
    refused(["--source", str(alone)], f"has our names but no card {alone}.card.json beside it", tmp_path, capsys)
    card = json.loads(model_card.path_of(source).read_text())
    card["weights"] = hashlib.sha256(alone.read_bytes()).hexdigest()
    for change, sentence in (
        ({"model": card["model"] | {"width": "0.17"}}, "has model.width='0.17', which must be a number"),
        ({"history": card["history"][:1]}, "must end its history with the export"),
        ({"model": card["model"] | {"embedding_size": 25}}, "alone.npz does not hold the resnet10 of its card"),
    ):
        model_card.path_of(alone).write_text(json.dumps(card | change))
        refused(["--source", str(alone)], sentence, tmp_path, capsys)


def test_the_names_tell_the_backbone(tmp_path, state, capsys):
    (tmp_path / "ada.ckpt").write_bytes(torch_writer.write_zip(state))
    pretrained.main(["--source", str(tmp_path / "ada.ckpt"), "--out", str(tmp_path / "net")])
    assert checkpoint.load_metadata(tmp_path / "net")["model"]["backbone"] == "iresnet18"
    capsys.readouterr()
    more = {"model.body.8.res_layer.0.bias": np.ones(64, np.float32)}
    (tmp_path / "ada.ckpt").write_bytes(torch_writer.write_zip(state | more))
    sentence = "is of layout adaface_ir, but of none of its networks: name the one that it should be with --backbone"
    refused(["--source", str(tmp_path / "ada.ckpt")], sentence, tmp_path, capsys)


def test_an_onnx_file_becomes_a_checkpoint(tmp_path, capsys):
    source, out = tmp_path / "w600k.onnx", tmp_path / "out"
    onnx.save_model(torch_onnx.filled("iresnet18_script"), source)
    pretrained.main(["--source", str(source), "--order", "bgr", "--out", str(out)])
    said = capsys.readouterr().out
    assert "iresnet18 of width 0.125" in said
    assert "embedding of 16, from layout onnx" in said
    variables, metadata = checkpoint.load_backbone(out)
    assert metadata["model"]["input"] == networks.PLAIN | {"order": "bgr"}
    assert metadata["history"][0]["layout"] == "onnx"
    made = matching.fit(onnx_graph.read_graph(source), source=source, backbone=None, convention={})
    jax.tree.map(np.testing.assert_array_equal, variables, made.variables)


def test_our_own_onnx_file_keeps_its_card(tmp_path):
    model = networks.arguments("mobilefacenet", embedding_size=16)
    variables = networks.variables_of(model)
    metadata = {"step": 7, "model": model, "degradation_rounding": "none", "evals": {}, "history": []}
    checkpoint.save_backbone(tmp_path / "model", variables, metadata)
    source = tmp_path / "net.onnx"
    export.main(["--checkpoint", str(tmp_path / "model"), "--format", "onnx", "--output", str(source)])
    pretrained.main(["--source", str(source), "--out", str(tmp_path / "back")])
    found, told = checkpoint.load_backbone(tmp_path / "back")
    assert (told["step"], told["degradation_rounding"]) == (7, "none")
    assert [entry["kind"] for entry in told["history"]] == ["export", "import"]
    assert {key: told["model"][key] for key in model} == model
    again = onnx_file.serialize(models.create_backbone(**told["model"]), found)
    pixels = networks.images(2).transpose(0, 3, 1, 2)
    before, after = (
        onnxruntime.InferenceSession(content).run(None, {"images": pixels})[0]
        for content in (source.read_bytes(), again)
    )
    networks.assert_same(after, before)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--layout", "adaface_ir"], "--layout adaface_ir is about names, and"),
        (["--columns", "96"], "--columns is what"),
        (["--backbone", "resnet18"], "cannot be read as resnet18, but as iresnet18, iresnet34"),
        (["--backbone", "iresnet34"], "1 groups, where iresnet34 has stage1/block2/conv1, a convolution of 8 x 8 x"),
    ],
)
def test_wrong_use_of_onnx_files(options, sentence, tmp_path, capsys):
    onnx.save_model(torch_onnx.filled("iresnet18_script"), tmp_path / "net.onnx")
    refused(["--source", str(tmp_path / "net.onnx"), *options], sentence, tmp_path, capsys)


def test_files_that_are_no_onnx(tmp_path, capsys):
    (tmp_path / "net.onnx").write_bytes(b"any")
    refused(["--source", str(tmp_path / "net.onnx")], "net.onnx is no ONNX file", tmp_path, capsys)
    content = torch_onnx.filled("iresnet18_script").SerializeToString()
    (tmp_path / "net.onnx").write_bytes(content[: len(content) // 2])
    refused(["--source", str(tmp_path / "net.onnx")], "is truncated or damaged: get it again", tmp_path, capsys)


def test_a_folder_whose_config_names_the_colors(tmp_path, state, capsys):
    """The names alone say RGB: CVLface's network that wants the other order."""
    folder = tmp_path / "cvlface"
    folder.mkdir()
    renamed = {name.replace("model.", "net.", 1): array for name, array in state.items()}
    (folder / "model.pt").write_bytes(torch_writer.write_zip(renamed))
    (folder / "model.yaml").write_text("color_space: 'BGR'")
    for out, options, order, said in (
        ("a", [], "bgr", f"its input: bgr by {folder / 'model.yaml'}, (pixel"),
        ("b", ["--order", "rgb"], "rgb", "its input: rgb, (pixel"),
    ):
        arguments = ["--source", str(folder), "--backbone", "iresnet18", *options, "--out", str(tmp_path / out)]
        pretrained.main(arguments)
        assert said in capsys.readouterr().out
        metadata = checkpoint.load_metadata(tmp_path / out)
        assert metadata["model"]["input"]["order"] == order
        assert metadata["history"][0]["file"] == "model.pt"
