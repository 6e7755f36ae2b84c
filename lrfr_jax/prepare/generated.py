"""`prepare generated`: drawn faces of made-up identities become a training or a verification set."""

import argparse
import contextlib
import hashlib
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Int
from tqdm import tqdm

from lrfr_jax.data import builders, protocol_arrays, records, synthetic
from lrfr_jax.errors import UserError
from lrfr_jax.pictures.sources import num_workers

NUM_FOLDS = 10  # as in LFW's protocol
_PAIRS_UNIT = 2 * NUM_FOLDS  # each fold holds as many matched as mismatched pairs
_JPEG_QUALITY = 95
_CHUNK = 16  # faces per task of a rendering process
_IN_PROCESS = 512  # up to so many faces, starting processes takes longer than drawing


SUMMARY = "drawn faces of made-up identities -> training set, or verification set with --pairs"
EXAMPLE = """python -m lrfr_jax.prepare generated --name drawn --data_dir ~/faces --identities 300 \\
      --images_per_identity 20
  python -m lrfr_jax.prepare generated --name drawn_pairs --data_dir ~/faces --identities 200 --images_per_identity 6 \\
      --first_identity 300 --pairs 1200"""


def add_arguments(add: Callable) -> None:
    """Declares the options of the command; `add` is the parser's `add_argument`."""
    add("--identities", type=int, required=True, help="how many identities")
    add("--images_per_identity", type=int, required=True, help="images of each identity (with --pairs: to choose from)")
    add("--first_identity", type=int, default=0, help="number of the first; sets with other numbers share no identity")
    add("--seed", type=int, default=0, help="seed of the faces and of the choice of pairs")
    add(
        "--population",
        type=int,
        default=0,
        help="another number is a population of another look: other mean faces, colors and light (default: 0)",
    )
    add("--shards", type=int, default=8, help="files to spread the set over")
    add(
        "--pairs", type=int, help="make a verification set of so many pairs in 10 folds, half matched; a multiple of 20"
    )


def prepare(arguments: argparse.Namespace) -> str:
    """Draws the faces, writes the set, returns the summary; see `--help`. Same arguments, same bytes.

    Raises:
      UserError: counts that cannot be met, or another set of that name.
    """
    start = time.perf_counter()
    builders.check_target(arguments.name, num_shards=arguments.shards)
    _check_counts(arguments)
    first_face = _render((arguments.first_identity, 0, arguments.seed, arguments.population))
    record = {
        "kind": "generated",
        "identities": arguments.identities,
        "images_per_identity": arguments.images_per_identity,
        "first_identity": arguments.first_identity,
        "seed": arguments.seed,
        "shards": arguments.shards,
        "pairs": arguments.pairs,
        # Sets that are older than populations do not name theirs.
        **({"population": arguments.population} if arguments.population else {}),
        "first_face": hashlib.sha256(first_face).hexdigest(),  # another version of the renderer is noticed by it
    }
    if builders.is_complete(arguments.data_dir, arguments.name, arguments=record):
        return f"{arguments.name} is complete already in {arguments.data_dir}: nothing to do"
    write = _write_training if arguments.pairs is None else _write_verification
    what, num_images, folder = write(arguments, record)
    seconds = time.perf_counter() - start
    return f"{what}, {seconds:.1f} s, {num_images / seconds:.0f} images/s, in {folder}"


def plan_pairs(
    *, num_identities: int, images_per_identity: int, num_pairs: int, seed: int
) -> tuple[Int[np.ndarray, "pairs 2 2"], Bool[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]:
    """Draws different pairs in ten folds without a common identity, half of each fold matched.

    Returns:
      faces: (identity, image) of both members, counted from 0.
      is_same: whether the pair is matched; in each fold the matched pairs come first.
      fold: 1 to 10.

    Raises:
      UserError: the identities and images do not give that many different pairs.
    """
    rng = np.random.default_rng(seed)
    per_kind = num_pairs // _PAIRS_UNIT
    faces = []
    for fold in range(NUM_FOLDS):
        members = np.arange(fold, num_identities, NUM_FOLDS)
        faces.append(_draw_matched(rng, members, images_per_identity, per_kind))
        faces.append(_draw_mismatched(rng, members, images_per_identity, per_kind))
    is_same = np.tile(np.repeat([True, False], per_kind), NUM_FOLDS)
    fold = np.repeat(np.arange(1, NUM_FOLDS + 1, dtype=np.int32), 2 * per_kind)
    return np.concatenate(faces), is_same, fold


def _draw_matched(rng: np.random.Generator, members: np.ndarray, num_images: int, count: int) -> np.ndarray:
    first, second = np.triu_indices(num_images, k=1)
    drawn = _draw(rng, len(members) * len(first), count, kind="matched")
    identity, combination = members[drawn // max(len(first), 1)], drawn % max(len(first), 1)
    return np.stack([np.stack([identity, image[combination]], -1) for image in (first, second)], 1)


def _draw_mismatched(rng: np.random.Generator, members: np.ndarray, num_images: int, count: int) -> np.ndarray:
    first, second = np.triu_indices(len(members), k=1)
    drawn = _draw(rng, len(first) * num_images**2, count, kind="mismatched")
    combination, images = drawn // num_images**2, drawn % num_images**2
    one = np.stack([members[first[combination]], images // num_images], -1)
    other = np.stack([members[second[combination]], images % num_images], -1)
    return np.stack([one, other], 1)


def _draw(rng: np.random.Generator, available: int, count: int, *, kind: str) -> np.ndarray:
    if available < count:
        raise UserError(
            f"--pairs needs {count} {kind} pairs in each of {NUM_FOLDS} folds, --identities and --images_per_identity "
            f"give a fold {available}: raise them"
        )
    return rng.choice(available, count, replace=False)


def _write_training(arguments: argparse.Namespace, record: dict) -> tuple[str, int, object]:
    count, each = arguments.identities, arguments.images_per_identity
    tasks = _tasks(arguments, [(identity, image) for identity in range(count) for image in range(each)])
    with _rendered(tasks) as faces:
        folder = builders.write_training_set(
            arguments.data_dir,
            arguments.name,
            images=((face, place // each) for place, face in enumerate(faces)),
            num_images=len(tasks),
            identities=[str(arguments.first_identity + identity) for identity in range(count)],
            num_shards=arguments.shards,
            arguments=record,
            notes={},
        )
    return f"{len(tasks)} images of {count} identities, {arguments.shards} shards", len(tasks), folder


def _write_verification(arguments: argparse.Namespace, record: dict) -> tuple[str, int, object]:
    faces, is_same, fold = plan_pairs(
        num_identities=arguments.identities,
        images_per_identity=arguments.images_per_identity,
        num_pairs=arguments.pairs,
        seed=arguments.seed,
    )
    used, indices = np.unique(faces.reshape(-1, 2), axis=0, return_inverse=True)
    tasks = _tasks(arguments, used.tolist())
    with _rendered(tasks) as encoded:
        folder = builders.write_test_set(
            arguments.data_dir,
            arguments.name,
            images=((face, f"{task[0]}/{task[1]}.jpg") for face, task in zip(encoded, tasks, strict=True)),
            num_images=len(tasks),
            protocol=protocol_arrays.VerificationProtocol(indices.reshape(-1, 2), is_same, fold),
            num_shards=arguments.shards,
            arguments=record,
            notes={},
        )
    return f"{len(faces)} pairs in {NUM_FOLDS} folds, {len(tasks)} images", len(tasks), folder


def _tasks(arguments: argparse.Namespace, faces: Sequence) -> list[tuple[int, int, int, int]]:
    world = arguments.seed, arguments.population
    return [(arguments.first_identity + identity, image, *world) for identity, image in faces]


@contextlib.contextmanager
def _rendered(tasks: list[tuple[int, int, int, int]]) -> Iterator[Iterator[bytes]]:
    """Opens a stream of the encoded faces, in the order of the tasks, drawn on all cores if there are many."""
    with contextlib.ExitStack() as stack:
        if len(tasks) <= _IN_PROCESS:
            faces = map(_render, tasks)
        else:  # processes, as drawing holds the interpreter lock; spawned, as forked ones inherit threads' locks
            pool = stack.enter_context(multiprocessing.get_context("spawn").Pool(num_workers()))
            faces = pool.imap(_render, tasks, chunksize=_CHUNK)
        yield iter(tqdm(faces, total=len(tasks), desc="draw", unit=" images", disable=None))


def _render(task: tuple[int, int, int, int]) -> bytes:
    identity, image, seed, population = task
    face = synthetic.render_face(identity, image, seed=seed, population=population)
    return records.encode_image(face, quality=_JPEG_QUALITY)


def _check_counts(arguments: argparse.Namespace) -> None:
    for flag in ("identities", "images_per_identity"):
        if getattr(arguments, flag) < 1:
            raise UserError(f"--{flag} must be at least 1, it is {getattr(arguments, flag)}")
    for flag in ("first_identity", "seed", "population"):
        if getattr(arguments, flag) < 0:
            raise UserError(f"--{flag} must not be negative, it is {getattr(arguments, flag)}")
    if arguments.pairs is not None and (arguments.pairs < 1 or arguments.pairs % _PAIRS_UNIT):
        raise UserError(
            f"--pairs must be a positive multiple of {_PAIRS_UNIT} (10 folds, half matched), it is {arguments.pairs}"
        )
