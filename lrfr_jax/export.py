"""`python -m lrfr_jax.export`: a trained model as a file that other software runs, with a card and a proof of equality.

python -m lrfr_jax.export --checkpoint runs/maug --format onnx                        writes model.onnx and its card
python -m lrfr_jax.export --checkpoint pretrained/r50 --format safetensors --names insightface_torch_iresnet

onnx and stablehlo hold a program: float32 [batch, 3, 112, 112], RGB, (pixel - 127.5) / 127.5, to the raw feature
[batch, dim]. safetensors and npz hold named tensors. The file is read back and compared with the model before it gets
its name.
"""

import argparse
import dataclasses
import functools
import hashlib
import importlib.util
import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from lrfr_jax import image_ops, models
from lrfr_jax.checkpoints import lineage, model_card
from lrfr_jax.errors import UserError, one_sentence
from lrfr_jax.exports import formats, onnx_variants
from lrfr_jax.exports.formats import FORMATS, LAYOUTS, OURS
from lrfr_jax.files import paths
from lrfr_jax.models import statistics
from lrfr_jax.terminal import progress
from lrfr_jax.trained import model_options
from lrfr_jax.trained.model import Model, card_of, find_model, open_model

# What an export may differ by from the model in float32: cosine distance, which is what embeddings are used for, and
# length.
MOST = {"float32": (1e-5, 1e-3), "float16": (1e-3, 1e-2), "int8_weights": (2e-2, 1e-1)}
# Formats that hold a program, not tensors by their names, and the packages that a format needs.
PROGRAMS = ("onnx", "stablehlo")
NEEDS = {"onnx": ("onnx", "onnxruntime"), "safetensors": ("safetensors",)}
# Batch sizes that an exported program must take.
BATCHES = (1, 7, 32)


class Parity(NamedTuple):
    """How far an exported model is from its original, at most, over the images compared.

    `cosine_distance` is 1 - cos of the two features, in [0, 2]; `length_ratio` the difference of their lengths over the
    original's.
    """

    images: int
    cosine_distance: float
    length_ratio: float

    def __str__(self) -> str:
        return (
            f"on {self.images} images it differs from the model by a cosine distance of at most "
            f"{self.cosine_distance:.1e} and in the feature's length by {self.length_ratio:.1e}"
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the file and the card that the command line asks for; exits with 1 on bad input."""
    options = _parser().parse_args(argv)
    with one_sentence():
        paths.require_local({"output": options.output})
        print(export(options))


def export(options: argparse.Namespace) -> str:
    """Exports a model, and returns the report; see `--help`.

    Raises:
      UserError: no such model, a format that cannot hold it, a file that is there already, or one that does not give
        the model's features; nothing is written then.
    """
    output = pathlib.Path(options.output or f"model.{options.format}")
    if formats.format_of(output) != options.format:
        raise UserError(f"--output {output} must end in .{options.format}, by which it is read again")
    for path in (output, model_card.path_of(output)):
        if path.exists():
            raise UserError(f"{path} is there already: name another --output, or remove it")
    paths.check_file(output)
    _check_format(options)
    found = find_model(options.checkpoint)
    if found.is_file():
        raise UserError(f"{found} is an export itself: name the checkpoint that it was made of")
    with progress.waiting(f"loading {found}"):
        model = open_model(found)
    card, model = _at_resolution(model, options.resolution)
    with progress.waiting(f"writing {options.format}"):
        content = _serialized(model, options)
    # Of the same ending, which tells the format.
    partial = output.with_name(f".partial-{os.getpid()}-{output.name}")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        parity = measure(model, partial, names=options.names, precision=options.precision)
        facts = {"format": options.format, "names": options.names, "parity": str(parity)}
        facts |= {"opset": options.opset} if options.opset else {}
        facts |= {"precision": options.precision} if options.precision != "float32" else {}
        facts |= {"weights": model.weights}
        facts |= {"resolution": options.resolution} if options.resolution else {}
        history = [*card.history, lineage.entry("export", **facts)]
        card = dataclasses.replace(card, weights=hashlib.sha256(content).hexdigest(), history=history)
        # The card first: a file without one could not be loaded.
        written = model_card.write(output, card)
        partial.rename(output)
    except OSError as error:
        raise UserError(f"{output} cannot be written: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return f"{output}: {len(content) / 1e6:.1f} MB; {parity}\ncard: {written}, {written.with_suffix('.md')}"


def _serialized(model: Model, options: argparse.Namespace) -> bytes:
    content = FORMATS[options.format].serialize(model.variables, model.metadata["model"], options.names)
    content = onnx_variants.at_opset(content, options.opset) if options.opset else content
    change = {"float16": onnx_variants.in_half, "int8_weights": onnx_variants.with_int8_weights}.get(options.precision)
    return change(content) if change else content


def _at_resolution(model: Model, resolution: int | None) -> tuple[model_card.Card, Model]:
    """The card and the model with one set of statistics, those of full resolution for None.

    Of an adapted model the card keeps what was measured with these statistics alone.
    """
    card, sizes = card_of(model), statistics.sizes_of(model.variables)
    if resolution is not None and not sizes:
        raise UserError(
            f"{model.path} has the same statistics at all resolutions: leave --resolution out, or measure others with "
            "`python -m lrfr_jax.adapt`"
        )
    if not sizes:
        return card, model
    held = dict.fromkeys((image_ops.IMAGE_SIZE, *sizes))
    resolution = resolution or image_ops.IMAGE_SIZE
    if resolution not in held:
        raise UserError(f"{model.path} has statistics at {', '.join(map(str, held))} px, not at {resolution}")
    mode = "hr_hr" if resolution == image_ops.IMAGE_SIZE else "lr_lr"
    kept = {"thresholds": [one for one in card.thresholds if (one.mode, one.resolution) == (mode, resolution)]}
    kept |= {"means": [one for one in card.means if one.resolution == resolution], "results": {}}
    own = statistics.at_resolution(model.variables, resolution if resolution in sizes else None)
    return dataclasses.replace(card, **kept), model._replace(variables=own)


def _check_format(options: argparse.Namespace) -> None:
    """Raises `UserError` for what the format cannot hold, or a package of it that is missing."""
    if options.names != OURS and options.format in PROGRAMS:
        raise UserError(f"--names {options.names} is about tensors with names: choose the format safetensors or npz")
    for flag, is_given in (("--opset", options.opset), ("--precision", options.precision != "float32")):
        if is_given and options.format != "onnx":
            raise UserError(f"{flag} is about ONNX files: leave it out, or choose --format onnx")
    for package in NEEDS.get(options.format, ()):
        if importlib.util.find_spec(package) is None:
            raise UserError(formats.NO_EXTRA.format(package))


def measure(model: Model, exported: pathlib.Path, *, names: str, precision: str) -> Parity:
    """Compares an exported file with the model that it was made of, in float32, on made-up images.

    Args:
      model: the original.
      exported: the file, which has no card yet.
      names: of its tensors.
      precision: of the file, a key of `MOST`.

    Raises:
      UserError: they differ by more than rounding does.
    """
    arguments = model.metadata["model"]
    live = models.create_backbone(**{**arguments, "dtype": "float32"})
    opened = formats.open_file(exported, facts=formats.Facts(arguments, names, jax.__version__))
    images = made_up_images(max(BATCHES))
    with progress.waiting("comparing the file with the model"):
        wanted = _features(formats.Opened(live, model.variables), images)
        found = [(_features(opened, images[:count]), wanted[:count]) for count in BATCHES]
    ours, theirs = (np.concatenate(side).astype(np.float64) for side in zip(*found, strict=True))
    lengths, expected = np.linalg.norm(ours, axis=1), np.linalg.norm(theirs, axis=1)
    distances = 1 - (ours * theirs).sum(axis=1) / np.maximum(lengths * expected, np.finfo(np.float64).tiny)
    parity = Parity(len(images), float(distances.max()), float(np.max(np.abs(lengths - expected) / expected)))
    # Written so that NaN fails.
    most = Parity(len(images), *MOST[precision])
    if not (parity.cosine_distance <= most.cosine_distance and parity.length_ratio <= most.length_ratio):
        raise UserError(
            f"the exported model is not the one of {model.path}: {parity}; nothing is kept, please report this with "
            "the model's backbone and the versions of jax and of the format's package"
        )
    return parity


def made_up_images(count: int) -> Float[np.ndarray, "count height width 3"]:
    """Normalized images of smooth color patterns: noise would make all features alike."""
    size, draw = image_ops.IMAGE_SIZE, np.random.default_rng(0)
    places = np.linspace(-1, 1, size)
    frequencies, phases = draw.uniform(-6, 6, (count, 3, 4, 2)), draw.uniform(0, 2 * np.pi, (count, 3, 4))
    waves = frequencies @ np.stack(np.meshgrid(places, places)).reshape(2, -1) + phases[..., None]
    return np.tanh(np.sin(waves).sum(axis=2)).reshape(count, 3, size, size).transpose(0, 2, 3, 1).astype(np.float32)


def _features(
    opened: formats.Opened, images: Float[np.ndarray, "batch height width 3"]
) -> Float[np.ndarray, "batch dim"]:
    apply = functools.partial(opened.backbone.apply, train=False)
    return np.asarray((jax.jit(apply) if opened.is_traced else apply)(opened.variables, jnp.asarray(images)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lrfr_jax.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--checkpoint", required=True, help="a run's folder (its newest checkpoint is taken), or one checkpoint")
    add("--format", required=True, choices=FORMATS, help="of the file; onnx and safetensors need the extra 'export'")
    add("--output", metavar="FILE", help="the file to make, ending in its format (default model.FORMAT)")
    add(
        "--names",
        choices=(OURS, *LAYOUTS),
        default=OURS,
        help="of the tensors in safetensors and npz: ours (default), or those of a PyTorch network; "
        f"{LAYOUTS[0]} is arcface_torch's backbone.pth",
    )
    add("--opset", type=int, metavar="N", help="onnx: the operator set (default 17, of 2022), for other readers")
    add(
        "--precision",
        choices=onnx_variants.PRECISIONS,
        default="float32",
        help="onnx: float16 makes half the file (weights and inner values), int8_weights a quarter (weights alone); "
        "images and feature stay float32",
    )
    add(
        "--resolution",
        type=model_options.resolution,
        help="of a model that `adapt` made: take the statistics of this side length in pixels (default: of full size)",
    )
    return parser


if __name__ == "__main__":
    main()
