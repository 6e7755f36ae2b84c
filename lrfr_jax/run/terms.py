"""What a config's group `terms` means: which loss terms there are, of which features, at which weight."""

import inspect
import math
from collections.abc import Hashable, Mapping
from typing import Any

from lrfr_jax.errors import UserError
from lrfr_jax.objective.terms import TERMS, Term
from lrfr_jax.objective.terms.term import WEIGHT_UNITS, NamedTerm

WHO = ("student", "teacher")
# Fields of every entry; the rest are the numbers of its term.
COMMON = ("term", "of", "weight", "weight_unit")


def terms_of(settings: Mapping[str, Mapping[str, Any]], sources: Mapping[str, Hashable]) -> tuple[NamedTerm, ...]:
    """Reads the config's group `terms`, {name: {"term", "of", "weight", "weight_unit", numbers}}, by the names' order.

    Args:
      settings: the group.
      sources: {name of a view: which set its images are from}; views of one set show the same images.

    Raises:
      UserError: an entry that means nothing; the sentence names it.
    """
    return tuple(_named_term(name, dict(entry), sources) for name, entry in sorted(settings.items()))


def term_of(name: str, settings: Mapping[str, Any]) -> Term:
    """The term that the fields `term` and its numbers stand for.

    Args:
      name: of the entry, for the sentence.
      settings: {"term": key of `TERMS`, its numbers}.

    Raises:
      UserError: an unknown term, fields that are another's, or numbers that the term refuses.
    """
    numbers = dict(settings)
    key = numbers.pop("term")
    if key not in TERMS:
        raise UserError(f"terms.{name}.term={key!r} is unknown: choose one of {', '.join(TERMS)}")
    wanted = inspect.signature(TERMS[key]).parameters
    if numbers.keys() != wanted.keys():
        fields, given = (", ".join((*COMMON, *some)) for some in (wanted, numbers))
        raise UserError(f"terms.{name} with term={key!r} has the fields {fields}, not {given}: give just those")
    for field, value in numbers.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"terms.{name}.{field}={value} must be finite")
    try:
        return TERMS[key](**numbers)
    except ValueError as error:
        raise UserError(f"terms.{name}: {error}") from error


def _named_term(name: str, entry: dict[str, Any], sources: Mapping[str, Hashable]) -> NamedTerm:
    for field in COMMON:
        if field not in entry:
            raise UserError(f"terms.{name} has no field {field!r}: give {', '.join(COMMON)} and the term's numbers")
    of, weight, unit = (entry.pop(field) for field in COMMON[1:])
    if isinstance(weight, bool) or not isinstance(weight, float | int) or not 0 <= weight < math.inf:
        raise UserError(f"terms.{name}.weight={weight} must be at least 0 and finite")
    if unit not in WEIGHT_UNITS:
        raise UserError(f"terms.{name}.weight_unit={unit!r} is unknown: choose one of {', '.join(WEIGHT_UNITS)}")
    term = term_of(name, entry)
    of = tuple(_feature(f"terms.{name}.of", text, sources) for text in ([of] if isinstance(of, str) else of))
    if not term.takes(len(of)):
        raise UserError(f"terms.{name}.of names {len(of)} features, and {entry['term']} takes {term.wanted()}")
    shown = sorted({str(sources[view]) for _, view, _ in of})
    if term.is_aligned and len(shown) > 1:
        said = f"{entry['term']} compares features of the same images"
        raise UserError(f"terms.{name}.of names views of {' and '.join(shown)}, and {said}: name views of one of them")
    return NamedTerm(name, term, of, weight, unit)


def _feature(where: str, text: Any, sources: Mapping[str, Hashable]) -> tuple[str, str, str]:
    parts = text.split(".") if isinstance(text, str) else ()
    if len(parts) != 3 or not all(parts):
        raise UserError(f"{where} names {text!r}, which is not of the form WHO.VIEW.TAP, as student.lr.feature")
    who, view, tap = parts
    if who not in WHO:
        raise UserError(f"{where} names {text!r}: {who!r} is unknown: choose {' or '.join(WHO)}")
    if view not in sources:
        known = ", ".join(sources)
        raise UserError(f"{where} names {text!r}: augment.views has no view {view!r}: choose one of {known}")
    return who, view, tap
