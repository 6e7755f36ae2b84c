"""What the sets with official lists share: their options, what is left out of them, and how they are written."""

import argparse
import functools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from lrfr_jax.data import builders, face_sets, protocol_arrays
from lrfr_jax.errors import UserError
from lrfr_jax.pictures import sources
from lrfr_jax.pictures.resize import decode
from lrfr_jax.pictures.sources import Problem
from lrfr_jax.pictures.stored_files import SourceImage
from lrfr_jax.prepare.lists import listed_images
from lrfr_jax.prepare.lists.listed_images import Face
from lrfr_jax.prepare.sets import official_counts, pixel_options
from lrfr_jax.prepare.sets.pixel_options import PixelOptions
from lrfr_jax.prepare.sets.training_options import skipped_note

_IMAGES_PER_SHARD = 50_000


def add_arguments(add: Callable, *, layout: str, can_resize: bool) -> None:
    """Declares the shared options; `add` is the parser's `add_argument`."""
    add("--source", required=True, help=layout)
    if can_resize:
        pixel_options.add_resize(add)
    pixel_options.add_order(add)
    add(
        "--allow_partial",
        action="store_true",
        help="go on where counts are not the official ones and where listed images are missing or bad; every number "
        "measured on the set is then marked partial, and skipped.txt names what was left out",
    )


def remembered(path: str, *, flag: str) -> list[str]:
    """A path and the fingerprint of what lies there, as a set keeps them.

    Raises:
      UserError: nothing lies there.
    """
    if not os.path.exists(path):
        raise UserError(f"{flag} {path} does not exist")
    return [path, sources.fingerprint(path)]


def make(arguments: argparse.Namespace, record: Mapping[str, Any], write: Callable[..., str]) -> str:
    """Calls `write(arguments, record)` unless the set is there already; returns its summary with time and place.

    Raises:
      UserError: a bad name, or the set was made with other arguments.
    """
    start = time.perf_counter()
    builders.check_target(arguments.name, num_shards=1)
    record = PixelOptions(False, arguments.order).remembered() | record
    if builders.is_complete(arguments.data_dir, arguments.name, arguments=record):
        return f"{arguments.name} is complete already in {arguments.data_dir}: nothing to do"
    summary = write(arguments, record)
    folder = face_sets.folder_of(arguments.data_dir, arguments.name)
    return f"{summary}, {time.perf_counter() - start:.1f} s, in {folder}"


def usable(
    images: Sequence[SourceImage],
    problems: Sequence[Problem],
    *,
    decode: Callable[[bytes], Any],
    allow_partial: bool,
) -> tuple[Bool[np.ndarray, " images"], list[Problem]]:
    """Decodes every image; says which are good, and what is wrong with the others and was wrong before.

    Raises:
      UserError: something is wrong and `allow_partial` is false, or no image is good.
    """
    found = list(problems)
    refuse(found, allow_partial=allow_partial)
    good = np.ones(len(images), bool)
    for place, problem in enumerate(sources.unusable(images, decode=decode)):
        if problem is not None:
            good[place] = False
            found.append(problem)
            refuse(found, allow_partial=allow_partial)
    if not good.any():
        reason = f", the first: {found[0].where} {found[0].reason}" if found else ""
        raise UserError(f"not one image can be used{reason}")
    return good, found


def refuse(problems: Sequence[Problem], *, allow_partial: bool) -> None:
    """Ends the command with the first problem, unless a partial set is allowed."""
    if problems and not allow_partial:
        raise UserError(f"{problems[0].where} {problems[0].reason} (--allow_partial leaves such images out)")


def records_of(images: Sequence[SourceImage], pixels: PixelOptions) -> Iterator[tuple[bytes, str]]:
    """Yields the bytes and the path of each image, as a 112x112 picture."""
    return zip(encoded_of(images, pixels), (image.path for image in images), strict=True)


def encoded_of(images: Sequence[SourceImage], pixels: PixelOptions) -> Iterator[bytes]:
    """Reads images on all cores; yields what is stored of each, in order, with a progress bar."""
    return pixel_options.converted(images, lambda image: pixels.to_record(sources.read_image(image)), total=len(images))


def write_identification(
    arguments: argparse.Namespace,
    record: Mapping[str, Any],
    *,
    gallery: Sequence[Face],
    probes: Sequence[Face],
    groups: tuple[str, ...],
    splits: Mapping[str, Int[np.ndarray, "repetitions identities"]],
    counts: Mapping[str, tuple[int, int]],
    problems: Sequence[Problem],
    notes: Mapping[str, str],
) -> str:
    """Writes gallery, then probes, without the bad images, and returns the summary.

    Args:
      record: what the set is made from; its entry `resize` says what becomes of images that are not 112x112.
      groups, splits: as in `protocol_arrays.IdentificationProtocol`.
      counts: {what is counted: (official count, found count)}.
      problems: what is wrong already.

    Raises:
      UserError: counts or images are not as they should be and `--allow_partial` was not given.
    """
    refuse(problems, allow_partial=arguments.allow_partial)
    partial = official_counts.check(counts, allow_partial=arguments.allow_partial, what=arguments.source)
    faces = [*gallery, *probes]
    decoder = functools.partial(decode, resize=record["resize"])
    good, problems = usable(
        [face.image for face in faces], problems, decode=decoder, allow_partial=arguments.allow_partial
    )
    kept = [face for face, is_good in zip(faces, good, strict=True) if is_good]
    num_gallery = int(good[: len(gallery)].sum())
    if num_gallery in (0, len(kept)):
        raise UserError(f"{arguments.source} has {num_gallery} gallery images and {len(kept) - num_gallery} probes")
    labels, places = np.array([face.identity for face in kept], np.int32), np.arange(len(kept), dtype=np.int32)
    protocol = protocol_arrays.IdentificationProtocol(
        gallery=places[:num_gallery],
        gallery_labels=labels[:num_gallery],
        probes=places[num_gallery:],
        probe_labels=labels[num_gallery:],
        probe_groups=np.array([face.group for face in kept[num_gallery:]], np.int32),
        groups=groups,
        splits=splits,
    )
    write_test(
        arguments,
        record,
        records_of([face.image for face in kept], PixelOptions(record["resize"], arguments.order)),
        protocol,
        num_images=len(kept),
        partial=partial,
        problems=problems,
        notes=notes,
    )
    return (
        f"{num_gallery} gallery images, {len(kept) - num_gallery} probes, "
        f"{len(set(labels.tolist()) - {protocol_arrays.DISTRACTOR})} identities{remark(partial, problems)}"
    )


def write_test(
    arguments: argparse.Namespace,
    record: Mapping[str, Any],
    images: Iterable[tuple[bytes, str]],
    protocol: protocol_arrays.Protocol,
    *,
    num_images: int,
    partial: bool,
    problems: Sequence[Problem],
    notes: Mapping[str, str],
) -> None:
    """Writes pairs (encoded image, path) as a test set that knows whether it is partial."""
    builders.write_test_set(
        arguments.data_dir,
        arguments.name,
        images=images,
        num_images=num_images,
        protocol=protocol,
        num_shards=_num_shards(num_images),
        arguments={**record, "partial": partial or bool(problems)},
        notes={**notes, **skipped_note(problems)},
    )


def write_training(
    arguments: argparse.Namespace,
    record: Mapping[str, Any],
    images: Sequence[tuple[SourceImage, str]],
    *,
    counts: Mapping[str, tuple[int, int]],
    problems: Sequence[Problem],
) -> str:
    """Writes images with the names of their identities as a training set; all else as in `write_identification`."""
    refuse(problems, allow_partial=arguments.allow_partial)
    partial = official_counts.check(counts, allow_partial=arguments.allow_partial, what=arguments.source)
    decoder = functools.partial(decode, resize=record["resize"])
    good, problems = usable(
        [image for image, _ in images], problems, decode=decoder, allow_partial=arguments.allow_partial
    )
    kept = sorted((identity, image) for (image, identity), is_good in zip(images, good, strict=True) if is_good)
    identities, labels = np.unique([identity for identity, _ in kept], return_inverse=True)
    encoded = encoded_of([image for _, image in kept], PixelOptions(record["resize"], arguments.order))
    builders.write_training_set(
        arguments.data_dir,
        arguments.name,
        images=zip(encoded, labels.tolist(), strict=True),
        num_images=len(kept),
        identities=identities.tolist(),
        num_shards=_num_shards(len(kept)),
        arguments={**record, "partial": partial or bool(problems)},
        notes=skipped_note(problems),
    )
    return f"{len(kept)} images of {len(identities)} identities{remark(partial, problems)}"


def write_training_folder(
    arguments: argparse.Namespace, record: Mapping[str, Any], *, folder: str, images: int, identities: int
) -> str:
    """Writes the images of FOLDER/<identity>/ below the source as a training set; the counts are the official ones."""
    found = listed_images.find(arguments.source)
    held = [(image, image.identity) for image in listed_images.in_folder(found, folder, depth=2)]
    counts = {
        "training images": (images, len(held)),
        "training identities": (identities, len({identity for _, identity in held})),
    }
    return write_training(arguments, record, held, counts=counts, problems=found.problems)


def _num_shards(num_images: int) -> int:
    return 1 + num_images // _IMAGES_PER_SHARD


def remark(partial: bool, problems: Sequence[Problem]) -> str:
    """The end of a summary: how many images were left out, and whether the set is the official one."""
    left_out = f", {len(problems)} left out" if problems else ""
    return f"{left_out}, partial" if partial or problems else ", complete"
