"""A trained model in use: pictures of faces in, unit embeddings out."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from lrfr_jax import models
from lrfr_jax.checkpoints import compatibility
from lrfr_jax.errors import UserError
from lrfr_jax.evals import centering, embed
from lrfr_jax.evals.centering import Means
from lrfr_jax.evals.fusion import fuse
from lrfr_jax.evals.readers import Gallery
from lrfr_jax.evals.reading import Reading, of_gallery
from lrfr_jax.evals.scores import Score
from lrfr_jax.evals.thresholds import Threshold
from lrfr_jax.files import paths
from lrfr_jax.image_ops import IMAGE_SIZE
from lrfr_jax.pictures.faces import Faces, Picture, listed, way_to_face
from lrfr_jax.trained.loading import fields_of
from lrfr_jax.trained.model import known_of
from lrfr_jax.trained.spaces import digest_of, spaces_of


class Embeddings(NamedTuple):
    """What a model says of images, a row each.

    `vectors` have unit length: their dot products are cosine similarities in [-1, 1]. `norms` are the lengths of the
    raw features of the images themselves (without their mirrored selves), which grow with the quality of a face.
    """

    vectors: Float[np.ndarray, "images dim"]
    norms: Float[np.ndarray, " images"]


@dataclasses.dataclass(frozen=True, eq=False)
class Embedder:
    """A model with its weights on all devices of this process; make one with `Embedder.load`.

    Attributes:
      path: the checkpoint's folder, or the exported file.
      metadata: what it says of itself: `model`, `degradation_rounding`.
      weights: digest that tells its weights from all others, as `model_card.Card.weights`.
      fusion: how an image and its mirrored self become one vector, a row of `evals.fusion.FUSIONS`.
      score: of two faces, by their cosine and, for QMagFace's, by their norms.
      means: the mean embedding at each resolution, which is taken away with centering 'per_resolution'; {} with 'none'.
      variables: parameters and statistics.
      program: (resolutions that may occur) -> function of `evals.embed.make_embedder`, compiled once for each.
      batch_sizes: of calls with at most `FEW` images, and of all others.
      gallery: the model that embedded a gallery which this one fits, if it reads the larger faces; else None.
      gallery_from: side length in pixels from which on a face is the gallery's model's.
    """

    path: paths.AnyPath
    metadata: Mapping[str, Any]
    weights: str
    fusion: str
    score: Score
    means: Means
    variables: Any
    program: Callable[[tuple[int, ...]], embed.Embedder]
    batch_sizes: tuple[int, int]
    gallery: "Embedder | None" = None
    gallery_from: int = IMAGE_SIZE

    def __repr__(self) -> str:
        return f"<Embedder {self.path}: {models.in_words(self.metadata['model'])}, {self.reading}>"

    @property
    def digest(self) -> str:
        """Tells models apart: of the weights and of all that decides about an embedding but the resolution."""
        weights = self.weights + (of_gallery(self.gallery.weights, self.gallery_from) if self.gallery else "")
        return digest_of(weights, self.metadata["degradation_rounding"], self.fusion, self.means)

    @property
    def fits(self) -> tuple[str, ...]:
        """Digests of other weights whose embeddings can be compared with those of this model, or of both models.

        None for centered embeddings, whose means are of one model.
        """
        own, *others = compatibility.digests_of(self.weights, self.metadata)
        if self.gallery:
            beside = compatibility.digests_of(self.gallery.weights, self.gallery.metadata)
            return compatibility.common((own, *others), beside)
        return () if self.means else tuple(others)

    @property
    def spaces(self) -> frozenset[str]:
        """Embeddings of two models can be compared if these have anything in common, see `spaces.spaces_of`."""
        return spaces_of(self.digest, self.fits, self.fusion)

    @property
    def centering(self) -> str:
        """Whether the mean embedding of each resolution is taken away, one of `evals.centering.CENTERINGS`."""
        return "per_resolution" if self.means else "none"

    @property
    def reading(self) -> Reading:
        """To what thresholds belong that decide for these embeddings."""
        gallery = of_gallery(self.gallery.weights, self.gallery_from) if self.gallery else ""
        return Reading(self.fusion, str(self.score), self.centering, gallery)

    def thresholds(self) -> list[Threshold]:
        """What the model was calibrated to by `evaluate --calibrate`; see `evals.thresholds.choose`."""
        card = known_of(self.path, weights=self.weights)
        return card.thresholds if card else []

    def similarities(self, first: Embeddings, second: Embeddings) -> Float[np.ndarray, " pairs"]:
        """The score of each pair of rows; by default their cosine."""
        cosines = np.einsum("pd,pd->p", first.vectors, second.vectors)
        return self.score.of(cosines, np.minimum(first.norms, second.norms))

    @classmethod
    def load(
        cls,
        path: str | os.PathLike,
        *,
        fusion: str | None = "sum",
        score: str = "cosine",
        qmag: tuple[float, float] | None = None,
        centering: str = "none",
        batch_size: int = 64,
        gallery: str | os.PathLike | None = None,
        gallery_from: int | None = None,
    ) -> "Embedder":
        """Loads a model, or two that read one gallery.

        Args:
          path: a run's folder (its newest checkpoint is taken), one checkpoint, or a file that `lrfr_jax.export` made.
          fusion: 'sum' adds the features of an image and of its mirror image, as most evaluations do; 'none' takes the
            image alone and half of the time; the others are in `evals.fusion.FUSIONS`. None takes that of the model's
            last calibration, and 'sum' without one.
          score: 'cosine', or 'qmag' for QMagFace's, which also takes the quality of the worse face.
          qmag: its alpha and beta; None takes those that were fitted for the model, else those of its backbone.
          centering: 'per_resolution' takes the mean embedding of each face's resolution away, which `evaluate
            --calibrate` measured for this model.
          batch_size: images at a time; rounded up to a multiple of the devices.
          gallery: the model that embedded a gallery and that the one of `path` was trained to fit; it then reads the
            faces of at least `gallery_from` pixels, in their pictures and as they are asked.
          gallery_from: None takes what the model of `path` says.

        Raises:
          UserError: no model, one that cannot be read, an unknown fusion, score or centering, or one that the model
            lacks constants or means for, or two models that do not fit each other.
        """
        own, other = fields_of(
            path,
            fusion=fusion,
            score=score,
            qmag=qmag,
            centering=centering,
            batch_size=batch_size,
            gallery=gallery,
            gallery_from=gallery_from,
        )
        return cls(**own, gallery=cls(**other) if other else None)

    def embed(
        self,
        images: np.ndarray | Sequence[Picture] | Picture,
        *,
        resolution: int | Sequence[int] | np.ndarray = IMAGE_SIZE,
        resize: bool = False,
        align: bool = False,
    ) -> Embeddings:
        """Embeds images, one or thousands.

        Args:
          images: RGB pixels uint8 [112, 112, 3] or [images, 112, 112, 3], paths of files, or a list of both.
          resolution: side length in pixels, in 1..112, to which the faces are reduced first, as in training; one for
            all, or one for each.
          resize: pictures may have any size, and each shows nothing but an aligned face.
          align: pictures are photos, of which the largest face is cut out; needs the extra `align`.

        Returns:
          `Embeddings`, a row for each image.

        Raises:
          UserError: an image or a resolution cannot be used, or the model's features are not finite; the sentence
            names it.
        """
        found = Faces(listed(images), make_face=way_to_face(resize=resize, align=align))
        found.look()
        found.require_all()
        embeddings = self.embed_faces(found, resolution=resolution)
        found.require_all()
        return embeddings

    def embed_faces(
        self, source: Faces, *, resolution: int | Sequence[int] | np.ndarray, what: str = "embedding"
    ) -> Embeddings:
        """Embeds all faces of a source; see `embed`. The rows of unusable pictures (`source.problems`) are zero.

        `what` names the work while one waits for it.
        """
        none = self._embeddings(np.zeros((0, 2, self.metadata["model"]["embedding_size"]), np.float32), [])
        found = Embeddings(
            np.zeros((len(source), none.vectors.shape[1]), np.float32), np.zeros(len(source), np.float32)
        )
        for places, part in self.stream_faces(source, resolution=resolution, what=what):
            found.vectors[places], found.norms[places] = part
        return found

    def stream_faces(
        self, source: Faces, *, resolution: int | Sequence[int] | np.ndarray, what: str = "embedding"
    ) -> Iterator[tuple[Int[np.ndarray, " part"], Embeddings]]:
        """Embeds the faces of a source batch by batch, in memory that does not grow with them; see `embed`.

        Returns:
          An iterator over (places in the source, their embeddings), without the places of unusable pictures
          (`source.problems`); in the order of the source, if all have one resolution.
        """
        sizes = _size_of_each(resolution, len(source))
        wanted = {int(size): np.flatnonzero(sizes == size) for size in np.unique(sizes)}
        if not len(source):
            return iter(())
        return self._usable(source, embed.stream_records(source=source, what=what, **self._reading(wanted)))

    def _usable(
        self, source: Faces, stream: Iterator[tuple[list[tuple[int, int]], np.ndarray]]
    ) -> Iterator[tuple[Int[np.ndarray, " part"], Embeddings]]:
        for jobs, raw in stream:
            good = [row for row, (place, _) in enumerate(jobs) if place not in source.problems]
            places = np.array([jobs[row][0] for row in good], np.int64)
            # As large as it is asked, or as it was in its picture.
            sizes = [min(jobs[row][1], source.sizes.get(jobs[row][0], IMAGE_SIZE)) for row in good]
            yield places, self._embeddings(raw[good], sizes)

    def _embeddings(self, raw: Float[np.ndarray, "images views dim"], sizes: Sequence[int]) -> Embeddings:
        vectors = fuse(raw, fusion=self.fusion)
        if self.means:
            vectors = centering.center_each(vectors, self.means, np.array(sizes, np.int64)).astype(np.float32)
        if self.fusion == "concat":
            vectors /= np.sqrt(2).astype(np.float32)  # two unit vectors side by side
        return Embeddings(vectors, np.linalg.norm(raw[:, 0], axis=-1))

    def features(
        self, source: Sequence[Mapping[str, Any]], wanted: Mapping[int, Int[np.ndarray, " records"]]
    ) -> dict[int, Float[np.ndarray, "images views dim"]]:
        """Returns raw features of records at resolutions; see `evals.embed.embed_records`."""
        return embed.embed_records(source=source, **self._reading(wanted))

    def _reading(self, wanted: Mapping[int, Int[np.ndarray, " records"]]) -> dict[str, Any]:
        """The arguments of `evals.embed.embed_records` but the source."""
        if not all(1 <= resolution <= IMAGE_SIZE for resolution in wanted):
            raise UserError(f"resolutions {sorted(wanted)} must be whole pixels in 1..{IMAGE_SIZE}")
        if self.means:
            centering.check(self.means, tuple(wanted))
        few, many = self.batch_sizes
        sizes = tuple(sorted({IMAGE_SIZE, *wanted}, reverse=True))
        return {
            "embedder": self.program(sizes),
            "variables": self.variables,
            "gallery": self._gallery(sizes),
            "wanted": wanted,
            "batch_size": few if sum(map(len, wanted.values())) <= few else many,
            "num_threads": os.cpu_count() or 1,
        }

    def evaluation_arguments(self, sizes: tuple[int, ...]) -> dict[str, Any]:
        """Returns the arguments of `evals.evaluation.run` that are the model's, for resolutions of `sizes_of`."""
        if self.means:
            centering.check(self.means, sizes)
        return {
            "embedder": self.program(sizes),
            "variables": self.variables,
            "rounding": self.metadata["degradation_rounding"],
            "batch_size": self.batch_sizes[-1],
            "num_threads": os.cpu_count() or 1,
            "gallery": self._gallery(sizes),
        }

    def _gallery(self, sizes: tuple[int, ...]) -> Gallery | None:
        one = self.gallery
        return Gallery(one.program(sizes), one.variables, self.gallery_from) if one else None


def _size_of_each(resolution: int | Sequence[int] | np.ndarray, images: int) -> np.ndarray:
    sizes = np.asarray(resolution)
    if sizes.shape not in ((), (images,)):
        raise UserError(f"resolution names {sizes.size} sizes for {images} images: give one for all, or one for each")
    if sizes.dtype.kind not in "iuf" or np.any(sizes % 1):
        raise UserError(f"resolutions {np.unique(sizes).tolist()} must be whole pixels in 1..{IMAGE_SIZE}")
    return np.broadcast_to(sizes, images)
