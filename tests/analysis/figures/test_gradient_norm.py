import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrfr_jax import image_ops
from lrfr_jax.analysis.figures import gradient_norm, models_and_faces
from lrfr_jax.analysis.figures.gradient_meter import make_meter
from lrfr_jax.checkpoints import checkpoint
from tests.evals.made_up_sets import TinyBackbone, variables

RNG = np.random.default_rng(7)
SETTINGS = {"sizes": (14, 112), "rounding": "uint8", "distance_weight": 3.0}


def unit(x):
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def expected(loss, batch_norm, weights, centers, images, labels, resolution):
    """Both norms by a loss written out; margin logits are 2 cosines, the distance is half the squared one."""
    low = images if resolution == 112 else image_ops.degrade(images, jnp.full(8, 14), sizes=(14,), rounding="uint8")

    def features(params, pixels):
        everything = {**weights, "params": params}
        pixels = image_ops.normalize(pixels)
        if batch_norm == "running":
            return TinyBackbone().apply(everything, pixels, train=False)
        return TinyBackbone().apply(everything, pixels, train=True, mutable=["batch_stats"])[0]

    def classification(x):
        logits = 2 * unit(x) @ unit(centers).T
        return jnp.mean(jax.nn.logsumexp(logits, axis=1) - logits[jnp.arange(8), labels])

    def value(params):
        hr, lr = features(params, images), features(params, low)
        distance = jnp.mean(jnp.sum((unit(hr) - unit(lr)) ** 2, axis=1)) / 2
        both = 3 * distance + classification(hr) / 2 + classification(lr) / 2
        return {"classification": classification(lr), "distance": distance, "both": both}[loss]

    leaves = jax.tree.leaves(jax.grad(value)(weights["params"]))
    norms = [float(jnp.sqrt(jnp.sum(leaf**2))) for leaf in leaves]
    return np.array([np.linalg.norm(norms), np.sum(norms)])


@pytest.mark.parametrize("batch_norm", ["running", "batch"])
@pytest.mark.parametrize("loss", ["classification", "distance", "both"])
def test_meter(runs, loss, batch_norm):
    images = jnp.asarray(RNG.integers(0, 256, (8, 112, 112, 3)), jnp.uint8)
    labels = RNG.integers(0, 6, 8)
    centers = checkpoint.load_class_centers(runs / "one" / "checkpoints" / "10")
    meter = make_meter(
        {"backbone": "tiny", "dropout": 0.4},
        loss=loss,
        batch_norm=batch_norm,
        scale=2,
        target_logit=lambda cosine: 2 * cosine,
        pair_distance=lambda x, y: jnp.mean(jnp.sum((x - y) ** 2, axis=1)) / 2,
        **SETTINGS,
    )
    for resolution in (14, 112):
        made = meter(variables(), centers, images, labels, np.full(8, resolution, np.int32))
        wanted = expected(loss, batch_norm, variables(), centers, images, labels, resolution)
        np.testing.assert_allclose(made, wanted, rtol=1e-3, atol=1e-6)
        assert (wanted[0] < 1e-6) == (loss == "distance" and resolution == 112)


def test_mean_centers():
    embeddings = RNG.normal(size=(5, 3))
    centers, rows = gradient_norm.mean_centers(embeddings, np.array([7, 2, 7, 9, 2]))
    np.testing.assert_allclose(centers[0], embeddings[[1, 4]].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(centers[1], embeddings[[0, 2]].mean(axis=0), rtol=1e-6)
    assert rows.tolist() == [1, 0, 1, 2, 0]


def test_command_uses_the_classifier_or_says_that_there_is_none(command, runs, generated_data):
    options = ["--set", "generated_train", "--images", "40", "--resolutions", "14,112", "--norm", "sum"]
    data, figure = command("gradient_norm", *options, checkpoints="one,bare")
    assert data["has_own_centers"].tolist() == [True, False]
    assert data["global"].shape == data["sum"].shape == (2, 2, 2)  # two full batches of 16
    assert (data["sum"] > data["global"]).all()
    panel = figure.axes[0]
    assert panel.get_ylabel() == "sum of the gradient's norms"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["one", "bare (centers: mean embeddings)"]
    for line, values in zip(panel.lines, data["sum"], strict=True):
        np.testing.assert_allclose(line.get_ydata(), values.mean(axis=1))
    faces = models_and_faces.choose_faces(generated_data, "generated_train", num_images=40, seed=0)
    images = models_and_faces.decode_faces(faces)[:16]
    meter = make_meter(
        {"backbone": "tiny"},
        loss="classification",
        batch_norm="running",
        scale=48,
        target_logit=lambda cosine: 48 * (cosine - 0.4),
        pair_distance=lambda x, y: 0.0,
        **SETTINGS,
    )
    (model,) = models_and_faces.load_models(str(runs / "one"), None)
    centers = checkpoint.load_class_centers(model.path)
    by_hand = meter(model.variables, centers, images, faces.labels[:16], np.full(16, 14, np.int32))
    np.testing.assert_allclose(data["sum"][0, 1, 0], by_hand[1], rtol=1e-4)


def test_mean_embeddings_can_be_asked_for(command):
    options = ["--set", "generated_train", "--images", "16", "--resolutions", "14", "--centers", "mean_embedding"]
    data, _ = command("gradient_norm", *options, checkpoints="one")
    assert data["has_own_centers"].tolist() == [False]


def test_identities_are_needed_unless_for_the_distance(command, capsys):
    options = ["--set", "generated_test", "--images", "16", "--resolutions", "14,112"]
    data, _ = command("gradient_norm", *options, "--loss", "distance")
    assert (data["global"][:, 0] < 1e-5).all()
    assert (data["global"][:, 1] > 1e-5).all()
    with pytest.raises(SystemExit):
        command("gradient_norm", *options)
    assert "--loss classification needs identities, generated_test has none" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command("gradient_norm", *options, "--loss", "distance", "--distance", "l2")
    assert "set p to 2" in capsys.readouterr().err
