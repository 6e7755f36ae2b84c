"""`lrfr_jax.adapt`: a checkpoint with statistics by resolution, that every command takes; bad calls leave nothing."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrfr_jax import adapt, evaluate, export, image_ops
from lrfr_jax.checkpoints import checkpoint, model_card
from lrfr_jax.errors import UserError
from lrfr_jax.models import statistics
from lrfr_jax.pictures import resize
from lrfr_jax.run import warm_start
from lrfr_jax.trained.embedder import Embedder
from lrfr_jax.trained.model import open_model
from tests.evals import made_up_sets

FACES = np.random.default_rng(3).integers(0, 256, (12, 112, 112, 3), np.uint8)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    made_up_sets.write(folder, "some", made_up_sets.verification())
    return str(folder)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    for number, face in enumerate(FACES):
        (folder / f"{number:02}.png").write_bytes(resize.encode_png(face))
    return folder


def call(model, output, *more):
    adapt.main(["--checkpoint", str(model), "--resolutions", "14,7", "--output", str(output), *map(str, more)])
    return output


@pytest.fixture(scope="module")
def adapted(tiny_checkpoint, images, tmp_path_factory):
    output = tmp_path_factory.mktemp("adapted") / "net"
    return call(tiny_checkpoint, output, "--images", images, "--num_images", 12, "--batch_size", 4)


def test_the_statistics_are_those_of_reduced_faces(tiny_checkpoint, adapted):
    before, variables = open_model(tiny_checkpoint).variables, open_model(adapted).variables
    assert statistics.sizes_of(variables) == (14, 7)
    for name in ("params", "batch_stats"):
        jax.tree.map(np.testing.assert_array_equal, before[name], variables[name])
    reduced = image_ops.degrade(jnp.asarray(FACES), jnp.full(12, 7), sizes=(7,), rounding="uint8")
    kernel, bias = (before["params"]["Dense_0"][name] for name in ("kernel", "bias"))
    pooled = np.asarray(image_ops.normalize(reduced)).reshape(12, 8, 14, 8, 14, 3).mean(axis=(2, 4)).reshape(12, -1)
    values = pooled @ np.asarray(kernel) + np.asarray(bias)
    found = variables["adapted"]["7"]["BatchNorm_0"]
    np.testing.assert_allclose(found["mean"], values.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(found["var"], values.var(axis=0), rtol=1e-2, atol=1e-5)


def test_faces_are_asked_with_the_statistics_of_their_size(tiny_checkpoint, adapted, images):
    plain, found = Embedder.load(tiny_checkpoint), Embedder.load(adapted)
    np.testing.assert_allclose(found.embed(FACES[:3]).vectors, plain.embed(FACES[:3]).vectors, atol=1e-5)
    assert not np.allclose(found.embed(FACES[:3], resolution=7).vectors, plain.embed(FACES[:3], resolution=7).vectors)
    assert found.digest != plain.digest
    mixed = found.embed(FACES[:3], resolution=[112, 7, 14]).vectors
    for place, size in enumerate((112, 7, 14)):
        np.testing.assert_allclose(mixed[place], found.embed(FACES[place], resolution=size).vectors[0], atol=1e-5)


def test_every_command_takes_it(adapted, data_dir, tmp_path):
    output = tmp_path / "e.json"
    common = ["--checkpoint", str(adapted), "--data_dir", data_dir, "--sets", "some", "--resolutions", "14,7"]
    evaluate.main([*common, "--output", str(output)])
    assert json.loads(output.read_text())["weights"] == open_model(adapted).weights
    model = checkpoint.load_metadata(adapted)["model"]
    warm_start.check(str(adapted), "random", model=model, begins=True)
    text = model_card.path_of(adapted).with_suffix(".md").read_text()
    assert "BatchNorm's statistics measured at 14, 7 px, on 12 images of faces" in text
    entry = checkpoint.load_metadata(adapted)["history"][-1]
    assert (entry["kind"], entry["resolutions"], entry["num_images"]) == ("adaptation", [14, 7], 12)


@pytest.mark.parametrize("size", [None, 112, 14])
def test_an_export_holds_the_statistics_of_one_resolution(tiny_checkpoint, adapted, tmp_path, size):
    file = tmp_path / "net.stablehlo"
    asked = ["--resolution", str(size)] if size else []
    export.main(["--checkpoint", str(adapted), "--format", "stablehlo", "--output", str(file), *asked])
    exported, live = Embedder.load(file), Embedder.load(adapted if size == 14 else tiny_checkpoint)
    wanted = live.embed(FACES[:3], resolution=14).vectors
    np.testing.assert_allclose(exported.embed(FACES[:3], resolution=14).vectors, wanted, atol=1e-4)
    history = json.loads(model_card.path_of(file).read_text())["history"][-1]
    assert history.get("resolution") == size


def test_a_prepared_set_gives_the_faces_and_sizes_add_up(adapted, data_dir, tmp_path):
    asked = ["--set", "some", "--data_dir", data_dir, "--num_images", 16, "--batch_size", 8]
    adapt.main(["--checkpoint", str(adapted), "--resolutions", "20,7", "--output", f"{tmp_path}/n", *map(str, asked)])
    before, after = open_model(adapted).variables["adapted"], open_model(tmp_path / "n").variables["adapted"]
    assert sorted(map(int, after)) == [7, 14, 20]
    jax.tree.map(np.testing.assert_array_equal, before["14"], after["14"])
    assert not np.allclose(before["7"]["BatchNorm_0"]["mean"], after["7"]["BatchNorm_0"]["mean"])
    entry = checkpoint.load_metadata(tmp_path / "n")["history"][-1]
    assert (entry["faces"], entry["num_images"]) == ("some", 16)
    assert entry["digest"]


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--images", "{images}", "--resolutions", "0"], "must be whole pixels in 1..112"),
        (["--set", "some"], "--set some needs --data_dir"),
        (["--images", "{images}", "--batch_size", "1"], "a batch takes 2 images or more"),
        (["--images", "{images}", "--batch_size", "16", "--num_images", "16"], "12 images are fewer than one batch"),
        (["--images", "{images}/none"], "none"),
        (["--set", "some", "--data_dir", "{data_dir}", "--resize"], "do nothing with --set"),
        (["--images", "{images}", "--output", "{images}"], "is there already"),
    ],
)
def test_bad_calls_are_told_and_leave_nothing(tiny_checkpoint, images, data_dir, tmp_path, capsys, more, sentence):
    more = [word.format(images=images, data_dir=data_dir) for word in more]
    with pytest.raises(SystemExit) as ended:
        call(tiny_checkpoint, tmp_path / "new", *more)
    assert ended.value.code == 1
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_an_export_of_a_plain_model_at_a_resolution_is_told(tiny_checkpoint, adapted, tmp_path, capsys):
    for model, size, sentence in (
        (tiny_checkpoint, "14", "has the same statistics at all resolutions"),
        (adapted, "20", "has statistics at 112, 14, 7 px, not at 20"),
    ):
        with pytest.raises(SystemExit):
            export.main(
                ["--checkpoint", str(model), "--format", "npz", "--output", f"{tmp_path}/a.npz", "--resolution", size]
            )
        assert sentence in capsys.readouterr().err
    with pytest.raises(UserError, match="no checkpoint"):
        checkpoint.load_metadata(tmp_path)
