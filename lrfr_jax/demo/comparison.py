"""Two faces at many resolutions through one or two models: all that the page shows of them."""

import base64
import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, UInt8

from lrfr_jax import image_ops
from lrfr_jax.data import synthetic
from lrfr_jax.errors import UserError
from lrfr_jax.evals import thresholds
from lrfr_jax.evals.thresholds import Threshold
from lrfr_jax.image_ops import IMAGE_SIZE
from lrfr_jax.pictures import photos, resize
from lrfr_jax.pictures.faces import Faces, MakeFace
from lrfr_jax.trained.embedder import Embedder

# The stops of the slider, in pixels; closer together where recognition breaks down.
RESOLUTIONS = (112, 96, 80, 64, 56, 48, 40, 32, 28, 24, 20, 18, 16, 14, 12, 10, 9, 8, 7)
# One face stays whole and the other is reduced, or both are.
MODES = ("hr_lr", "lr_lr")
GENERATED_SEED = 2  # no world that a recipe here trains on
MOST_IDENTITIES = 100_000


@dataclasses.dataclass(frozen=True)
class Model:
    """A model under the name that the page shows, with the thresholds of its card that decide, or why it has none."""

    name: str
    embedder: Embedder
    thresholds: list[Threshold]
    far: float | None
    why_none: str


def load(path: str, *, fusion: str | None, far: float | None, calibrated_on: str | None = None) -> Model:
    """Loads a model.

    Args:
      path: see `Embedder.load`.
      fusion: of its embeddings; None takes that of its last calibration.
      far: chooses among its thresholds, the lowest rate if it is None.
      calibrated_on: the test set of its thresholds; None takes those of the last calibration.

    Raises:
      UserError: no model, or no threshold for this rate, fusion and set.
    """
    embedder = Embedder.load(path, fusion=fusion)
    known = embedder.thresholds()
    held = thresholds.of_rate(known, reading=embedder.reading, far=far, calibrated_on=calibrated_on)
    if held:
        thresholds.choose(held, sizes=(IMAGE_SIZE, IMAGE_SIZE), far=far)
    why_none = "" if held else thresholds.why_none(known, reading=embedder.reading)
    return Model("/".join(pathlib.Path(path).parts[-2:]), embedder, held, far, why_none)


def compare(pictures: Sequence[bytes], models: Sequence[Model], *, make_face: MakeFace) -> dict[str, Any]:
    """Compares two pictures, each a whole image file, at all `RESOLUTIONS`.

    Returns:
      {'resolutions': [...], 'views': a pair of data URLs for each, 'models': [{'name', 'hr_lr', 'lr_lr'}]}; a mode
      holds a list of {'similarity', 'threshold', 'is_same', 'words'}.

    Raises:
      UserError: a picture that cannot be used; the sentence says which and why.
    """
    decoded = [_decode(encoded, number) for number, encoded in enumerate(pictures)]
    source = Faces(decoded, make_face=make_face)
    aligned = np.stack([resize.decode(source[number]["image"], resize=False) for number in range(2)])
    if source.problems:
        number = min(source.problems)
        raise UserError(f"the {_ordinal(number)} picture {source.problems[number]}")
    sizes = (source.sizes[0], source.sizes[1])
    views = [[_data_url(view) for view in pair] for pair in _views(aligned)]
    answers = [_ask(model, aligned, sizes) for model in models]
    return {"resolutions": RESOLUTIONS, "views": views, "models": answers}


def generated(identity: int, image: int) -> bytes:
    """A generated face of nobody, as PNG; `UserError` for numbers outside 0..99,999."""
    if not (0 <= identity < MOST_IDENTITIES and 0 <= image < MOST_IDENTITIES):
        raise UserError(f"generated faces have numbers in 0..{MOST_IDENTITIES - 1}")
    return resize.encode_png(synthetic.render_face(identity, image, seed=GENERATED_SEED))


def _decode(encoded: bytes, number: int) -> UInt8[np.ndarray, "height width 3"]:
    if encoded and not photos.can_be_held(encoded):  # what others send meets no more decoders than it must
        raise UserError(f"the {_ordinal(number)} picture is no JPEG, PNG, WebP or PPM: convert it first")
    try:
        return photos.decode_photo(encoded)
    except ValueError as error:
        raise UserError(f"the {_ordinal(number)} picture {error}") from error


def _ordinal(number: int) -> str:
    return ("first", "second")[number]


def _ask(model: Model, faces: UInt8[np.ndarray, "2 112 112 3"], sizes: tuple[int, int]) -> dict[str, Any]:
    count = len(RESOLUTIONS)
    found = model.embedder.embed(np.repeat(faces, count, axis=0), resolution=RESOLUTIONS * 2).vectors
    first, second = found[:count], found[count:]
    whole = first[RESOLUTIONS.index(IMAGE_SIZE)]
    similarities = {"hr_lr": second @ whole, "lr_lr": (first * second).sum(axis=1)}
    answer: dict[str, Any] = {"name": model.name}
    for mode in MODES:
        pairs = zip(RESOLUTIONS, similarities[mode].tolist(), strict=True)
        answer[mode] = [
            _decision(model, similarity, (sizes[0] if mode == "hr_lr" else min(sizes[0], r), min(sizes[1], r)))
            for r, similarity in pairs
        ]
    return answer


def _decision(model: Model, similarity: float, sizes: tuple[int, int]) -> dict[str, Any]:
    if not model.thresholds:
        words = f"no decision: {model.why_none}"
        return {"similarity": similarity, "threshold": None, "is_same": None, "words": words}
    try:
        chosen = thresholds.choose(model.thresholds, sizes=sizes, far=model.far)
    except UserError as reason:
        return {"similarity": similarity, "threshold": None, "is_same": None, "words": f"no decision: {reason}"}
    is_same = similarity > chosen.threshold
    words = thresholds.in_words(similarity, chosen, thresholds.of_populations(model.embedder.thresholds(), chosen))
    return {"similarity": similarity, "threshold": chosen.threshold, "is_same": is_same, "words": words}


@jax.jit
def _degraded(
    faces: UInt8[Array, "faces size size 3"], resolutions: Int[Array, " faces"]
) -> UInt8[Array, "faces size size 3"]:
    return image_ops.degrade(faces, resolutions, sizes=RESOLUTIONS[1:], rounding="uint8").astype(jnp.uint8)


def _views(faces: UInt8[np.ndarray, "2 112 112 3"]) -> UInt8[np.ndarray, "resolutions 2 112 112 3"]:
    """Both faces at each of `RESOLUTIONS`, of which the first one is the whole."""
    lower = np.repeat(RESOLUTIONS[1:], 2)
    reduced = np.asarray(_degraded(jnp.asarray(np.tile(faces, (len(RESOLUTIONS) - 1, 1, 1, 1))), jnp.asarray(lower)))
    return np.concatenate([faces, reduced]).reshape(len(RESOLUTIONS), *faces.shape)


def _data_url(view: UInt8[np.ndarray, "112 112 3"]) -> str:
    return f"data:image/png;base64,{base64.b64encode(resize.encode_png(view)).decode()}"
