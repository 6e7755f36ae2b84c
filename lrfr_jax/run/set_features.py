"""Features of every image of a training set, some thousand at a time, and the mean of each identity's."""

from collections.abc import Iterable, Iterator
from typing import Any

import flax.linen as nn
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from lrfr_jax.data import face_sets, labels
from lrfr_jax.evals import embed
from lrfr_jax.image_ops import IMAGE_SIZE
from lrfr_jax.machines import sharding

# Records that are embedded at a time: bounds the memory that features take.
CHUNK = 8192


def of_images(
    backbone: nn.Module,
    variables: Any,
    training_set: face_sets.TrainingSet,
    *,
    what: str,
    mirror: bool,
    mesh: Mesh,
    batch_size: int,
    num_threads: int,
) -> Iterator[Float[np.ndarray, "records orientations dim"]]:
    """Yields the features at full resolution in the order of the records, `CHUNK` at a time.

    Args:
      backbone, variables: the network and its weights.
      training_set: whose images are embedded.
      what: the work's name, for who waits.
      mirror: whether the mirrored image has a feature too, after the image's own.
      mesh, batch_size, num_threads: how images are embedded.

    Raises:
      UserError: an image that cannot be decoded, or features that are not finite.
    """
    embedder = embed.make_embedder(
        backbone, sizes=(IMAGE_SIZE,), rounding="uint8", sharding=sharding.over_batch(mesh), mirror=mirror
    )
    for first in range(0, training_set.num_images, CHUNK):
        records = np.arange(first, min(first + CHUNK, training_set.num_images))
        yield embed.embed_records(
            embedder,
            variables,
            training_set.source,
            wanted={IMAGE_SIZE: records},
            batch_size=batch_size,
            num_threads=num_threads,
            what=f"{what}, images {first + 1} to {first + len(records)} of {training_set.num_images}",
        )[IMAGE_SIZE][records]


def class_means(
    features: Iterable[Float[np.ndarray, "records orientations dim"]],
    training_set: face_sets.TrainingSet,
    *,
    num_threads: int,
) -> Float[np.ndarray, "identities dim"]:
    r"""The direction of each identity's mean embedding, of its images as they are, not mirrored.

    .. math:: w_y \propto \textstyle\sum_{i: y_i = y} \hat f_i

    Args:
      features: of all images in their order, as from `of_images`.
      training_set: whose labels they have.
      num_threads: that read them.
    """
    identities, first, sums = labels.read(training_set, num_threads=num_threads), 0, None
    for chunk in features:
        if sums is None:
            sums = np.zeros((training_set.num_identities, chunk.shape[-1]))
        own = chunk[:, 0]
        unit = own / np.linalg.norm(own, axis=-1, keepdims=True)
        np.add.at(sums, identities[first : first + len(own)], unit)
        first += len(own)
    return (sums / np.linalg.norm(sums, axis=-1, keepdims=True)).astype(np.float32)
