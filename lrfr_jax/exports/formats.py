"""The formats of exported models: each as bytes, and read back into something that embeds images."""

import contextlib
import dataclasses
import io
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.export
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from lrfr_jax import models
from lrfr_jax.errors import UserError, reason_of
from lrfr_jax.exports import matching, onnx_file, onnx_graph, stablehlo_file
from lrfr_jax.weights.conversion import convert, shapes_of
from lrfr_jax.weights.recognition import recognize
from lrfr_jax.weights.reversal import to_layout
from lrfr_jax.weights.tensor_files import read_tensors

OURS = "ours"
# Others' names of tensors that an export can have, beside ours.
LAYOUTS = (
    *("insightface_torch_iresnet", "insightface_torch_mobilefacenet", "released_lrfr_resnet"),
    *("magface_iresnet", "adaface_ir", "cvlface_ir", "curricularface_ir", "evolve_ir"),
)
COLLECTIONS = ("params", "batch_stats")
ONNX = "onnx"
NO_EXTRA = "{} needs the extra 'export': pip install -e '.[export]'"


class Opened(NamedTuple):
    """A network, the weights that it needs beside what is in it, and whether jax may trace it."""

    backbone: models.Backbone
    variables: Any
    is_traced: bool = True

    def __repr__(self) -> str:
        return f"<Opened {type(self.backbone).__name__} with {len(jax.tree.leaves(self.variables))} arrays>"


class Facts(NamedTuple):
    """What a file's card says of it, and the file does not, or not exactly.

    Attributes:
      model: arguments of `models.create_backbone`.
      names: of the tensors: `OURS` or one of `LAYOUTS`.
      jax: the version that wrote the file.
    """

    model: Mapping[str, Any]
    names: str
    jax: str


class Format(NamedTuple):
    """How models are written in a format, and read back.

    Attributes:
      serialize: (variables, arguments of `models.create_backbone`, names of tensors) -> the file's bytes.
      open: (path, facts of its card) -> a network that gives the same features.
    """

    serialize: Callable[[Any, Mapping[str, Any], str], bytes]
    open: Callable[[str, Facts], Opened]


def open_file(path: str | os.PathLike, *, facts: Facts) -> Opened:
    """Opens an exported file as a network; its format is the ending of its name.

    Args:
      path: the file.
      facts: from its card.

    Raises:
      UserError: it cannot be read, is of no known format, does not hold the model of the card, or is a program that
        this version of jax cannot read.
    """
    return FORMATS[format_of(path)].open(os.fspath(path), facts)


def weights_of(path: str | os.PathLike, *, facts: Facts) -> tuple[dict[str, Any], Any]:
    """Reads the tensors of an exported file.

    Returns:
      (arguments of `models.create_backbone`, variables): the input is what the tensors want, as those of a PyTorch
      network's names were made for that network's.

    Raises:
      UserError: it cannot be read, or does not hold the model of the card.
    """
    if is_onnx(path):
        found = matching.fit(onnx_graph.read_graph(path), source=path, backbone=facts.model["backbone"], convention={})
        _check_size(path, found.model["embedding_size"], facts)
        return dict(facts.model) | {"input": found.model["input"]}, found.variables
    tensors, model = read_tensors(os.fspath(path)), dict(facts.model)
    if facts.names == OURS:
        leaves = {tuple(name.split("/")): array for name, array in tensors.items()}
        if {name: array.shape for name, array in leaves.items()} != shapes_of(model):
            raise UserError(f"{path} does not hold the {model['backbone']} of its card: get both again")
        return model, unflatten_dict(leaves)
    layout, before = recognize(tensors, source=path, layout=facts.names)
    how = {"source": path, "layout": layout, "before": before, "backbone": model["backbone"], "convention": {}}
    converted = convert(tensors, **how, width=model["width"])
    _check_size(path, converted.model["embedding_size"], facts)
    return model | {"input": converted.model["input"]}, converted.variables


def _check_size(path: str | os.PathLike, size: int, facts: Facts) -> None:
    if size != facts.model["embedding_size"]:
        wanted = facts.model["embedding_size"]
        raise UserError(f"{path} gives {size} numbers an image, its card says {wanted}: get both again")


def is_onnx(path: str | os.PathLike) -> bool:
    """Whether a file is taken for an ONNX model, by the ending of its name."""
    return os.path.splitext(path)[1].lower() == f".{ONNX}"


def format_of(path: str | os.PathLike) -> str:
    """Returns the key of `FORMATS` that a file's name ends in; `UserError` if there is none."""
    suffix = os.path.splitext(path)[1].removeprefix(".")
    if suffix not in FORMATS:
        raise UserError(f"{path} is no exported model: its name ends in none of .{', .'.join(FORMATS)}")
    return suffix


def _float32(model: Mapping[str, Any]) -> nn.Module:
    return models.create_backbone(**{**model, "dtype": "float32"})


def _write_onnx(variables: Any, model: Mapping[str, Any], names: str) -> bytes:
    _require_no_names(names)
    return onnx_file.serialize(_float32(model), variables)


def _write_stablehlo(variables: Any, model: Mapping[str, Any], names: str) -> bytes:
    _require_no_names(names)
    return stablehlo_file.serialize(_float32(model), variables)


def _write_safetensors(variables: Any, model: Mapping[str, Any], names: str) -> bytes:
    try:
        import safetensors.numpy  # most users export nothing
    except ImportError as error:
        raise UserError(NO_EXTRA.format("safetensors")) from error
    return safetensors.numpy.save(_named(variables, model, names))


def _write_npz(variables: Any, model: Mapping[str, Any], names: str) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **_named(variables, model, names))
    return buffer.getvalue()


def _require_no_names(names: str) -> None:
    if names != OURS:
        raise UserError(f"--names {names} is about tensors with names: choose the format safetensors or npz")


def _named(variables: Any, model: Mapping[str, Any], names: str) -> dict[str, np.ndarray]:
    if names != OURS:
        return to_layout(variables, model=model, layout=names)
    return {"/".join(path): np.asarray(leaf) for path, leaf in flatten_dict(variables).items()}


@dataclasses.dataclass(frozen=True)
class _Program:
    """A network that is a program: images [batch, 3, 112, 112] in, raw features out."""

    run: Callable[[jax.Array], jax.Array | np.ndarray]

    def apply(self, variables: Any, images: jax.Array, *, train: bool) -> jax.Array | np.ndarray:
        return self.run(images.transpose(0, 3, 1, 2))


def _open_onnx(path: str, facts: Facts) -> Opened:
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(NO_EXTRA.format(path)) from error
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        [images], [features] = session.get_inputs(), session.get_outputs()
    except Exception as error:  # onnxruntime has a class of its own for each reason
        raise UserError(f"{path} cannot be read by onnxruntime ({reason_of(error)}): export it again") from error

    _check_size(path, features.shape[-1], facts)

    # Not a callback within a jax program: several CPU devices would wait for each other there until jax gives up.
    def run(pixels: jax.Array) -> np.ndarray:
        return session.run([features.name], {images.name: np.asarray(pixels)})[0]

    return Opened(_Program(run), {}, is_traced=False)


@contextlib.contextmanager
def _stderr_unheard() -> Iterator[None]:
    """MLIR writes its reasons to the process's stderr, past Python's, beside the error that it raises."""
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


def _open_stablehlo(path: str, facts: Facts) -> Opened:
    try:
        program = jax.export.deserialize(bytearray(pathlib.Path(path).read_bytes()))
        if facts.jax != jax.__version__:
            with _stderr_unheard():
                program.mlir_module()  # otherwise read at the first call only
    except Exception as error:  # of the flatbuffers library, or of MLIR
        reason = reason_of(error)
        if facts.jax != jax.__version__:
            raise UserError(
                f"{path} was written by jax {facts.jax} and cannot be read by jax {jax.__version__}, which runs here "
                f"({reason}): install that version, or export the model again with this one"
            ) from error
        raise UserError(f"{path} holds no exported program ({reason}): export it again") from error
    _check_size(path, program.out_avals[0].shape[-1], facts)
    return Opened(_Program(program.call), {})


def _open_tensors(path: str, facts: Facts) -> Opened:
    model, variables = weights_of(path, facts=facts)
    return Opened(_float32(model), variables)


FORMATS = {
    "onnx": Format(_write_onnx, _open_onnx),
    "stablehlo": Format(_write_stablehlo, _open_stablehlo),
    "safetensors": Format(_write_safetensors, _open_tensors),
    "npz": Format(_write_npz, _open_tensors),
}
