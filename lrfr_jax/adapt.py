"""`python -m lrfr_jax.adapt`: BatchNorm's statistics of a trained model at each resolution, from unlabeled faces.

python -m lrfr_jax.adapt --checkpoint pretrained/r50 --images faces --resolutions 20,14,7 --output adapted
python -m lrfr_jax.adapt --checkpoint pretrained/r50 --set mine --data_dir data --resolutions 20,14,7 --output adapted

No weight is trained. Every command takes the new checkpoint as it takes the old one, and asks each face with the
statistics of the measured resolution that is nearest to its own, of which full resolution keeps those of the weights.
`export --resolution R` writes one of them. Measure before you use it: what helps weights that never saw small faces
harms those that did.
"""

import argparse
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from lrfr_jax import image_ops, models
from lrfr_jax.checkpoints import checkpoint, lineage, model_card
from lrfr_jax.data import face_sets, records
from lrfr_jax.errors import UserError, one_sentence
from lrfr_jax.files import paths
from lrfr_jax.image_ops import IMAGE_SIZE
from lrfr_jax.models import statistics
from lrfr_jax.terminal import comma_list, progress
from lrfr_jax.trained import model_options
from lrfr_jax.trained.model import Model, find_model, open_model

NUM_IMAGES = 512


class Source(NamedTuple):
    """Faces to measure on: records {'image': encoded bytes}, and what the history calls them."""

    records: Sequence[Mapping[str, Any]]
    name: str
    digest: str


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the checkpoint that the command line asks for; prints what it is, and exits with 1 on bad input."""
    options = _parser().parse_args(argv)
    with one_sentence():
        paths.require_local({"output": options.output})
        print(adapt(options))


def adapt(options: argparse.Namespace) -> str:
    """Measures the statistics, writes `options.output`, and returns the report; see `--help`.

    Raises:
      UserError: a bad option, model or source of faces, or a folder that is there already; nothing is written then.
    """
    _check(options)
    found = find_model(options.checkpoint)
    if found.is_file():
        raise UserError(f"{found} is an export, whose statistics are part of its program: name a checkpoint")
    source = _source(options)
    chosen = _chosen(len(source.records), options)
    with progress.waiting(f"loading {found}"):
        model = open_model(found)
    if not model.variables.get("batch_stats"):
        raise UserError(f"{found} holds a network without BatchNorm: it has no statistics to adapt, use it as it is")
    images = _pixels(source, chosen)
    adapted = dict(model.variables.get(statistics.ADAPTED, {}))
    for resolution in options.resolutions:
        with progress.waiting(f"statistics at {resolution} px"):
            adapted[str(resolution)] = measure(model, images, resolution=resolution, batch_size=options.batch_size)
    facts = {"faces": source.name, "digest": source.digest, "num_images": len(images)}
    facts |= {"resolutions": list(options.resolutions), "batch_size": options.batch_size, "seed": options.seed}
    metadata = {**model.metadata, "history": [*model.metadata.get("history", ()), lineage.entry("adaptation", **facts)]}
    variables = dict(model.variables) | {statistics.ADAPTED: adapted}
    checkpoint.save_backbone(options.output, variables, metadata)
    card = model_card.of_checkpoint(options.output, variables=variables, metadata=metadata)
    model_card.write(options.output, card)
    return _report(options, len(images), source)


def measure(
    model: Model, images: UInt8[np.ndarray, "images height width 3"], *, resolution: int, batch_size: int
) -> Any:
    """The statistics of a model's layers for faces reduced to a resolution; see `models.statistics.measure`.

    Images that fill no batch are left out.
    """
    rounding = model.metadata["degradation_rounding"]

    def batches() -> Iterator[Float[Array, "batch height width 3"]]:
        for first in range(0, len(images) - batch_size + 1, batch_size):
            yield image_ops.normalize(reduced(jnp.asarray(images[first : first + batch_size]), resolution, rounding))

    backbone = models.create_backbone(**{**model.metadata["model"], "dropout": 0.0})
    return statistics.measure(backbone, model.variables, batches())


def reduced(
    images: UInt8[Array, "batch height width 3"], resolution: int, rounding: str
) -> Float[Array, "batch height width 3"]:
    """The images as they are asked at a resolution."""
    if resolution == IMAGE_SIZE:
        return images.astype(jnp.float32)
    sides = jnp.full(len(images), resolution)
    return image_ops.degrade(images, sides, sizes=(resolution,), rounding=rounding)


def _check(options: argparse.Namespace) -> None:
    if not all(1 <= resolution <= IMAGE_SIZE for resolution in options.resolutions):
        raise UserError(f"--resolutions {options.resolutions} must be whole pixels in 1..{IMAGE_SIZE}")
    if options.set and not options.data_dir:
        raise UserError(f"--set {options.set} needs --data_dir, the folder of the prepared sets")
    if options.batch_size < 2 or options.num_images < options.batch_size:
        raise UserError(
            f"--num_images {options.num_images} and --batch_size {options.batch_size}: a batch takes 2 images or more, "
            "and there must be one"
        )
    if pathlib.Path(options.output).exists():
        raise UserError(f"{options.output} is there already: name another folder, or remove it")
    paths.check_folder(pathlib.Path(options.output), flag="--output")


def _source(options: argparse.Namespace) -> Source:
    if options.images:
        folder = model_options.open_folder(options, options.images, flag="--images")
        return Source(folder.source, pathlib.Path(options.images).name, "")
    if options.resize or options.align:
        raise UserError("--resize and --align do nothing with --set, whose images are aligned faces")
    found = face_sets.open_any_set(options.data_dir, options.set)
    return Source(found.source, options.set, found.digest)


def _chosen(available: int, options: argparse.Namespace) -> np.ndarray:
    if available < options.batch_size:
        raise UserError(f"{available} images are fewer than one batch: name more faces, or a smaller --batch_size")
    count = min(available, options.num_images)
    count -= count % options.batch_size
    return np.sort(np.random.default_rng(options.seed).choice(available, count, replace=False))


def _pixels(source: Source, chosen: np.ndarray) -> UInt8[np.ndarray, "images height width 3"]:
    def decoded() -> Iterator[np.ndarray]:
        for place in progress.bar(chosen.tolist(), "reading faces", "images"):
            try:
                yield records.decode_image(source.records[place]["image"])
            except ValueError as error:
                raise UserError(f"image {place} of {source.name} {error}: leave it out") from error

    pixels = np.stack(list(decoded()))
    getattr(source.records, "require_all", lambda: None)()
    return pixels


def _report(options: argparse.Namespace, count: int, source: Source) -> str:
    sizes = ", ".join(map(str, sorted(options.resolutions, reverse=True)))
    return "\n".join(
        [
            f"{options.output}: statistics at {sizes} px from {count} images of {source.name}; weights as before",
            f"measure whether they help: python -m lrfr_jax.evaluate --checkpoint {options.output} --data_dir DIR "
            f"--sets lfw --resolutions {sizes.replace(' ', '')}",
        ]
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lrfr_jax.adapt",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--checkpoint", required=True, help="a run's folder (its newest checkpoint is taken), or one checkpoint")
    faces = parser.add_mutually_exclusive_group(required=True)
    faces.add_argument("--images", metavar="DIR", help="folder or tar of faces; nobody needs to know who they are")
    faces.add_argument("--set", type=comma_list.one_word, metavar="NAME", help="a prepared set of any kind")
    add("--data_dir", help="folder of the prepared sets")
    add("--resolutions", required=True, type=_resolutions, metavar="R,R", help="side lengths in pixels to measure at")
    add("--output", required=True, metavar="DIR", help="folder of the checkpoint, which must not be there yet")
    add("--num_images", type=int, default=NUM_IMAGES, help="faces to measure on, drawn from all (default %(default)s)")
    add("--batch_size", type=int, default=model_options.BATCH_SIZE, help="images at a time (default %(default)s)")
    add("--seed", type=int, default=0, help="of the draw (default %(default)s)")
    model_options.add_pictures(parser)
    return parser


def _resolutions(text: str) -> tuple[int, ...]:
    return tuple(map(int, comma_list.some_words(text, "the list")))


if __name__ == "__main__":
    main()
