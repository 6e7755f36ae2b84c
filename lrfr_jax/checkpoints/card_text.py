"""A model's card for people: what it is, how to use it, where it comes from, what it can do, and what it is not for."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lrfr_jax.evals import earlier_results, report, tables, thresholds
from lrfr_jax.evals.means import Mean
from lrfr_jax.evals.protocols import MODE_TITLES
from lrfr_jax.evals.reading import Reading
from lrfr_jax.evals.thresholds import Threshold
from lrfr_jax.image_ops import IMAGE_SIZE

LIMITS = """
The model embeds aligned faces: five points on the ArcFace template, 112x112 pixels. It was made for research on
comparing faces whose images differ in resolution. It detects no faces and no spoofing. Accuracy differs between groups
of people, ages, cameras and compressions, and is measured here for none of them by itself. Numbers at low resolution
are those of images reduced by a bicubic filter; small faces of real cameras also suffer from blur, noise and
compression. No decision about a person should rest on this model alone.
"""

BIOMETRICS = """
Embeddings identify people: they are biometric data. Embed a person's face only with that person's consent or on another
legal basis, say what it is used for, protect embeddings as you protect photos, and delete both on request.
"""


def markdown(card: Any) -> str:
    """Lays out a `model_card.Card`."""
    model = card.model
    sections = {
        f"# {model['backbone']}, embedding of {model['embedding_size']}": "\n".join(_facts(card)),
        "## Where the weights come from": "\n".join(_history(card.history)),
        "## Results": _results(card.results),
        "## Thresholds": _thresholds(card.thresholds),
        "## Centering": _centering(card.results, card.means),
        "## Intended use and limits": LIMITS,
        "## Biometric data": BIOMETRICS,
    }
    return "\n\n".join(f"{title}\n\n{text.strip()}" for title, text in sections.items()) + "\n"


def _facts(card: Any) -> Iterable[str]:
    model, convention = card.model, card.model["input"]
    yield f"- architecture: {model['backbone']} of width {model['width']:g}, {card.parameters:,} parameters"
    size = convention.get("size", IMAGE_SIZE)
    shrunk = "" if size == IMAGE_SIZE else f", shrunk to {size}x{size}"
    yield (
        "- its weights want {order}, (pixel - {mean:g}) / {scale:g}, the middle {columns} columns{shrunk}; lrfr_jax "
        "and its exported programs take RGB, (pixel - 127.5) / 127.5, and convert".format(
            **{**convention, "order": convention["order"].upper(), "shrunk": shrunk}
        )
    )
    yield f"- a feature of {model['embedding_size']} numbers; as an embedding it is made as long as 1"
    if card.qmag:
        yield (
            "- constants of the score qmag: alpha {alpha:g}, beta {beta:g}, fitted on {impostor_pairs:,} impostor "
            "pairs of {set}".format(**card.qmag)
        )
    if card.compatible_with:
        yield (
            "- made for the embeddings of {name} (digest of the weights {digest}): a gallery of that model stays as it "
            "is, this one reads faces of fewer than {resolution} px and that one the larger ones "
            "(`--gallery_checkpoint`); its embeddings fit no other model's".format(**card.compatible_with)
        )
    else:
        yield "- its embeddings fit no other model's, unless that one was trained to fit these"
    is_export = card.history and card.history[-1]["kind"] == "export"
    yield f"- step {card.step}; {'SHA-256 of the file' if is_export else 'digest of the weights'} {card.weights}"


def _history(history: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    if not history:
        yield "Not known: the checkpoint does not say."
    for number, entry in enumerate(history, 1):
        yield f"{number}. {ENTRIES[entry['kind']](entry)}"


def _licence(entry: Mapping[str, Any]) -> str:
    return f"licence: {entry['licence'] or 'not stated'}"


def _import(entry: Mapping[str, Any]) -> str:
    source = f"{entry['file']} (layout {entry['layout']}, SHA-256 {entry['sha256']}; {_licence(entry)})"
    return f"Imported from {source}. {_code(entry)}"


def _training(entry: Mapping[str, Any]) -> str:
    sets = f"Trained on {_set(entry)}" + (f" Beside it {_set(entry['second'])}" if "second" in entry else "")
    recipe = "\n".join(f"   - {name}: {value}" for name, value in entry["recipe"].items())
    text = f"{sets} {_code(entry)} Recipe:\n{recipe}"
    return "\n".join([text, *map(_change, entry.get("changes", []))])


def _set(facts: Mapping[str, Any]) -> str:
    size = f"{facts['num_images']:,} images of {facts['num_identities']:,} identities"
    size += f", digest {facts['digest']}" if facts.get("digest") else ""
    return f"{facts['dataset']}: {size}; {_licence(facts)}."


def _change(change: Mapping[str, Any]) -> str:
    fields = ", ".join(f"{name} {before} -> {now}" for name, (before, now) in change["fields"].items())
    return f"   - After step {change['after_step']}: {fields}"


def _export(entry: Mapping[str, Any]) -> str:
    names = "" if entry["names"] == "ours" else f" with the names of {entry['names']}"
    statistics = f", with the statistics of {entry['resolution']} px" if "resolution" in entry else ""
    return f"Exported as {entry['format']}{names}{statistics}; {entry['parity']}. {_code(entry)}"


def _adaptation(entry: Mapping[str, Any]) -> str:
    sizes = ", ".join(map(str, entry["resolutions"]))
    return (
        f"BatchNorm's statistics measured at {sizes} px, on {entry['num_images']:,} images of {entry['faces']}. "
        f"{_code(entry)}"
    )


def _average(entry: Mapping[str, Any]) -> str:
    return (
        f"Averaged: {1 - entry['share']:g} of these weights and {entry['share']:g} of those of {entry['other']} "
        f"({entry['digest']}). {_code(entry)}"
    )


ENTRIES = {"import": _import, "training": _training, "adaptation": _adaptation, "average": _average, "export": _export}


def _code(entry: Mapping[str, Any]) -> str:
    return f"Code: {', '.join(f'{name} {version}' for name, version in entry['code'].items())}."


def _results(results: Mapping[str, Mapping[str, Any]]) -> str:
    if not results:
        return "This card holds no results yet: `python -m lrfr_jax.evaluate --calibrate` writes them."
    return f"```\n{tables.table({'sets': results})}\n```"


def _thresholds(held: Sequence[Threshold]) -> str:
    """A table for each reading, set and protocol, those of the last calibration first."""
    if not held:
        return "Not calibrated: `python -m lrfr_jax.evaluate --calibrate` does it."
    sources: dict[tuple, list[Threshold]] = {}
    for one in sorted(held, key=lambda one: -one.calibration):
        sources.setdefault((one.reading, one.set, one.protocol, one.digest), []).append(one)
    blocks = [f"{_source(*source)}\n\n{_threshold_table(of_it)}" for source, of_it in sources.items()]
    return "\n\n".join([*_taken(held), *blocks])


def _taken(held: Sequence[Threshold]) -> Iterable[str]:
    """Which thresholds the commands take, for this model by itself and beside a model whose gallery it fits."""
    for gallery in sorted({one.gallery for one in held}):
        fusion = thresholds.newest_fusion([one for one in held if one.gallery == gallery])
        used = thresholds.in_use(held, reading=Reading(fusion, gallery=gallery), calibrated_on=None)
        names = ", ".join(dict.fromkeys(one.set for one in used))
        who = "`compare`, `verify` and `demo`"
        if gallery:
            who = f"`compare` and `verify` with `--gallery_checkpoint` (the model {gallery})"
        yield f"{who} take fusion {fusion} and {names}, unless --fusion or --calibrated_on is given."


def _source(reading: Reading, name: str, protocol: str, digest: str) -> str:
    return f"{str(reading).capitalize()}, from {name}, {protocol}{f', data {report.short(digest)}' if digest else ''}:"


def _centering(results: Mapping[str, Mapping[str, Any]], means: Sequence[Mean]) -> str:
    """What was measured of centering by folds, size by size, and the means that `--centering per_resolution` takes."""
    blocks = []
    for name, kept in results.items():
        found = {one["protocol"]: one for one in earlier_results.versions(kept) if one["kind"] == "verification"}
        for protocol, plain in found.items():
            centered = found.get(f"{protocol}, centering=per_resolution")
            blocks += [f"{name}, {protocol}:\n\n{_centering_table(plain, centered)}"] if centered else []
    for (fusion, name, images), held in _by_source(means).items():
        sizes = sorted(held, key=lambda one: -one.resolution)
        told = ", ".join(f"{np.linalg.norm(one.vector):.2f} at {one.resolution} px" for one in sizes)
        blocks.append(
            f"The mean embedding of {images:,} images of {name}, fusion {fusion}, has length {told} (0: faces lie all "
            "around, 1: all are alike). `--centering per_resolution` takes it away; no command does so by itself."
        )
    return "\n\n".join(blocks) or "Not tried: `python -m lrfr_jax.evaluate --calibrate` does it."


def _by_source(means: Sequence[Mean]) -> dict[tuple[str, str, int], list[Mean]]:
    found: dict[tuple[str, str, int], list[Mean]] = {}
    for one in means:
        found.setdefault((one.fusion, one.set, one.images), []).append(one)
    return found


def _centering_table(plain: Mapping[str, Any], centered: Mapping[str, Any]) -> str:
    by_size = {(one["mode"], one["first_resolution"], one["resolution"]): one for one in centered["results"]}
    rows = []
    for one in plain["results"]:
        other = by_size.get((one["mode"], one["first_resolution"], one["resolution"]))
        if other and one["mode"] in MODE_TITLES:
            before, after = one["accuracy"], other["accuracy"]
            change = f"{100 * (after - before):+.2f}"
            title = MODE_TITLES[one["mode"]]
            rows.append((title, str(one["resolution"]), tables.percent(before), tables.percent(after), change))
    lines = [("pair", "px", "accuracy %", "centered", "difference"), ("---",) * 5, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _threshold_table(held: Sequence[Threshold]) -> str:
    columns = (
        "pair",
        "px",
        "false accept rate",
        "threshold",
        "95 % interval of the rate",
        "genuine pairs accepted",
        "impostor pairs",
    )
    rows = [
        (
            MODE_TITLES[one.mode],
            str(one.resolution),
            f"{one.far:g}",
            f"{one.threshold:.4f}",
            f"{one.far_low:.2g} to {one.far_high:.2g}",
            f"{one.tar:.4f}",
            f"{one.impostor_pairs:,}",
        )
        for one in held
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in (columns, ["---"] * len(columns), *rows))
