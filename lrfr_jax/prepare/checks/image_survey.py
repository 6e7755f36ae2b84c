"""One look at every record of a set: what each image is, in a few numbers that fit in memory for millions."""

import hashlib
import multiprocessing.pool
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from tqdm import tqdm

from lrfr_jax.data import records
from lrfr_jax.errors import UserError
from lrfr_jax.pictures import sources
from lrfr_jax.prepare.checks import near_duplicates

_CHUNK = 64  # records per task of the threads
_THRESHOLD_SAMPLE = 2048  # faces whose medians are the thresholds of the hash
_SKIN = (slice(40, 96), slice(36, 76))  # rows, columns of an aligned face: eyes to mouth, between the cheeks
_STARTS = {b"\xff\xd8\xff": "JPEG", b"\x89PNG": "PNG", b"RIFF": "WebP", b"P6": "PPM"}

# What is known of an image; `digest` is of its bytes, the others are of its pixels.
_FIELDS = np.dtype(
    [
        ("decoded", "?"),
        ("label", "<i8"),
        ("digest", "<u8"),
        ("hash", "<u8"),
        ("bytes", "<u4"),
        ("mean", "<f4"),
        ("deviation", "<f4"),
        ("red_minus_blue", "<f4"),
    ]
)


class Survey(NamedTuple):
    """All images of a set.

    Attributes:
      images: one structured row for each record, with the fields above; label -1 where the set has none, all zero
        where the record cannot be read.
      problems: record -> why it cannot be decoded.
      sizes, formats: how many records there are of each, by `width x height` and by name.
    """

    images: np.ndarray
    problems: dict[int, str]
    sizes: dict[str, int]
    formats: dict[str, int]

    @property
    def labels(self) -> Int[np.ndarray, " readable"]:
        """Labels of the records that can be read at all."""
        return self.images["label"][self.images["bytes"] > 0]


def draw_thresholds(source: Sequence[Any], *, seed: int) -> Float[np.ndarray, "64"]:
    """Returns the medians over a sample of the set, which `near_duplicates.hash_of` compares with."""
    size = min(len(source), _THRESHOLD_SAMPLE)
    chosen = np.random.default_rng(seed).choice(len(source), size, replace=False)
    found = []
    for index in chosen:
        try:
            face = records.decode_image(_read(source, int(index))["image"])
        except ValueError:
            continue
        found.append(near_duplicates.frequencies(face))
    return np.median(found, axis=0) if found else np.zeros(near_duplicates.HASH_BITS)


def survey(source: Sequence[Any], thresholds: Float[np.ndarray, "64"], *, name: str) -> Survey:
    """Decodes every record on all cores, with a progress bar; memory grows by some 40 bytes for each."""
    images, problems = np.zeros(len(source), _FIELDS), {}
    sizes: dict[str, int] = {}
    formats: dict[str, int] = {}

    def look(index: int) -> tuple[np.ndarray, str, str, str | None]:
        try:
            record = _read(source, index)
        except ValueError as error:
            return np.zeros((), _FIELDS), "unknown", "unknown", str(error)
        return _looked_at(record, thresholds)

    with multiprocessing.pool.ThreadPool(sources.num_workers()) as pool:
        looks = pool.imap(look, range(len(source)), chunksize=_CHUNK)
        bar = tqdm(looks, total=len(source), desc=f"read {name}", unit=" images", disable=None)
        for index, (row, size, image_format, reason) in enumerate(bar):
            images[index] = row
            sizes[size] = sizes.get(size, 0) + 1
            formats[image_format] = formats.get(image_format, 0) + 1
            if reason:
                problems[index] = reason
    return Survey(images, problems, sizes, formats)


def red_minus_blue(face: UInt8[np.ndarray, "112 112 3"]) -> float:
    """Mean of red minus blue where an aligned face has skin; skin of any tone is redder than blue."""
    red, _, blue = face[_SKIN].reshape(-1, 3).mean(axis=0)
    return float(red - blue)


def _read(source: Sequence[Any], index: int) -> dict[str, Any]:
    """Reads a record; damage of the shard, too, is a `ValueError`."""
    try:
        return source[index]
    except UserError as error:  # of which the number is told with it
        raise ValueError(f"cannot be read from its shard: {error.__cause__}") from error


def _looked_at(record: dict[str, Any], thresholds: np.ndarray) -> tuple[np.ndarray, str, str, str | None]:
    encoded, row = record["image"], np.zeros((), _FIELDS)
    row["label"] = record.get("label", -1)
    row["digest"] = np.frombuffer(hashlib.blake2b(encoded, digest_size=8).digest(), "<u8")[0]
    row["bytes"] = len(encoded)
    image_format = next((name for start, name in _STARTS.items() if encoded.startswith(start)), "unknown")
    size = "unknown"
    try:
        width, height = records.image_size(encoded)
        size = f"{width}x{height}"
        face = records.decode_image(encoded)
    except ValueError as error:
        return row, size, image_format, str(error)
    row["decoded"] = True
    row["hash"] = near_duplicates.hash_of(near_duplicates.frequencies(face), thresholds)
    row["mean"], row["deviation"], row["red_minus_blue"] = face.mean(), face.std(), red_minus_blue(face)
    return row, size, image_format, None
