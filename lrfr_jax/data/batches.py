"""Who is in a batch: orders of the records of a training set, each a pure function of position, set and seed.

The k-th batch of B images holds the positions kB to (k + 1)B - 1 of an endless training. So any number of processes can
read its own part of it, and nothing but k is needed to go on.
"""

import dataclasses
import functools
from collections.abc import Callable

import grain
import numpy as np
from jaxtyping import Int, UInt64

from lrfr_jax.data import face_sets, labels
from lrfr_jax.errors import UserError

# From positions, from 0 on, to the numbers of the records that stand there; any number of threads may ask.
Order = Callable[[Int[np.ndarray, " count"]], Int[np.ndarray, " count"]]

# Passes through the identities whose order is kept: reader threads of one time are in two of them at most.
PASSES_KEPT = 4
# What is drawn from one seed has each a number of its own.
_OF_PASSES, _OF_IMAGES = 0, 1


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """A training set, the order in which a run takes its records, and how many images of it a batch holds."""

    training_set: face_sets.TrainingSet
    batch_size: int
    order: Order


def make_source(
    training_set: face_sets.TrainingSet,
    *,
    order: str,
    batch_size: int,
    images_per_identity: int,
    seed: int,
    num_threads: int,
    group: str,
) -> Source:
    """Binds a set to one of `ORDERS`.

    Args:
      training_set: what `face_sets.open_training_set` returned.
      order: of `ORDERS`.
      batch_size: images of it in a batch, over all processes.
      images_per_identity: images of an identity that stand side by side; 1 where the order knows none.
      seed: 0 to 2^32 - 1.
      num_threads: threads that read the labels of all records, where an order needs them.
      group: of the config, 'config.input' for example, for the sentences.

    Raises:
      UserError: an order that does not exist, or one that the set, or the batch, cannot have.
    """
    if order not in ORDERS:
        raise UserError(f"{group}.order={order!r} is unknown: choose one of {', '.join(ORDERS)}")
    if images_per_identity < 1:
        raise UserError(f"{group}.images_per_identity={images_per_identity} must be at least 1")
    how = {"batch_size": batch_size, "images_per_identity": images_per_identity}
    made = ORDERS[order](training_set, **how, seed=seed, num_threads=num_threads, group=group)
    return Source(training_set, batch_size, made)


def shuffled(
    training_set: face_sets.TrainingSet,
    *,
    batch_size: int,
    images_per_identity: int,
    seed: int,
    num_threads: int,
    group: str,
) -> Order:
    """All records once an epoch, in an order drawn from (seed, epoch); arguments as in `make_source`.

    An epoch's last images and the next one's first share a batch, so no image is dropped.
    """
    del batch_size, num_threads
    if images_per_identity != 1:
        raise UserError(
            f"{group}.images_per_identity={images_per_identity} needs {group}.order=identities: 'shuffled' does not "
            "look at identities"
        )
    # This very call: runs of all times have its numbers.
    order = grain.MapDataset.range(training_set.num_images).seed(seed).shuffle().repeat(reseed_each_epoch=True)

    def numbers(positions: Int[np.ndarray, " count"]) -> Int[np.ndarray, " count"]:
        return np.asarray([order[position] for position in positions.tolist()], np.int32)

    return numbers


def identities(
    training_set: face_sets.TrainingSet,
    *,
    batch_size: int,
    images_per_identity: int,
    seed: int,
    num_threads: int,
    group: str,
) -> Order:
    """P identities times K images: the K images of an identity stand side by side; arguments as in `make_source`.

    A pass holds every identity once, in an order drawn from (seed, pass). An identity shows K of its n images in it:
    they are put into an order drawn from (seed, identity, cycle) and cut into floor(n / K) groups, one for each pass of
    the cycle. What fills no group is left out of that cycle. An identity with n < K shows all n, some of them again.

    The last identities of a pass and the first of the next share a batch, in which all are distinct if the set has at
    least 2P - 1 (see `_passes`). With fewer, but P or more, one may be there twice, with images of two passes.

    It costs a sort of the identities once a pass (9 ms for 85,742) and, for each batch, one of all images of the
    identities in it; nothing grows with the position. The set's numbers of records are held, sorted by identity: 4
    bytes an image.

    Raises:
      UserError: K does not divide the batch, the set has fewer than P identities, or K is above 1 and no identity has
        two images.
    """
    together, rest = divmod(batch_size, images_per_identity)
    field = f"{group}.images_per_identity={images_per_identity}"
    if rest:
        raise UserError(f"{field} does not divide the batch of {batch_size} images: change one of them")
    of_records = labels.read(training_set, num_threads=num_threads)
    by_identity = np.argsort(of_records, kind="stable").astype(np.int32)
    _, first, count = np.unique(of_records[by_identity], return_index=True, return_counts=True)
    if len(count) < together:
        raise UserError(
            f"{field} puts {together} identities into the batch of {batch_size} images, and the set has {len(count)}: "
            "take smaller batches or more images of an identity"
        )
    if images_per_identity > 1 and count.max() < 2:
        raise UserError(f"{field}, and no identity of the set has two images: set it to 1, or take another set")
    pass_order = _passes(len(count), together=together, seed=seed)

    def numbers(positions: Int[np.ndarray, " count"]) -> Int[np.ndarray, " count"]:
        groups, inverse = np.unique(positions // images_per_identity, return_inverse=True)
        passes, ranks = np.divmod(groups, len(count))
        who = np.empty_like(groups)
        for number in np.unique(passes).tolist():
            chosen = passes == number
            who[chosen] = pass_order(number)[ranks[chosen]]
        shown = _shown(who, passes, count[who], images=images_per_identity, seed=seed)
        records = by_identity[first[who][:, None] + shown]
        return records[inverse, positions % images_per_identity]

    return numbers


ORDERS = {"shuffled": shuffled, "identities": identities}


def folded(seed: int, number: int) -> int:
    """Another seed of 32 bits, of which what is drawn has nothing to do with what is drawn from `seed`."""
    return int(_mixed(seed, number)[0] >> np.uint64(32))


def _passes(num: int, *, together: int, seed: int) -> Callable[[int], Int[np.ndarray, " num"]]:
    """The order of `num` identities in the pass of a number, `together` of them in a batch.

    Where a batch straddles two passes, those of the later one's head that stand in the tail of the former one are
    exchanged against the first in its middle that do not. The middle ends where the next pass compares, so every tail
    is that of the order as it was drawn, and a pass needs the former one's draw alone.
    """

    @functools.lru_cache(PASSES_KEPT)
    def drawn(number: int) -> Int[np.ndarray, " num"]:
        return np.argsort(_mixed(seed, _OF_PASSES, number, np.arange(num)))

    @functools.lru_cache(PASSES_KEPT)
    def arranged(number: int) -> Int[np.ndarray, " num"]:
        before, tail = number * num % together, (number + 1) * num % together
        if number == 0 or before == 0:
            return drawn(number)
        order, head = drawn(number).copy(), together - before
        is_former = np.zeros(num, bool)
        is_former[drawn(number - 1)[num - before :]] = True
        is_former = is_former[order]
        leaving = np.flatnonzero(is_former[:head])
        coming = head + np.flatnonzero(~is_former[head : num - tail])
        pairs = min(len(leaving), len(coming))
        leaving, coming = leaving[:pairs], coming[:pairs]
        order[leaving], order[coming] = order[coming], order[leaving]
        return order

    return arranged


def _shown(
    who: Int[np.ndarray, " groups"],
    passes: Int[np.ndarray, " groups"],
    count: Int[np.ndarray, " groups"],
    *,
    images: int,
    seed: int,
) -> Int[np.ndarray, "groups images"]:
    """Which `images` of their `count` images some identities show in some passes."""
    cycle, turn = np.divmod(passes, np.maximum(count // images, 1))
    start = np.cumsum(count) - count
    owner = np.repeat(np.arange(len(count)), count)
    image = np.arange(len(owner)) - start[owner]
    image = image[np.lexsort((_mixed(seed, _OF_IMAGES, who[owner], cycle[owner], image), owner))]
    places = (turn[:, None] * images + np.arange(images)) % count[:, None]
    return image[start[:, None] + places]


def _mixed(*numbers: int | Int[np.ndarray, " count"]) -> UInt64[np.ndarray, " count"]:
    """64 bits that any change of one of the numbers, all at least 0, changes at random.

    Each goes through the finalizer of SplitMix64: the same on every machine and with every version of numpy.

    References:
      Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014, figure 16.
    """
    state = np.zeros(1, np.uint64)
    for number in numbers:
        state = (state ^ np.asarray(number).astype(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return state
