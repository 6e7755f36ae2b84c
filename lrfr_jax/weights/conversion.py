"""Foreign tensors of a known layout become the variables of one of our backbones; each is checked by name and shape."""

import dataclasses
import functools
import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Float

from lrfr_jax.errors import UserError
from lrfr_jax.image_ops import IMAGE_SIZE
from lrfr_jax.models import create_backbone, in_words, vit
from lrfr_jax.models.layers import BATCH_NORM_EPSILON, MIN_CHANNELS, STAGE_CHANNELS
from lrfr_jax.weights.layouts import LAYOUTS, Layout, Path
from lrfr_jax.weights.recognition import listed

PATCHES = ("patches", "kernel")
REDUCTION = 16  # an image's side over that of the last feature map, in all backbones
LAST_MEAN = ("batch_stats", "neck", "bn2", "mean")
BEFORE_LAST_SCALE = (LAST_MEAN, ("params", "neck", "linear", "kernel"), ("params", "neck", "linear", "bias"))
GROUPED = (("params", "stem_depthwise", "kernel"),)
# Convolutions whose output channels are a published count times the width; more digits than a width is written with.
WIDENED, MOST_DIGITS = ("stem_conv", "conv1", "expand"), 9


@dataclasses.dataclass(frozen=True)
class Converted:
    """A network of ours: the arguments of `models.create_backbone`, its variables, and the tensors left aside."""

    model: dict[str, Any]
    variables: dict[str, Any]
    ignored: list[str]

    def __repr__(self) -> str:
        return f"<Converted {in_words(self.model)}; {len(self.ignored)} tensors left aside>"


def convert(
    tensors: Mapping[str, np.ndarray],
    *,
    source: str,
    layout: str,
    before: str,
    backbone: str,
    convention: Mapping[str, Any],
    width: float | None,
) -> Converted:
    """Maps the tensors of a file to a backbone; they tell its embedding's size and the images' columns.

    Args:
      tensors: the whole file.
      source: the file, for messages.
      layout: a key of `LAYOUTS`.
      before: what stands before all names of the network; tensors of other names are left aside.
      backbone: a key of `models.BACKBONES`.
      convention: fields of `layers.InputConvention` that replace the layout's.
      width: of the backbone; None where only the tensors tell it.

    Raises:
      UserError: the layout has no such backbone, or tensors are missing, too many or of another shape or type.
    """
    row = LAYOUTS[layout]
    if backbone not in row.backbones:
        raise UserError(f"{source} is of layout {layout}: --backbone must be {' or '.join(row.backbones)}")
    named = row.unpacked({name[len(before) :]: array for name, array in tensors.items() if name.startswith(before)})
    what = f"{source}, read as {backbone} in layout {layout},"
    model = {"backbone": backbone, **_shape_arguments(named, row, what=what), "dropout": 0.0, "dtype": "float32"}
    model["input"] = {**row.input, "columns": model.pop("columns"), **convention}
    model["width"] = width or model["width"]
    wanted = shapes_of(model)
    if not width and any(found != here for found, here in _widened(named, row, wanted)):
        model["width"] = _width(named, row, model)
        wanted = shapes_of(model)
    theirs = names_in(row, wanted)
    passed = [name for name in named if re.fullmatch(row.ignored, name)]
    shapes = {name: _shape_there(path, wanted[path], row) for path, name in theirs.items()}
    scale = named.get(row.last_scale)
    _check(named, shapes | ({} if scale is None else {row.last_scale: wanted[LAST_MEAN]}), passed, what=what)
    channels = wanted.get(("params", "neck", "bn1", "scale"), (0,))[0]
    leaves = {
        path: _ours(path, named[theirs[path]], row, channels=channels)
        if path in theirs
        else row.constant_of(path[1:])(shape).astype(np.float32)
        for path, shape in wanted.items()
    }
    if scale is not None and (scale != 1).any():
        for path in BEFORE_LAST_SCALE:  # (g W x + g b - g mean) / sigma + beta
            leaves[path] = leaves[path] * scale[*(None,) * (leaves[path].ndim - 1)]
    others = [name for name in tensors if not name.startswith(before)]
    return Converted(model, unflatten_dict(leaves), sorted(others + [before + name for name in passed]))


def backbones_of(tensors: Mapping[str, np.ndarray], *, layout: str, before: str) -> list[str]:
    """Returns the backbones of which a file holds all tensors, and none beside them, by names and groups."""
    row = LAYOUTS[layout]
    named = {name.removeprefix(before): array for name, array in tensors.items() if name.startswith(before)}
    held = row.unpacked(named).keys() - {row.last_scale}
    held = {name for name in held if not re.fullmatch(row.ignored, name)}
    plain = {"width": 1.0, "embedding_size": vit.DIM, "dropout": 0.0, "dtype": "float32"}
    plain["input"] = row.input | {"columns": IMAGE_SIZE}
    shapes = {backbone: shapes_of({"backbone": backbone, **plain}) for backbone in row.backbones}
    fitting = [backbone for backbone, leaves in shapes.items() if set(names_in(row, leaves).values()) == held]
    return [backbone for backbone in fitting if _has_groups(named, row, shapes[backbone])]


def _has_groups(named: Mapping[str, np.ndarray], row: Layout, shapes: Mapping[Path, tuple[int, ...]]) -> bool:
    """Whether the stem's depthwise convolution reads as many channels for each of its own, which no width changes."""
    names = {path: name for path, name in names_in(row, shapes).items() if path in GROUPED}
    return all(named[name].shape[1:2] == shapes[path][2:3] for path, name in names.items())


def names_in(row: Layout, paths: Collection[Path]) -> dict[Path, str]:
    """A layout's names of our variables, apart from those that it lacks; the first key is 'params' or 'batch_stats'."""
    numbers = {block: number for number, block in enumerate(sorted({_block_of(path) for path in paths} - {()}))}
    return {
        path: row.name_of(path[1:], number=numbers.get(_block_of(path), 0))
        for path in paths
        if not row.constant_of(path[1:])
    }


def _shape_arguments(named: Mapping[str, np.ndarray], row: Layout, *, what: str) -> dict[str, Any]:
    """Width, embedding_size and columns; wrong for a damaged file, whose shapes are found out later."""
    lookup = functools.partial(_shape, named, row, what=what)
    if "patches" in row.modules:
        dim = lookup(("tokens", "position"), 3)[2]
        size = lookup(("neck", "linear2", "kernel"), 2)[0] if "neck/linear2" in row.modules else dim
        return {"width": dim / vit.DIM, "embedding_size": size, "columns": IMAGE_SIZE}
    linear = lookup(("neck", "linear", "kernel"), 2)
    if "neck" in row.modules:
        columns = lookup(("neck", "weights"), 4)[3]
    else:
        positions = math.prod(linear[1:]) / lookup(("neck", "bn1", "mean"), 1)[0]
        columns = int(positions * REDUCTION / IMAGE_SIZE)
    stem = lookup(("stem_conv", "kernel"), 4)
    return {"width": stem[0] / STAGE_CHANNELS[0], "embedding_size": linear[0], "columns": columns * REDUCTION}


def _widened(named: Mapping[str, np.ndarray], row: Layout, shapes: Mapping[Path, tuple[int, ...]]) -> list[Any]:
    """(channels there, channels in `shapes`) of the convolutions that tell a width."""
    names = {path: name for path, name in names_in(row, shapes).items() if path[-2] in WIDENED and path[-1] == "kernel"}
    return [(len(named[name]), shapes[path][-1]) for path, name in names.items() if np.ndim(named.get(name)) == 4]


def _width(named: Mapping[str, np.ndarray], row: Layout, model: Mapping[str, Any]) -> float:
    """The shortest number that gives all channel counts, each of which is rounded; that of `model` if none does."""
    pairs = _widened(named, row, shapes_of({**model, "width": 1.0}))
    low = max(((count - 0.5) / full for count, full in pairs if count > MIN_CHANNELS), default=0)
    high = min((count + 0.5) / full for count, full in pairs)
    shortest = (math.ceil(low * 10**digits) / 10**digits for digits in range(1, MOST_DIGITS))
    return next((width for width in shortest if low < width < high), model["width"])


def _shape(named: Mapping[str, np.ndarray], row: Layout, path: Path, axes: int, *, what: str) -> tuple[int, ...]:
    name = row.name_of(path, number=0)
    shape = named[name].shape if name in named else ()
    if len(shape) < axes or 0 in shape:
        raise UserError(f"{what} has {name} of shape {shape}: it is damaged, or choose another --layout")
    return shape


def shapes_of(model: Mapping[str, Any]) -> dict[Path, tuple[int, ...]]:
    """Returns the shapes of all variables of a model; the first key is 'params' or 'batch_stats'."""
    net = create_backbone(**model)
    images = jax.ShapeDtypeStruct((1, IMAGE_SIZE, IMAGE_SIZE, 3), np.float32)
    rng = jax.eval_shape(jax.random.key, 0)
    shapes = jax.eval_shape(functools.partial(net.init, train=False), rng, images)
    return {path: leaf.shape for path, leaf in flatten_dict(shapes).items()}


def _block_of(path: Path) -> tuple[int, ...]:
    """Stage and block, or () outside of the stages."""
    return tuple(int(re.sub(r"\D", "", part)) for part in path[1:3]) if path[1].startswith("stage") else ()


def _their_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Ours is height, width, input, output or input, output; theirs output, input, height, width or output, input.

    Tokens have three axes in both.
    """
    return {4: (*shape[:1:-1], *shape[:2]), 3: shape}.get(len(shape), shape[::-1])


def _shape_there(path: Path, shape: tuple[int, ...], row: Layout) -> tuple[int, ...]:
    is_linear = row.patch_axes and path[1:] == PATCHES
    return (shape[3], math.prod(shape[:3])) if is_linear else _their_shape(shape)


def _check(
    named: Mapping[str, np.ndarray], wanted: Mapping[str, tuple[int, ...]], passed: Sequence[str], *, what: str
) -> None:
    """Compares names, shapes and types with those wanted, and raises one sentence about all that differs."""
    missing = sorted(wanted.keys() - named.keys())
    extra = sorted(named.keys() - wanted.keys() - set(passed))
    unlike = [
        f"{name} {named[name].dtype}{list(named[name].shape)} instead of float32{list(shape)}"
        for name, shape in sorted(wanted.items())
        if name in named and not _fits(named[name], shape)
    ]
    kinds = {"lacks": missing, "has beyond it": extra, "has in another shape or type": unlike}
    found = [f"{verb} {_counted(names)} ({listed(names)})" for verb, names in kinds.items() if names]
    if found:
        raise UserError(f"{what} {', '.join(found)}: choose another --backbone or --layout, or get the file again")


def _counted(names: Sequence[str]) -> str:
    return f"{len(names)} tensor{'s' if len(names) > 1 else ''}"


def _fits(array: np.ndarray, shape: tuple[int, ...]) -> bool:
    # A linear layer may stand there as a convolution of size 1.
    shapes = (shape, (*shape, 1, 1)) if len(shape) == 2 else (shape,)
    return array.shape in shapes and array.dtype == np.float32


def _ours(path: Path, array: np.ndarray, row: Layout, *, channels: int) -> Float[np.ndarray, "..."]:
    """One of their tensors with our order of axes; the linear layer's input is flattened with its channels last."""
    if path[-1] == "var":
        # Their epsilon becomes part of the variance: exact in evaluation, and as long as statistics stay as they are.
        epsilon = row.last_epsilon if path[1:3] == ("neck", "bn2") else row.epsilon
        return (array.astype(np.float64) + (epsilon - BATCH_NORM_EPSILON)).astype(np.float32)
    if path[-3:] == ("neck", "linear", "kernel"):
        return array.reshape(len(array), channels, -1).transpose(2, 1, 0).reshape(-1, len(array))
    if row.patch_axes and path[1:] == PATCHES:
        side = math.isqrt(array.shape[1] // 3)
        sides = [3 if axis == "channel" else side for axis in row.patch_axes]
        order = [1 + row.patch_axes.index(axis) for axis in ("row", "column", "channel")]
        return np.ascontiguousarray(array.reshape(len(array), *sides).transpose(*order, 0))
    if array.ndim == 4:
        return np.ascontiguousarray(array.transpose(2, 3, 1, 0))
    return np.ascontiguousarray(array.T) if path[-1] == "kernel" else array
