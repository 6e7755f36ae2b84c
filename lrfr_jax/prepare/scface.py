"""`prepare scface`: SCface's mugshots and surveillance photos become an identification set, or a set for fine-tuning.

The gallery holds a frontal mugshot of each person; probes are the photos of cameras 1 to 5, one at each of three
distances. The infrared cameras (6, 7, 8) and the rotated mugshots are in no protocol and are passed over.

References:
  Grgic, Delac, Grgic 2011, SCface - surveillance cameras face database, Multimedia Tools and Applications 51.
"""

import argparse
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Int

from lrfr_jax.errors import UserError
from lrfr_jax.pictures import sources
from lrfr_jax.pictures.stored_files import SourceImage
from lrfr_jax.prepare.lists import listed_images
from lrfr_jax.prepare.lists.listed_images import Face, Found
from lrfr_jax.prepare.sets import official_sets

SUMMARY = "SCface (mugshots and surveillance photos) -> identification set, or training set to fine-tune on"
EXAMPLE = """python -m lrfr_jax.prepare scface --source SCface_aligned --name scface --data_dir ~/faces
  python -m lrfr_jax.prepare scface --source SCface_aligned --part training --row 0 --name scface_row0 \\
      --data_dir ~/faces"""

IDENTITIES, CAMERAS, DISTANCES = 130, 5, 3
GROUPS = ("d1", "d2", "d3")  # 4.20 m, 2.60 m, 1.00 m
_RANDOM = "random_80"
_TEST_IDENTITIES = 80  # of each row; the other 50 are for fine-tuning
_IDIAP = {"idiap_dev": (44, 87), "idiap_eval": (88, 130)}  # first and last person; 1 to 43 are its training part
_NAME = re.compile(r"([0-9]{3})_(?:frontal|cam([1-5])_([1-3]))", re.IGNORECASE)


def add_arguments(add: Callable) -> None:
    """Declares the options of the command; `add` is the parser's `add_argument`."""
    layout = "folder or uncompressed tar with 001_frontal.jpg and 001_cam1_1.jpg to 130_cam5_3.jpg anywhere in it"
    official_sets.add_arguments(add, layout=layout, can_resize=True)
    add(
        "--mugshots",
        choices=("original", "cropped"),
        help="take the mugshots of mugshot_frontal_original_all or of ..._cropped_all; needed where both exist",
    )
    add("--num_splits", type=int, default=10, help="rows of 80 test persons to draw (split random_80)")
    add("--seed", type=int, default=0, help="seed of these rows; a row depends on it and on its own number only")
    add("--part", choices=("test", "training"), default="test", help="what to make a set of")
    add("--row", type=int, help="with --part training: the row, counted from 0, whose other 50 persons are taken")


def prepare(arguments: argparse.Namespace) -> str:
    """Makes the identification set or the training set of a row, and returns the summary; see `--help`.

    `splits.json` beside the identification set names the test and the training persons of every row.

    Raises:
      UserError: bad options or images, counts that are not the official ones, or another set of that name.
    """
    _check_options(arguments)
    record = {
        "kind": "scface",
        "part": arguments.part,
        "row": arguments.row,
        "source": official_sets.remembered(arguments.source, flag="--source"),
        "mugshots": arguments.mugshots,
        "num_splits": arguments.num_splits,
        "seed": arguments.seed,
        "resize": arguments.resize,
        "allow_partial": arguments.allow_partial,
    }
    return official_sets.make(arguments, record, _write_test if arguments.part == "test" else _write_training)


def draw_rows(*, num_splits: int, seed: int) -> Int[np.ndarray, "splits 80"]:
    """Draws rows of 80 of the 130 persons, numbered from 1, each row in order."""
    rngs = [np.random.default_rng((seed, row)) for row in range(num_splits)]
    return np.array([np.sort(rng.permutation(IDENTITIES)[:_TEST_IDENTITIES]) + 1 for rng in rngs], np.int32)


def _check_options(arguments: argparse.Namespace) -> None:
    if arguments.num_splits < 1 or arguments.seed < 0:
        raise UserError(
            f"--num_splits must be at least 1 and --seed at least 0, they are {arguments.num_splits}, {arguments.seed}"
        )
    if (arguments.row is not None) != (arguments.part == "training"):
        raise UserError("--row belongs to --part training, which needs it: the row whose other 50 persons to take")
    if arguments.row is not None and not 0 <= arguments.row < arguments.num_splits:
        raise UserError(f"--row must be from 0 to {arguments.num_splits - 1} (--num_splits), it is {arguments.row}")


def _write_test(arguments: argparse.Namespace, record: Mapping[str, Any]) -> str:
    found = listed_images.find(arguments.source)
    gallery, probes = _faces(found, arguments.mugshots)
    rows = draw_rows(num_splits=arguments.num_splits, seed=arguments.seed)
    splits = {name: np.arange(first, last + 1, dtype=np.int32)[None] for name, (first, last) in _IDIAP.items()}
    splits[_RANDOM] = rows
    lists = {
        name: [{"test": row, "training": _others(row, name)} for row in part.tolist()] for name, part in splits.items()
    }
    return official_sets.write_identification(
        arguments,
        record,
        gallery=gallery,
        probes=probes,
        groups=GROUPS,
        splits=splits,
        counts=_counts(gallery, probes),
        problems=found.problems,
        notes={"splits.json": json.dumps(lists)},
    )


def _write_training(arguments: argparse.Namespace, record: Mapping[str, Any]) -> str:
    found = listed_images.find(arguments.source)
    gallery, probes = _faces(found, arguments.mugshots)
    row = draw_rows(num_splits=arguments.num_splits, seed=arguments.seed)[arguments.row]
    chosen = set(_others(row.tolist(), _RANDOM))
    images = [(face.image, f"{face.identity:03d}") for face in gallery + probes if face.identity in chosen]
    return official_sets.write_training(
        arguments, record, images, counts=_counts(gallery, probes), problems=found.problems
    )


def _others(row: list[int], split: str) -> list[int]:
    """The persons to fine-tune on before a test on a row: of the Idiap splits those of its own training part."""
    last = IDENTITIES if split == _RANDOM else _IDIAP["idiap_dev"][0] - 1
    return sorted(set(range(1, last + 1)) - set(row))


def _counts(gallery: list[Face], probes: list[Face]) -> dict[str, tuple[int, int]]:
    return {
        "frontal mugshots": (IDENTITIES, len(gallery)),
        "surveillance photos of cameras 1 to 5": (IDENTITIES * CAMERAS * DISTANCES, len(probes)),
    }


def _faces(found: Found, mugshots: str | None) -> tuple[list[Face], list[Face]]:
    """The mugshots in the order of persons, and the surveillance photos in that of persons, cameras, distances.

    The published folders hold each photo twice (surveillance_cameras_all and ..._distance_1): equal files are one.
    """
    by_key: dict[tuple[int, int, int], SourceImage] = {}
    for image in found.images:
        match = _NAME.fullmatch(listed_images.stem_of(image))
        if match is None or not 1 <= int(match[1]) <= IDENTITIES:
            continue
        key = (int(match[1]), int(match[2] or 0), int(match[3] or 0))
        if mugshots and key[1] == 0 and f"mugshot_frontal_{mugshots}_all" not in image.path.split("/"):
            continue
        other = by_key.setdefault(key, image)
        if other is not image and sources.read_image(other) != sources.read_image(image):
            hint = "choose one with --mugshots" if key[1] == 0 else "leave one of them"
            raise UserError(f"{found.source} holds two different pictures, {other.path} and {image.path}: {hint}")
    keys = sorted(by_key)
    gallery = [Face(by_key[key], key[0]) for key in keys if key[1] == 0]
    return gallery, [Face(by_key[key], key[0], group=key[2] - 1) for key in keys if key[1] > 0]
