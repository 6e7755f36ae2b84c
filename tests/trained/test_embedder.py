"""A trained model in use: what it says of images does not depend on how they come, or on how many."""

import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lrfr_jax
from lrfr_jax import image_ops
from lrfr_jax.errors import UserError
from lrfr_jax.exports import formats
from lrfr_jax.objective.train_step import TrainState
from lrfr_jax.pictures import resize
from lrfr_jax.pictures.faces import Faces, as_it_is, way_to_face
from lrfr_jax.trained.embedder import Embedder
from lrfr_jax.trained.model import open_model
from lrfr_jax.weights.conversion import Converted
from tests.evals.made_up_sets import TinyBackbone, variables

ROOT = pathlib.Path(__file__).resolve().parents[2]
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 112, 112, 3), np.uint8)


@pytest.fixture(scope="module")
def embedder(tiny_checkpoint):
    return Embedder.load(tiny_checkpoint, batch_size=20)


def by_hand(images):
    """Features of images at full resolution."""
    return np.asarray(TinyBackbone().apply(variables(), image_ops.normalize(jnp.asarray(images)), train=False))


def test_embeddings_are_the_networks_own(embedder):
    found = embedder.embed(IMAGES)
    upright, mirrored = by_hand(IMAGES), by_hand(IMAGES[:, :, ::-1])
    expected = (upright + mirrored) / np.linalg.norm(upright + mirrored, axis=1, keepdims=True)
    np.testing.assert_allclose(found.vectors, expected, atol=1e-5)
    np.testing.assert_allclose(found.norms, np.linalg.norm(upright, axis=1), rtol=1e-5)
    assert found.vectors.dtype == np.float32


@pytest.mark.parametrize(("fusion", "mirrors"), [("none", 0), ("unit_sum", 1), ("concat", 1)])
def test_fusions(tiny_checkpoint, fusion, mirrors):
    embedder = Embedder.load(tiny_checkpoint, fusion=fusion)
    vectors = embedder.embed(IMAGES[:3]).vectors
    raw = embedder.features(Faces(list(IMAGES[:3]), make_face=as_it_is), {112: np.arange(3)})[112]
    assert raw.shape == (3, 1 + mirrors, 16)  # no work for nothing
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    assert embedder.embed([]).vectors.shape == (0, vectors.shape[1])
    upright, mirrored = (by / np.linalg.norm(by, axis=1, keepdims=True) for by in map(by_hand, views(IMAGES[:3])))
    if fusion == "concat":
        np.testing.assert_allclose(vectors @ vectors.T, (upright @ upright.T + mirrored @ mirrored.T) / 2, atol=1e-5)
    else:
        total = upright + mirrors * mirrored
        np.testing.assert_allclose(vectors, total / np.linalg.norm(total, axis=1, keepdims=True), atol=1e-5)


def views(images):
    return images, images[:, :, ::-1]


def test_one_and_many_and_files_and_arrays_agree(embedder, tmp_path):
    every = embedder.embed(IMAGES)
    for number in (0, 1, 2, 3, 19, 21):
        part = embedder.embed(IMAGES[:number])
        np.testing.assert_allclose(part.vectors, every.vectors[:number], atol=1e-6)
        assert part.vectors.shape == (number, 16)
        assert part.norms.shape == (number,)
    for place in range(3):
        (tmp_path / f"{place}.png").write_bytes(resize.encode_png(IMAGES[place]))
    mixed = embedder.embed([tmp_path / "2.png", IMAGES[1], str(tmp_path / "0.png")])
    np.testing.assert_allclose(mixed.vectors, every.vectors[[2, 1, 0]], atol=1e-6)
    for one in (IMAGES[0], tmp_path / "0.png", str(tmp_path / "0.png")):
        np.testing.assert_allclose(embedder.embed(one).vectors, every.vectors[:1], atol=1e-6)


def test_each_image_at_its_own_resolution(embedder):
    sizes = [14, 112, 7, 14, 20]
    found = embedder.embed(IMAGES[:5], resolution=sizes)
    for row, size in enumerate(sizes):
        alone = embedder.embed(IMAGES[row], resolution=size)
        np.testing.assert_allclose(found.vectors[row], alone.vectors[0], atol=1e-6)
        reduced = np.asarray(
            image_ops.degrade(jnp.asarray(IMAGES[row : row + 1]), jnp.array([size]), sizes=(size,), rounding="uint8")
        )
        np.testing.assert_allclose(found.norms[row], np.linalg.norm(by_hand(reduced)), rtol=1e-4)
    assert np.abs(found.vectors - embedder.embed(IMAGES[:5]).vectors).max(axis=1)[[0, 2, 3, 4]].min() > 0.01


def test_other_sizes_need_to_be_resized(embedder, tmp_path):
    small = IMAGES[0][:50, :50]
    with pytest.raises(UserError, match="image 1 is 50x50, not 112x112"):
        embedder.embed([IMAGES[0], small])
    found = embedder.embed([IMAGES[0], small], resize=True)
    expected = embedder.embed([IMAGES[0], resize.to_face_size(small)])
    np.testing.assert_allclose(found.vectors, expected.vectors, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda e: e.embed(IMAGES[:1], resolution=0), r"resolutions \[0\] must be whole pixels in 1..112"),
        (lambda e: e.embed(IMAGES[:2], resolution=[112, 113]), "113"),
        (lambda e: e.embed(IMAGES[:2], resolution=np.array([14.2, 14.7])), r"\[14\.2, 14\.7\] must be whole pixels"),
        (lambda e: e.embed(IMAGES[:2], resolution=[14, 7, 7]), "resolution names 3 sizes for 2 images: give one for"),
        (lambda e: e.embed(IMAGES[:2], resolution=[14]), "resolution names 1 sizes for 2 images"),
        (lambda e: e.embed(IMAGES[:1], resize=True, align=True), "give resize or align, not both"),
        (lambda e: e.embed("nosuch.jpg"), "nosuch.jpg does not exist"),
        (lambda e: Embedder.load("nosuch"), "nosuch is no checkpoint"),
        (lambda e: Embedder.load(e.path, fusion="mean"), "fusion='mean' is unknown: choose one of none, sum"),
        (lambda e: Embedder.load(e.path, batch_size=0), "batch_size=0 must be at least 1"),
    ],
)
def test_bad_input_is_a_sentence(embedder, call, sentence):
    with pytest.raises(UserError, match=sentence):
        call(embedder)


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        ([IMAGES[0], "nosuch.jpg", "other.jpg"], "^nosuch.jpg does not exist; 1 more of 3 pictures"),
        (IMAGES[:5, :64, :64], "^image 0 is 64x64, not 112x112: align cuts .*; 4 more of 5"),
        (IMAGES[:5].astype(np.float32), r"^image 0 is an array of float32 \(112, 112, 3\), not of uint8"),
        (IMAGES[0, :, :, 0], r"^image 0 is an array of uint8 \(112, 112\), not"),
        ([IMAGES[0], IMAGES[1].astype(np.int64)], "^image 1 is an array of int64"),
    ],
)
def test_unusable_images_are_told_before_any_compute(embedder, images, sentence, monkeypatch):
    monkeypatch.setattr("lrfr_jax.evals.embed.stream_records", lambda **kwargs: pytest.fail("the network ran"))
    with pytest.raises(UserError, match=sentence):
        embedder.embed(images)


def test_faces_come_batch_by_batch_in_order(embedder):
    source = Faces([*IMAGES, IMAGES[0][:50]], make_face=as_it_is)
    source.look()
    parts = list(embedder.stream_faces(source, resolution=14))
    assert [len(places) for places, _ in parts] == [24, 16]
    np.testing.assert_array_equal(np.concatenate([places for places, _ in parts]), np.arange(40))  # without the last
    vectors, norms = (np.concatenate(field) for field in zip(*(part for _, part in parts), strict=True))
    every = embedder.embed(IMAGES, resolution=14)
    np.testing.assert_array_equal(vectors, every.vectors)
    np.testing.assert_array_equal(norms, every.norms)


def test_digests_tell_models_apart(tiny_checkpoint, embedder):
    again, other = Embedder.load(tiny_checkpoint, batch_size=3), Embedder.load(tiny_checkpoint, fusion="none")
    assert again.digest == embedder.digest != other.digest
    assert again.batch_sizes == (8, 8)  # multiples of eight devices
    assert embedder.batch_sizes == (8, 24)


def test_a_model_is_shown_in_one_line(embedder, tiny_checkpoint):
    """And not with all its weights, as records of arrays are."""
    said = f"<Embedder {tiny_checkpoint}: tiny of width 1, embedding of 16, fusion sum>"
    assert (repr(embedder), str(embedder)) == (said, said)
    assert repr(open_model(tiny_checkpoint)) == f"<Model {tiny_checkpoint}: tiny of width 1, embedding of 16>"
    arrays = {"params": {"a": np.ones(3), "b": np.ones(2)}}
    assert repr(formats.Opened(TinyBackbone(), arrays)) == "<Opened TinyBackbone with 2 arrays>"
    assert repr(Converted(embedder.metadata["model"], arrays, ["x"])) == (
        "<Converted tiny of width 1, embedding of 16; 1 tensors left aside>"
    )
    assert repr(TrainState(0, arrays, {}, {})) == "<TrainState of 3 arrays>"


def test_a_runs_folder_gives_its_newest_checkpoint(tiny_checkpoint, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/7").symlink_to(tiny_checkpoint)
    assert Embedder.load(tmp_path).path == tmp_path / "checkpoints/7"


def test_the_detector_finds_the_face(monkeypatch):
    monkeypatch.setattr("lrfr_jax.pictures.faces.Mtcnn", lambda: lambda photo: [])
    with pytest.raises(ValueError, match="shows no face"):
        way_to_face(resize=False, align=True)(IMAGES[0])


def test_import_is_lazy_and_light():
    assert lrfr_jax.Embedder is Embedder
    with pytest.raises(AttributeError, match="no attribute 'Embeder'"):
        lrfr_jax.Embeder  # noqa: B018
    light = "import sys, lrfr_jax; assert 'jax' not in sys.modules; lrfr_jax.Embedder; "
    light += "print({'tensorflow_datasets', 'grain', 'tensorflow', 'onnxruntime'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", light], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"


def test_all_devices_are_used(embedder):
    leaf = jax.tree.leaves(embedder.variables)[0]
    assert len(leaf.sharding.device_set) == jax.device_count()
