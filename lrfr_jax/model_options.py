"""What all commands that use a trained model share: its options, and how they end."""

import argparse
import os
from collections.abc import Sequence
from typing import Any

from lrfr_jax.embedder import Embedder, way_to_face
from lrfr_jax.errors import UserError
from lrfr_jax.evals.fusion import FUSIONS
from lrfr_jax.image_ops import IMAGE_SIZE
from lrfr_jax.pictures import sources
from lrfr_jax.pictures.faces import Faces
from lrfr_jax.pictures.sources import SourceImage

# Exit status beside 0 (done), 1 (an error, in one sentence) and 2 (wrong usage).
DONE_BUT = 3


def add_model(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Declares `--checkpoint`, `--fusion` and `--batch_size`."""
    parser.add_argument(
        "--checkpoint",
        required=required,
        help="a run's folder (its newest checkpoint is taken), one checkpoint, or what `lrfr_jax.pretrained` made",
    )
    parser.add_argument(
        "--fusion",
        choices=sorted(FUSIONS),
        help="how the features of an image and of its mirror image become one; see docs/protocols.md (default sum)",
    )
    parser.add_argument("--batch_size", type=int, default=64, help="images at a time over all devices (default 64)")


def add_pictures(parser: argparse.ArgumentParser) -> None:
    """Declares `--resize` and `--align`."""
    parser.add_argument(
        "--resize", action="store_true", help="pictures may have any size; each shows nothing but an aligned face"
    )
    parser.add_argument(
        "--align", action="store_true", help="pictures are photos: cut the largest face out; needs the extra 'align'"
    )


def add_resolution(parser: argparse.ArgumentParser, of: str) -> None:
    """Declares `--resolution`."""
    text = f"side length in pixels to which {of} reduced first, as in training (default {IMAGE_SIZE}: not at all)"
    parser.add_argument("--resolution", type=int, default=IMAGE_SIZE, help=text)


def load(options: argparse.Namespace) -> Embedder:
    """Loads the model that the options name."""
    return Embedder.load(options.checkpoint, fusion=options.fusion or "sum", batch_size=options.batch_size)


def faces_of(options: argparse.Namespace, pictures: Sequence[Any]) -> Faces:
    """Reads pictures as `--resize` and `--align` say."""
    return Faces(pictures, make_face=way_to_face(resize=options.resize, align=options.align))


def list_pictures(folder: str, *, flag: str) -> tuple[list[SourceImage], dict[str, str]]:
    """Lists the images of a folder or a tar in natural order, and why others may not be read, by their paths.

    Raises:
      UserError: it is missing, or holds none.
    """
    images, problems = sources.find_images(folder, flag=flag)
    if not images:
        reason = f" that may be read ({problems[0].reason})" if problems else ""
        raise UserError(f"{flag} {folder} holds no image{reason}, of {', '.join(sources.IMAGE_SUFFIXES)}")
    ordered = sorted(images.values(), key=lambda image: sources.natural(image.path))
    return ordered, {os.path.relpath(problem.where, folder): problem.reason for problem in problems}
