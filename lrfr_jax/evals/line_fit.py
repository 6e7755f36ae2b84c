"""QMagFace's constants for a model, from pairs of a prepared set: `evaluate --fit_qmag SET`."""

import argparse
import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from lrfr_jax.data import face_sets
from lrfr_jax.data.protocol_arrays import VerificationProtocol
from lrfr_jax.errors import UserError
from lrfr_jax.evals import drawn_labels, embed, scores, set_options
from lrfr_jax.evals.fusion import unit
from lrfr_jax.image_ops import IMAGE_SIZE
from lrfr_jax.terminal import comma_list, progress

# QMagFace's pairs: images of a person, and strangers with whom each end of a genuine pair is compared.
IMAGES_PER_IDENTITY, IMPOSTORS_PER_IMAGE = 10, 5
# Its false match rates.
RATES = (1e-5, 1e-2)
# Of a training set: its pairs are about ten times as many, or more.
MOST_IMAGES = 20_000
# Pairs at a time.
_CHUNK = 8192


@dataclasses.dataclass(frozen=True, eq=False)
class FitSet:
    """Pairs of a prepared set and, in `about`, what the card says of them and of the fit."""

    source: Sequence
    pairs: Int[np.ndarray, "pairs 2"]
    is_same: Bool[np.ndarray, " pairs"]
    rates: tuple[float, float]
    axis: str
    about: dict[str, Any]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declares `--fit_qmag` and how it is done."""
    add = parser.add_argument_group("QMagFace", "constants of --score qmag from faces of your own").add_argument
    add(
        "--fit_qmag",
        type=comma_list.one_word,
        metavar="SET",
        help="fit them on the pairs of a verification set, or on pairs drawn from a training set, print them and keep "
        "them in the model's card, from where every command takes them",
    )
    low, high = RATES
    add(
        "--fit_rates",
        type=set_options.list_of(float),
        default=RATES,
        metavar="LOW,HIGH",
        help=f"false match rates of the fit; LOW takes 1 / LOW impostor pairs (default {low:g},{high:g})",
    )
    add(
        "--fit_axis",
        choices=sorted(scores.AXES),
        default="raw",
        help="of its thresholds: the score (raw, default), or its sigmoid as in the released code",
    )
    add(
        "--fit_images",
        type=int,
        default=MOST_IMAGES,
        metavar="N",
        help="of a training set the first N images are used (default %(default)s)",
    )


def opened(options: argparse.Namespace) -> FitSet | None:
    """Opens the set that `--fit_qmag` names, before any model is loaded; None without the option.

    Raises:
      UserError: no such set, or too few pairs for the rates.
    """
    name = options.fit_qmag
    if not name:
        return None
    if len(options.fit_rates) != 2:
        raise UserError(f"--fit_rates {options.fit_rates} must be two numbers: the lowest and the highest rate")
    source, pairs, is_same, digest = _pairs_of(options.data_dir, name, most=options.fit_images)
    try:
        scores.check_fit(is_same, rates=options.fit_rates)
    except UserError as error:
        raise UserError(f"--fit_qmag {name}: {error}") from error
    about = {"set": name, "digest": digest, "axis": options.fit_axis, "rates": list(options.fit_rates)}
    about |= {"genuine_pairs": int(is_same.sum()), "impostor_pairs": int((~is_same).sum())}
    return FitSet(source, pairs, is_same, options.fit_rates, options.fit_axis, about)


def _pairs_of(data_dir: str, name: str, *, most: int) -> tuple[Sequence, np.ndarray, np.ndarray, str]:
    found = face_sets.open_any_set(data_dir, name)
    if isinstance(found, face_sets.TrainingSet):
        places = progress.bar(range(min(most, found.num_images)), f"reading labels of {name}", "images")
        labels = np.array([found.source[place]["label"] for place in places])
        how = {"images_per_identity": IMAGES_PER_IDENTITY, "impostors_per_image": IMPOSTORS_PER_IMAGE, "seed": 0}
        return found.source, *drawn_labels.draw(labels, **how), found.digest
    if not isinstance(found.protocol, VerificationProtocol):
        raise UserError(f"--fit_qmag {name} is a set of kind {found.kind}: name a verification or a training set")
    return found.source, found.protocol.pairs, found.protocol.is_same, found.digest


def fit(held: FitSet, embedder: embed.Embedder, variables: Any, *, batch_size: int) -> dict[str, Any]:
    """Fits the constants at full resolution, without mirrored images.

    Args:
      held: from `opened`.
      embedder: from `embed.make_embedder` with the full size.
      variables: of the backbone.
      batch_size: images at a time.

    Returns:
      {'alpha', 'beta'} and what the set says of itself: `qmag` of a model's card.

    Raises:
      UserError: an image cannot be decoded, or the pairs show no line.
    """
    reading = {"batch_size": batch_size, "num_threads": os.cpu_count() or 1}
    wanted = {IMAGE_SIZE: np.unique(held.pairs)}
    what = f"embedding {held.about['set']} for the fit"
    features = embed.embed_records(embedder, variables, held.source, wanted=wanted, what=what, **reading)[IMAGE_SIZE]
    cosines, qualities = _compared(features[:, 0], held.pairs)
    with progress.waiting("fitting qmag"):
        line = scores.fit_line(cosines, qualities, held.is_same, rates=held.rates, axis=held.axis)
    return {"alpha": line.alpha, "beta": line.beta, **held.about}


def _compared(
    features: Float[np.ndarray, "images dim"], pairs: Int[np.ndarray, "pairs 2"]
) -> tuple[Float[np.ndarray, " pairs"], Float[np.ndarray, " pairs"]]:
    vectors, norms = unit(features).astype(np.float32), np.linalg.norm(features, axis=-1)
    parts = (pairs[i : i + _CHUNK].T for i in range(0, len(pairs), _CHUNK))
    cosines = [np.einsum("pd,pd->p", vectors[first], vectors[second]) for first, second in parts]
    return np.concatenate(cosines).astype(np.float64), np.minimum(*norms[pairs].T).astype(np.float64)
