"""Which embeddings may be compared with which: a digest for each space that vectors of one reading lie in."""

import hashlib
from collections.abc import Sequence

from lrfr_jax.evals.centering import Means
from lrfr_jax.image_ops import ROUNDINGS


def digest_of(weights: str, rounding: str, fusion: str, means: Means) -> str:
    """Tells embeddings apart: by the weights and by all that decides about an embedding but the resolution."""
    settings = (weights, rounding, fusion)
    settings += tuple((size, mean.tobytes()) for size, mean in sorted(means.items()))
    return hashlib.sha256(repr(settings).encode()).hexdigest()


def spaces_of(digest: str, others: Sequence[str], fusion: str) -> frozenset[str]:
    """Returns the digests of all embeddings with which some can be compared: two sides fit if theirs meet.

    Args:
      digest: of `digest_of`.
      others: digests of other weights that the embeddings' own fit, see `compatibility.digests_of`. None for centered
        embeddings, whose means are of one model.
      fusion: of the embeddings.
    """
    # Whichever rounding the others have: it is about reduced images, and a gallery is whole.
    return frozenset({digest} | {digest_of(one, rounding, fusion, {}) for one in others for rounding in ROUNDINGS})
