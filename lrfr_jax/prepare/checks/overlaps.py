"""Images that occur twice, within one set or in two sets, and identities of one name."""

import multiprocessing.pool
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from lrfr_jax.data import face_sets, records
from lrfr_jax.pictures import sources
from lrfr_jax.prepare.checks import near_duplicates
from lrfr_jax.prepare.sets.training_options import compared_name, has_letter

_SAME_PIXELS = 10.0  # mean difference in gray levels up to which two images with close hashes show one photograph
_MOST_PAIRS = 20_000  # close pairs that are compared pixel by pixel
_NAME_FILES = ("label.labels.txt", "identities.txt")  # of a training set by TFDS, of a test set


def within(source: Sequence[Any], images: np.ndarray, *, named: int) -> dict[str, Any]:
    """Finds images of a set that repeat an earlier one, byte by byte, and pairs of others that look the same.

    Args:
      images: rows of an `image_survey.Survey`.
      named: how many pairs the result lists.

    Returns:
      num_exact, exact, num_near, near, num_across_identities and across_identities (pairs of either sort with two
      labels), is_cut (there are more close pairs than were compared).
    """
    readable = np.flatnonzero(images["bytes"])
    _, first, inverse = np.unique(images["digest"][readable], return_index=True, return_inverse=True)
    leaders = readable[first[inverse]]
    exact = np.stack([leaders, readable], axis=1)[leaders != readable]
    near, is_cut = _look_alike(lambda index: source[index]["image"], images, np.arange(len(images)))
    pairs = np.concatenate([exact, near])
    labels = images["label"][pairs]
    across = pairs[labels[:, 0] != labels[:, 1]]
    return {
        "num_exact": len(exact),
        "exact": exact[:named].tolist(),
        "num_near": len(near),
        "near": near[:named].tolist(),
        "num_across_identities": len(across),
        "across_identities": across[:named].tolist(),
        "is_cut": is_cut,
    }


def between(
    source: Sequence[Any], images: np.ndarray, other_source: Sequence[Any], other_images: np.ndarray, *, named: int
) -> dict[str, Any]:
    """Finds images of a set that another set has too: byte by byte, or looking the same.

    Returns:
      num_exact, num_near, num_shared (images of the set with either), shared (pairs of records), is_cut.
    """
    places = {digest: place for place, digest in enumerate(other_images["digest"].tolist())}
    common = np.flatnonzero(np.isin(images["digest"], other_images["digest"]) & (images["bytes"] > 0))
    exact = {int(record): places[int(images["digest"][record])] for record in common}

    def read(index: int) -> bytes:
        record = source[index] if index < len(images) else other_source[index - len(images)]
        return record["image"]

    both = np.concatenate([images, other_images])
    near, is_cut = _look_alike(read, both, (np.arange(len(both)) >= len(images)).astype(int))
    shared = {int(record): int(other) - len(images) for record, other in near} | exact
    return {
        "num_exact": len(exact),
        "num_near": len(shared) - len(exact),
        "num_shared": len(shared),
        "shared": [{"record": record, "other_record": shared[record]} for record in sorted(shared)[:named]],
        "is_cut": is_cut,
    }


def identity_names(data_dir: str, name: str) -> dict[str, str] | None:
    """Returns the names behind a set's labels, {as compared: as written}; None where it has none.

    Names that are numbers are left out: another set's 17 is someone else.
    """
    folder = face_sets.folder_of(data_dir, name)
    for file_name in _NAME_FILES:
        if (folder / file_name).exists():
            written = (folder / file_name).read_text(encoding="utf-8").split("\n")
            return {compared_name(one): one for one in written if has_letter(one)} or None
    return None


def shared_names(
    names: dict[str, str] | None, other_names: dict[str, str] | None, *, named: int
) -> dict[str, Any] | None:
    """Returns how many identities of two sets have one name, and the first of them; None if either set has no names."""
    if names is None or other_names is None:
        return None
    shared = sorted(names.keys() & other_names.keys())
    return {"num_shared": len(shared), "shared": [names[key] for key in shared[:named]]}


def _look_alike(
    read: Callable[[int], bytes], images: np.ndarray, groups: np.ndarray
) -> tuple[Int[np.ndarray, "pairs 2"], bool]:
    """Compares the pixels of pairs with close hashes and with other bytes; returns those that show one photograph."""
    usable = np.flatnonzero(images["decoded"])
    pairs, is_cut = near_duplicates.close_pairs(images["hash"][usable], groups[usable], limit=_MOST_PAIRS)
    pairs = usable[pairs]
    pairs = pairs[images["digest"][pairs[:, 0]] != images["digest"][pairs[:, 1]]]

    def is_same(pair: np.ndarray) -> bool:
        first, second = (records.decode_image(read(int(index))).astype(np.int16) for index in pair)
        return bool(np.abs(first - second).mean() <= _SAME_PIXELS)

    with multiprocessing.pool.ThreadPool(sources.num_workers()) as pool:
        return pairs[np.array(pool.map(is_same, pairs), bool)], is_cut
