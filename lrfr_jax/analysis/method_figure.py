"""Draws the idea of the method from generated faces: the picture of the README.

python -m lrfr_jax.analysis.method_figure --output docs/method.png
"""

import argparse

import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from lrfr_jax import image_ops
from lrfr_jax.data import synthetic

SIZES = (20, 14, 7)
BOX = {"boxstyle": "round,pad=0.6", "linewidth": 1.2}
HR_COLOR, LR_COLOR, LOSS_COLOR = "#1f5fa8", "#b5522b", "#3d7a45"


def _face(axes: Axes, pixels: np.ndarray, *, x: float, y: float, title: str, color: str) -> None:
    inset = axes.inset_axes((x, y, 0.115, 0.34))
    inset.imshow(pixels.astype(np.uint8))
    inset.set(xticks=[], yticks=[])
    inset.set_title(title, fontsize=9, color=color, pad=3)
    for spine in inset.spines.values():
        spine.set(color=color, linewidth=1.5)


def _box(axes: Axes, text: str, *, x: float, y: float, color: str) -> None:
    style = BOX | {"edgecolor": color, "facecolor": "white"}
    axes.text(x, y, text, ha="center", va="center", fontsize=9.5, bbox=style)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], color: str) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": color, "linewidth": 1.3})


def draw(path: str, *, identity: int, seed: int) -> None:
    """Writes the figure as PNG: a face, its low-resolution twins, the network that all share and the losses."""
    face = synthetic.render_face(identity, 1, seed=seed)
    batch = jnp.asarray(np.repeat(face[None], len(SIZES), axis=0))
    twins = np.asarray(image_ops.degrade(batch, jnp.asarray(SIZES), sizes=SIZES, rounding="uint8"))

    matplotlib.use("Agg")
    figure, axes = plt.subplots(figsize=(10, 3.4))
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.axis("off")
    _face(axes, face, x=0.13, y=0.56, title="aligned face, 112 px", color=HR_COLOR)
    for place, (size, twin) in enumerate(zip(SIZES, twins, strict=True)):
        _face(axes, twin, x=0.13 * place, y=0.04, title=f"{size} px and back", color=LR_COLOR)
    _box(axes, "one ResNet,\nshared", x=0.52, y=0.5, color="black")
    _box(axes, "CosFace", x=0.74, y=0.78, color=LOSS_COLOR)
    _box(axes, "LogExp distance", x=0.74, y=0.5, color=LOSS_COLOR)
    _box(axes, "CosFace", x=0.74, y=0.22, color=LOSS_COLOR)
    _box(axes, "½ + λ + ½\n= loss", x=0.93, y=0.5, color="black")
    for y, color in ((0.73, HR_COLOR), (0.21, LR_COLOR)):
        _arrow(axes, (0.26 if color == HR_COLOR else 0.39, y), (0.475, 0.5 + (y - 0.5) * 0.3), color)
        _arrow(axes, (0.57, 0.5 + (y - 0.5) * 0.3), (0.685, 0.78 if y > 0.5 else 0.22), color)
        _arrow(axes, (0.575, 0.5 + (y - 0.5) * 0.1), (0.655, 0.5 + (y - 0.5) * 0.1), color)
        _arrow(axes, (0.79, 0.78 if y > 0.5 else 0.22), (0.895, 0.5 + (y - 0.5) * 0.35), LOSS_COLOR)
    _arrow(axes, (0.825, 0.5), (0.875, 0.5), LOSS_COLOR)
    axes.text(0.51, 0.02, "the size is drawn for every face: 7, 14, 20 px at 1 : 1 : 2", fontsize=9, color=LR_COLOR)
    figure.savefig(path, dpi=130, bbox_inches="tight")
    plt.close(figure)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", required=True, help="PNG file to write")
    parser.add_argument("--identity", type=int, default=8, help="number of the generated person")
    parser.add_argument("--seed", type=int, default=0, help="world of generated persons")
    arguments = parser.parse_args(argv)
    draw(arguments.output, identity=arguments.identity, seed=arguments.seed)


if __name__ == "__main__":
    main()
