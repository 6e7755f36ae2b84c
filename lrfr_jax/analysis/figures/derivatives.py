"""`figures derivatives`: how strongly each distance pulls a dimension, by `objective.distances` (Ling 2022, Fig. 4)."""

import argparse
import functools
import itertools
import os
import pathlib
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from lrfr_jax.analysis.figures import look, option_types
from lrfr_jax.evals import plots
from lrfr_jax.objective import distances

SUMMARY = "Fig. 4: derivatives of the distances by one dimension's difference; needs no checkpoint"
EXAMPLE = "python -m lrfr_jax.analysis.figures derivatives --output figures"
DISTANCES = {
    "L1": distances.l1_distance,
    "L2": distances.l2_distance,
    "SmoothL1": distances.smooth_l1_distance,
    "LogExp": functools.partial(distances.logexp_distance, p=1),
}
# Ends of the paper's axes.
LEFT_END, RIGHT_END = 1.9, 5.0
_POINTS = 400
_STYLES = ("--", "-.", ":", "-")
_FIRST = 1e-3  # the derivatives jump to 0 at 0: the curves start just behind it


def add_arguments(add: Callable) -> None:
    """Declares the options of the command; `add` is the parser's `add_argument`."""
    one, several = option_types.at_least_zero, option_types.several_at_least_zero
    add("--left_c", type=one, default=0.6, help="C of LogExp on the left (default %(default)s, as in the paper)")
    add("--right_c", type=several, default=(1.0, 2.0, 5.0), metavar="C,C", help="C on the right (default 1,2,5)")


def draw(arguments: argparse.Namespace, png: pathlib.Path) -> dict[str, np.ndarray]:
    """Draws the figure; returns `left_differences`, `left/<distance>`, `right_differences`, `right/C=<value>`."""
    left, right = (np.linspace(_FIRST, end, _POINTS, dtype=np.float32) for end in (LEFT_END, RIGHT_END))
    distances = {
        f"{name} (C = {arguments.left_c:g})" if name == "LogExp" else name: derivative(d, left, others=arguments.left_c)
        for name, d in DISTANCES.items()
    }
    effect = {f"C = {c:g}": derivative(DISTANCES["LogExp"], right, others=c) for c in arguments.right_c}
    plot(png, left, distances, right, effect)
    data = {"left_differences": left, "right_differences": right}
    data |= {f"left/{name}": values for name, values in distances.items()}
    return data | {f"right/{name}": values for name, values in effect.items()}


def derivative(
    distance: Callable, differences: Float[np.ndarray, " points"], *, others: float
) -> Float[np.ndarray, " points"]:
    r"""Takes D times the derivative of a distance by one dimension, whose difference runs, the others standing still.

    .. math:: D\,\frac{\partial L}{\partial x_i}, \quad C = \textstyle\sum_{j \ne i} (e^{|x_j - y_j|} - 1)

    Args:
      distance: (x, y) -> one value per pair.
      differences: of dimension i, above 0.
      others: C, 0 or more; only LogExp depends on it.

    References:
      Ling et al. 2022, arXiv 2302.05621, Eq. 6.
    """
    # Two dimensions are enough: the second one holds all of C.
    rest = np.full_like(differences, np.log1p(others))
    x = jnp.stack([jnp.asarray(differences), rest], axis=1)
    gradient = jax.grad(lambda x: jnp.sum(distance(x, jnp.zeros_like(x))))(x)
    return np.asarray(x.shape[1] * gradient[:, 0])


def plot(
    path: str | os.PathLike,
    left: np.ndarray,
    distances: Mapping[str, np.ndarray],
    right: np.ndarray,
    effect: Mapping[str, np.ndarray],
) -> None:
    """Writes two panels: the distances, and LogExp at several C; each entry is {label: derivatives}."""
    figure, axes = plots.panels(1, 2)
    titles = ("Derivatives of the distances", "LogExp: effect of the other dimensions")
    for panel, xs, curves, title in zip(axes[0], (left, right), (distances, effect), titles, strict=True):
        looks = zip(look.colors(len(curves)), itertools.cycle(_STYLES), strict=False)
        for (label, ys), (color, style) in zip(curves.items(), looks, strict=True):
            panel.plot(xs, ys, color=color, linestyle=style, label=label, linewidth=1.8)
        panel.set(
            title=title, xlabel=r"difference $|x_i - y_i|$", ylabel=r"derivative $D\;|\partial L / \partial x_i|$"
        )
        panel.set(xlim=(0, xs[-1]), ylim=(0, None))
        panel.legend(fontsize="small")
        panel.grid(**plots.GRID)
    plots.save(figure, path)
