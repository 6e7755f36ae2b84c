"""Whether a card, which may have been edited by hand, says everything, each thing in the form in which it is used."""

import dataclasses
from collections.abc import Mapping
from typing import Any, get_args, get_type_hints

from lrfr_jax.errors import UserError
from lrfr_jax.evals.means import Mean
from lrfr_jax.evals.thresholds import Threshold
from lrfr_jax.files import paths
from lrfr_jax.image_ops import ROUNDINGS

# The keys of each part and the types of their values, where a whole number is a number too.
CARD = {"weights": str, "model": dict, "degradation_rounding": str, "step": int, "parameters": int}
CARD |= {"history": list, "results": dict, "thresholds": list, "means": list, "qmag": dict, "compatible_with": dict}
QMAG = {"alpha": float, "beta": float, "set": str, "impostor_pairs": int}
COMPATIBLE_WITH = {"digest": str, "name": str, "resolution": int}
MODEL = {"backbone": str, "width": float, "embedding_size": int, "dropout": float, "dtype": str, "input": dict}
OPTIONAL = {"remat"}
INPUT = {"order": str, "mean": float, "scale": float, "columns": int}
INPUT_LATER = {"size": int}  # cards of before lack it
EVERY_ENTRY = {"kind": str, "code": dict}
SET = {"dataset": str, "num_images": int, "num_identities": int, "licence": str}
HISTORY = {
    "import": {"file": str, "layout": str, "sha256": str, "licence": str},
    "training": SET | {"recipe": dict},
    "adaptation": {"faces": str, "num_images": int, "resolutions": list},
    "average": {"other": str, "digest": str, "share": float},
    "export": {"format": str, "names": str, "parity": str},
}
_WORDS = {str: "text", int: "a whole number", float: "a number", dict: "an object {...}", list: "a list [...]"}
_REMEDY = "mend that, or remove the card and evaluate or export the model again"
_MOST_SHOWN = 60  # characters of a wrong value


def check(card: Any, *, path: paths.AnyPath) -> None:
    """Raises `UserError` unless the fields of a `model_card.Card` are all there and of their types, as json holds them.

    The sentence names the card's file, `path`, and the key.
    """
    _check({"": card}, CARD, path=path)
    _check({"model": card["model"]}, MODEL, path=path)
    convention = card["model"]["input"]
    later = {name: kind for name, kind in INPUT_LATER.items() if name in convention}
    _check({"model.input": convention}, INPUT | later, path=path)
    unknown = sorted(card["model"].keys() - MODEL.keys() - OPTIONAL)
    if unknown:
        raise UserError(f"{path} has model.{unknown[0]}, which no model has: {_REMEDY}")
    entries = {f"history[{number}]": entry for number, entry in enumerate(card["history"])}
    _check(entries, EVERY_ENTRY, path=path)
    choices = {"degradation_rounding": (card["degradation_rounding"], ROUNDINGS)}
    choices |= {f"{place}.kind": (entry["kind"], HISTORY) for place, entry in entries.items()}
    for key, (value, known) in choices.items():
        if value not in known:
            raise UserError(f"{path} has {key}={value!r}, which must be one of {', '.join(known)}: {_REMEDY}")
    for place, entry in entries.items():
        _check({place: entry}, HISTORY[entry["kind"]], path=path)
    _check(
        {f"{place}.second": entry["second"] for place, entry in entries.items() if "second" in entry}, SET, path=path
    )
    _check({f"results[{name!r}]": report for name, report in card["results"].items()}, {}, path=path)
    if card["qmag"]:
        _check({"qmag": card["qmag"]}, QMAG, path=path)
    if card["compatible_with"]:
        _check({"compatible_with": card["compatible_with"]}, COMPATIBLE_WITH, path=path)
    for key, kind in (("thresholds", Threshold), ("means", Mean)):
        hints, fields = get_type_hints(kind), dataclasses.fields(kind)
        needed = {field.name: hints[field.name] for field in fields if field.default is dataclasses.MISSING}
        for number, one in enumerate(card[key]):
            given = {name: hints[name] for name in hints if isinstance(one, Mapping) and name in one}
            _check({f"{key}[{number}]": one}, needed | given, path=path)


def _check(parts: Mapping[str, Any], wanted: Mapping[str, Any], *, path: paths.AnyPath) -> None:
    for place, part in parts.items():
        _check_type(part, dict, place or "as its whole", path=path)
        for name, kind in wanted.items():
            key = f"{place}.{name}".removeprefix(".")
            if name not in part:
                raise UserError(f"{path} lacks {key}: {_REMEDY}")
            _check_type(part[name], kind, key, path=path)


def _check_type(value: Any, kind: Any, key: str, *, path: paths.AnyPath) -> None:
    kinds = get_args(kind) or (kind,)  # of a union
    accepted = {int, *kinds} if float in kinds else kinds
    if isinstance(value, tuple(accepted)) and not isinstance(value, bool):
        return
    words = " or ".join(_WORDS.get(one, one.__name__) for one in kinds)
    raise UserError(f"{path} has {key}={repr(value)[:_MOST_SHOWN]}, which must be {words}: {_REMEDY}")
