import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrfr_jax.objective import distances
from lrfr_jax.objective.terms import ddl
from tests.objective.terms.toy import (
    NUMBERS,
    angles,
    batch_of,
    close,
    compiled,
    in_double,
    make,
    value_and_slopes,
    value_of,
)

EASY, HARD = ((0, 20), (90, 120), (200, 240)), ((0, 50), (90, 150), (200, 280))
SINGLES = {"easy": (0, 100, 210), "hard": (0, 70, 150)}
WEIGHTS = {"positive": 0.1, "negative": 0.02, "order": 0.5}
DENSITY = {"bandwidth": 0.1, "num_bins": 1000}


def group(pairs, singles):
    first, second = (jnp.asarray(angles(*side)) for side in zip(*pairs, strict=True))
    labels = jnp.arange(len(pairs))
    return ddl.Group(first, second, (labels, labels), jnp.asarray(angles(*singles)), jnp.arange(len(singles)))


@functools.partial(jax.jit, static_argnames=("negatives", *WEIGHTS))
def of_groups(*groups, negatives="released", **weights):
    return ddl.of_groups(list(groups), weights=WEIGHTS | weights, negatives=negatives, **DENSITY)


@in_double
def test_published_values():
    easy, hard = group(EASY, SINGLES["easy"]), group(HARD, SINGLES["hard"])
    close(ddl._positives(easy).values, (0.939693, 0.866025, 0.766044))
    close(ddl._positives(hard).values, (0.642788, 0.5, 0.173648))
    close(ddl._negatives(easy, "released").values, (0, 0, 0))
    close(ddl._negatives(hard, "released").values, (0.342020, 0.173648, 0))
    alone = {"positive": 0, "negative": 0, "order": 0}
    close(of_groups(easy, hard, **alone | {"positive": 1}), 2.8185005, digits=7)
    close(of_groups(easy, hard, **alone | {"negative": 1}), 0.7750216, digits=7)
    close(of_groups(easy, hard, **alone | {"order": 1}), -2.2483533, digits=7)
    close(of_groups(easy, hard), -0.8268262, digits=7)
    close(of_groups(easy, easy), -1.7145083, digits=7)
    moved = jax.jit(lambda second: of_groups(easy, hard._replace(second=distances.unit_length(second))))
    slope = jax.grad(moved)(hard.second)
    close(slope, [[-1.270013, 1.065667], [-0.193399, -0.334977], [0.294694, 0.051962]])


def by_loops(batches, labels, negatives, size):
    """The definition: similarities as lists, those that do not count removed."""

    def positives(x, y):
        pairs = [(i, i + 1) for i in range(0, len(x), size) if y[i] == y[i + 1]]
        return [s for s in (x[i] @ x[j] for i, j in pairs) if s > 0]

    def highest(x, y):
        x, y, found = x[::size], y[::size], []
        for i in range(len(x)):
            others = [x[i] @ x[j] for j in range(len(x)) if y[j] != y[i] and (negatives == "hardest" or j > i)]
            if negatives == "released":
                others.append(0)
            found += [max(others)] if others else []
        return found

    def heights(similarities):
        at = np.arange(1000) / 1000
        curve = sum(np.exp(-(((s - at) / 0.1) ** 2) / 2) for s in similarities)
        return curve / curve.sum()

    batches = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in batches]
    kinds = [[form(x, y) for x, y in zip(batches, labels, strict=True)] for form in (positives, highest)]
    total = 0
    for weight, found in zip((0.1, 0.02), kinds, strict=True):
        for hard in found[1:]:
            if found[0] and hard:
                e, h = heights(found[0]), heights(hard)
                total += weight * np.sum((e + 1e-9) * (np.log(e + 1e-9) - np.log(h + 1e-9)))
    for low in kinds[1]:
        total += 0.5 * sum(np.mean(low) - np.mean(high) for high in kinds[0] if low and high)
    return total


@in_double
@pytest.mark.parametrize("negatives", ddl.NEGATIVES)
@pytest.mark.parametrize("size", [2, 3])
def test_groups_of_p_times_k_batches(negatives, size):
    """Three groups, one of them a longer batch of other identities, one identity twice, a pair that is none."""
    (hr, lr), labels = batch_of(0, images=size)
    (other, _), others = batch_of(1, identities=8, images=size)
    others[:size], other[:size] = others[size : 2 * size], other[size : 2 * size] + 0.01
    labels[-1] = 99
    batches, of_each = (hr, lr, other), (labels, labels, others)
    expected = by_loops(batches, of_each, negatives, size)
    term = make("ddl", negatives=negatives, images_per_identity=size)
    close(value_of(term, *batches, labels=of_each), expected, digits=10)


@in_double
def test_densities_add_up_to_one():
    found = ddl.Similarities(jnp.asarray([0.3, 0.9, -0.2]), jnp.asarray([1.0, 1.0, 0.0]))
    heights = ddl.density(found, **DENSITY)
    close(heights.sum(), 1, digits=12)
    assert heights.shape == (1000,)
    close(heights, ddl.density(ddl.Similarities(*(x[:2] for x in found)), **DENSITY), digits=12)
    assert int(jnp.argmax(heights)) == 300


@in_double
def test_batches_without_positives_or_negatives():
    # Opposite pairs have no similarity above 0: what is left is the divergence of the negatives.
    opposite = angles(0, 180, 100, 280, 200, 20)
    both, labels = angles(0, 20, 100, 120, 200, 240), [0, 0, 1, 1, 2, 2]
    only_negatives = make("ddl", positive_weight=0.0, order_weight=0.0)
    close(
        value_of(make("ddl"), opposite, opposite, labels=labels),
        value_of(only_negatives, opposite, opposite, labels=labels),
        digits=12,
    )
    for groups in ((both, opposite), (opposite, both)):
        close(
            value_of(make("ddl", order_weight=0.0), *groups, labels=labels),
            value_of(only_negatives, *groups, labels=labels),
            digits=12,
        )
    # One identity: with `hardest` nothing is negative, and positives alone diverge.
    settings = {"negatives": "hardest", "negative_weight": 0.0, "order_weight": 0.0}
    one = angles(0, 20), angles(0, 50)
    whole = value_of(make("ddl", negatives="hardest"), *one, labels=[4, 4])
    close(whole, value_of(make("ddl", **settings), *one, labels=[4, 4]), digits=12)
    assert whole > 0
    # Neither: labels that make no pair, of one identity.
    value, slopes = value_and_slopes(make("ddl", negatives="hardest"), angles(0, 180), angles(0, 180), labels=[4, 4])
    assert value == 0
    assert all(np.isfinite(slope).all() for slope in slopes)
    assert np.isfinite(value_of(make("ddl"), both, both, labels=labels))


@pytest.mark.parametrize("negatives", ddl.NEGATIVES)
def test_gradients_are_finite(negatives):
    (x, y), labels = batch_of(2, images=2, dtype=np.float32)
    term, labels = make("ddl", negatives=negatives), (jnp.asarray(labels),) * 2
    for given in ((x, y), (0 * x, 0 * y), (x, x), (np.broadcast_to(x[:1], x.shape),) * 2):
        value, slopes = compiled(term, tuple(map(jnp.asarray, given)), labels, {})
        assert np.isfinite(value)
        assert all(np.isfinite(slope).all() for slope in slopes)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"negatives": "all"}, "negatives='all' is unknown: choose released or hardest"),
        ({"bandwidth": 0}, "bandwidth=0 must be above 0"),
        ({"order_weight": -1}, "order_weight=-1 must be 0 or more"),
        ({"images_per_identity": 1}, "images_per_identity=1 must be 2 or more"),
        ({"num_bins": 0}, "num_bins=0 1 or more"),
    ],
)
def test_refuses(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        make("ddl", **change)
    assert change.keys() <= NUMBERS["ddl"].keys()


@in_double
def test_refuses_a_batch_of_another_make():
    with pytest.raises(ValueError, match="a batch of 3 images is not made of identities with images_per_identity=2"):
        value_of(make("ddl"), angles(0, 1, 2), angles(0, 1, 2), labels=[0, 0, 1])
