"""The second of two models: the one that embedded a gallery, which the first was trained to fit."""

import argparse
import os
from typing import NamedTuple

from lrfr_jax.checkpoints import compatibility
from lrfr_jax.errors import UserError
from lrfr_jax.image_ops import IMAGE_SIZE
from lrfr_jax.trained.model import Model, find_model, open_model


class GalleryModel(NamedTuple):
    """The model, and the side length in pixels from which on a face is its to read."""

    model: Model
    from_size: int

    def in_words(self, path: os.PathLike) -> str:
        """Says who reads what beside the model of a path."""
        named = f"{self.model.path} (weights {self.model.weights[: compatibility.SHOWN]})"
        return f"{path}; {named} reads galleries and faces of {self.from_size} px or more"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declares `--gallery_checkpoint` and `--gallery_from`."""
    parser.add_argument(
        "--gallery_checkpoint",
        metavar="DIR",
        help="the model that embedded the gallery, which that of --checkpoint was trained to fit: it reads galleries "
        "and large faces, that of --checkpoint small ones",
    )
    parser.add_argument(
        "--gallery_from",
        type=int,
        metavar="PX",
        help=f"side length from which on a face is large, {compatibility.NEVER} for none (default: what the checkpoint "
        "says)",
    )


def look(options: argparse.Namespace) -> None:
    """Finds what is wrong with the options before any weights are read.

    Raises:
      UserError: the model is not there, or a size is out of range or for no model.
    """
    if options.gallery_from is not None:
        if not options.gallery_checkpoint:
            raise UserError("--gallery_from does nothing without --gallery_checkpoint: name the model of the gallery")
        compatibility.check_resolution(options.gallery_from, "--gallery_from", most=compatibility.NEVER)
    if options.gallery_checkpoint:
        find_model(options.gallery_checkpoint)


def open_fitting(path: str | os.PathLike, *, model: Model, from_size: int | None) -> GalleryModel:
    """Opens the model of a gallery beside one that fits it.

    Args:
      path: a run, a checkpoint, or an exported file.
      model: the one that reads the small faces.
      from_size: side length in pixels from which on the gallery's model reads a face; None takes what `model` says,
        and full resolution if it says nothing.

    Raises:
      UserError: it cannot be opened, or its embeddings do not fit those of `model`.
    """
    found = open_model(path)
    compatibility.check(model.path, digests(model), found.path, digests(found))
    sizes = [one.metadata["model"]["embedding_size"] for one in (model, found)]
    if sizes[0] != sizes[1]:
        raise UserError(f"{model.path} and {found.path} have embeddings of {sizes[0]} and of {sizes[1]} numbers")
    known = compatibility.of_metadata(model.metadata).get("resolution", IMAGE_SIZE)
    size = known if from_size is None else from_size
    compatibility.check_resolution(size, "gallery_from", most=compatibility.NEVER)
    return GalleryModel(found, size)


def digests(model: Model) -> tuple[str, ...]:
    """Returns `compatibility.digests_of` a model."""
    return compatibility.digests_of(model.weights, model.metadata)
