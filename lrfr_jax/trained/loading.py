"""What an `Embedder` is made of: one model, or two, with its weights on all devices and its compiled programs."""

import functools
import os
from collections.abc import Collection, Mapping
from typing import Any

import jax

from lrfr_jax.checkpoints.model_card import Card
from lrfr_jax.errors import UserError
from lrfr_jax.evals import centering as centerings
from lrfr_jax.evals import embed, means, scores
from lrfr_jax.evals.centering import CENTERINGS, Means
from lrfr_jax.evals.fusion import FUSIONS
from lrfr_jax.evals.scores import SCORES, Line
from lrfr_jax.evals.thresholds import newest_fusion
from lrfr_jax.image_ops import IMAGE_SIZE
from lrfr_jax.machines import sharding
from lrfr_jax.trained.gallery_model import open_fitting
from lrfr_jax.trained.model import Model, known_of, open_model

# A call with no more images than this takes a small program, so that two faces do not cost as much as a batch.
FEW = 2
# Compiled programs that are kept, each for its sizes of faces.
PROGRAMS = 8


def fields_of(
    path: str | os.PathLike,
    *,
    fusion: str | None,
    score: str,
    qmag: tuple[float, float] | None,
    centering: str,
    batch_size: int,
    gallery: str | os.PathLike | None,
    gallery_from: int | None,
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Opens what `Embedder.load` loads; see there.

    Returns:
      The fields of the model's `Embedder` but `gallery`, and those of the gallery's model, None without one.
    """
    choices = {"fusion": (fusion, (None, *FUSIONS)), "score": (score, SCORES), "centering": (centering, CENTERINGS)}
    _check_choices(choices)
    if batch_size < 1:
        raise UserError(f"batch_size={batch_size} must be at least 1")
    if gallery_from is not None and not gallery:
        raise UserError(f"gallery_from={gallery_from} does nothing without gallery: name the model of the gallery")
    if gallery and (score, centering) != ("cosine", "none"):
        raise UserError(
            f"score {score} and centering {centering} do not go with two models, as lengths of features and means "
            "are of one: take score cosine and centering none"
        )
    found = open_model(path)
    other, size = open_fitting(gallery, model=found, from_size=gallery_from) if gallery else (None, IMAGE_SIZE)
    card = known_of(found.path, weights=found.weights)
    if not fusion:
        held = [one for one in card.thresholds if bool(one.gallery) == bool(gallery)] if card else []
        fusion = newest_fusion(held) or newest_fusion(card.thresholds if card else []) or "sum"
    of_it = _read_by(found, fusion=fusion, batch_size=batch_size)
    beside = _read_by(other, fusion=fusion, batch_size=batch_size) if other else None
    fitted = card.line if card else None
    backbone, given = found.metadata["model"]["backbone"], Line(*qmag) if qmag else None
    of_it["score"] = scores.score_of(score, given=given, fitted=fitted, backbone=backbone)
    of_it["means"] = _means(card, fusion) if centering != "none" else {}
    return of_it | {"gallery_from": size}, beside


def _read_by(model: Model, *, fusion: str, batch_size: int) -> dict[str, Any]:
    """The fields of an `Embedder` that asks a model for cosines of embeddings that are not centered."""
    mesh = sharding.make_mesh(class_shards=1)
    make = functools.partial(
        embed.make_embedder,
        model.backbone,
        rounding=model.metadata["degradation_rounding"],
        sharding=sharding.over_batch(mesh),
        mirror=fusion != "none",
        is_traced=model.is_traced,
    )
    return {
        "path": model.path,
        "metadata": model.metadata,
        "weights": model.weights,
        "fusion": fusion,
        "score": scores.COSINE,
        "means": {},
        "variables": jax.device_put(model.variables, sharding.replicated(mesh)),
        "program": functools.lru_cache(PROGRAMS)(lambda sizes: make(sizes=sizes)),
        "batch_sizes": tuple(mesh.size * -(-size // mesh.size) for size in (min(FEW, batch_size), batch_size)),
    }


def _check_choices(choices: Mapping[str, tuple[str | None, Collection[str | None]]]) -> None:
    for name, (value, known) in choices.items():
        if value not in known:
            raise UserError(f"{name}={value!r} is unknown: choose one of {', '.join(filter(None, known))}")


def _means(card: Card | None, fusion: str) -> Means:
    """The means of a model's card for a fusion; that there are none shows here, not when faces are embedded."""
    held = means.by_fusion(card.means if card else []).get(fusion, {})
    if not held:
        centerings.check(held, (IMAGE_SIZE,))
    return held
