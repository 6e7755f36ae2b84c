"""What is known of a model, beside its weights: `card.json` in the folder of its checkpoint.

So far it holds the thresholds at which the model was calibrated; they are of no use to other weights, so it says whose
they are.
"""

import json
import os
from collections.abc import Sequence

from lrfr_jax import paths
from lrfr_jax.errors import UserError
from lrfr_jax.evals import thresholds as threshold_table
from lrfr_jax.evals.thresholds import Threshold

FILE = "card.json"
SCHEMA = 1


def write(checkpoint: str | os.PathLike, *, weights: str, thresholds: Sequence[Threshold]) -> paths.AnyPath:
    """Writes the card whole or not at all, in place of one that is there, and returns its path.

    Args:
      checkpoint: its folder.
      weights: `checkpoint.model_digest` of the weights and the model's arguments.
      thresholds: from `calibration.thresholds_of`.

    Raises:
      UserError: the folder cannot be written.
    """
    path = paths.of(checkpoint) / FILE
    card = {"schema": SCHEMA, "weights": weights, "thresholds": threshold_table.to_json(thresholds)}
    try:
        paths.write_text(path, json.dumps(card, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error}") from error
    return path


def read_thresholds(checkpoint: str | os.PathLike, *, weights: str) -> list[Threshold]:
    """Reads the thresholds of a model; none if it has no card.

    Raises:
      UserError: the card is damaged, of another version, or of other weights.
    """
    path = paths.of(checkpoint) / FILE
    if not path.exists():
        return []
    try:
        card = json.loads(path.read_text())
        schema, owner = card["schema"], card["weights"]
        thresholds = threshold_table.from_json(card["thresholds"]) if schema == SCHEMA else []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no model card ({error!r}): remove it, and calibrate the model again") from error
    if schema != SCHEMA:
        raise UserError(f"{path} has schema {schema}, this version reads {SCHEMA}: calibrate the model again")
    if owner != weights:
        raise UserError(f"{path} is the card of other weights: remove it, and calibrate the model again")
    return thresholds
