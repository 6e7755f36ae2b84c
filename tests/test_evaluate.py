import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrfr_jax import checkpoint, evaluate
from lrfr_jax.data import builders, records
from lrfr_jax.errors import UserError

RNG = np.random.default_rng(1)
OWN = {"protocol": "insightface", "resolutions": [14], "fars": [0.1]}


class TinyBackbone(nn.Module):
    @nn.compact
    def __call__(self, images, train):
        pooled = nn.avg_pool(images, (14, 14), (14, 14)).reshape(len(images), -1)
        return nn.BatchNorm(use_running_average=not train)(nn.Dense(16)(pooled))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    images = np.repeat(RNG.integers(0, 200, (20, 112, 112, 3), np.uint8), 2, axis=0)
    images += RNG.integers(0, 50, images.shape, np.uint8)
    same = np.arange(40).reshape(20, 2)
    for name in ("one", "two"):
        builders.write_verification_set(
            str(folder),
            name,
            images=((records.encode_image(image, quality=95), f"{i}.jpg") for i, image in enumerate(images)),
            num_images=40,
            pairs=np.concatenate([same, np.roll(same.ravel(), 1).reshape(20, 2)]),
            is_same=np.repeat([True, False], 20),
            fold=np.arange(40) % 2,
            num_shards=1,
            arguments={},
            notes={},
        )
    return str(folder)


@pytest.fixture
def workdir(tmp_path, monkeypatch):
    """A run with two checkpoints, whose network is tiny but saved and read as every other."""
    monkeypatch.setattr(evaluate.models, "create_backbone", lambda backbone: {"tiny": TinyBackbone()}[backbone])
    backbone = dict(TinyBackbone().init(jax.random.key(0), jnp.zeros((1, 112, 112, 3)), train=False))
    manager = checkpoint.create_manager(tmp_path / "run", keep=2)
    for step in (5, 10):
        metadata = {"step": step, "model": {"backbone": "tiny"}, "evals": {"one": OWN}, "degradation_rounding": "uint8"}
        checkpoint.save(manager, step, backbone=backbone, training={"x": jnp.zeros(())}, metadata=metadata)
    manager.close()
    return tmp_path / "run"


def test_newest_checkpoint_by_the_runs_own_settings(workdir, data_dir, capsys):
    evaluate.main(["--workdir", str(workdir), "--data_dir", data_dir])
    made = json.loads((workdir / "eval" / "10.json").read_text())
    assert (made["step"], list(made["sets"])) == (10, ["one"])
    assert made["checkpoint"].endswith("checkpoints/10")
    assert made["sets"]["one"]["protocol"] == "insightface"
    modes = [(result["mode"], result["resolution"]) for result in made["sets"]["one"]["results"]]
    assert modes == [("hr_hr", 112), ("hr_lr", 14), ("lr_lr", 14)]
    drawn = {path.name for path in (workdir / "eval" / "10").iterdir()}
    assert drawn == {"accuracy_by_resolution.png", "one_roc_hr_lr.png", "one_roc_lr_lr.png", "one_similarities.png"}
    printed = capsys.readouterr().out
    for part in ("HR-LR", "112 px", "10.json", str(workdir / "eval" / "10")):
        assert part in printed


def test_options_change_the_runs_settings(workdir, data_dir, tmp_path):
    options = [
        "--sets",
        "one,two",
        "--resolutions",
        "20",
        "--protocol",
        "released",
        "--fars",
        "0.2",
        "--batch_size",
        "16",
    ]
    places = ["--output", str(tmp_path / "x" / "e.json"), "--plots", str(tmp_path / "figures")]
    path = str(workdir / "checkpoints" / "5")
    evaluate.main(["--checkpoint", path, "--data_dir", data_dir, *options, *places])
    made = json.loads((tmp_path / "x" / "e.json").read_text())
    assert (made["step"], list(made["sets"])) == (5, ["one", "two"])
    for set_report in made["sets"].values():
        assert set_report["protocol"] == "released"
        assert [result["resolution"] for result in set_report["results"]] == [112, 20, 20]
        assert list(set_report["results"][0]["tar"]) == ["0.2"]
    assert len(list((tmp_path / "figures").iterdir())) == 7
    assert not (workdir / "eval").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--sets", "two"], r"two is not among the run's own sets \(one\): give --fars, --protocol, --resolutions"),
        (["--sets", "absent", "--resolutions", "7", "--protocol", "released", "--fars", "0.1"], "absent"),
        (["--resolutions", "300"], r"must be whole pixels in 1\.\.112"),
        (["--batch_size", "12"], "--batch_size=12 cannot be split evenly over 8 devices"),
    ],
)
def test_bad_options_are_told(workdir, data_dir, options, sentence):
    with pytest.raises(UserError, match=sentence):
        evaluate.main(["--workdir", str(workdir), "--data_dir", data_dir, *options])
    assert not (workdir / "eval").exists()


def test_a_run_without_checkpoint_is_told(tmp_path, data_dir):
    with pytest.raises(UserError, match="holds no checkpoint"):
        evaluate.main(["--workdir", str(tmp_path), "--data_dir", data_dir])


def test_command_line(capsys):
    for argv in ([], ["--workdir", "a", "--checkpoint", "b", "--data_dir", "c"], ["--workdir", "a", "--data_dir", "c"]):
        extra = ["--resolutions", "x"] if len(argv) == 4 else []
        with pytest.raises(SystemExit):
            evaluate.main([*argv, *extra])
    assert "comma-separated int" in capsys.readouterr().err
