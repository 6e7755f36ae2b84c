"""What all kinds that make verification sets share: lists of sizes, and checked images written with their pairs."""

import argparse
import hashlib
import pathlib
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int
from tqdm import tqdm

from lrfr_jax.data import builders, records
from lrfr_jax.data.protocol_arrays import VerificationProtocol
from lrfr_jax.errors import UserError
from lrfr_jax.pictures import sources
from lrfr_jax.prepare.sets import pixel_options
from lrfr_jax.prepare.sets.pixel_options import PixelOptions

_SHOWN = 20  # characters of a wrong value that an error repeats


def add_partial(add: Callable) -> None:
    """Declares `--allow_partial`."""
    add(
        "--allow_partial",
        action="store_true",
        help="go on if the counts are not the official ones; all numbers measured on the set are marked as partial",
    )


def add_sizes(add: Callable) -> None:
    """Declares `--sizes`, the files of `read_sizes`."""
    add(
        "--sizes",
        action="append",
        metavar="FILE",
        help="side length in pixels of the first and the second image of each pair in turn, in one line with commas "
        "between, as Knoche et al. publish them; may be repeated, the set keeps each list under its file's name",
    )


def read_sizes(paths: Sequence[str] | None, *, num_pairs: int) -> dict[str, Int[np.ndarray, "pairs 2"]]:
    """Reads lists of sizes, by file stem.

    Raises:
      UserError: unreadable, two files of one stem, or not two whole numbers in 1..112 for each pair.

    References: Knoche et al. 2021, Susceptibility to image resolution in face recognition and training strategies.
    """
    lists = {}
    for path in paths or ():
        values = sources.read_text(path, flag="--sizes").strip().split(",")
        if len(values) != 2 * num_pairs:
            raise UserError(f"--sizes {path} has {len(values)} values, {num_pairs} pairs need {2 * num_pairs}")
        sizes = [_size(value, where=f"--sizes {path}, value {place}") for place, value in enumerate(values, 1)]
        stem = pathlib.Path(path).stem
        if stem in lists:
            raise UserError(f"--sizes names two files {stem}: rename one, lists are kept by the names of their files")
        lists[stem] = np.array(sizes, np.int32).reshape(-1, 2)
    return lists


def describe_sizes(lists: Mapping[str, Int[np.ndarray, "pairs 2"]]) -> dict[str, str] | None:
    """What a set remembers of its lists of sizes: their digests; None if it has none."""
    return {name: hashlib.sha256(sizes.tobytes()).hexdigest() for name, sizes in sorted(lists.items())} or None


def write(
    arguments: argparse.Namespace,
    record: Mapping[str, Any],
    *,
    paths: Sequence[str],
    read: Callable[[int], bytes],
    protocol: VerificationProtocol,
    identities: Sequence[str],
    start: float,
    notes: Mapping[str, str] = types.MappingProxyType({}),
) -> str:
    """Writes a verification set, decoding each image once before it is stored, and returns the summary.

    Args:
      arguments: of the command: source, name, data_dir, resize, order.
      record: what the set was made from.
      paths: what each image is called below the source; `read` returns its bytes by its place in them.
      identities: all that occur, for `prepare folder --exclude_identities`; none if the source does not name them.
      start: when the command began, on `time.perf_counter`.
      notes: more texts to put beside the set, by file name.

    Raises:
      UserError: an image cannot be read or decoded, or is not 112x112.
    """
    folder = builders.write_test_set(
        arguments.data_dir,
        arguments.name,
        images=_checked(arguments.source, paths, read, pixel_options.read(arguments)),
        num_images=len(paths),
        protocol=protocol,
        num_shards=1,  # a test set has thousands of images, not millions
        arguments=record,
        notes=({"identities.txt": "".join(f"{identity}\n" for identity in identities)} if identities else {})
        | dict(notes),
    )
    seconds = time.perf_counter() - start
    of_identities = f" of {len(identities)} identities" if identities else ""
    partial = "; it is partial, and so will be every number measured on it" if record.get("partial") else ""
    return (
        f"{len(protocol.pairs)} pairs in {len(np.unique(protocol.fold))} folds, {len(paths)} images{of_identities}, "
        f"{seconds:.1f} s, {len(paths) / seconds:.0f} images/s, in {folder}{partial}"
    )


def _checked(
    source: str, paths: Sequence[str], read: Callable[[int], bytes], pixels: PixelOptions
) -> Iterator[tuple[bytes, str]]:
    for place, path in enumerate(tqdm(paths, desc="check and write", unit=" images", disable=None)):
        try:
            encoded = read(place)
            pixels.check(encoded)
            stored = pixels.to_record(encoded)
        except (ValueError, OSError) as error:
            raise UserError(f"{source}: {path} {error}; every image of a pair is needed") from error
        yield stored, path


def _size(text: str, *, where: str) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= records.IMAGE_SIZE):
        raise UserError(f"{where} is {text[:_SHOWN]!r}, not a whole number of pixels in 1..{records.IMAGE_SIZE}")
    return int(text)
