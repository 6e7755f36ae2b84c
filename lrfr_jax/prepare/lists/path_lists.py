"""Lists of images and their identities as text: those of MXNet's im2rec and of InsightFace, and `path label` lines."""

import csv
import os
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from lrfr_jax.errors import UserError
from lrfr_jax.pictures import sources, stored_files
from lrfr_jax.pictures.sources import IMAGE_SUFFIXES, Listed, Problem
from lrfr_jax.pictures.stored_files import SourceImage

_LABEL = re.compile(r"([0-9]{1,9})(?:\.0*)?")
_FRACTION = re.compile(r"([0-9]+)\.0*")
_NUMBER = re.compile(r"[-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?|[-+]?(?:nan|inf)", re.IGNORECASE)
_LARGEST = 2**53  # integers above it are not exact as floating-point numbers


class _Form(NamedTuple):
    """How the lines of a list are laid out.

    Attributes:
      text: how a sentence shows it.
      split: a line to its fields.
      path_place, label_place: where among the fields they stand; -1 is the last.
      num_fields: of each line; None: three or more.
    """

    text: str
    split: Callable[[str], list[str]]
    path_place: int
    label_place: int
    num_fields: int | None


def _at_tabs(line: str) -> list[str]:
    return line.split("\t")


def _at_commas(line: str) -> list[str]:
    try:
        return [field.strip() for field in next(csv.reader([line], skipinitialspace=True), [])]
    except csv.Error:  # a line without end
        return []


_FORMS = (
    _Form("flag<TAB>path<TAB>label", _at_tabs, 1, 2, None),
    _Form("index<TAB>label<TAB>path", _at_tabs, -1, 1, None),
    *(
        _Form(f"{left}{shown}{right}", split, left == "label", left == "path", 2)
        for split, shown in ((_at_tabs, "<TAB>"), (_at_commas, ","), (str.split, " "))
        for left, right in (("path", "label"), ("label", "path"))
    ),
)


def read(path: str) -> Listed:
    """Reads a list, whose first line shows its form; paths are relative to the folder of the list.

    The label is an integer in lists with three columns or more, else also a name.

    Raises:
      UserError: empty, of no known form, with a line of another form, or with an image named twice.
    """
    lines = [line.rstrip("\r") for line in sources.read_text(path, flag="--source").split("\n")]
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise UserError(f"--source {path} is empty: it must be a tar, or a list with lines {_shown(_FORMS)}")
    root = os.path.dirname(os.path.abspath(path))
    form = _form_of(numbered[0][1], root, f"{path} line {numbered[0][0]}")
    images, problems, line_of = [], [], {}
    for number, line in numbered:
        named, label = _parse(line, form, f"{path} line {number}", root)
        name = os.path.relpath(os.path.join(root, named), root)
        if name in line_of:
            raise UserError(f"{path} line {number} names {name} again, after line {line_of[name]}: remove one of them")
        line_of[name] = number
        image, reason = _find(SourceImage(root, name, None, 0, label))
        if reason:
            problems.append(Problem(f"{path} line {number}: {sources.printable(name)}", reason))
        else:
            images.append(image)
    return Listed(images, problems, [])


def label_of(value: Any) -> str | None:
    """An identity as a list or a file gives it: an integer from 0 on, also as in 3.0, or a name; None for all else."""
    if isinstance(value, float):
        value = int(value) if value.is_integer() and value < _LARGEST else str(value)
    if not isinstance(value, int | str) or isinstance(value, bool):
        return None
    text = str(value)
    if fraction := _FRACTION.fullmatch(text):
        return str(int(fraction[1]))
    is_integer = text.isascii() and text.isdecimal()
    if not text or sources.printable(text) != text or (_NUMBER.fullmatch(text) and not is_integer):
        return None
    return text


def _form_of(line: str, root: str, where: str) -> _Form:
    """The first form in which the line names an image and has a label."""
    fitting = [form for form in _FORMS if _fits(form.split(line), form, root)]
    if not fitting:
        raise UserError(
            f"{where} must be {_shown(_FORMS)}, without a header, the path that of an image: it is {line!r}"
        )
    return fitting[0]


def _fits(fields: list[str], form: _Form, root: str) -> bool:
    if len(fields) != form.num_fields if form.num_fields else len(fields) < 3:
        return False
    named = fields[form.path_place]
    is_image = named.lower().endswith(IMAGE_SUFFIXES)
    return is_image or (bool(named) and "\0" not in named and os.path.isfile(os.path.join(root, named)))


def _parse(line: str, form: _Form, where: str, root: str) -> tuple[str, str]:
    """A line's path and label."""
    fields = form.split(line)
    text = fields[form.label_place].strip() if _fits(fields, form, root) else ""
    number = _LABEL.fullmatch(text)
    label = label_of(text) if form.num_fields else number and str(int(number[1]))
    if label is None:
        kind = "a name or an integer from 0 on" if form.num_fields else "an integer"
        raise UserError(f"{where} must be `{form.text}`, the label {kind}: it is {line!r}")
    return fields[form.path_place], label


def _shown(forms: tuple[_Form, ...]) -> str:
    return " or ".join(f"`{form.text}`" for form in forms if not form.text.startswith("label"))


def _find(image: SourceImage) -> tuple[SourceImage, str | None]:
    """Looks a listed file up, if its path may be followed; returns it with its size, and why it may not be read."""
    if image.path.split(os.sep)[0] == os.pardir:
        return image, "lies outside the list's folder: move the list above its images"
    reason = sources.refusal(image)
    if reason is None:
        size, reason = stored_files.file_size(os.path.join(image.source, image.path))
        image = image._replace(size=size)
    return image, reason or sources.refusal(image)
