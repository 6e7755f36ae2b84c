import matplotlib.pyplot as plt
import pytest

from lrfr_jax.analysis import training_curves


@pytest.fixture
def draw(monkeypatch):
    """Draws runs; returns {title: panel} of the figure, which must be closed and a PNG."""
    kept = []
    close = plt.close
    monkeypatch.setattr(training_curves.plt, "close", lambda figure: (kept.append(figure), close(figure)))

    def run(runs):
        png = training_curves.draw(runs)
        assert png.startswith(b"\x89PNG")
        assert plt.get_fignums() == []
        return {panel.get_title(): panel for panel in kept.pop().axes}

    return run


def lines(offset=0.0, **more):
    values = {"train/classification_hr": 5.0, "train/accuracy_hr": 0.5, "train/grad_norm": 2.0} | more
    return [{"step": step} | {key: value / step + offset for key, value in values.items()} for step in (1, 20)]


def test_a_panel_for_what_was_logged_and_a_style_for_each_run(draw):
    evaluated = {"step": 20, "faces/accuracy": 0.5}
    panels = draw({"seed0": [*lines(), evaluated], "seed1": lines(1.0)})
    assert list(panels) == ["classification loss", "training accuracy", "gradient norm"]
    one, two = panels["classification loss"].lines
    assert (list(one.get_xdata()), list(one.get_ydata())) == ([1, 20], [5.0, 0.25])
    assert list(two.get_ydata()) == [6.0, 1.25]
    assert (one.get_color(), one.get_linestyle()) == (two.get_color(), "-")
    assert two.get_linestyle() == "--"
    assert panels["classification loss"].get_legend() is None


def test_curves_of_both_views_and_logarithms_only_over_a_decade(draw):
    more = {"train/classification_lr": 7.0, "train/distance": 0.1, "train/grad_norm_distance": 0.0}
    panels = draw({"seed0": lines(**more), "seed1": lines()})
    named = [text.get_text() for text in panels["classification loss"].get_legend().get_texts()]
    assert named == ["high resolution", "low resolution"]
    colors = [line.get_color() for line in panels["classification loss"].lines]
    assert colors[0] == colors[1] != colors[2]
    scales = {title: panel.get_yscale() for title, panel in panels.items()}
    assert scales["distance between the views"] == "log"
    assert scales["gradient norm"] == "linear"  # it holds a 0
    assert scales["classification loss"] == "linear"


def test_views_of_other_names_are_named(draw):
    more = {"train/classification_second": 7.0, "train/classification_first": 3.0}
    panels = draw({"seed0": [{"step": step} | more for step in (1, 20)]})
    assert list(panels) == ["classification loss"]
    named = [text.get_text() for text in panels["classification loss"].get_legend().get_texts()]
    assert named == ["first", "second"]


def test_nothing_logged_is_no_figure():
    assert training_curves.draw({"seed0": [], "seed1": [{"step": 3, "faces/accuracy": 1.0}]}) is None
    assert training_curves.draw({}) is None
