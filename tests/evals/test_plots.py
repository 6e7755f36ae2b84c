import matplotlib.pyplot as plt
import numpy as np
import pytest

from lrfr_jax.evals import metrics, plots
from lrfr_jax.files import paths

RNG = np.random.default_rng(2)
IS_SAME = np.arange(400) % 2 == 0


def set_report(lower, gain=0.0, is_partial=False):
    def one(mode, resolution):
        accuracy = 0.5 + resolution / 300 + gain
        interval = [accuracy - 0.01, accuracy + 0.02]
        return {"mode": mode, "resolution": resolution, "accuracy": accuracy, "accuracy_interval": interval}

    return {
        "is_partial": is_partial,
        "results": [one("hr_hr", 112), *(one(mode, r) for mode in ("hr_lr", "lr_lr") for r in lower)],
    }


@pytest.fixture
def figure(tmp_path, monkeypatch):
    """Calls a drawing function, checks that it wrote a PNG and left no figure open, and returns the figure."""
    kept = []
    close = plt.close
    monkeypatch.setattr(plots.plt, "close", lambda figure: (kept.append(figure), close(figure)))

    def draw(function, *args, **kwargs):
        function(tmp_path / "a.png", *args, **kwargs)
        assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
        assert plt.get_fignums() == []
        return kept.pop()

    return draw


def test_accuracy_by_resolution(figure):
    runs = {"one": {"sets": {"a": set_report((14, 7)), "b": set_report((), is_partial=True)}}}
    runs["two"] = {"sets": {"a": set_report((14, 7), gain=0.1), "b": set_report(())}}
    made = figure(plots.accuracy_by_resolution, runs, sets=["a", "b"])
    shown = [panel for panel in made.axes if panel.axison]
    assert [panel.get_title() for panel in shown] == ["a, HR-LR", "a, LR-LR", "b (partial), HR-HR"]
    for panel in (shown[0], shown[2]):  # the first of each row, whatever is not drawn before it
        assert panel.get_ylabel() == "accuracy (%)"
        assert panel.yaxis.get_major_ticks()[0].label1.get_visible()
    panel = shown[0]
    assert panel.get_xscale() == "log"
    assert [text.get_text() for text in panel.get_xticklabels()] == ["7", "14", "112"]
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["one", "two"]
    for line, gain in zip(panel.lines, (0.0, 0.1), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), [7, 14, 112])
        np.testing.assert_allclose(line.get_ydata(), 100 * (0.5 + np.array([7, 14, 112]) / 300 + gain))
    band = panel.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(100 * (0.5 + 7 / 300 - 0.01))
    assert band[:, 1].max() == pytest.approx(100 * (0.5 + 112 / 300 + 0.02))


def test_roc_curves(figure):
    curves = {f"{r} px": (RNG.normal(size=400) + r * IS_SAME, IS_SAME) for r in (3, 1)}
    panel = figure(plots.roc_curves, curves, title="a, LR-LR").axes[0]
    assert (panel.get_title(), panel.get_xscale()) == ("a, LR-LR", "log")
    assert panel.get_xlim() == (1 / 200, 1)
    for line, label in zip(panel.lines, curves, strict=True):
        assert line.get_label() == label
        np.testing.assert_array_equal(np.stack(line.get_data()), metrics.roc_curve(*curves[label]))


def test_similarity_histograms_measure_the_overlap(figure):
    apart = np.where(IS_SAME, 0.8, -0.1) + RNG.uniform(0, 0.05, 400)
    alike = np.repeat(RNG.uniform(-0.2, 0.9, 200), 2)  # each value once genuine, once impostor
    half = np.where(IS_SAME, 0.8, np.where(np.arange(400) % 4 == 1, 0.8, -0.2))
    panels = {"HR-LR": {"112 px": (apart, IS_SAME), "7 px": (alike, IS_SAME), "14 px": (half, IS_SAME)}}
    made = figure(plots.similarity_histograms, panels)
    titles = [panel.get_title() for panel in made.axes]
    assert titles == ["HR-LR, 112 px\noverlap 0.0 %", "HR-LR, 7 px\noverlap 100.0 %", "HR-LR, 14 px\noverlap 50.0 %"]
    assert [text.get_text() for text in made.legends[0].get_texts()] == ["genuine pairs", "impostor pairs"]


def test_a_figure_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    plots.save(plots.panels(1, 1)[0], path)
    before = path.read_bytes()

    def write_half(self, content):
        self.touch()
        raise OSError("no space left")

    monkeypatch.setattr(paths.pathlib.Path, "write_bytes", write_half)
    with pytest.raises(OSError, match="no space left"):
        plots.save(plots.panels(1, 2)[0], path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
