"""Which network reads which face, and with which statistics: one network, or two by the size of the face."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from lrfr_jax.evals.centering import nearest
from lrfr_jax.image_ops import IMAGE_SIZE
from lrfr_jax.models import statistics

# (variables, images uint8 [batch, h, w, 3], resolutions int32 [batch]) -> raw features float32 [batch, views, dim].
Embedder = Callable[[Any, np.ndarray, np.ndarray], Any]
# Of faces that one program reads with the same variables: whether the gallery's model does, and the statistics' size.
Key = tuple[bool, int | None]


class Gallery(NamedTuple):
    """The model that embedded a gallery, to which another one was fitted that reads the small faces.

    Attributes:
      embedder, variables: its own, as `embed.embed_records` takes them.
      from_size: side length in pixels; it reads faces of that size and larger ones.
    """

    embedder: Embedder
    variables: Any
    from_size: int


class Readers:
    """One network with its weights, or two with the second's choice of faces."""

    def __init__(self, embedder: Embedder, variables: Any, gallery: Gallery | None):
        self._from_size = gallery.from_size if gallery else IMAGE_SIZE + 1
        self._embedders = {False: embedder} | ({True: gallery.embedder} if gallery else {})
        held = {False: variables} | ({True: gallery.variables} if gallery else {})
        self._measured = {which: statistics.sizes_of(one) for which, one in held.items()}
        self._variables = {
            (which, size): statistics.at_resolution(held[which], size)
            for which, sizes in self._measured.items()
            for size in (None, *sizes)
        }

    def key_of(self, source: Sequence, record: int, resolution: int) -> Key:
        """Who reads a record at a resolution.

        The face counts as large as it was in its picture where a source knows that (`sizes`, as
        `pictures.faces.Faces`) and it is lower than the resolution. Statistics are None for faces of full resolution,
        and of most models, else the nearest of those measured.
        """
        size = min(getattr(source, "sizes", {}).get(record, resolution), resolution)
        is_gallerys = size >= self._from_size
        measured = self._measured[is_gallerys]
        found = nearest({IMAGE_SIZE, *measured}, size)
        return is_gallerys, found if found in measured else None

    def ask(self, key: Key, images: np.ndarray, resolutions: np.ndarray) -> Any:
        """Embeds a batch of faces of one key."""
        return self._embedders[key[0]](self._variables[key], images, resolutions)
