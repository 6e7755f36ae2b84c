"""`prepare pairs`: pairs of a file, LFW's or a csv, or pairs drawn by a seed, become a verification set."""

import argparse
import csv
import hashlib
import io
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from lrfr_jax.data import builders
from lrfr_jax.data.protocol_arrays import VerificationProtocol
from lrfr_jax.errors import UserError
from lrfr_jax.pictures import sources
from lrfr_jax.pictures.stored_files import SourceImage
from lrfr_jax.prepare.lists import pairs_file
from lrfr_jax.prepare.lists.pairs_file import Pair
from lrfr_jax.prepare.sets import drawn_pairs, official_counts, pixel_options, verification
from lrfr_jax.terminal import comma_list
from lrfr_jax.trained import pair_list

SUMMARY = "pairs file in the format of LFW or as csv, or pairs drawn from faces by identity -> verification set"
EXAMPLE = """python -m lrfr_jax.prepare pairs --source faces.tar --pairs pairs.txt --name mine --data_dir ~/faces
  python -m lrfr_jax.prepare pairs --source faces --matched 3000 --folds 10 --seed 1 --name drawn --data_dir ~/faces"""

DRAWN = "pairs.csv"  # lists drawn pairs, beside their set
_DRAWN_FOLDS = 10  # as many as LFW has


def add_arguments(add: Callable) -> None:
    """Declares the options of the command; `add` is the parser's `add_argument`."""
    add(
        "--source",
        required=True,
        help="folder or uncompressed tar of <identity>/<image>; for a pairs file of LFW's form <Name>/<Name>_0001.jpg",
    )
    add(
        "--pairs",
        metavar="FILE",
        help="pairs file of LFW's form, `folds<TAB>n`, then n matched, n mismatched a fold; or a csv whose first line "
        "is first,second,is_same or first,second,is_same,fold and whose others name images below the source; or lines "
        "of two such names and 1 or 0; without it pairs are drawn",
    )
    verification.add_sizes(add)
    add(
        "--folds",
        type=_fold_numbers,
        help="folds of the pairs file to take, counted from 1, as in 9,10; all if not given. Of drawn pairs: how many "
        f"folds, {_DRAWN_FOLDS} if not given",
    )
    add("--matched", type=int, metavar="N", help="draw N pairs of one person over all folds, instead of --pairs")
    add("--mismatched", type=int, metavar="N", help="and N pairs of two persons; as many as --matched if not given")
    add("--seed", type=int, default=0, help="of the draw")
    pixel_options.add_arguments(add)


def add_files(add: Callable) -> None:
    """Declares `--source` and `--pairs`."""
    add("--source", required=True, help="folder or uncompressed tar with <Name>/<Name>_0001.jpg, or another picture")
    add(
        "--pairs",
        required=True,
        metavar="FILE",
        help="the pairs file: `folds<TAB>n`, then n matched, n mismatched a fold",
    )
    pixel_options.add_arguments(add)


def prepare(arguments: argparse.Namespace) -> str:
    """Makes a verification set of the pairs in the chosen folds, or of drawn ones, and returns the summary."""
    if arguments.pairs is None:
        return _make_drawn(arguments)
    if arguments.matched is not None or arguments.mismatched is not None:
        raise UserError("--matched and --mismatched draw pairs, --pairs names them: give one or the other")
    return make(arguments, kind="pairs", folds=arguments.folds, sizes=arguments.sizes, official={}, allow_partial=False)


def make(
    arguments: argparse.Namespace,
    *,
    kind: str,
    folds: Sequence[int] | None,
    sizes: Sequence[str] | None,
    official: Mapping[str, int],
    allow_partial: bool,
) -> str:
    """Makes a verification set of a pairs file and the images that it names, and returns the summary.

    Only images that occur in a pair are stored. `identities.txt` in the set's folder names their identities, made for
    `prepare folder --exclude_identities`.

    Args:
      arguments: of the command: source, pairs, name, data_dir.
      kind: of the command.
      folds: to take; None: all.
      sizes: files of `verification.read_sizes`, for all folds.
      official: what the set must have, of `folds`, `pairs`, `images` and `identities` in the source, and
        `images in pairs` and `identities in pairs`.
      allow_partial: go on, with a set that is marked, if it has not.

    Raises:
      UserError: a bad pairs file, other counts, a missing or bad image, or another set of that name.
    """
    start = time.perf_counter()
    builders.check_target(arguments.name, num_shards=1)
    text = sources.read_text(arguments.pairs, flag="--pairs")
    all_pairs = pairs_file.parse(text, path=arguments.pairs)
    pairs = pairs_file.choose_folds(all_pairs, folds)
    all_sizes = verification.read_sizes(sizes, num_pairs=len(all_pairs))
    by_path = pairs_file.names_paths(text)
    found = sources.find_images(arguments.source)
    sorted_ones = [found.images[path] for path in sorted(found.images)]
    images = sorted_ones if by_path else sources.arrange(arguments.source, found).images
    used, indices = _resolve(pairs, images, path=arguments.pairs, source=arguments.source)
    counted = _count(pairs, images, used) if official else {}
    counts = {thing: (expected, counted[thing]) for thing, expected in official.items()}
    is_partial = official_counts.check(counts, allow_partial=allow_partial, what=f"{arguments.source} as {kind}")
    record = {
        "kind": kind,
        "source": [arguments.source, sources.fingerprint(arguments.source)],
        "pairs": hashlib.sha256(text.encode()).hexdigest(),
        "folds": folds,
        "sizes": verification.describe_sizes(all_sizes),
        "partial": is_partial or None,
        **pixel_options.read(arguments).remembered(),
    }
    if builders.is_complete(arguments.data_dir, arguments.name, arguments=record):
        return f"{arguments.name} is complete already in {arguments.data_dir}: nothing to do"
    rows = [pair.place for pair in pairs]
    return verification.write(
        arguments,
        record,
        paths=[image.name for image in used],
        read=lambda place: sources.read_image(used[place]),
        protocol=VerificationProtocol(
            pairs=indices,
            is_same=np.array([pair.is_same for pair in pairs]),
            fold=np.array([pair.fold for pair in pairs], np.int32),
            sizes={name: rows_of[rows] for name, rows_of in all_sizes.items()},
        ),
        identities=_identities(pairs, indices, used),
        start=start,
    )


def _identities(pairs: Sequence[Pair], indices: np.ndarray, used: Sequence[SourceImage]) -> list[str]:
    """The names of the images' folders; none where these are no identities, as the pairs show."""
    if not all("/" in image.path for image in used):
        return []
    names = [image.identity for image in used]
    agree = all((names[a] == names[b]) == pair.is_same for pair, (a, b) in zip(pairs, indices.tolist(), strict=True))
    return sorted(set(names)) if agree else []


def _make_drawn(arguments: argparse.Namespace) -> str:
    """Makes a verification set of drawn pairs, with a csv of them beside it, which `verify` reads, too."""
    start = time.perf_counter()
    builders.check_target(arguments.name, num_shards=1)
    if arguments.matched is None:
        raise UserError("give --pairs FILE, or --matched N to draw pairs")
    matched, folds = arguments.matched, arguments.folds or [_DRAWN_FOLDS]
    mismatched = matched if arguments.mismatched is None else arguments.mismatched
    if len(folds) > 1 or folds[0] < 1 or matched < folds[0] or mismatched < folds[0]:
        raise UserError(
            f"--folds must be one number for drawn pairs, at most --matched {matched} and --mismatched {mismatched}"
        )
    listed = sources.list_images(arguments.source)
    settings = {"matched": matched, "mismatched": mismatched, "folds": folds[0], "seed": arguments.seed}
    drawn = drawn_pairs.draw(listed.images, **settings)
    sizes = verification.read_sizes(arguments.sizes, num_pairs=len(drawn))
    source = [arguments.source, sources.fingerprint(arguments.source)]
    record = {"kind": "pairs", "source": source, "sizes": verification.describe_sizes(sizes)} | settings
    record |= pixel_options.read(arguments).remembered()
    if builders.is_complete(arguments.data_dir, arguments.name, arguments=record):
        return f"{arguments.name} is complete already in {arguments.data_dir}: nothing to do"
    used, indices = np.unique([pair[:2] for pair in drawn], return_inverse=True)
    images = [listed.images[place] for place in used]
    text = io.StringIO()
    rows = ([listed.images[a].path, listed.images[b].path, int(same), fold] for a, b, same, fold in drawn)
    csv.writer(text, lineterminator="\n").writerows([pair_list.COLUMNS, *rows])
    summary = verification.write(
        arguments,
        record,
        paths=[image.name for image in images],
        read=lambda place: sources.read_image(images[place]),
        protocol=VerificationProtocol(
            pairs=indices.reshape(-1, 2).astype(np.int32),
            is_same=np.array([pair.is_same for pair in drawn]),
            fold=np.array([pair.fold for pair in drawn], np.int32),
            sizes=sizes,
        ),
        identities=sorted({image.identity for image in images}),
        start=start,
        notes={DRAWN: text.getvalue()},
    )
    return f"{summary}, pairs in {DRAWN} beside it{sources.are_passed_over(listed.others)}"


def _fold_numbers(text: str) -> list[int]:
    words = comma_list.words(text)
    if not words or not all(word.isdecimal() for word in words):
        raise argparse.ArgumentTypeError(f"{text!r} must be fold numbers with commas between, as in 9,10")
    return sorted(set(map(int, words)))


def _resolve(
    pairs: list[Pair], images: list[SourceImage], *, path: str, source: str
) -> tuple[list[SourceImage], np.ndarray]:
    """Finds each pair's images; returns those that occur, in the source's order, and pairs of indices."""
    by_name: dict[str, list[SourceImage]] = {}
    for image in images:
        for name in {image.path, image.name, image.name.rsplit(".", 1)[0]}:
            by_name.setdefault(name, []).append(image)
    chosen: dict[str, SourceImage] = {}
    for pair in pairs:
        for name in (pair.first, pair.second):
            found = by_name.get(name, [])
            if not found:
                raise UserError(f"{path} line {pair.line} names {name}, which {source} does not hold")
            if len(found) > 1:
                raise UserError(f"{source} holds both {found[0].name} and {found[1].name}: leave one of them")
            chosen[name] = found[0]
    occurring = set(chosen.values())
    used = [image for image in images if image in occurring]
    place = {image: index for index, image in enumerate(used)}
    indices = np.array([[place[chosen[pair.first]], place[chosen[pair.second]]] for pair in pairs], np.int32)
    return used, indices


def _count(pairs: list[Pair], images: list[SourceImage], used: list[SourceImage]) -> dict[str, int]:
    return {
        "folds": len({pair.fold for pair in pairs}),
        "pairs": len(pairs),
        "images": len(images),
        "identities": len({image.identity for image in images}),
        "images in pairs": len(used),
        "identities in pairs": len({image.identity for image in used}),
    }
