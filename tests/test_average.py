"""`lrfr_jax.average`: a checkpoint between two, that every command takes; bad calls leave nothing."""

import json

import jax
import numpy as np
import pytest

from lrfr_jax import average
from lrfr_jax.checkpoints import checkpoint, lineage
from lrfr_jax.models import statistics
from lrfr_jax.trained.embedder import Embedder
from lrfr_jax.trained.model import open_model

IMPORT = {"kind": "import", "file": "net.pth", "sha256": "0", "layout": "ours", "licence": "free", "code": {}}
OTHER = {"kind": "import", "file": "other.pth", "sha256": "1", "layout": "ours", "licence": "", "code": {}}


def written(folder, source, *, add=0.0, history=(IMPORT,), **changes):
    """A checkpoint of the same network with other weights."""
    variables, metadata = checkpoint.load_backbone(source)
    variables = jax.tree.map(lambda leaf: np.asarray(leaf) + np.float32(add), variables)
    checkpoint.save_backbone(folder, variables, metadata | {"history": list(history)} | changes)
    return folder


@pytest.fixture(scope="module")
def models(tiny_checkpoint, tmp_path_factory):
    """A model, and what it started from."""
    folder = tmp_path_factory.mktemp("models")
    recipe = {"dataset": "d", "num_images": 1, "num_identities": 1, "licence": "mine", "recipe": {}}
    tuned = [IMPORT, lineage.entry("training", **recipe)]
    promise = {"compatible_with": {"digest": "d", "name": "n", "resolution": 112}}
    return (
        written(folder / "tuned", tiny_checkpoint, add=1.0, history=tuned, **promise),
        written(folder / "start", tiny_checkpoint),
    )


def call(output, *arguments):
    average.main([*map(str, arguments), "--output", str(output)])
    return open_model(output)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_weights_are_between_those_of_both(share, models, tmp_path, capsys):
    found = call(tmp_path / "between", *models, "--share", share)
    start = open_model(models[1]).variables
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y + (1 - share), rtol=1e-6, atol=1e-6), found.variables, start
    )
    assert f"{1 - share:g} of the weights of {models[0]} and {share:g} of" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("digest", "resolution", "expected"),
    [("d", 29, 29), ("e", 29, None), (None, None, None), ("the first", 112, 112)],
)
def test_it_fits_what_both_fit(digest, resolution, expected, models, tiny_checkpoint, tmp_path):
    """The first model of all but the last case fits 'd' below 112 px."""
    promise = {"digest": digest, "name": "n", "resolution": resolution} if digest else {}
    first = models[0]
    if digest == "the first":
        first, promise["digest"] = models[1], open_model(models[1]).weights
    other = written(tmp_path / "other", tiny_checkpoint, add=2.0, compatible_with=promise)
    found = call(tmp_path / "between", first, other).metadata
    assert found.get("compatible_with", {}).get("resolution") == expected


def test_its_history_has_both(models, tiny_checkpoint, tmp_path):
    other = written(tmp_path / "other", tiny_checkpoint, history=[IMPORT, OTHER])
    found = call(tmp_path / "between", models[0], other)
    kinds = [(entry["kind"], entry.get("licence")) for entry in found.metadata["history"]]
    assert kinds == [("import", ""), ("import", "free"), ("training", "mine"), ("average", None)]
    assert found.metadata["history"][-1]["digest"] == open_model(other).weights
    text = (tmp_path / "between/card.md").read_text()
    assert "Averaged: 0.5 of these weights and 0.5 of those of other" in text
    assert json.loads((tmp_path / "between/card.json").read_text())["results"] == {}
    Embedder.load(tmp_path / "between")


def test_statistics_by_resolution_are_left_out_and_that_is_said(models, tmp_path, capsys):
    variables, metadata = checkpoint.load_backbone(models[0])
    adapted = dict(variables) | {statistics.ADAPTED: {"14": variables["batch_stats"]}}
    checkpoint.save_backbone(tmp_path / "adapted", adapted, metadata)
    found = call(tmp_path / "between", tmp_path / "adapted", models[1])
    assert statistics.ADAPTED not in found.variables
    assert (
        "statistics by resolution fit other weights and are left out: run lrfr_jax.adapt again"
        in capsys.readouterr().out
    )


def test_bad_calls_leave_nothing(models, tiny_checkpoint, tmp_path, capsys):
    _, metadata = checkpoint.load_backbone(tiny_checkpoint)
    wider = written(tmp_path / "wider", tiny_checkpoint, model=metadata["model"] | {"width": 9.0})
    (tmp_path / "there").mkdir()
    (tmp_path / "net.onnx").write_bytes(b"")
    for arguments, sentence in (
        ([*models, "--share", "1.5"], "--share 1.5 must be from 0"),
        ([*models, "--share", "nan"], "--share nan must be from 0"),
        ([models[0], wider], "are two networks (model.width is "),
        ([models[0], tmp_path / "net.onnx"], "is an export, whose weights are part of a program: name a checkpoint"),
        ([models[0], tmp_path / "nosuch"], "nosuch"),
    ):
        with pytest.raises(SystemExit):
            call(tmp_path / "out", *arguments)
        assert sentence in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
    with pytest.raises(SystemExit):
        call(tmp_path / "there", *models)
    assert "there is there already" in capsys.readouterr().err
