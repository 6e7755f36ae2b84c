"""`prepare folder`: folders, tars or lists of aligned faces become a training set."""

import argparse
import time
from collections.abc import Callable

from tqdm import tqdm

from lrfr_jax.data import builders
from lrfr_jax.prepare import labeled_sources, sources, training_options
from lrfr_jax.prepare.sources import Problem, SourceImage

SUMMARY = "aligned faces in folders, tars (also of webdataset) or .lst lists -> training set"
EXAMPLE = """python -m lrfr_jax.prepare folder --source casia112.tar --name casia --data_dir ~/faces \\
      --exclude_identities ~/faces/lfw/1.0.0/identities.txt
  python -m lrfr_jax.prepare folder --source 'shards/faces-{000000..000099}.tar' --name many --data_dir ~/faces"""


def add_arguments(add: Callable) -> None:
    """Declares the options of the command; `add` is the parser's `add_argument`."""
    add(
        "--source",
        required=True,
        action="append",
        help="112x112 JPEG, PNG or WebP in a folder or uncompressed tar of <identity>/<image>, or of "
        "<root>/<identity>/<image>; in a tar of webdataset, KEY.jpg with its identity in KEY.cls or as `label` in "
        "KEY.json, also name-{000..099}.tar; or in a list `index<TAB>label<TAB>path` or `flag<TAB>path<TAB>label`, "
        "which lies above its images. May be repeated, identities of one name are merged",
    )
    training_options.add_arguments(add)


def prepare(arguments: argparse.Namespace) -> str:
    """Makes a training set of all images of the sources, and returns the summary; see `--help` for the arguments.

    Equal names of identities in several sources are one identity; labels number them in the order of names, 2 before
    10.

    Raises:
      UserError: bad sources, bad images under `--on_error error`, an empty selection, or another set of that name.
    """
    start = time.perf_counter()
    builders.check_target(arguments.name, num_shards=arguments.shards)
    selection = training_options.read_selection(arguments)
    paths = [path for source in arguments.source for path in labeled_sources.expand(source)]
    listed = [(path, *labeled_sources.list_images(path)) for path in paths]
    record = {
        "kind": "folder",
        "sources": [[path, labeled_sources.fingerprint(path, found)] for path, found, _ in listed],
        **training_options.to_remember(arguments, selection),
    }
    if builders.is_complete(arguments.data_dir, arguments.name, arguments=record):
        return f"{arguments.name} is complete already in {arguments.data_dir}: nothing to do"
    images = [image for _, found, _ in listed for image in found if selection.takes(image.identity)]
    problems = [problem for _, _, refused in listed for problem in refused]
    images, problems = _usable(images, problems, on_error=arguments.on_error)
    if not images:
        raise training_options.nothing_left(problems, selection)
    identities = sorted({image.identity for image in images}, key=lambda name: (sources.natural(name), name))
    labels = {identity: label for label, identity in enumerate(identities)}
    images.sort(key=lambda image: labels[image.identity])  # stable: within one, the order of the sources and their own
    stored = ((sources.read_image(image), labels[image.identity]) for image in images)
    folder = builders.write_training_set(
        arguments.data_dir,
        arguments.name,
        images=iter(tqdm(stored, total=len(images), desc="write", unit=" images", disable=None)),
        num_images=len(images),
        identities=identities,
        num_shards=arguments.shards,
        arguments=record,
        notes=training_options.skipped_note(problems),
    )
    seconds = time.perf_counter() - start
    return (
        f"{len(images)} images of {len(identities)} identities, {len(problems)} skipped, {arguments.shards} shards, "
        f"{seconds:.1f} s, {len(images) / seconds:.0f} images/s, in {folder}"
    )


def _usable(
    images: list[SourceImage], problems: list[Problem], *, on_error: str
) -> tuple[list[SourceImage], list[Problem]]:
    """Parts the images that decode from those that do not; under `error`, the first bad one ends the command."""
    good, bad = [], list(problems)
    if bad and on_error == "error":
        raise training_options.as_error(bad[0])
    for image, problem in zip(images, sources.unusable(images), strict=True):
        if problem is None:
            good.append(image)
        elif on_error == "error":
            raise training_options.as_error(problem)
        else:
            bad.append(problem)
    return good, bad
