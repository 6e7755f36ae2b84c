"""The two maps of embeddings: t-SNE and PCA."""

import sys

import numpy as np
import pytest

from lrfr_jax.analysis.figures import maps, pca, tsne
from lrfr_jax.errors import UserError

RNG = np.random.default_rng(1)


def test_principal_plane_is_that_of_the_covariance():
    embeddings = RNG.normal(size=(3, 40, 5)) @ np.diag([5.0, 3.0, 1.0, 0.5, 0.1]) @ RNG.normal(size=(5, 5))
    places, shares = pca.principal_plane(embeddings)
    rows = embeddings.reshape(-1, 5)
    values, vectors = np.linalg.eigh(np.cov(rows.T))
    np.testing.assert_allclose(shares, values[::-1][:2] / values.sum())
    projected = ((rows - rows.mean(axis=0)) @ vectors[:, ::-1][:, :2]).reshape(3, 40, 2)
    np.testing.assert_allclose(np.abs(places), np.abs(projected), atol=1e-9)
    for sign in (1, -1):
        for draw in RNG.normal(size=(8, 1, 9, 4)):
            flat = pca.principal_plane(sign * draw)[0].reshape(-1, 2)
            assert (flat.max(axis=0) >= -flat.min(axis=0)).all()


def test_neighborhoods_stay_together():
    blobs = np.zeros((2, 20, 8))
    blobs[0, :, 0], blobs[1, :, 1] = 5, 5
    places = tsne.neighborhood_plane(blobs + RNG.normal(size=blobs.shape) * 0.1, perplexity=5.0, seed=0)
    assert places.shape == (2, 20, 2)
    centers, spread = places.mean(axis=1), places.std(axis=1).max()
    assert np.linalg.norm(centers[0] - centers[1]) > 3 * spread
    with pytest.raises(UserError, match="must lie between 0 and the number of embeddings, 40"):
        tsne.neighborhood_plane(blobs, perplexity=40.0, seed=0)


def test_a_missing_scikit_learn_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[analysis\]'"):
        tsne.neighborhood_plane(np.zeros((2, 20, 8)), perplexity=5.0, seed=0)


@pytest.mark.parametrize("is_shared", [True, False])
def test_map(drawn, tmp_path, is_shared):
    points = {label: RNG.normal(size=(3, 10, 2)) for label in "ab"}
    names = {label: (f"{label}1", f"{label}2") for label in points}
    maps.plot(tmp_path / "a.png", points, resolutions=(112, 14, 7), title="t", axis_labels=names, is_shared=is_shared)
    for (label, places), panel in zip(points.items(), drawn[0].axes, strict=True):
        assert (panel.get_title(), panel.get_xlabel(), panel.get_ylabel()) == (label, f"{label}1", f"{label}2")
        *small, centers = panel.collections
        for at_resolution, dots in zip(places, small, strict=True):
            np.testing.assert_allclose(dots.get_offsets(), at_resolution)
        np.testing.assert_allclose(centers.get_offsets(), places.mean(axis=1)[::-1])
        np.testing.assert_allclose(
            centers.get_facecolors()[:, :3], [dots.get_facecolor()[0][:3] for dots in small[::-1]]
        )
        assert (len(panel.get_xticks()) > 0) == is_shared
    one, two = drawn[0].axes
    assert (one.get_xlim() == two.get_xlim()) == is_shared
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == ["112 px (HR)", "14 px", "7 px"]


def test_commands(command):
    options = ["--set", "generated_test", "--images", "12", "--resolutions", "7,112"]
    for kind, more in (("pca", []), ("tsne", ["--perplexity", "5"])):
        data, figure = command(kind, *options, *more)
        assert data["points"].shape == (2, 2, 12, 2)
        assert (data["labels"].tolist(), data["resolutions"].tolist()) == (["one", "two"], [112, 7])
        assert figure.get_suptitle() == "generated_test, 12 faces"
    assert "% of the variance" not in figure.axes[0].get_xlabel()


@pytest.mark.parametrize("kind", ["pca", "tsne"])
def test_one_embedding_is_no_map(command, capsys, kind):
    with pytest.raises(SystemExit, match="1"):
        command(kind, "--set", "generated_test", "--images", "1", "--resolutions", "14", checkpoints="one")
    assert "one face of generated_test at one resolution is no map" in capsys.readouterr().err
