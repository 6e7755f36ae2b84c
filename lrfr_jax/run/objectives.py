"""What a config's groups `head`, `parts`, `terms` and `loss` mean together: the objective of a run."""

import inspect
import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from lrfr_jax.errors import UserError
from lrfr_jax.models import taps
from lrfr_jax.objective.heads import HEADS, Head
from lrfr_jax.objective.named_features import LOGITS, Names
from lrfr_jax.objective.parts import LAYERS, PARTS, Part
from lrfr_jax.objective.teacher import TEACHER
from lrfr_jax.objective.terms import TERMS
from lrfr_jax.objective.terms.term import WEIGHT_UNITS, NamedTerm
from lrfr_jax.objective.total_loss import STUDENT, Objective
from lrfr_jax.objective.view_rules import View, check_weights
from lrfr_jax.run import terms as named_terms

NO_HEAD = "none"
# Metrics of other things than terms, and what their names begin with.
TAKEN = ("loss", "distance", "classification", "learning_rate")
BEGINNINGS = ("classification_", "accuracy_", "grad_norm")
# Under a term's name with this ending its weight is told.
WEIGHT = "_weight"


def head_of(settings: Mapping[str, Any]) -> Head | None:
    """The head that a config's group `head` stands for; None for the name 'none', a run without a classifier.

    Raises:
      UserError: an unknown name, fields that are another head's, or a number that is not finite.
      ValueError: what the head itself refuses.
    """
    numbers = dict(settings)
    name = numbers.pop("name")
    if name == NO_HEAD and not numbers:
        return None
    if name not in HEADS and name != NO_HEAD:
        raise UserError(f"head.name={name!r} is unknown: choose one of {', '.join(HEADS)}, or {NO_HEAD}")
    wanted = () if name == NO_HEAD else inspect.signature(HEADS[name]).parameters
    if numbers.keys() != set(wanted):
        raise UserError(
            f"head.name={name!r} has the fields {', '.join(wanted)}, not {', '.join(numbers)}: give the head as an "
            f"argument of the config file, FILE.py:head={name}, or set `config.head = common.head({name!r})`"
        )
    for field, value in numbers.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"head.{field}={value} must be finite")
    return HEADS[name](**numbers)


def parts_of(settings: Mapping[str, Mapping[str, Any]], backbone: nn.Module) -> dict[str, Part]:
    """Reads the config's group `parts`, {name: {"part", "of", "channels"}}, by the names' order.

    Raises:
      UserError: an entry that means nothing; the sentence names it.
    """
    if not settings:
        return {}
    of_backbone, found = taps.names_of(backbone), {}
    for name, entry in sorted(settings.items()):
        here = f"parts.{name}"
        if name in (*of_backbone, LOGITS):
            raise UserError(f"{here} has the name of a tap of the network: give it another")
        if set(entry) != {"part", "of", "channels"}:
            raise UserError(f"{here} has the fields {', '.join(sorted(entry))}: give part, of and channels")
        kind, channels = entry["part"], tuple(entry["channels"])
        if kind not in PARTS:
            raise UserError(f"{here}.part={kind!r} is unknown: choose one of {', '.join(PARTS)}")
        least, most = LAYERS[kind]
        if not least <= len(channels) <= most or not all(isinstance(size, int) and size >= 1 for size in channels):
            wanted = "one number" if least == most else "one number for each layer"
            raise UserError(f"{here}.channels={channels} must be {wanted}, whole and at least 1")
        found[name] = Part(PARTS[kind](channels), entry["of"])
    for name in found:
        _check_way(name, found, of_backbone)
    return found


def _check_way(name: str, parts: Mapping[str, Part], of_backbone: tuple[str, ...]) -> None:
    seen, tap = [name], parts[name].of
    while tap in parts and tap not in seen:
        seen.append(tap)
        tap = parts[tap].of
    if tap not in of_backbone:
        known = ", ".join((*of_backbone, *(other for other in parts if other not in seen)))
        raise UserError(f"parts.{seen[-1]}.of={tap!r} is nothing that it can read: choose one of {known}")


def objective_of(
    names: Names,
    rules: Mapping[str, View],
    backbone: nn.Module,
    *,
    terms: Mapping[str, Mapping[str, Any]],
    loss: Mapping[str, Any],
) -> Objective:
    """What is minimized: the classification of the views that have a weight, the distance of two such, and the terms.

    Args:
      names: the student's parts, its classifier and head.
      rules: how the views are dressed, and what they weigh.
      backbone: the student's network.
      terms, loss: the config's groups.

    Raises:
      UserError: groups that do not fit each other.
    """
    if names.head is not None:
        check_weights(rules)
    weights = {name: rule.weight for name, rule in rules.items() if rule.weight}
    if names.head is None and weights:
        raise UserError(f"augment.views weighs {', '.join(weights)} and head.name='none': set the weights to 0")
    for name, rule in rules.items():
        if rule.weight and rule.source != "first":
            raise UserError(
                f"augment.views.{name} dresses the second set, whose identities have no class centers: set its "
                "weight to 0, and name it in a term"
            )
    found = named_terms.terms_of(terms, {name: rule.source for name, rule in rules.items()})
    for term in found:
        _check_term(term, {other.name for other in found}, is_classified=bool(weights))
    if not weights and not found:
        raise UserError("head.name='none' needs a term in the group `terms`: nothing would be learned")
    if names.classified != taps.FEATURE and names.classified not in names.parts:
        known = ", ".join((taps.FEATURE, *names.parts))
        raise UserError(f"classified={names.classified!r} is no feature: choose one of {known}")
    objective = Objective(names, weights, (*_distance(names, weights, **loss), *found))
    _check_names(objective, backbone)
    return objective


def _check_term(term: NamedTerm, all_names: set[str], *, is_classified: bool) -> None:
    of_weights = term.name.endswith(WEIGHT) and term.name.removesuffix(WEIGHT) in (all_names | {"distance"})
    if term.name in TAKEN or term.name.startswith(BEGINNINGS) or of_weights:
        raise UserError(f"terms.{term.name} has the name of another metric: give it another")
    if all(who == TEACHER for who, _, _ in term.of):
        raise UserError(f"terms.{term.name}.of names the teacher alone, which does not learn: name the student in it")
    if term.weight_unit == "gradient_share" and not is_classified:
        here = f"terms.{term.name}.weight_unit='gradient_share'"
        raise UserError(f"{here} is a share of a classification's gradient, and there is none: set it to 'lambda'")


def _distance(
    names: Names,
    weights: Mapping[str, float],
    *,
    distance: str,
    p: float,
    reduction: str,
    distance_weight: float,
    weight_unit: str,
) -> tuple[NamedTerm, ...]:
    """Eq. 7's, of the two views that are classified."""
    if weight_unit not in WEIGHT_UNITS:
        raise UserError(f"loss.weight_unit={weight_unit!r} is unknown: choose one of {', '.join(WEIGHT_UNITS)}")
    if len(weights) == 2:
        term = TERMS["distance"](distance=distance, p=p, reduction=reduction)
        of = tuple((STUDENT, view, names.classified) for view in weights)
        return (NamedTerm("distance", term, of, distance_weight, weight_unit),)
    if distance_weight:
        raise UserError(
            f"loss.distance_weight={distance_weight} weighs the distance of two views, and augment.views has "
            f"{len(weights)} that are classified ({', '.join(weights)}): set it to 0, or give two views"
        )
    return ()


def _check_names(objective: Objective, backbone: nn.Module) -> None:
    read = {tap for names in objective.read_of(STUDENT).values() for tap in names}
    if read == {taps.FEATURE}:
        return
    of_backbone = taps.names_of(backbone)
    check_taps(read, objective.names, of_backbone, STUDENT)


def check_taps(read: set[str], names: Names, of_backbone: tuple[str, ...], who: str) -> None:
    """Raises `UserError` for a name that a network, the student's or the teacher's, does not have."""
    known = (*of_backbone, *names.parts, *((LOGITS,) if names.classifier else ()))
    for tap in sorted(read - set(known)):
        raise UserError(f"the {who} has no tap {tap!r}: choose one of {', '.join(known)}")
