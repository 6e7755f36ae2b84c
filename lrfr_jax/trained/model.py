"""A trained model, opened: a run's newest checkpoint, one checkpoint, or an exported file."""

import hashlib
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from lrfr_jax import models
from lrfr_jax.checkpoints import checkpoint, model_card
from lrfr_jax.errors import UserError
from lrfr_jax.exports import formats
from lrfr_jax.files import paths


class Model(NamedTuple):
    """A network with its weights, on the first device; see `embedder.Embedder` and `formats.Opened` for the fields."""

    path: paths.AnyPath
    metadata: Mapping[str, Any]
    weights: str
    backbone: models.Backbone
    variables: Any
    is_traced: bool = True

    def __repr__(self) -> str:
        return f"<Model {self.path}: {models.in_words(self.metadata['model'])}>"


def open_model(path: str | os.PathLike) -> Model:
    """Opens a run's newest checkpoint, a checkpoint, or an exported file with the card beside it.

    Raises:
      UserError: it is none of them, or cannot be read.
    """
    path = find_model(path)
    if path.is_file():
        weights = digest_of(path)
        card = model_card.read(path, weights=weights)
        opened = formats.open_file(path, facts=facts_of(card))
        kept = ("model", "degradation_rounding", "step", "history", "compatible_with")
        metadata = {name: getattr(card, name) for name in kept}
        return Model(path, metadata, weights, *opened)
    variables, metadata = checkpoint.load_backbone(path)
    weights = checkpoint.model_digest(variables, metadata["model"])
    return Model(path, metadata, weights, models.create_backbone(**metadata["model"]), variables)


def find_model(path: str | os.PathLike) -> paths.AnyPath:
    """Returns a run's newest checkpoint, a checkpoint, or an exported file, of which it reads no weights.

    Raises:
      UserError: it is none of them.
    """
    path = paths.of(path)
    if path.is_file():
        return paths.local(path, "the exported file")
    path = checkpoint.newest(path) if (path / checkpoint.FOLDER).is_dir() else path
    checkpoint.load_metadata(path)
    return path


def digest_of(path: str | os.PathLike) -> str:
    """Returns the SHA-256 of a file, by which its card knows it; `UserError` if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def facts_of(card: model_card.Card) -> formats.Facts:
    """Returns what the card of an exported file says of it; `UserError` if it is no such file's."""
    made = card.history[-1] if card.history else {}
    if made.get("kind") != "export":
        raise UserError("the card of an exported file must end its history with the export: export the model again")
    return formats.Facts(card.model, made["names"], made["code"].get("jax", "of an unknown version"))


def card_of(model: Model) -> model_card.Card:
    """Returns the card of a checkpoint or exported file; `UserError` if the one beside it is damaged or another's."""
    if model.path.is_file():
        return model_card.read(model.path, weights=model.weights)
    return model_card.of_checkpoint(model.path, variables=model.variables, metadata=model.metadata)


def known_of(path: paths.AnyPath, *, weights: str) -> model_card.Card | None:
    """Returns the model's card; None without one, before the model was ever evaluated."""
    return model_card.read(path, weights=weights) if model_card.path_of(path).exists() else None
