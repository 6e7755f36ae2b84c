"""A run of a network without BatchNorm: saved, continued with the same dropout, opened, warm started, not adapted."""

import functools
import pathlib

import numpy as np
import pytest

from configs import common, quickstart
from lrfr_jax import adapt, models
from lrfr_jax.checkpoints import checkpoint
from lrfr_jax.models import transformer
from lrfr_jax.models.vit import FaceTransformer
from lrfr_jax.pictures import resize
from lrfr_jax.run import train
from lrfr_jax.trained.model import open_model


def test_a_face_transformer_is_trained_continued_and_used(generated_data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(transformer, "STAGES", 1)
    monkeypatch.setitem(models.BACKBONES, "vit_p8s8", functools.partial(FaceTransformer, patch=8, depth=1))
    config = quickstart.get_config("policy=none,batch_size=8,num_epochs=1")  # 48 images: 6 steps
    config.model.update({"backbone": "vit_p8s8", "width": 0.125, "embedding_size": 64, "dropout": 0.1})
    config.model.input = common.raw_input()
    config.optimizer.update({"schedule": "constant", "warmup_epochs": 0.0})
    config.update({"log_every_steps": 1, "checkpoint_every_steps": 2, "eval_every_steps": 0})
    config.evals = {}

    def run(name, **changes):
        changed = config.copy_and_resolve_references()
        changed.update_from_flattened_dict(changes)
        train.train(changed, workdir=tmp_path / name, data_dir=pathlib.Path(generated_data))
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        return [line for line in lines if "train/loss" in line]  # not that of a run's end

    whole = run("whole", num_epochs=2 / 3)
    run("parts", num_epochs=1 / 3)
    assert run("parts", num_epochs=2 / 3) == whole
    assert len(whole) == 4
    newest = checkpoint.newest(tmp_path / "whole")
    model = open_model(newest)
    assert not model.variables.get("batch_stats")
    warm = run("warm", num_epochs=1 / 6, **{"init_from": str(newest)})
    assert warm != whole
    faces = tmp_path / "faces"
    faces.mkdir()
    for name in ("one", "two"):
        (faces / f"{name}.png").write_bytes(resize.encode_png(np.zeros((112, 112, 3), np.uint8)))
    options = ["--checkpoint", newest, "--images", faces, "--resolutions", 7, "--num_images", 2, "--batch_size", 2]
    with pytest.raises(SystemExit):
        adapt.main([*map(str, options), "--output", str(tmp_path / "adapted")])
    assert "without BatchNorm" in capsys.readouterr().err
    assert all(np.isfinite(leaf).all() for leaf in model.variables["params"]["norm"].values())
