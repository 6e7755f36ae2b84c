"""What is known of a model, beside its weights: `card.json` for programs and `card.md` for people.

A checkpoint's card lies in its folder, that of an exported file beside it as FILE.card.json and FILE.card.md.
"""

import dataclasses
import json
import logging
import os
from collections.abc import Mapping
from typing import Any

import jax

from lrfr_jax.checkpoints import card_checks, checkpoint, compatibility
from lrfr_jax.errors import UserError
from lrfr_jax.evals import means, thresholds
from lrfr_jax.evals.means import Mean
from lrfr_jax.evals.scores import Line
from lrfr_jax.evals.thresholds import Threshold
from lrfr_jax.files import paths

logger = logging.getLogger("lrfr_jax")

NAME = "card"
SCHEMA = 2


@dataclasses.dataclass(frozen=True)
class Card:
    """One model.

    Attributes:
      weights: whose card it is: `checkpoint.model_digest` of a checkpoint, the SHA-256 of an exported file.
      model: arguments of `models.create_backbone`.
      degradation_rounding: how images are reduced before they are embedded, see `image_ops.degrade`.
      step: of the training.
      parameters: how many numbers the network learned.
      history: what the weights went through, oldest first: see `lineage`.
      results: reports of test sets by name, as in `evals.report.report_of`.
      thresholds: at which the model was calibrated, of all readings and sets, those of the last calibration at the end.
      means: the mean embedding at each resolution, of one set for each fusion: what centering takes away.
      qmag: constants of QMagFace's score that were fitted for the model, and on what; {} if none were.
      compatible_with: whose embeddings the model was trained to fit, see `compatibility`; {} if nobody's.
    """

    weights: str
    model: Mapping[str, Any]
    degradation_rounding: str
    step: int
    parameters: int
    history: list[dict[str, Any]]
    results: dict[str, dict[str, Any]]
    thresholds: list[Threshold]
    means: list[Mean] = dataclasses.field(default_factory=list)
    qmag: dict[str, Any] = dataclasses.field(default_factory=dict)
    compatible_with: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def line(self) -> Line | None:
        """The fitted constants of the score qmag."""
        return Line(self.qmag["alpha"], self.qmag["beta"]) if self.qmag else None


def path_of(model: str | os.PathLike) -> paths.AnyPath:
    """Where the card of a checkpoint's folder, or of an exported file, lies."""
    path = paths.of(model)
    return path / f"{NAME}.json" if path.is_dir() else path.with_name(f"{path.name}.{NAME}.json")


def of_checkpoint(folder: str | os.PathLike, *, variables: Any, metadata: Mapping[str, Any]) -> Card:
    """Returns a checkpoint's card, with what earlier evaluations wrote into it if it has one.

    Args:
      folder: of the checkpoint.
      variables: what `checkpoint.load_backbone` read from it.
      metadata: the same.

    Raises:
      UserError: its card is damaged, of another version, or of other weights.
    """
    weights = checkpoint.model_digest(variables, metadata["model"])
    facts = {name: metadata[name] for name in ("model", "degradation_rounding", "step")}
    facts |= {"parameters": sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))}
    facts |= {"history": metadata.get("history", []), "compatible_with": compatibility.of_metadata(metadata)}
    if path_of(folder).exists():
        return dataclasses.replace(read(folder, weights=weights), **facts)
    return Card(weights=weights, **facts, results={}, thresholds=[])


def is_written(workdir: str | os.PathLike, step: int) -> bool:
    """Says whether a checkpoint of a run has its card; a run that is killed may leave one without."""
    return path_of(paths.of(workdir) / checkpoint.FOLDER / str(step)).exists()


def describe_run(workdir: str | os.PathLike, *, is_main_process: bool) -> None:
    """Writes a card beside each checkpoint of a run; see `describe`."""
    for step in checkpoint.steps_of(workdir):
        describe(workdir, step, is_main_process=is_main_process)


def describe(workdir: str | os.PathLike, step: int, *, is_main_process: bool) -> None:
    """Writes the card of one checkpoint of a run, with the results of the evaluation at its step.

    Every process of a run calls it, as orbax reads a checkpoint by all of them together; the main one writes. A card
    that cannot be written is told and no error: it is no reason to end days of training.
    """
    folder = paths.of(workdir) / checkpoint.FOLDER / str(step)
    report = paths.of(workdir) / "eval" / f"{step}.json"
    try:
        variables, metadata = checkpoint.load_backbone(folder)
        if is_main_process:
            card = of_checkpoint(folder, variables=variables, metadata=metadata)
            write(folder, dataclasses.replace(card, results=_with_report(card, report)))
    except UserError as error:
        logger.warning("checkpoint %d gets no card: %s", step, error)


def _with_report(card: Card, path: paths.AnyPath) -> dict[str, Any]:
    """A card's results with those of an evaluation's json, of which the card's own count as the newer ones."""
    from lrfr_jax.evals import earlier_results, report  # see `write`

    if not path.exists():
        return card.results
    made = report.read(path)
    if made.get("weights", "") not in ("", card.weights):
        logger.warning("%s is of other weights: it is no part of the card of step %d", path, card.step)
        return card.results
    return earlier_results.merge(made["sets"], card.results)


def write(model: str | os.PathLike, card: Card) -> paths.AnyPath:
    """Writes a card in both forms, each whole or not at all, in place of an older one; returns the json's path.

    Raises:
      UserError: the folder cannot be written.
    """
    from lrfr_jax.checkpoints.card_text import markdown
    from lrfr_jax.evals import tables  # with it comes all of evaluation, which a user of models needs not

    path = path_of(model)
    tables.check(card.results, path)
    try:
        paths.write_text(path, json.dumps({"schema": SCHEMA, **dataclasses.asdict(card)}, indent=1) + "\n")
        paths.write_text(path.with_suffix(".md"), markdown(card))
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error}") from error
    return path


def read(model: str | os.PathLike, *, weights: str) -> Card:
    """Reads the card of a model.

    Args:
      model: a checkpoint's folder or an exported file.
      weights: whose card it must be, see `Card.weights`.

    Raises:
      UserError: it is missing, damaged, of another version, or of other weights; a key is missing or of another type.
    """
    path = path_of(model)
    try:
        card = {"means": [], "qmag": {}, "compatible_with": {}} | json.loads(path.read_text())  # of older cards
        schema = card.pop("schema")
        if schema == SCHEMA:
            card_checks.check(card, path=path)
        found = (
            Card(
                **card
                | {"thresholds": [thresholds.from_plain(one) for one in card["thresholds"]]}
                | {"means": [means.from_plain(one) for one in card["means"]]}
            )
            if schema == SCHEMA
            else None
        )
    except FileNotFoundError as error:
        raise UserError(f"{model} has no card {path.name} beside it, which says what it is: copy that along") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is no model card ({error!r}): remove it, and evaluate or export the model again"
        ) from error
    if found is None:
        raise UserError(f"{path} has schema {schema}, this version reads {SCHEMA}: evaluate or export the model again")
    if found.weights != weights:
        raise UserError(f"{path} is the card of other weights: remove it, and evaluate or export the model again")
    return found
