"""What the figures share beside `evals.plots`: a model's color and marker, a legend under the panels."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito 2008, Color universal design, without the yellow, which is too pale for lines.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "osD^vPX"
_LEGEND_COLUMNS = 4


def colors(count: int) -> list[str]:
    """Colors that most color-blind people tell apart, by the model's place in the command; after seven, again."""
    return [_COLORS[number % len(_COLORS)] for number in range(count)]


def markers(count: int) -> list[str]:
    """Markers by the model's place in the command, for print without colors."""
    return [_MARKERS[number % len(_MARKERS)] for number in range(count)]


def legend_below(figure: Figure, panel: Axes) -> None:
    """Puts the panel's labels under all panels, where no curve runs, in as many columns as the figure is wide for."""
    handles, labels = panel.get_legend_handles_labels()
    for columns in range(min(len(labels), _LEGEND_COLUMNS), 0, -1):
        legend = figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize="small")
        if columns == 1 or legend.get_window_extent().width < figure.bbox.width:
            return
        legend.remove()
