import numpy as np
import pytest

from lrfr_jax.analysis.figures import __main__ as figures
from lrfr_jax.analysis.figures.derivatives import DISTANCES, derivative

D = np.linspace(0.001, 4, 50, dtype=np.float32)
FORMULAS = {
    "L1": lambda d, c: np.ones_like(d),
    "L2": lambda d, c: d,
    "SmoothL1": lambda d, c: np.minimum(d, 1),
    "LogExp": lambda d, c: np.exp(d) / (c + np.exp(d)),
}


@pytest.mark.parametrize("name", DISTANCES)
@pytest.mark.parametrize("others", [0.0, 0.6, 5.0])
def test_derivatives_are_those_of_the_paper(name, others):
    np.testing.assert_allclose(derivative(DISTANCES[name], D, others=others), FORMULAS[name](D, others), rtol=1e-5)


def test_the_figure_shows_them(tmp_path, drawn):
    figures.main(["derivatives", "--right_c", "1,9,2,3,4,5", "--output", str(tmp_path / "fig4.png")])
    data = np.load(tmp_path / "fig4.npz", allow_pickle=False)
    left, right = drawn[0].axes
    assert [line.get_label() for line in left.lines] == ["L1", "L2", "SmoothL1", "LogExp (C = 0.6)"]
    assert [line.get_label() for line in right.lines] == [f"C = {c}" for c in (1, 9, 2, 3, 4, 5)]
    for side, panel in (("left", left), ("right", right)):
        for line in panel.lines:
            np.testing.assert_array_equal(line.get_xdata(), data[f"{side}_differences"])
            np.testing.assert_array_equal(line.get_ydata(), data[f"{side}/{line.get_label()}"])
    # The ends that the paper's LogExp curve has.
    assert data["left/LogExp (C = 0.6)"][[0, -1]] == pytest.approx([0.626, 0.918], abs=2e-3)
