"""Fields of a config that once had other names, or were not there: what was recorded then, read as of today."""

from collections.abc import Mapping
from typing import Any

# Fields that came later, with the value that stands for what was done before there was a choice; as json has them.
LATER = {
    "classified": "feature",
    "teacher.checkpoint": "",
    "teacher.cache": "none",
    "teacher.compatible_from": 0,
    "input.order": "shuffled",
    "input.images_per_identity": 1,
    "input.second.dataset": "",
    "input.second.batch_size": 0,
    "input.second.order": "shuffled",
    "input.second.images_per_identity": 1,
    "augment.crop.areas": [0.2, 1.0],
    "augment.crop.aspects": [3 / 4, 4 / 3],
    "augment.crop.probability": 0.0,
    "augment.low_resolution.probability": 0.0,
    "augment.low_resolution.sides": [0.2, 1.0],
    "augment.gray.probability": 0.0,
    "augment.light.probability": 0.0,
    "augment.light.strength": 0.5,
    "model.input.size": 112,
    "optimizer.algorithm": "sgd",
    "optimizer.nesterov": False,
    "optimizer.betas": [],
    "optimizer.epsilon": 0.0,
    "optimizer.weight_decay_by_prefix": [],
    "optimizer.decay_towards": "zero",
    "optimizer.weight_average": 0.0,
}
# Of every view.
LATER_OF_VIEWS = {"operator": "bicubic", "source": "first"}
VIEWS = "augment.views."


def current(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a recorded config with the fields of today.

    The views were once the high-resolution one and, if `augment.sizes` held any, a low-resolution one, each with half
    of the classification; the head was a rule for the own logit, in the group `loss`.

    Args:
      fields: a config of any age laid out flat, {dotted name: value as json has it}; {} where none was recorded.
    """
    if not fields:
        return {}
    fields = LATER | dict(fields)
    if "augment.sizes" in fields:
        fields |= _views(fields.pop("augment.sizes"), fields.pop("augment.ratios"))
    names = {name.removeprefix(VIEWS).partition(".")[0] for name in fields if name.startswith(VIEWS)}
    fields = {f"{VIEWS}{name}.{field}": value for name in names for field, value in LATER_OF_VIEWS.items()} | fields
    if "loss.margin_type" in fields:
        fields |= _head(*(fields.pop(f"loss.{field}") for field in ("margin_type", "scale", "margin")))
    return fields


def _views(sizes: list[int], ratios: list[float]) -> dict[str, Any]:
    weight = 0.5 if sizes else 1.0
    rules = {"hr": {"sizes": [], "ratios": [], "share": 0.0, "weight": weight}}
    if sizes:
        rules["lr"] = {"sizes": sizes, "ratios": ratios, "share": 1.0, "weight": weight}
    return {f"{VIEWS}{name}.{field}": value for name, rule in rules.items() for field, value in rule.items()}


def _head(margin_type: str, scale: float, margin: float) -> dict[str, Any]:
    name, _, straight_through = margin_type.partition("_")
    head = {"name": name, "scale": scale}
    if name != "softmax":
        head["margin"] = margin
    if name == "arcface":
        head |= {"gradient": "straight_through" if straight_through else "exact", "guard": "none"}
    return {f"head.{field}": value for field, value in head.items()}
