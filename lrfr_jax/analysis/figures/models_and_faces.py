"""What the figures stand on: checkpoints by label, a choice of faces, and the faces' embeddings by a model."""

import dataclasses
import functools
import json
import os
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import numpy as np
from jaxtyping import Float, Int, UInt8

from lrfr_jax import models
from lrfr_jax.analysis.figures import option_types
from lrfr_jax.checkpoints import checkpoint
from lrfr_jax.data import face_sets, records
from lrfr_jax.errors import UserError
from lrfr_jax.evals import embed
from lrfr_jax.evals.fusion import unit
from lrfr_jax.image_ops import IMAGE_SIZE
from lrfr_jax.terminal import comma_list, progress

# Folders' names that tell nothing of a model: its number, and what a program calls every one.
_NAMELESS = re.compile(r"(seed|step|epoch|run|checkpoint|model|net|backbone|weights)?s?[-_]?\d*")


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A checkpoint as a figure shows it; `workdir` is the run's folder if that was named, else None."""

    label: str
    path: pathlib.Path
    workdir: pathlib.Path | None
    variables: Any
    metadata: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"<Model {self.label}: {models.in_words(self.metadata['model'])}>"

    @property
    def rounding(self) -> str:
        return self.metadata["degradation_rounding"]

    @property
    def description(self) -> str:
        """The backbone's arguments as text: equal for networks of one architecture and input convention."""
        return json.dumps(self.metadata["model"], sort_keys=True)

    @property
    def backbone(self) -> nn.Module:
        return models.create_backbone(**self.metadata["model"])


@dataclasses.dataclass(frozen=True, eq=False)
class Faces:
    """Some records of a prepared set; `labels` are those of a training set, else None."""

    name: str
    source: Sequence[Mapping[str, Any]]
    records: Int[np.ndarray, " faces"]
    labels: Int[np.ndarray, " faces"] | None


def add_models(add: Callable) -> None:
    """Declares the options that every figure over checkpoints has."""
    add("--checkpoints", required=True, metavar="A,B", help="folders of runs (newest checkpoint) or of checkpoints")
    add(
        "--labels",
        metavar="X,Y",
        help="their names in the figure; default: as much of the folders' names as tells them apart",
    )
    add("--data_dir", required=True, help="folder of the prepared sets")
    add("--batch_size", type=option_types.positive, default=64, help="images at a time (default %(default)s)")


def add_set(add: Callable, which: str) -> None:
    """Declares the option that names the test set."""
    add(
        "--set",
        "--sets",
        required=True,
        type=comma_list.one_word,
        dest="set_name",
        metavar="NAME",
        help=which,
    )


def add_faces(add: Callable, *, num_images: int) -> None:
    """Declares the options by which a figure chooses its faces."""
    add_set(add, "a prepared set of any kind")
    add(
        "--images",
        type=option_types.positive,
        default=num_images,
        metavar="N",
        help="so many of its images, or all of a smaller set (default %(default)s)",
    )
    add("--seed", type=option_types.seed, default=0, help="seed of the choice (default %(default)s)")


def add_resolutions(add: Callable, default: tuple[int, ...], *, remark: str) -> None:
    """Declares at which resolutions a figure shows the faces; `remark` says in words what the default is."""
    text = f"side lengths in pixels (default {remark})"
    add("--resolutions", type=option_types.resolutions, default=default, metavar="R,R", help=text)


def load_models(checkpoints: str, labels: str | None) -> list[Model]:
    """Reads the checkpoints of the command line.

    Args:
      checkpoints: comma-separated folders of runs, of which the newest checkpoint counts, or of checkpoints.
      labels: comma-separated names, as many and all different; without them as much of the folders' names as tells
        them apart.

    Raises:
      UserError: there is none, one cannot be read, or the labels do not fit.
    """
    folders = list(map(pathlib.Path, comma_list.some_words(checkpoints, "--checkpoints")))
    names = [_visible(name) for name in (comma_list.words(labels) if labels else _names_of(folders))]
    if len(names) != len(folders) or len(set(names)) != len(names):
        raise UserError(f"the labels {', '.join(names)} must be {len(folders)} different names: set them with --labels")
    runs = [(folder / checkpoint.FOLDER).is_dir() for folder in folders]
    places = [checkpoint.newest(folder) if is_run else folder for folder, is_run in zip(folders, runs, strict=True)]
    for path in places:  # the last one too, before the first one's weights are read
        checkpoint.load_metadata(path)
    made = []
    for name, folder, is_run, path in zip(names, folders, runs, places, strict=True):
        with progress.waiting(f"loading {path}"):
            variables, metadata = checkpoint.load_backbone(path)
        made.append(Model(name, path, folder if is_run else None, variables, metadata))
    return made


def choose_faces(data_dir: str, name: str, *, num_images: int, seed: int) -> Faces:
    """Draws different records of a set, or takes all of a smaller one.

    Raises:
      UserError: there is no such set.
    """
    is_training = face_sets.list_sets(data_dir).get(name) == "training"
    opened = (face_sets.open_training_set if is_training else face_sets.open_test_set)(data_dir, name)
    chosen = np.random.default_rng(seed).permutation(len(opened.source))[:num_images]
    labels = np.array([opened.source[i]["label"] for i in chosen.tolist()], np.int32) if is_training else None
    return Faces(name, opened.source, chosen, labels)


def decode_faces(faces: Faces) -> UInt8[np.ndarray, "faces 112 112 3"]:
    """Reads all chosen images into memory.

    Raises:
      UserError: one cannot be decoded.
    """
    images = np.empty((len(faces.records), IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    for row, record in enumerate(progress.bar(faces.records.tolist(), f"reading {faces.name}", "images")):
        try:
            images[row] = records.decode_image(faces.source[record]["image"])
        except ValueError as error:
            raise UserError(f"record {record} of {faces.name} {error}; prepare the set again") from error
    return images


def embed_faces(
    model: Model, faces: Faces, *, resolutions: tuple[int, ...], batch_size: int
) -> Float[np.ndarray, "resolutions faces dim"]:
    """Embeds the faces at each resolution: unit length, the image alone, without its mirror image."""
    features = embed.embed_records(
        embedder_of(model, resolutions, mirror=False),
        model.variables,
        faces.source,
        wanted=dict.fromkeys(resolutions, faces.records),
        batch_size=batch_size,
        num_threads=os.cpu_count() or 1,
        what=f"embedding {faces.name} by {model.label}",
    )
    return np.stack([unit(features[r][faces.records, 0]) for r in resolutions])


def embedder_of(model: Model, sizes: tuple[int, ...], *, mirror: bool) -> embed.Embedder:
    """Returns the model's embedder; models of one architecture share it, so that it compiles once."""
    return _embedder(model.description, sizes, model.rounding, mirror)


@functools.cache
def _embedder(description: str, sizes: tuple[int, ...], rounding: str, mirror: bool) -> embed.Embedder:
    backbone = models.create_backbone(**json.loads(description))
    return embed.make_embedder(backbone, sizes=sizes, rounding=rounding, mirror=mirror)


def _names_of(folders: Sequence[pathlib.Path]) -> list[str]:
    """As few last parts of the folders as tell all of them apart; without those that say nothing by themselves."""
    # As the user wrote them: what a link leads to may have any name.
    places = [pathlib.Path(os.path.abspath(folder)) for folder in folders]
    parts = [[part for part in place.parts if part != checkpoint.FOLDER] for place in places]
    # W/checkpoints/<step> is known by the run.
    is_step = [place.parent.name == checkpoint.FOLDER for place in places]
    runs = [found[:-1] if one else found for found, one in zip(parts, is_step, strict=True)]
    parts = runs if len(set(map(tuple, runs))) == len(runs) else parts
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(found[-count - bool(_NAMELESS.fullmatch(found[-1])) :]) for found in parts]
        if len(set(names)) == len(names):
            break
    return names


def _visible(label: str) -> str:
    """matplotlib leaves labels out of legends that begin with '_'."""
    return label.strip().lstrip("_") or "unnamed"
