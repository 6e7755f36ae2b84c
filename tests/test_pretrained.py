"""The command: a file in, a checkpoint out that says what it is; or one sentence, and nothing written."""

import hashlib
import io

import jax
import numpy as np
import pytest

from lrfr_jax import checkpoint, models, pretrained
from tests.weights import reference_networks as made
from tests.weights import torch_writer


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
        ({}, ("--backbone", "iresnet50"), "lacks"),
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
