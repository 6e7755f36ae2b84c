"""Means for centering as a model's card keeps them, in plain values."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from lrfr_jax.evals.centering import Means
from lrfr_jax.image_ops import IMAGE_SIZE


@dataclasses.dataclass(frozen=True)
class Mean:
    """The mean embedding of faces at one resolution.

    Attributes:
      resolution: side length in pixels.
      fusion: of the embeddings.
      set, digest: whose images they were; '' for a set prepared before there was a digest.
      images: how many.
      values: the numbers as text, with spaces between, each exact to float32.
    """

    resolution: int
    fusion: str
    set: str
    digest: str
    images: int
    values: str

    @classmethod
    def of(cls, vector: Float[np.ndarray, " dim"], **source: Any) -> "Mean":
        """Makes one of its vector."""
        return cls(values=" ".join(map(str, vector.astype(np.float32).tolist())), **source)

    @property
    def vector(self) -> Float[np.ndarray, " dim"]:
        return np.array(self.values.split(), np.float32)


def from_plain(entry: Mapping[str, Any]) -> Mean:
    """Makes one of its json; `ValueError` for a value that no mean has, `TypeError` for other keys."""
    one = Mean(**entry)
    if not 1 <= one.resolution <= IMAGE_SIZE or not 0 <= np.linalg.norm(one.vector) <= 1.001:
        raise ValueError(f"a mean embedding at {one.resolution} px has length {np.linalg.norm(one.vector)}")
    return one


def merge(earlier: Sequence[Mean], found: Sequence[Mean]) -> list[Mean]:
    """Joins those of one more measurement: of a fusion they stay those of one set, and what is measured again goes."""
    sources = {one.fusion: (one.set, one.digest) for one in found}
    measured = {(one.fusion, one.resolution) for one in found}
    kept = [
        one
        for one in earlier
        if sources.get(one.fusion, (one.set, one.digest)) == (one.set, one.digest)
        and (one.fusion, one.resolution) not in measured
    ]
    return kept + list(found)


def by_fusion(held: Sequence[Mean]) -> dict[str, Means]:
    """The vectors by fusion and resolution."""
    found: dict[str, dict] = {}
    for one in held:
        found.setdefault(one.fusion, {})[one.resolution] = one.vector
    return found
