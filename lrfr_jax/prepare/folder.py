"""`prepare folder`: folders or tars of `<identity>/<image>` become a training set."""

import argparse
import hashlib
import time
from collections.abc import Iterable

import numpy as np
from tqdm import tqdm

from lrfr_jax.data import builders
from lrfr_jax.errors import UserError
from lrfr_jax.prepare import sources
from lrfr_jax.prepare.sources import Problem, SourceImage


def prepare(arguments: argparse.Namespace) -> str:
    """Makes a training set of all images of the sources, and returns the summary; see `--help` for the arguments.

    Equal names of identities in several sources are one identity; labels number them in the order of names.

    Raises:
      UserError: bad sources, bad images under `--on_error error`, an empty selection, or another set of that name.
    """
    start = time.perf_counter()
    builders.check_target(arguments.name, num_shards=arguments.shards)
    excluded = _names(arguments.exclude_identities, flag="--exclude_identities")
    only = _names(arguments.only_identities, flag="--only_identities")
    listed = [(source, *sources.list_images(source)) for source in arguments.source]
    record = {
        "kind": "folder",
        "sources": [[source, sources.fingerprint(source)] for source in arguments.source],
        "shards": arguments.shards,
        "on_error": arguments.on_error,
        "exclude_identities": _digest(excluded),
        "only_identities": _digest(only),
    }
    if builders.is_complete(arguments.data_dir, arguments.name, arguments=record):
        return f"{arguments.name} is complete already in {arguments.data_dir}: nothing to do"
    images = [image for _, found, _ in listed for image in found if _wanted(image.identity, excluded, only)]
    problems = [problem for _, _, refused in listed for problem in refused]
    images.sort(key=lambda image: image.identity)  # stable: within an identity, the order of the sources and their own
    if not images:
        raise UserError("no identity is left after --exclude_identities and --only_identities: check these lists")
    images, problems = _usable(images, problems, on_error=arguments.on_error)
    identities, labels = np.unique([image.identity for image in images], return_inverse=True)
    stored = ((sources.read_image(image), int(label)) for image, label in zip(images, labels, strict=True))
    folder = builders.write_training_set(
        arguments.data_dir,
        arguments.name,
        images=iter(tqdm(stored, total=len(images), desc="write", unit=" images", disable=None)),
        num_images=len(images),
        identities=identities.tolist(),
        num_shards=arguments.shards,
        arguments=record,
        notes={"skipped.txt": "".join(f"{problem.where} {problem.reason}\n" for problem in problems)},
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
        raise _bad_image(bad[0])
    for image, problem in zip(images, sources.unusable(images), strict=True):
        if problem is None:
            good.append(image)
        elif on_error == "error":
            raise _bad_image(problem)
        else:
            bad.append(problem)
    if not good:
        raise UserError(f"not one of the {len(bad)} images can be used, the first: {bad[0].where} {bad[0].reason}")
    return good, bad


def _bad_image(problem: Problem) -> UserError:
    return UserError(f"{problem.where} {problem.reason} (--on_error skip leaves such images out)")


def _names(path: str | None, *, flag: str) -> set[str] | None:
    """Reads one identity a line; None where no file is given."""
    if path is None:
        return None
    names = {line.strip() for line in sources.read_text(path, flag=flag).splitlines()} - {""}
    if not names:
        raise UserError(f"{flag} {path} is empty: it must name one identity a line")
    return names


def _wanted(identity: str, excluded: set[str] | None, only: set[str] | None) -> bool:
    return (only is None or identity in only) and (excluded is None or identity not in excluded)


def _digest(names: Iterable[str] | None) -> str | None:
    return None if names is None else hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()
