"""Sources whose identities stand beside the images: `.lst` lists of MXNet and InsightFace, tars of webdataset."""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from lrfr_jax.errors import UserError
from lrfr_jax.pictures import sources
from lrfr_jax.pictures.sources import IMAGE_SUFFIXES, Problem, SourceImage

_CLASS, _JSON = ".cls", ".json"
_MAX_CLASS_BYTES = 2**16  # a class takes some bytes, a sample's JSON some kB
_HEAD_BYTES = 512  # a tar has zero bytes in so many, a text has none
_SHARDS = re.compile(r"(.*)\{([0-9]{1,9})\.\.([0-9]{1,9})\}(.*)", re.DOTALL)
_LABEL = re.compile(r"([0-9]{1,9})(?:\.0*)?")
_NEGATIVE = re.compile(r"-[0-9.]+")
_IM2REC, _INSIGHTFACE = "index<TAB>label<TAB>path", "flag<TAB>path<TAB>label"


class Listed(NamedTuple):
    """The images of all sources in turn, those that may not be read, and [path, fingerprint] of each source."""

    images: list[SourceImage]
    problems: list[Problem]
    fingerprints: list[list[str]]


def add_source(add: Callable) -> None:
    """Declares `--source`, which may be repeated; `list_all` reads it."""
    add(
        "--source",
        required=True,
        action="append",
        help="112x112 JPEG, PNG or WebP in a folder or uncompressed tar of <identity>/<image>, or of "
        "<root>/<identity>/<image>; in a tar of webdataset, KEY.jpg with its identity in KEY.cls or as `label` in "
        "KEY.json, also name-{000..099}.tar; or in a list `index<TAB>label<TAB>path` or `flag<TAB>path<TAB>label`, "
        "which lies above its images. May be repeated, identities of one name are merged",
    )


def list_all(given: Sequence[str]) -> Listed:
    """Lists the images of several sources, each of which `expand` and `list_images` read.

    Raises:
      UserError: as in these two.
    """
    paths = [path for source in given for path in expand(source)]
    listed = [(path, *list_images(path)) for path in paths]
    return Listed(
        [image for _, images, _ in listed for image in images],
        [problem for _, _, problems in listed for problem in problems],
        [[path, fingerprint(path, images)] for path, images, _ in listed],
    )


def by_identity(images: Iterable[SourceImage]) -> dict[str, list[SourceImage]]:
    """Groups images by identity: the identities in the order of names, 2 before 10, the images in theirs."""
    groups: dict[str, list[SourceImage]] = {}
    for image in images:
        groups.setdefault(image.identity, []).append(image)
    return {name: groups[name] for name in sorted(groups, key=lambda name: (sources.natural(name), name))}


def expand(source: str) -> Iterator[str]:
    """Yields the paths behind `name-{000000..000010}.tar`, numbers as wide as the first; another source as it is.

    Raises:
      UserError: one of them does not exist, or the numbers count down.
    """
    match = _SHARDS.fullmatch(source)
    if match is None or os.path.exists(source):
        yield source
        return
    before, first, last, after = match.groups()
    if int(first) > int(last):
        raise UserError(f"--source {source} counts down: write the smaller number first")
    for number in range(int(first), int(last) + 1):
        path = f"{before}{number:0{len(first)}d}{after}"
        if not os.path.exists(path):
            raise UserError(f"--source {source} needs {path}, which does not exist")
        yield path


def list_images(source: str) -> tuple[list[SourceImage], list[Problem]]:
    """Lists the images of a folder, tar or list; what it is, and where identities stand, is seen from its content.

    A text is a list. A tar in which an image has a `.cls`, or a `.json` with a label, beside it is one of webdataset:
    names up to the first dot are equal. All else is laid out as `sources.list_images` says.

    Returns:
      The images, those of lists in their order and others sorted; and those that may not be read.

    Raises:
      UserError: as in `sources.list_images`, or a list with a line of another form.
    """
    if os.path.isfile(source) and _is_text(source):
        return _read_list(source)
    if os.path.isdir(source):
        return sources.list_images(source)
    files, problems = sources.find_images(source, (*IMAGE_SUFFIXES, _CLASS, _JSON))
    images = {path: file for path, file in files.items() if path.lower().endswith(IMAGE_SUFFIXES)}
    paired = _pair(images, {path: file for path, file in files.items() if path not in images})
    if paired is not None:
        return paired[0], problems + paired[1]
    is_image = [problem.where.lower().endswith(IMAGE_SUFFIXES) for problem in problems]
    return sources.arrange(source, images), [problem for problem, kept in zip(problems, is_image, strict=True) if kept]


def fingerprint(source: str, images: list[SourceImage]) -> str:
    """Digest of a source's sizes and times, as `sources.fingerprint`; for a list also those of its images."""
    return sources.fingerprint(
        source, [os.path.join(image.source, image.path) for image in images if image.source != source]
    )


def _is_text(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return b"\0" not in file.read(_HEAD_BYTES)
    except OSError:  # the reader of tars says why
        return False


def _read_list(path: str) -> tuple[list[SourceImage], list[Problem]]:
    lines = [line.rstrip("\r") for line in sources.read_text(path, flag="--source").split("\n")]
    numbered = [(number, line.split("\t")) for number, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise UserError(f"--source {path} is empty: it must be a tar, or a list with lines `{_IM2REC}`")
    root = os.path.dirname(os.path.abspath(path))
    label_place, path_place = (2, 1) if _names_image(numbered[0][1], 1) else (1, -1)
    images, problems, line_of = [], [], {}
    for number, fields in numbered:
        label = _LABEL.fullmatch(fields[label_place]) if len(fields) > 2 else None
        if label is None or not _names_image(fields, path_place):
            form = _IM2REC if path_place == -1 else _INSIGHTFACE
            raise UserError(f"{path} line {number} must be `{form}`, the label an integer: it is {fields}")
        name = os.path.relpath(os.path.join(root, fields[path_place]), root)
        if name in line_of:
            raise UserError(f"{path} line {number} names {name} again, after line {line_of[name]}: remove one of them")
        line_of[name] = number
        image, reason = _find(SourceImage(root, name, None, 0, str(int(label[1]))))
        if reason:
            problems.append(Problem(f"{path} line {number}: {sources.printable(name)}", reason))
        else:
            images.append(image)
    return images, problems


def _names_image(fields: list[str], place: int) -> bool:
    return len(fields) > 2 and fields[place].lower().endswith(IMAGE_SUFFIXES)


def _find(image: SourceImage) -> tuple[SourceImage, str | None]:
    """Looks a listed file up, if its path may be followed; returns it with its size, and why it may not be read."""
    if image.path.split(os.sep)[0] == os.pardir:
        return image, "lies outside the list's folder: move the list above its images"
    reason = sources.refusal(image)
    if reason is None:
        size, reason = sources.file_size(os.path.join(image.source, image.path))
        image = image._replace(size=size)
    return image, reason or sources.refusal(image)


def _pair(
    images: dict[str, SourceImage], classes: dict[str, SourceImage]
) -> tuple[list[SourceImage], list[Problem]] | None:
    """Gives the images of a webdataset tar their labels; None if the tar is none, as no image has a class beside it."""
    by_key = {_key(path): file for path, file in classes.items() if path.lower().endswith(_JSON)}
    by_key |= {_key(path): file for path, file in classes.items() if path.lower().endswith(_CLASS)}  # they come first
    labeled, problems, taken = [], [], {}
    for path in sorted(images, key=sources.natural):
        key, where = _key(path), f"{images[path].source}/{path}"
        label, reason = _read_label(by_key.get(key))
        if key in taken:
            reason = f"has the name of {taken[key]}, but for what follows the first dot"
        taken[key] = path
        if reason:
            problems.append(Problem(where, reason))
        else:
            labeled.append(images[path]._replace(label=label))
    of_images = {path: _key(path) in taken for path in sorted(classes) if path.lower().endswith(_CLASS)}
    if not labeled and not any(of_images.values()):
        return None
    alone = [path for path, has_image in of_images.items() if not has_image]
    return labeled, problems + [Problem(f"{classes[path].source}/{path}", "has no image beside it") for path in alone]


def _key(path: str) -> str:
    folder, name = os.path.split(path)
    return f"{folder}/{name.split('.')[0]}"


def _read_label(file: SourceImage | None) -> tuple[str, str | None]:
    """Returns the label that a .cls or .json file holds, and why there is none."""
    if file is None:
        return "", "has no .cls or .json beside it"
    name = os.path.basename(file.path)
    if file.size > _MAX_CLASS_BYTES:
        return "", f"has a {name} of {file.size} bytes beside it, more than a class needs"
    content = sources.read_image(file)
    try:
        label = (
            json.loads(content)["label"] if file.path.lower().endswith(_JSON) else content.decode("utf-8-sig").strip()
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return "", f"has a {name} beside it without a label that can be read"
    text = str(label) if isinstance(label, int | str) and not isinstance(label, bool) else ""
    if not text or sources.printable(text) != text or _NEGATIVE.fullmatch(text):
        return "", f"has a {name} beside it whose label is neither a name nor an integer from 0 on"
    return text, None
