"""A legend is never wider than its figure."""

import matplotlib.pyplot as plt
import pytest

from lrfr_jax.analysis.figures import look


@pytest.mark.parametrize(("length", "columns"), [(4, 3), (30, 2), (55, 1)])
def test_the_legend_has_as_many_columns_as_fit(length, columns):
    figure, panel = plt.subplots(figsize=(6, 4), layout="constrained")
    for line in "abc":
        panel.plot([0, 1], label=line * length)
    look.legend_below(figure, panel)
    figure.canvas.draw()
    [legend] = figure.legends
    assert legend._ncols == columns
    box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
    plt.close(figure)
