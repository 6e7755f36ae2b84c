"""Tars of webdataset: each image's identity stands in a small file beside it, of equal name up to the first dot."""

import io
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from lrfr_jax.pictures import sources
from lrfr_jax.pictures.sources import Found, Listed, Problem
from lrfr_jax.pictures.stored_files import SourceImage
from lrfr_jax.prepare.lists.path_lists import label_of

_CLASS, _JSON, _TEXT = ".cls", ".json", ".txt"
BESIDE = (_CLASS, _JSON, _TEXT)
_MAX_CLASS_BYTES = 2**16  # a class takes some bytes, a sample's JSON some kB
_SHOWN = 60  # characters of a wrong label or of a JSON's keys that a sentence repeats


def list_samples(source: str, found: Found) -> Listed | None:
    """Gives the images of a webdataset tar their labels; None if the tar is none.

    It is one if an image has a `.cls`, or a `.json` with a label, beside it; or if images lie in no folder, so that
    nothing else could name their identity, and have any of `BESIDE`. A `.txt` may hold anything: it is read for images
    in no folder only, and only where there is neither of the others.

    Args:
      source: the tar.
      found: what it holds, with files of `BESIDE` beside.
    """
    beside = _by_key(found.beside)
    labeled, problems, taken = [], [], {}
    labels = _read_labels(source, beside)
    for path in sorted(found.images, key=sources.natural):
        key, where = _key(path), f"{source}/{path}"
        label, reason = labels.get(key, ("", "has no .cls or .json beside it"))
        if key in taken:
            reason = f"has the name of {taken[key]}, but for what follows the first dot"
        taken[key] = path
        if reason:
            problems.append(Problem(where, reason))
        else:
            labeled.append(found.images[path]._replace(label=label))
    is_sample = any(_is_flat(path) and _key(path) in beside for path in found.images)
    if not (labeled or is_sample or any(_key(path) in taken for path in found.beside if _is(path, _CLASS))):
        return None
    alone = [path for path in sorted(found.beside) if _key(path) not in taken]
    problems += [Problem(f"{source}/{path}", "has no image beside it") for path in alone if _is(path, _CLASS)]
    others = [*found.others, *(path for path in alone if not _is(path, _CLASS))]
    return Listed(labeled, found.problems + problems, sources.passed_over(source, others))


def _by_key(files: Mapping[str, SourceImage]) -> dict[str, SourceImage]:
    """The file to read for each key: a class comes before a JSON, and this before a text."""
    by_key = {_key(path): file for path, file in files.items() if _is(path, _TEXT) and _is_flat(path)}
    for suffix in (_JSON, _CLASS):
        by_key |= {_key(path): file for path, file in files.items() if _is(path, suffix)}
    return by_key


def _is(path: str, suffix: str) -> bool:
    return path.lower().endswith(suffix)


def _is_flat(path: str) -> bool:
    return "/" not in path


def _key(path: str) -> str:
    folder, name = os.path.split(path)
    return f"{folder}/{name.split('.')[0]}"


def _read_labels(source: str, beside: Mapping[str, SourceImage]) -> dict[str, tuple[str, str | None]]:
    """The label in each file of `BESIDE`, and why there is none; in the order of the tar, which is opened once."""
    with open(source, "rb") as tar:
        in_order = sorted(beside.items(), key=lambda item: item[1].offset)
        return {key: _read_label(tar, file) for key, file in in_order}


def _read_label(tar: io.BufferedIOBase, file: SourceImage) -> tuple[str, str | None]:
    name = os.path.basename(file.path)
    if file.size > _MAX_CLASS_BYTES:
        return "", f"has a {name} of {file.size} bytes beside it, more than a class needs"
    try:
        tar.seek(file.offset)
        value = _value(tar.read(file.size), is_json=_is(name, _JSON))
    except (ValueError, RecursionError) as error:
        return "", f"has a {name} beside it {error if isinstance(error, _NoLabel) else 'that cannot be read'}"
    label = label_of(value)
    if label is None:
        shown = sources.printable(repr(value))[:_SHOWN]
        return "", f"has a {name} beside it whose label is neither a name nor an integer from 0 on: it is {shown}"
    return sys.intern(label), None  # an identity has many images


class _NoLabel(ValueError):
    """A file holds no label; the message continues the sentence."""


def _value(content: bytes, *, is_json: bool) -> Any:
    if not is_json:
        return content.decode("utf-8-sig").strip()
    sample = json.loads(content)
    if not isinstance(sample, dict):
        raise _NoLabel("that is no JSON object with a key `label`")
    if "label" not in sample:
        keys = sources.printable(", ".join(sample))[:_SHOWN] or "no key"
        raise _NoLabel(f"without a key `label`: it has {keys}")
    return sample["label"]
