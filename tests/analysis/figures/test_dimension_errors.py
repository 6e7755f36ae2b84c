import numpy as np
import pytest

from lrfr_jax.analysis.figures import dimension_errors, models_and_faces


def test_means_over_faces_and_resolutions():
    full = np.array([[1.0, 0.0], [0.0, 1.0]])
    reduced = np.array([[[0.5, 0.0], [0.5, 1.0]], [[1.0, 0.2], [0.0, 1.2]]])
    signed, absolute = dimension_errors.mean_errors(full, reduced)
    np.testing.assert_allclose(signed, [0.0, -0.1], atol=1e-12)
    np.testing.assert_allclose(absolute, [0.25, 0.1])


def test_two_models_share_a_panel(drawn, tmp_path):
    errors = [(np.linspace(-1, 1, 32) * s, np.full(32, s)) for s in (1.0, 0.5, 0.1)]
    dimension_errors.plot(tmp_path / "a.png", ["a", "b", "c"], errors, title="t")
    panels = drawn[0].axes
    texts = [[text.get_text() for text in panel.get_legend().get_texts()] for panel in panels]
    assert texts == [["a\nmean |error| 1.0000", "b\nmean |error| 0.5000"], ["c\nmean |error| 0.1000"]]
    for panel in panels:
        for stairs in panel.patches:
            values, edges, _ = stairs.get_data()
            assert values.sum() == 32
            assert (len(edges), edges[0], edges[-1]) == (dimension_errors.BINS + 1, -1, 1)


def test_command(command, runs, generated_data, capsys):
    data, figure = command("dimension_errors", "--set", "generated_test", "--images", "9", "--resolutions", "14,112")
    assert data["labels"].tolist() == ["one", "two"]
    (model,) = models_and_faces.load_models(str(runs / "two"), None)
    faces = models_and_faces.choose_faces(generated_data, "generated_test", num_images=9, seed=0)
    full, low = models_and_faces.embed_faces(model, faces, resolutions=(112, 14), batch_size=4)
    np.testing.assert_allclose(data["1/signed"], (full - low).mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(data["1/absolute"], np.abs(full - low).mean(axis=0), atol=1e-6)
    assert figure.get_suptitle() == "generated_test, 9 faces at 14 px"
    with pytest.raises(SystemExit):
        command("dimension_errors", "--set", "generated_test", "--resolutions", "112")
    assert "name a lower one" in capsys.readouterr().err
