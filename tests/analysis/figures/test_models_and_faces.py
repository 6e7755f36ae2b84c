import jax.numpy as jnp
import numpy as np
import pytest

from lrfr_jax.analysis.figures import models_and_faces
from lrfr_jax.checkpoints import checkpoint
from lrfr_jax.data import face_sets, records
from lrfr_jax.errors import UserError
from lrfr_jax.image_ops import normalize
from tests.evals.made_up_sets import TinyBackbone


def test_runs_and_checkpoints_have_labels(runs):
    step = runs / "two" / "checkpoints" / "5"
    one, two = models_and_faces.load_models(f"{runs / 'one'},{step}", None)
    assert (one.label, one.path, one.workdir) == ("one", runs / "one" / "checkpoints" / "10", runs / "one")
    assert (two.label, two.path, two.workdir) == ("two", step, None)
    named = models_and_faces.load_models(f"{runs / 'one'},{runs / 'one'}", "first,second")
    assert [model.label for model in named] == ["first", "second"]
    for labels in (None, "a", "a,a"):
        with pytest.raises(UserError, match="must be 2 different names"):
            models_and_faces.load_models(f"{runs / 'one'},{runs / 'one'}", labels)
    with pytest.raises(UserError, match="--checkpoints , names none"):
        models_and_faces.load_models(",", None)
    with pytest.raises(UserError, match="is no checkpoint"):
        models_and_faces.load_models(str(runs), None)


@pytest.mark.parametrize(
    ("folders", "labels"),
    [
        (["pretrained/y1", "runs/maug"], ["y1", "maug"]),
        (["pretrained/y1/"], ["y1"]),
        (["pretrained/0"], ["pretrained/0"]),
        (["y1/checkpoint"], ["y1/checkpoint"]),
        (["study/hr/seed0", "study/maug/seed0"], ["hr/seed0", "maug/seed0"]),
        (["study/hr/seed0", "pretrained/y1"], ["hr/seed0", "y1"]),
        (["a/runs/maug", "b/runs/maug"], ["a/runs/maug", "b/runs/maug"]),
        (["runs/maug/checkpoints/120"], ["maug"]),
        (["runs/maug/checkpoints/120", "runs/maug/checkpoints/80"], ["maug/120", "maug/80"]),
        (["link"], ["link"]),  # which leads elsewhere
        (["runs/_old"], ["old"]),  # matplotlib leaves it out of a legend
    ],
)
def test_legends_say_which_model_it_is(folders, labels, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere/0")
    monkeypatch.setattr(checkpoint, "load_metadata", lambda path: {})
    monkeypatch.setattr(checkpoint, "load_backbone", lambda path: ({}, {}))
    found = models_and_faces.load_models(", ".join(folders), None)
    assert [model.label for model in found] == labels


def test_a_model_is_shown_in_one_line(tmp_path):
    metadata = {"model": {"backbone": "iresnet18", "width": 0.5, "embedding_size": 512}}
    model = models_and_faces.Model("y1", tmp_path, None, {"params": {"a": np.ones(3)}}, metadata)
    assert repr(model) == "<Model y1: iresnet18 of width 0.5, embedding of 512>"


def test_class_centers_are_read_where_there_are_some(runs):
    assert checkpoint.load_class_centers(runs / "one" / "checkpoints" / "10").shape == (6, 16)
    assert checkpoint.load_class_centers(runs / "bare" / "checkpoints" / "10") is None


def test_damaged_class_centers_are_told(tmp_path):
    (tmp_path / "5" / "training").mkdir(parents=True)
    with pytest.raises(UserError, match=r"classifier of .*5 cannot be read"):
        checkpoint.load_class_centers(tmp_path / "5")


def test_faces_are_chosen_by_the_seed(generated_data):
    def choose(name, count, seed=0):
        return models_and_faces.choose_faces(generated_data, name, num_images=count, seed=seed)

    faces = choose("generated_train", 20)
    source = face_sets.open_training_set(generated_data, "generated_train").source
    assert len(set(faces.records.tolist())) == 20
    assert faces.labels.tolist() == [source[i]["label"] for i in faces.records.tolist()]
    np.testing.assert_array_equal(faces.records, choose("generated_train", 20).records)
    assert faces.records.tolist() != choose("generated_train", 20, seed=1).records.tolist()
    whole = choose("generated_test", 10**6)
    assert whole.labels is None
    assert sorted(whole.records.tolist()) == list(range(len(whole.source)))
    with pytest.raises(UserError, match="no set named absent"):
        choose("absent", 3)


def test_embeddings_have_unit_length_and_their_places(runs, generated_data):
    (model,) = models_and_faces.load_models(str(runs / "one"), None)
    faces = models_and_faces.choose_faces(generated_data, "generated_test", num_images=5, seed=0)
    images = models_and_faces.decode_faces(faces)
    for image, record in zip(images, faces.records.tolist(), strict=True):
        np.testing.assert_array_equal(image, records.decode_image(faces.source[record]["image"]))
    made = models_and_faces.embed_faces(model, faces, resolutions=(112, 14), batch_size=4)
    expected = np.asarray(TinyBackbone().apply(model.variables, normalize(jnp.asarray(images)), train=False))
    np.testing.assert_allclose(made[0], expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(made, axis=-1), 1, atol=1e-6)
    assert np.abs(made[0] - made[1]).max() > 0.01


def test_damaged_images_are_told():
    faces = models_and_faces.Faces("drawn", [{"image": b"no"}], np.array([0]), None)
    with pytest.raises(UserError, match="record 0 of drawn is not an image"):
        models_and_faces.decode_faces(faces)
