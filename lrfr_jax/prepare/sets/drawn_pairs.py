"""Pairs drawn from faces by identity: by a seed, in folds that share no identity."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from lrfr_jax.errors import UserError
from lrfr_jax.pictures.stored_files import SourceImage
from lrfr_jax.prepare.sets import labeled_sources

# Where no more pairs exist than so many times those wanted, all are listed; else they are drawn until they differ.
_LISTED = 4

IndexPair = tuple[int, int]


class DrawnPair(NamedTuple):
    """Two images, by their places; whether both show one person; and the pair's fold, counted from 1."""

    first: int
    second: int
    is_same: bool
    fold: int


def draw(images: Sequence[SourceImage], *, matched: int, mismatched: int, folds: int, seed: int) -> list[DrawnPair]:
    """Draws pairs, no two alike, fold by fold, first the matched ones.

    Identities are dealt out to the folds so that each may have as many matched pairs as possible. The matched pairs of
    a fold are spread over its identities as evenly as their images allow; those of a mismatched pair are drawn, each
    identity as likely as any other, then an image of each. All folds have equally many pairs, up to one.

    Args:
      images: in any order; the places in it are returned.
      matched, mismatched: how many of each kind, over all folds.
      folds: how many.
      seed: of the draws.

    Raises:
      UserError: the faces do not allow so many; it says how many they do.
    """
    places: dict[str, list[int]] = {}
    for place, image in enumerate(images):
        places.setdefault(image.identity, []).append(place)
    random = np.random.default_rng(seed)
    of_fold = _dealt([places[name] for name in labeled_sources.by_identity(images)], folds, matched, random)
    quotas = {"matched": _shared(matched, folds), "mismatched": _shared(mismatched, folds)}
    _check(quotas["matched"], [sum(map(_num_matched, group)) for group in of_fold], "matched")
    _check(quotas["mismatched"], [_num_mismatched(group) for group in of_fold], "mismatched")
    drawn = []
    for fold, group in enumerate(of_fold):
        same = _matched(group, quotas["matched"][fold], random)
        other = _mismatched(group, quotas["mismatched"][fold], random)
        drawn += [DrawnPair(*pair, True, fold + 1) for pair in same]
        drawn += [DrawnPair(*pair, False, fold + 1) for pair in other]
    return drawn


def _shared(number: int, folds: int) -> list[int]:
    return np.diff(np.arange(folds + 1) * number // folds).tolist()


def _check(quotas: list[int], capacities: list[int], kind: str) -> None:
    if all(quota <= capacity for quota, capacity in zip(quotas, capacities, strict=True)):
        return
    folds, wanted = len(quotas), sum(quotas)
    most = next(
        number
        for number in range(min(wanted, folds * (min(capacities) + 1)), -1, -1)
        if all(quota <= capacity for quota, capacity in zip(_shared(number, folds), capacities, strict=True))
    )
    advice = f"--{kind} {most}" if most else "fewer --folds, or identities with more images"
    raise UserError(
        f"--{kind} {wanted} pairs in --folds {folds} that share no identity are more than these faces allow, which is "
        f"{most}: ask for {advice}"
    )


def _num_matched(places: Sequence[int]) -> int:
    return len(places) * (len(places) - 1) // 2


def _num_mismatched(group: Sequence[Sequence[int]]) -> int:
    sizes = list(map(len, group))
    return (sum(sizes) ** 2 - sum(size**2 for size in sizes)) // 2


def _dealt(identities: list[list[int]], folds: int, matched: int, random: np.random.Generator) -> list[list[list[int]]]:
    """Deals identities out: those with most pairs first, each to the fold that has the fewest."""
    order = [identities[place] for place in random.permutation(len(identities))]
    enough = -(-matched // folds)  # more than this no fold takes of one identity
    order.sort(key=lambda places: -min(_num_matched(places), enough))
    groups: list[list[list[int]]] = [[] for _ in range(folds)]
    filled = [(0, 0)] * folds
    for places in order:
        fold = min(range(folds), key=filled.__getitem__)
        groups[fold].append(places)
        pairs, images = filled[fold]
        filled[fold] = (pairs + min(_num_matched(places), enough), images + len(places))
    return groups


def _matched(group: list[list[int]], number: int, random: np.random.Generator) -> list[IndexPair]:
    """One pair of each identity, then a second one of each that has two, and so on."""

    def of_one(places: list[int]) -> list[IndexPair]:
        def once() -> IndexPair:
            first, second = random.choice(len(places), 2, replace=False)
            return places[first], places[second]

        everything = itertools.combinations(places, 2)
        return _distinct(min(_num_matched(places), number), _num_matched(places), everything, once, random)

    stacks = [of_one(places) for places in group if len(places) > 1]
    chosen: list[IndexPair] = []
    while len(chosen) < number:
        stacks = [stacks[place] for place in random.permutation(len(stacks)) if stacks[place]]
        chosen += [stack.pop() for stack in stacks[: number - len(chosen)]]
    return chosen


def _mismatched(group: list[list[int]], number: int, random: np.random.Generator) -> list[IndexPair]:
    def once() -> IndexPair:
        first, second = (group[place] for place in random.choice(len(group), 2, replace=False))
        return first[random.integers(len(first))], second[random.integers(len(second))]

    everything = (pair for two in itertools.combinations(group, 2) for pair in itertools.product(*two))
    return _distinct(number, _num_mismatched(group), everything, once, random)


def _distinct(
    number: int,
    capacity: int,
    everything: Iterable[IndexPair],
    once: Callable[[], IndexPair],
    random: np.random.Generator,
) -> list[IndexPair]:
    """Draws pairs of which no two are alike, whatever the order of a pair's images."""
    if capacity <= _LISTED * number:
        listed = list(everything)
        return [listed[place] for place in random.permutation(len(listed))[:number]]
    found: dict[frozenset[int], IndexPair] = {}
    while len(found) < number:
        pair = once()
        found.setdefault(frozenset(pair), pair)
    return list(found.values())
