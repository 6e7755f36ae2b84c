"""Pairs of labeled faces for a fit: all genuine ones of some images of each identity, and impostors of each."""

import numpy as np
from jaxtyping import Bool, Int


def draw(
    labels: Int[np.ndarray, " images"], *, images_per_identity: int, impostors_per_image: int, seed: int
) -> tuple[Int[np.ndarray, "pairs 2"], Bool[np.ndarray, " pairs"]]:
    """Draws pairs as QMagFace's fit has them.

    Args:
      labels: identity of every image.
      images_per_identity: at most so many images of an identity are taken, all pairs of which are genuine.
      impostors_per_image: each image of each genuine pair is compared with so many images of other identities.
      seed: of the draws.

    Returns:
      (pairs, whether they show one identity), the genuine ones first; no pairs if no identity has two images, or there
      is but one.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    groups = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1) if len(order) else []
    groups = [group[:images_per_identity] for group in groups if len(group) > 1]
    if not groups or len(np.unique(labels)) < 2:
        return np.zeros((0, 2), np.int64), np.zeros(0, bool)
    genuine = np.concatenate([group[np.stack(np.triu_indices(len(group), 1), axis=1)] for group in groups])
    ends = np.repeat(genuine.ravel(), impostors_per_image)
    # Images lie sorted by identity: a place outside of one's own identity is drawn without a second try.
    ranked = labels[order]
    first, last = (np.searchsorted(ranked, labels[ends], side) for side in ("left", "right"))
    place = random.integers(0, len(order) - (last - first))
    others = order[np.where(place < first, place, place + last - first)]
    pairs = np.concatenate([genuine, np.stack([ends, others], axis=1)])
    return pairs, np.arange(len(pairs)) < len(genuine)
