"""`python -m lrfr_jax.pretrained`: foreign weights become a checkpoint, for evaluation and as a start of training.

python -m lrfr_jax.pretrained --source backbone.pth --backbone iresnet50 --out weights/r50
python -m lrfr_jax.pretrained --source w600k_r50.onnx --out weights/w600k_r50
python -m lrfr_jax.pretrained --source lowres.safetensors --out weights/lowres        a file of lrfr_jax.export

Nothing in the file is run. Which layout it has shows in the names of its tensors; with it come the input's color order,
mean and scale, which the checkpoint keeps and every command uses. An ONNX file is read node by node, whatever their
names; BatchNorm that was folded into convolutions has the statistics 0 and 1 then. An exported file needs its card
beside it, which says all that; what the model went through and was calibrated to goes along.
"""

import argparse
import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import jax

from lrfr_jax.checkpoints import checkpoint, lineage, model_card
from lrfr_jax.errors import UserError, one_sentence
from lrfr_jax.exports import formats, matching, onnx_graph
from lrfr_jax.files import paths
from lrfr_jax.image_ops import HALF_RANGE, IMAGE_SIZE
from lrfr_jax.models import BACKBONES, ORDERS
from lrfr_jax.terminal import progress
from lrfr_jax.trained.model import digest_of, facts_of
from lrfr_jax.weights import model_folder
from lrfr_jax.weights.conversion import Converted, backbones_of, convert
from lrfr_jax.weights.layouts import LAYOUTS
from lrfr_jax.weights.recognition import listed, recognize
from lrfr_jax.weights.tensor_files import read_tensors

# The input convention of a config that says nothing else; each field is an option here.
PLAIN = {"order": "rgb", "mean": HALF_RANGE, "scale": HALF_RANGE, "columns": IMAGE_SIZE}


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the checkpoint that the command line asks for; prints what it is, and exits with 1 on bad input."""
    options = _parser().parse_args(argv)
    with one_sentence():
        paths.require_local(vars(options))
        print(import_weights(options))


def import_weights(options: argparse.Namespace) -> str:
    """Reads a file of weights, writes `options.out`, and returns the report; see `--help`.

    Raises:
      UserError: the file cannot be read or does not fit the backbone, or the folder is there already; nothing is
        written then.
    """
    if pathlib.Path(options.out).exists():
        raise UserError(f"{options.out} is there already: name another folder, or remove it")
    paths.check_folder(pathlib.Path(options.out), flag="--out")
    options = argparse.Namespace(**vars(options) | {"source": model_folder.weights_in(options.source)})
    with progress.waiting(f"reading {options.source}"):
        card = _card_of(options)
        colors = None if card or options.order else model_folder.color_order(options.source)
        options.order = colors.order if colors else options.order
        converted, layout = _foreign(options) if card is None else _exported(options, card)
    facts = {"file": pathlib.Path(options.source).name, "sha256": digest_of(options.source), "layout": layout}
    metadata = {
        "step": card.step if card else 0,
        "model": converted.model,
        "degradation_rounding": card.degradation_rounding if card else "uint8",
        "evals": {},
        "history": [*(card.history if card else ()), lineage.entry("import", **facts, licence=options.licence)],
    }
    metadata |= {"compatible_with": card.compatible_with} if card and card.compatible_with else {}
    with progress.waiting(f"writing {options.out}"):
        checkpoint.save_backbone(options.out, converted.variables, metadata)
    made = model_card.of_checkpoint(options.out, variables=converted.variables, metadata=metadata)
    known = {"results": card.results, "thresholds": card.thresholds} if card else {}
    model_card.write(options.out, dataclasses.replace(made, **known))
    return _report(converted, layout=layout, out=options.out, colors=colors)


def _card_of(options: argparse.Namespace) -> model_card.Card | None:
    """The card beside an exported file; None for the files of others."""
    source = options.source
    if pathlib.Path(source).suffix == ".stablehlo":
        raise UserError(
            f"{source} is a program, whose weights cannot be taken out: export the model that it was made of as "
            "safetensors, and import that"
        )
    if not pathlib.Path(source).is_file():
        raise UserError(f"{source} is no file: name the weights with --source")
    return model_card.read(source, weights=digest_of(source)) if model_card.path_of(source).exists() else None


def _exported(options: argparse.Namespace, card: model_card.Card) -> tuple[Converted, str]:
    """Reads a file that `lrfr_jax.export` made, by what its card says."""
    facts, path = facts_of(card), model_card.path_of(options.source)
    known = {"backbone": card.model["backbone"], "layout": facts.names} | dict.fromkeys(PLAIN)
    for name, value in known.items():
        given = getattr(options, name)
        if given not in (None, value):
            raise UserError(f"--{name} {given} is not what {path} says of {options.source}: leave --{name} out")
    model, variables = formats.weights_of(options.source, facts=facts)
    return Converted(model, variables, []), facts.names


def _foreign(options: argparse.Namespace) -> tuple[Converted, str]:
    """Reads a file of others: an ONNX file by its nodes, any other by the names of its tensors."""
    if formats.is_onnx(options.source):
        return _onnx(options), formats.ONNX
    source, tensors = options.source, read_tensors(options.source)
    if all(name.split("/")[0] in formats.COLLECTIONS for name in tensors):
        path = model_card.path_of(source)
        raise UserError(f"{source} has our names but no card {path} beside it, which says what it is: copy that along")
    layout, before = recognize(tensors, source=source, layout=options.layout)
    convention = _convention_of(options)
    how = {"source": source, "layout": layout, "before": before, "convention": convention, "width": None}
    held = functools.partial(backbones_of, tensors, layout=layout, before=before)
    backbones = [options.backbone] if options.backbone else held()
    if len(backbones) != 1:
        raise UserError(
            f"{source} is of layout {layout}, but of none of its networks: name the one that it should be with "
            f"--backbone, {' or '.join(LAYOUTS[layout].backbones)}, to see what differs"
        )
    try:
        return convert(tensors, **how, backbone=backbones[0]), layout
    except UserError as error:
        fitting = held()
        if not fitting or backbones[0] in fitting:
            raise
        raise UserError(f"{source} holds {fitting[0]}, no {backbones[0]}: leave --backbone out") from error


def _onnx(options: argparse.Namespace) -> Converted:
    if options.layout:
        raise UserError(f"--layout {options.layout} is about names, and {options.source} is read by its nodes: omit it")
    if options.columns is not None:
        raise UserError(f"--columns is what {options.source} says itself, by the shape of its input: omit it")
    graph = onnx_graph.read_graph(options.source)
    return matching.fit(graph, source=options.source, backbone=options.backbone, convention=_convention_of(options))


def _convention_of(options: argparse.Namespace) -> dict[str, Any]:
    """What the command line, or a config beside the weights, says of the input."""
    return {field: getattr(options, field) for field in PLAIN if getattr(options, field) is not None}


def _report(converted: Converted, *, layout: str, out: str, colors: model_folder.Colors | None) -> str:
    model = converted.model
    count = sum(array.size for array in jax.tree.leaves(converted.variables["params"]))
    lines = [
        f"{out}: {model['backbone']} of width {model['width']:g}, {count:,} parameters, embedding of "
        f"{model['embedding_size']}, from layout {layout}",
        "its input: {order}{by}, (pixel - {mean:g}) / {scale:g}, the middle {columns} columns".format(
            **model["input"], by=f" by {colors.config}" if colors else ""
        ),
    ]
    counters = [name for name in converted.ignored if name.endswith(".num_batches_tracked")]
    others = [name for name in converted.ignored if name not in counters]
    lines += [f"left aside: {len(counters)} counters of batches (num_batches_tracked)"] if counters else []
    lines += [f"left aside: {listed(others)}"] if others else []
    lines.append(f"evaluate: python -m lrfr_jax.evaluate --checkpoint {out} --data_dir DIR --sets lfw")
    changes = {f"input.{key}": value for key, value in model["input"].items() if value != PLAIN.get(key, IMAGE_SIZE)}
    changes |= {"width": model["width"]} if model["width"] != 1 else {}
    arguments = f"dataset=NAME,backbone={model['backbone']},embedding_size={model['embedding_size']}"
    settings = "".join(f" --config.model.{key}={value}" for key, value in changes.items())
    lines.append(
        f"fine-tune: python -m lrfr_jax.main --config configs/finetune.py:{arguments} --config.init_from={out}"
        f"{settings} --workdir W --data_dir DIR"
    )
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lrfr_jax.pretrained",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--source",
        required=True,
        help="ONNX, MXNet .params, PyTorch .pth/.pt/.ckpt/.bin, safetensors or .npz; or a folder that holds one of "
        f"{', '.join(model_folder.WEIGHTS)}. A model.yaml or config.json beside it decides the order of colors",
    )
    add(
        "--backbone",
        choices=sorted(BACKBONES),
        help="the network whose weights these are; an exported file's card says it",
    )
    add("--out", required=True, metavar="DIR", help="folder of the checkpoint, which must not be there yet")
    add("--layout", choices=sorted(LAYOUTS), help="how the tensors are named; default: as recognized")
    add("--licence", default="", metavar="TEXT", help="under which the weights may be used; goes into the model's card")
    group = parser.add_argument_group("input", "what the network was trained on, where it is not its layout's default")
    add = group.add_argument
    add("--order", choices=ORDERS, help="of the colors; CVLface's is color_space in its model.yaml")
    add("--mean", type=float, help="pixel value, of 0..255, that becomes 0")
    add("--scale", type=float, help="what the difference to the mean is divided by")
    add("--columns", type=int, help="how many columns in the middle of the 112; default: what the shapes need")
    return parser


if __name__ == "__main__":
    main()
