"""`prepare bin`: a `.bin` file of InsightFace becomes a verification set."""

import argparse
import pathlib
import time
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Int

from lrfr_jax.data import builders
from lrfr_jax.data.protocol_arrays import VerificationProtocol
from lrfr_jax.errors import UserError
from lrfr_jax.pictures import sources
from lrfr_jax.prepare.packs import bin_file
from lrfr_jax.prepare.sets import official_counts, pixel_options, verification

SUMMARY = "InsightFace's .bin file -> verification set; it is a pickle, nothing in it is run"
EXAMPLE = "python -m lrfr_jax.prepare bin --source agedb_30.bin --name agedb_30 --data_dir ~/faces"

# Pairs of the sets that InsightFace distributes, half of them matched.
OFFICIAL = {"lfw": 6000, "agedb_30": 6000, "cfp_fp": 7000, "cfp_ff": 7000, "calfw": 6000, "cplfw": 6000}
# Their protocols match half of each fold; the lists of CALFW and CPLFW may hold all matched pairs first.
_BALANCED = ("lfw", "agedb_30", "cfp_fp", "cfp_ff")
NUM_FOLDS = 10  # of all these sets, in the order of the pairs


def add_arguments(add: Callable) -> None:
    """Declares the options of the command; `add` is the parser's `add_argument`."""
    add(
        "--source",
        required=True,
        help="the .bin file, of Python 2 or 3; its images must have 112x112 pixels, or --resize",
    )
    add(
        "--set",
        "--sets",
        choices=sorted(OFFICIAL),
        help="check the official counts of this set; if not given, by the file's name, and none if it has another",
    )
    verification.add_sizes(add)
    pixel_options.add_arguments(add)
    verification.add_partial(add)


def prepare(arguments: argparse.Namespace) -> str:
    """Makes a verification set of a `.bin` file in 10 folds, and returns the summary; see `--help`.

    Images that occur in several pairs are stored once. The file names no identities, so there is no `identities.txt`.

    Raises:
      UserError: not a readable `.bin` file, other counts, bad images, or another set of that name.
    """
    start = time.perf_counter()
    builders.check_target(arguments.name, num_shards=1)
    images, is_same = bin_file.read_bin(arguments.source)
    stem = pathlib.Path(arguments.source).stem
    known = arguments.set or (stem if stem in OFFICIAL else None)
    what = f"{arguments.source} as {known}"
    counts = _counts(known, is_same) if known else {}
    is_partial = official_counts.check(counts, allow_partial=arguments.allow_partial, what=what)
    if len(is_same) < NUM_FOLDS:
        raise UserError(
            f"{arguments.source} has {len(is_same)} pairs, fewer than the {NUM_FOLDS} folds: make it again with more"
        )
    sizes = verification.read_sizes(arguments.sizes, num_pairs=len(is_same))
    record = {
        "kind": "bin",
        "source": [arguments.source, sources.fingerprint(arguments.source)],
        "set": known,
        "sizes": verification.describe_sizes(sizes),
        "partial": is_partial or None,
        **pixel_options.read(arguments).remembered(),
    }
    if builders.is_complete(arguments.data_dir, arguments.name, arguments=record):
        return f"{arguments.name} is complete already in {arguments.data_dir}: nothing to do"
    first_places, pairs = _unique(images)
    return verification.write(
        arguments,
        record,
        paths=[f"image_{place:06d}" for place in first_places],
        read=lambda place: images[first_places[place]],
        protocol=VerificationProtocol(pairs, is_same, _fold(len(is_same)), sizes),
        identities=(),
        start=start,
    )


def _counts(known: str, is_same: np.ndarray) -> dict[str, tuple[int, int]]:
    pairs = OFFICIAL[known]
    counts = {"pairs": (pairs, len(is_same)), "matched pairs": (pairs // 2, int(is_same.sum()))}
    if known in _BALANCED and len(is_same) == pairs:
        matched = is_same.reshape(NUM_FOLDS, -1).sum(1)
        counts["folds with half of the pairs matched"] = (NUM_FOLDS, int(np.sum(2 * matched == pairs // NUM_FOLDS)))
    return counts


def _fold(num_pairs: int) -> Int[np.ndarray, " pairs"]:
    """Folds of consecutive pairs, of which the first hold one more where ten do not divide them: so InsightFace's."""
    sizes = num_pairs // NUM_FOLDS + (np.arange(NUM_FOLDS) < num_pairs % NUM_FOLDS)
    return np.repeat(np.arange(1, NUM_FOLDS + 1, dtype=np.int32), sizes)


def _unique(images: Sequence[bytes]) -> tuple[list[int], Int[np.ndarray, "pairs 2"]]:
    """Returns the places of the first of equal images, and each pair as two indices into them."""
    first: dict[bytes, int] = {}
    indices = [first.setdefault(image, len(first)) for image in images]
    _, places = np.unique(indices, return_index=True)
    return places.tolist(), np.array(indices, np.int32).reshape(-1, 2)
