"""Pairs by several checkpoints, and the three figures that show them."""

import numpy as np
import pytest

from lrfr_jax.analysis.figures import models_and_faces, resolution, roc
from lrfr_jax.data import face_sets

SET = ["--sets", "generated_test", "--fusion", "none"]


@pytest.fixture
def expected(runs, generated_data):
    """Cosines of all pairs by one model, the second image at a resolution."""
    test_set = face_sets.open_test_set(generated_data, "generated_test")
    everything = models_and_faces.choose_faces(generated_data, "generated_test", num_images=10**6, seed=0)
    order = np.argsort(everything.records)
    first, second = test_set.protocol.pairs.T

    def cosines(name, size, *, both=False):
        (model,) = models_and_faces.load_models(str(runs / name), None)
        full, low = models_and_faces.embed_faces(model, everything, resolutions=(112, size), batch_size=16)[:, order]
        return np.sum((low if both else full)[first] * low[second], axis=1)

    return cosines, test_set.protocol.is_same


def test_similarities(command, expected, runs):
    cosines, is_same = expected
    data, figure = command("similarities", *SET, "--resolutions", "112,14", "--labels", "a,b")
    assert data["labels"].tolist() == ["a", "b"]
    np.testing.assert_array_equal(data["generated_test/is_same"], is_same)
    for row, name in enumerate(("one", "two")):
        for size in (112, 14):
            np.testing.assert_allclose(
                data[f"generated_test/hr_lr_{size}/cosines"][row], cosines(name, size), atol=1e-5
            )
    titles = [panel.get_title().partition("\n")[0] for panel in figure.axes]
    assert titles == [f"generated_test, {r}, {label}" for r in ("112 px", "HR-LR 14 px") for label in "ab"]
    assert list((runs / "one" / "embeddings").rglob("14.npz"))


def test_both_images_are_reduced_in_mode_lr_lr(command, expected):
    data, _ = command("roc", *SET, "--resolutions", "14", "--mode", "lr_lr", checkpoints="one")
    np.testing.assert_allclose(data["generated_test/lr_lr_14/cosines"][0], expected[0]("one", 14, both=True), atol=1e-5)


def test_a_training_set_has_no_pairs(command, capsys):
    with pytest.raises(SystemExit):
        command("roc", "--sets", "generated_train")
    assert "is a training set where a test set is needed" in capsys.readouterr().err


def test_roc_has_a_panel_per_set(drawn, tmp_path):
    is_same = np.arange(40) % 2 == 0
    rng = np.random.default_rng(0)
    curves = {
        title: {label: (is_same * gap + rng.normal(size=40), is_same) for label in ("one", "two")}
        for title, gap in (("x", 10), ("y", 2), ("z", 0.5))
    }
    roc.plot(tmp_path / "a.png", curves)
    (figure,) = drawn
    assert [panel.get_title() for panel in figure.axes if panel.axison] == ["x", "y", "z"]
    assert [len(panel.lines) for panel in figure.axes] == [2, 2, 2, 0]
    assert figure.axes[0].get_ylim()[0] == 1.0 > figure.axes[1].get_ylim()[0] > figure.axes[2].get_ylim()[0] == 0.0
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["one", "two"]


def test_resolution(command, expected):
    sizes = [112, 28, 14, 7]
    options = ["--set", "generated_test", "--resolutions", "112,28,14,7", "--images", "10"]
    data, figure = command("resolution", *options, "--labels", "a,b")
    assert (data["resolutions"].tolist(), data["labels"].tolist()) == (sizes, ["a", "b"])
    assert data["accuracy"].shape == (2, 4)
    assert (data["interval"][..., 0] < data["accuracy"]).all()
    assert data["ssim"][0] == pytest.approx(1)
    assert (np.diff(data["ssim"]) < 0).all()
    panel, right = figure.axes
    assert panel.get_title() == "generated_test, LR-LR"
    for line, accuracy in zip(panel.lines[:2], data["accuracy"], strict=True):
        np.testing.assert_allclose(line.get_ydata(), 100 * accuracy)
    np.testing.assert_allclose(right.lines[0].get_ydata(), data["ssim"])
    assert [text.get_text() for text in panel.texts] == ["A", "B", "C"]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["a", "b", "SSIM (right axis)"]


def test_regions_outside_the_axis_are_not_drawn(drawn, tmp_path):
    sizes = np.array([112, 28, 24])
    values = np.full((1, 3), 0.9)
    shown = {"accuracy": values, "interval": np.stack([values - 0.1, values + 0.1], axis=-1), "ssim": values[0]}
    resolution.plot(tmp_path / "a.png", labels=["a"], resolutions=sizes, title="", **shown)
    assert [text.get_text() for text in drawn[0].axes[0].texts] == ["C"]


@pytest.mark.parametrize("kind", ["roc", "similarities"])
def test_no_set_is_told(command, capsys, kind):
    with pytest.raises(SystemExit, match="1"):
        command(kind, "--sets", ",", checkpoints="one")
    assert "error: --sets , names none" in capsys.readouterr().err
