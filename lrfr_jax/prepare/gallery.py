"""`prepare gallery`: labeled faces become an identification set, one gallery image for each identity."""

import argparse
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lrfr_jax.data.protocol_arrays import IdentificationProtocol
from lrfr_jax.errors import UserError
from lrfr_jax.pictures import sources
from lrfr_jax.pictures.stored_files import SourceImage
from lrfr_jax.prepare.sets import labeled_sources, official_sets, pixel_options, several_sources, training_options

SUMMARY = "aligned faces by identity (as `folder` reads them) -> identification set, one gallery image an identity"
EXAMPLE = """python -m lrfr_jax.prepare gallery --source lfw112.tar --name lfw_gallery --data_dir ~/faces \\
      --identities ~/faces/lfw_folds_9_10/1.0.0/identities.txt"""


def add_arguments(add: Callable) -> None:
    """Declares the options of the command; `add` is the parser's `add_argument`."""
    labeled_sources.add_source(add)
    add("--identities", metavar="FILE", help="identities to take, one a line; without it, all of the source")
    add(
        "--max_images",
        type=int,
        metavar="N",
        help="take the first N images of an identity, at least 2: so that no famous face outweighs the others; without "
        "it, all",
    )
    add(
        "--allow_partial",
        action="store_true",
        help="leave bad images out and name them in skipped.txt; every number measured on the set is then marked "
        "partial",
    )
    pixel_options.add_arguments(add)


def prepare(arguments: argparse.Namespace) -> str:
    """Makes an identification set of the identities with two or more images, and returns the summary; see `--help`.

    The first image of an identity, in the order that `prepare folder` stores them, is in the gallery; the others are
    probes. Line k of `identities.txt` in the set's folder names the identity with label k, counted from 0.

    Raises:
      UserError: bad sources or images, a listed identity that the sources lack, none with two images, or another set
        of that name.
    """
    if arguments.max_images is not None and arguments.max_images < 2:
        raise UserError(f"--max_images must be at least 2, it is {arguments.max_images}: a probe needs a mate")
    path = arguments.identities
    names = None if path is None else training_options.read_names(path, flag="--identities")
    listed = labeled_sources.list_all(arguments.source)
    several_sources.check_numbers(names or (), listed.joined, flag="--identities")
    record = {
        "kind": "gallery",
        **labeled_sources.to_remember(listed),
        "identities": names and training_options.digest(names),
        "max_images": arguments.max_images,
        "allow_partial": arguments.allow_partial,
        **pixel_options.read(arguments).remembered(),
    }
    return official_sets.make(arguments, record, functools.partial(_write, names=names, listed=listed))


def _write(
    arguments: argparse.Namespace,
    record: Mapping[str, Any],
    *,
    names: frozenset[str] | None,
    listed: labeled_sources.LabeledImages,
) -> str:
    pixels = pixel_options.read(arguments)
    by_identity = labeled_sources.by_identity(listed.images)
    missing = sorted((names or frozenset()) - by_identity.keys())
    if missing:
        raise UserError(
            f"--identities {arguments.identities} names {missing[0]}, of whom {', '.join(arguments.source)} has no "
            "image: remove the line, or add the source that has"
        )
    wanted = [image for name, found in by_identity.items() if names is None or name in names for image in found]
    good, problems = official_sets.usable(
        wanted,
        listed.problems,
        decode=pixels.check,
        allow_partial=arguments.allow_partial,
    )
    usable = labeled_sources.by_identity([image for image, is_good in zip(wanted, good, strict=True) if is_good])
    searched = {name: images[: arguments.max_images] for name, images in usable.items() if len(images) > 1}
    if not searched:
        raise UserError(f"no identity in {', '.join(arguments.source)} has two usable images: a probe needs a mate")
    images, protocol = _split(list(searched.values()))
    official_sets.write_test(
        arguments,
        record,
        official_sets.records_of(images, pixels),
        protocol,
        num_images=len(images),
        partial=False,
        problems=problems,
        notes={"identities.txt": "".join(f"{name}\n" for name in searched)},
    )
    return (
        f"{len(protocol.gallery)} gallery images, {len(protocol.probes)} probes, {len(searched)} identities"
        f"{official_sets.remark(False, problems)}{several_sources.in_words(listed.joined)}"
        f"{sources.are_passed_over(listed.others)}"
    )


def _split(by_label: Sequence[list[SourceImage]]) -> tuple[list[SourceImage], IdentificationProtocol]:
    """The first image of each label, then all others, and where both stand."""
    gallery = [images[0] for images in by_label]
    probes = [(label, image) for label, images in enumerate(by_label) for image in images[1:]]
    labels = np.arange(len(gallery), dtype=np.int32)
    protocol = IdentificationProtocol(
        gallery=labels,
        gallery_labels=labels,
        probes=len(gallery) + np.arange(len(probes), dtype=np.int32),
        probe_labels=np.array([label for label, _ in probes], np.int32),
        probe_groups=np.zeros(len(probes), np.int32),
        groups=("",),
    )
    return [*gallery, *(image for _, image in probes)], protocol
