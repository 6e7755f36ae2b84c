"""What all commands that use a trained model share: its options, and how they end."""

import argparse
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lrfr_jax.checkpoints import compatibility
from lrfr_jax.errors import UserError
from lrfr_jax.evals.centering import CENTERINGS
from lrfr_jax.evals.fusion import FUSIONS
from lrfr_jax.evals.scores import SCORES
from lrfr_jax.files import paths
from lrfr_jax.image_ops import IMAGE_SIZE
from lrfr_jax.pictures import sources
from lrfr_jax.pictures.faces import Faces, way_to_face
from lrfr_jax.pictures.stored_files import SourceImage
from lrfr_jax.terminal import progress
from lrfr_jax.trained import gallery_model
from lrfr_jax.trained.embedder import Embedder
from lrfr_jax.trained.model import find_model

# Exit status beside 0 (done), 1 (an error, in one sentence) and 2 (wrong usage).
DONE_BUT = 3
NO_DECISION = 4
BATCH_SIZE = 64
_NAMED = 20  # unusable pictures, of which a wrong folder may have thousands
CARDS_FUSION = "that of the model's last calibration, sum without one"


def add_model(parser: argparse.ArgumentParser, *, required: bool = True, default_fusion: str = "sum") -> None:
    """Declares `--checkpoint`, `--gallery_checkpoint`, `--gallery_from`, `--fusion`, `--centering`, `--batch_size`."""
    parser.add_argument(
        "--checkpoint",
        required=required,
        help="a run's folder (its newest checkpoint is taken), one checkpoint, or what `pretrained` or `export` made",
    )
    gallery_model.add_options(parser)
    parser.add_argument(
        "--fusion",
        choices=sorted(FUSIONS),
        help="how the features of an image and of its mirror image become one; see docs/protocols.md (default "
        f"{default_fusion})",
    )
    parser.add_argument(
        "--centering",
        choices=CENTERINGS,
        default="none",
        help="per_resolution takes the mean embedding of each face's resolution away, which `evaluate --calibrate` "
        "measured for this model (default none)",
    )
    parser.add_argument(
        "--batch_size",
        type=_positive,
        default=BATCH_SIZE,
        help="images at a time over all devices (default %(default)s)",
    )


def add_score(parser: argparse.ArgumentParser) -> None:
    """Declares `--score` and `--qmag`."""
    parser.add_argument(
        "--score",
        choices=sorted(SCORES),
        default="cosine",
        help="of two faces: the cosine (default), or QMagFace's, which takes their quality in",
    )
    parser.add_argument(
        "--qmag",
        type=_constants,
        metavar="ALPHA,BETA",
        help="constants of --score qmag; default: those that `evaluate --fit_qmag` found for this model, else those of "
        "MagFace's network of the same name",
    )


def _constants(text: str) -> tuple[float, float]:
    try:
        alpha, beta = map(float, comma_list.words(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} must be two numbers, alpha,beta") from error
    return alpha, beta


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
    parser.add_argument("--resolution", type=resolution, default=IMAGE_SIZE, help=text)


def resolution(text: str) -> int:
    """Reads a side length in pixels; `argparse.ArgumentTypeError`, a usage error, for others than 1..112."""
    if not text.isdecimal() or not 1 <= int(text) <= IMAGE_SIZE:
        raise argparse.ArgumentTypeError(f"{text!r} must be whole pixels in 1..{IMAGE_SIZE}")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number of 1 or more")
    return int(text)


def add_calibrated_on(parser: argparse.ArgumentParser) -> None:
    """Declares `--calibrated_on`."""
    parser.add_argument(
        "--calibrated_on",
        metavar="SET",
        help="decide by the thresholds that `evaluate --calibrate` found on this test set (default: on the last ones; "
        "of several the strictest)",
    )


def load(options: argparse.Namespace, *, default_fusion: str | None = "sum") -> Embedder:
    """Loads the model that the options name; a default of None is the fusion of its last calibration."""
    fusion = options.fusion or default_fusion
    with progress.waiting(f"loading {options.checkpoint}"):
        asked = {name: getattr(options, name) for name in ("score", "qmag") if hasattr(options, name)}
        asked |= {"fusion": fusion, "centering": options.centering, "batch_size": options.batch_size}
        asked |= {"gallery": options.gallery_checkpoint, "gallery_from": options.gallery_from}
        return Embedder.load(options.checkpoint, **asked)


def faces_of(options: argparse.Namespace, pictures: Sequence[Any]) -> Faces:
    """Looks at pictures, which are read as `--resize` and `--align` say, before the model is loaded.

    Raises:
      UserError: the model is not there, or a picture cannot be used, as far as its file and its header tell.
    """
    source = _looked_at(options, pictures)
    if len(source.problems) > 1:
        for place in sorted(source.problems)[:_NAMED]:
            print(f"{source.name(place)} {source.problems[place]}", file=sys.stderr)
    source.require_all()
    return source


def _looked_at(options: argparse.Namespace, pictures: Sequence[Any]) -> Faces:
    find_model(options.checkpoint)  # which takes no time, while looking at a million pictures does
    if hasattr(options, "gallery_checkpoint"):  # `adapt` reads pictures, and has one model
        gallery_model.look(options)
    source = Faces(pictures, make_face=way_to_face(resize=options.resize, align=options.align))
    source.look()
    return source


def check_new(options: argparse.Namespace, *names: str) -> None:
    """Raises `UserError` if a file to make, by the name of its option, is there, is another's, or cannot be made."""
    given = {name: path for name in names if (path := getattr(options, name))}
    paths.require_local(given)
    for name, path in given.items():
        if os.path.exists(path):
            raise UserError(f"--{name} {path} is there already: choose another name, or remove it")
        paths.check_file(pathlib.Path(path), flag=f"--{name}")
    if len(set(map(os.path.abspath, given.values()))) < len(given):
        raise UserError(f"--{' and --'.join(given)} name one file: choose two")


def warn_of_large(embedder: Embedder, source: Faces, *, resolution: int | Sequence[int] = IMAGE_SIZE) -> None:
    """Says on stderr that faces were read by a model that leaves such large ones to another, which was not named.

    Args:
      embedder: that read all faces.
      source: the faces, after they were read.
      resolution: to which they were reduced, one for all or one for each.
    """
    known = compatibility.of_metadata(embedder.metadata)
    if embedder.gallery or not known:
        return
    asked = [resolution] * len(source) if isinstance(resolution, int) else resolution
    sizes = [min(source.sizes.get(place, IMAGE_SIZE), size) for place, size in enumerate(asked)]
    large = sum(size >= known["resolution"] for size in sizes)
    if large:
        print(
            f"warning: {large} of {len(sizes)} faces have {known['resolution']} px or more, which {embedder.path} was "
            f"made to leave to {known['name']}: name that model with --gallery_checkpoint",
            file=sys.stderr,
        )


class Folder(NamedTuple):
    """The faces of a folder or a tar that can be used as far as their headers tell, and why others cannot, by path."""

    paths: list[str]
    source: Faces
    unreadable: dict[str, str]

    def with_problems(self) -> dict[str, str]:
        """Why faces cannot be used, by path: what was known before, and what came up when they were decoded."""
        return self.unreadable | {self.paths[place]: reason for place, reason in sorted(self.source.problems.items())}


def open_folder(options: argparse.Namespace, folder: str, *, flag: str) -> Folder:
    """Looks at the faces of a folder or a tar, which the user named by `flag`, in natural order.

    Raises:
      UserError: it is missing, or holds no image that can be used, or the model is not there.
    """
    images, unreadable = _list_pictures(folder, flag=flag)
    looked = _looked_at(options, images)
    good = [place for place in range(len(images)) if place not in looked.problems]
    if not good:
        looked.require_all()
    unreadable |= {images[place].path: reason for place, reason in sorted(looked.problems.items())}
    return Folder([images[place].path for place in good], looked.only(good), unreadable)


def tell_unreadable(unreadable: Mapping[str, str]) -> None:
    """Says on stderr what was left out, and why."""
    for path, reason in unreadable.items():
        print(f"left out: {path} {reason}", file=sys.stderr)


def _list_pictures(folder: str, *, flag: str) -> tuple[list[SourceImage], dict[str, str]]:
    """Lists the images of a folder or a tar in natural order, and why others may not be read, by their paths.

    Raises:
      UserError: it is missing, or holds none.
    """
    found = sources.find_images(folder, flag=flag)
    if not found.images:
        raise UserError(f"{flag} {folder} holds no image{sources.why_none(found)}")
    ordered = sorted(found.images.values(), key=lambda image: sources.natural(image.path))
    unread = {os.path.relpath(problem.where, folder): problem.reason for problem in found.problems}
    strange = sources.unexpected(found.others)
    if usual := len(found.others) - len(strange):
        print(f"passed over in {flag} {folder}: {usual} hidden files, texts and the like", file=sys.stderr)
    return ordered, unread | dict.fromkeys(strange, sources.NO_PICTURE)
