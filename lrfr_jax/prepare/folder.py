"""`prepare folder`: folders, tars or lists of aligned faces become a training set."""

import argparse
import time
from collections.abc import Callable

from lrfr_jax.data import builders
from lrfr_jax.pictures import sources
from lrfr_jax.pictures.sources import Problem
from lrfr_jax.pictures.stored_files import SourceImage
from lrfr_jax.prepare.sets import labeled_sources, official_sets, pixel_options, several_sources, training_options
from lrfr_jax.prepare.sets.pixel_options import PixelOptions

SUMMARY = "aligned faces in folders, tars (also of webdataset) or .lst lists -> training set"
EXAMPLE = """python -m lrfr_jax.prepare folder --source casia112.tar --name casia --data_dir ~/faces \\
      --exclude_identities ~/faces/lfw/1.0.0/identities.txt
  python -m lrfr_jax.prepare folder --source 'shards/faces-{000000..000099}.tar' --name many --data_dir ~/faces"""


def add_arguments(add: Callable) -> None:
    """Declares the options of the command; `add` is the parser's `add_argument`."""
    labeled_sources.add_source(add)
    training_options.add_limits(add, order="that of its list, or of names, 2 before 10")
    training_options.add_arguments(add)


def prepare(arguments: argparse.Namespace) -> str:
    """Makes a training set of all images of the sources, and returns the summary; see `--help` for the arguments.

    Equal names of identities in several sources are one identity (`labeled_sources.list_all` says more), whose images
    --min_images and --max_images count together, bad ones left out; labels number identities in the order of names, 2
    before 10.

    Raises:
      UserError: bad sources, bad images under `--on_error error`, an empty selection, or another set of that name.
    """
    start = time.perf_counter()
    builders.check_target(arguments.name, num_shards=arguments.shards)
    training_options.check_limits(arguments)
    selection, pixels = training_options.read_selection(arguments), pixel_options.read(arguments)
    listed = labeled_sources.list_all(arguments.source)
    identities = {image.identity for image in listed.images}
    several_sources.check_names(arguments, selection, names=identities, joined=listed.joined)
    record = {
        "kind": "folder",
        **labeled_sources.to_remember(listed),
        "min_images": arguments.min_images,
        "max_images": arguments.max_images,
        **training_options.to_remember(arguments, selection),
    }
    if builders.is_complete(arguments.data_dir, arguments.name, arguments=record):
        return f"{arguments.name} is complete already in {arguments.data_dir}: nothing to do"
    images = [image for image in listed.images if selection.takes(image.identity)]
    if images:
        _check_before_decoding(_limited(images, arguments), arguments, pixels)
    images, problems = _usable(images, listed.problems, pixels, on_error=arguments.on_error)
    if not images:
        raise training_options.nothing_left(problems, selection)
    kept = _limited(images, arguments)
    labeled = [(image, label) for label, images in enumerate(kept.values()) for image in images]
    stored = official_sets.encoded_of([image for image, _ in labeled], pixels)
    folder = builders.write_training_set(
        arguments.data_dir,
        arguments.name,
        images=zip(stored, (label for _, label in labeled), strict=True),
        num_images=len(labeled),
        identities=list(kept),
        num_shards=arguments.shards,
        arguments=record,
        notes=training_options.skipped_note([*problems, *listed.others]),
    )
    seconds = time.perf_counter() - start
    return (
        f"{len(labeled)} images of {len(kept)} identities, {len(problems)} skipped"
        f"{training_options.occurring(selection, identities)}{several_sources.in_words(listed.joined)}"
        f"{sources.are_passed_over(listed.others)}, "
        f"{arguments.shards} shards, "
        f"{seconds:.1f} s, {len(labeled) / seconds:.0f} images/s, in {folder}"
    )


def _limited(images: list[SourceImage], arguments: argparse.Namespace) -> dict[str, list[SourceImage]]:
    """Groups images by identity, without the identities and the images that --min_images and --max_images leave out."""
    least = arguments.min_images or 1
    found = labeled_sources.by_identity(images)
    kept = {name: images[: arguments.max_images] for name, images in found.items() if len(images) >= least}
    if not kept:
        raise training_options.too_few(arguments)
    return kept


def _check_before_decoding(
    kept: dict[str, list[SourceImage]], arguments: argparse.Namespace, pixels: PixelOptions
) -> None:
    """Refuses what bad images can only make worse: hours later it would be too late."""
    builders.check_identities(len(kept), name=arguments.name)
    sizes = [image.size for images in kept.values() for image in images]
    num_bytes = sum(sizes) if pixels.keeps_bytes else 0  # else nobody knows yet
    builders.check_fits(arguments.data_dir, num_images=len(sizes), num_bytes=num_bytes, num_shards=arguments.shards)


def _usable(
    images: list[SourceImage], problems: list[Problem], pixels: PixelOptions, *, on_error: str
) -> tuple[list[SourceImage], list[Problem]]:
    """Parts the images that decode from those that do not; under `error`, the first bad one ends the command."""
    good, bad = [], list(problems)
    if bad and on_error == "error":
        raise training_options.as_error(bad[0])
    for image, problem in zip(images, sources.unusable(images, decode=pixels.check), strict=True):
        if problem is None:
            good.append(image)
        elif on_error == "error":
            raise training_options.as_error(problem)
        else:
            bad.append(problem)
    return good, bad
