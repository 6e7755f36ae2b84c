import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrfr_jax.objective import distances
from lrfr_jax.objective.terms import dense_centers
from tests.objective.terms.toy import batch_of, close, compiled, in_double, make, value_and_slopes, value_of

A = [[1, 0], [0.995, 0.0998749], [0.98, 0.1989975], [-0.6, 0.8]]
B, C = [[0, -1], [0.1, -0.9949874]], [[-0.8, -0.6], [-0.7, -0.7141428]]
LABELS = [7, 7, 7, 7, 1, 1, 5, 5]
TERMS = ("datl", "daql")


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def center_by_loops(members, iterations, bandwidth):
    center = members.mean(0)
    for _ in range(iterations):
        weights = [np.exp(-np.sum((member - center) ** 2) / (2 * bandwidth**2)) for member in members]
        center = sum(w * member for w, member in zip(weights, members, strict=True)) / sum(weights)
    return center


def by_loops(x, labels, *, bandwidth, iterations, margin, second_margin=None, centers=None, memory=0):
    """The definition, feature by feature; `centers`: of each identity, instead of the batch's."""
    x, total = unit(np.asarray(x)), 0
    for feature, label in zip(x, labels, strict=True):
        members = x[labels == label]
        center = center_by_loops(members, iterations, bandwidth) if centers is None else centers[label]
        others = [j for j in range(len(x)) if labels[j] != label]
        if not others:
            continue
        n = min(others, key=lambda j: np.sum((feature - x[j]) ** 2))
        to_center = np.sum((feature - center) ** 2)
        total += max(0, to_center - np.sum((feature - x[n]) ** 2) + margin)
        third = [j for j in others if labels[j] != labels[n]]
        if second_margin is not None and third:
            total += max(0, to_center - min(np.sum((x[n] - x[j]) ** 2) for j in third) + second_margin)
    return total / len(x)


@in_double
def test_published_values():
    x = jnp.asarray(unit(np.asarray(A + B + C)))
    same = jnp.asarray(np.equal.outer(LABELS, LABELS))
    for iterations, center in ((0, (0.593750, 0.274718)), (1, (0.965465, 0.116469)), (10, (0.990405, 0.100207))):
        found = dense_centers.centers_of(x, same, bandwidth=0.5, iterations=iterations)
        close(found[:4], [center] * 4)
        squared = np.sum(np.asarray(x[:4] - found[:4]) ** 2, axis=1)
        if iterations == 0:
            close(squared[[1, 3]], (0.191572, 1.700960))
        if iterations == 10:
            close(squared[1], 2.12e-5, digits=7)
            close(squared[3], 3.019099)
    close(value_of(make("datl"), A + B + C, labels=LABELS), 0.1898874, digits=7)
    close(value_of(make("daql"), A + B + C, labels=LABELS), 0.4985248, digits=7)


@in_double
@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("images", [1, 4])
def test_equals_the_loops(name, images):
    """Views are mixed in the class, and features of any length."""
    for seed in range(3):
        (hr, lr), labels = batch_of(seed, images=images)
        term = make(name, bandwidth=0.4, iterations=5, margin=0.8)
        settings = {"bandwidth": 0.4, "iterations": 5, "margin": 0.8}
        settings |= {"second_margin": 0.25} if name == "daql" else {}
        expected = by_loops(np.concatenate([hr, lr]), np.concatenate([labels, labels]), **settings)
        assert expected > 0.01
        close(value_of(term, hr, lr, labels=labels), expected, digits=10)


@in_double
def test_no_gradient_to_the_center():
    """With the negative far away nothing acts; what is left pulls a feature to a point that stays."""
    value, (slope,) = value_and_slopes(make("datl", margin=3.0), A + B, labels=LABELS[:6])
    x = jnp.asarray(A + B)

    def fixed(x, centers):
        x = distances.unit_length(x)
        nearest = jnp.sum((x[:, None] - x[None]) ** 2, axis=-1)
        nearest = jnp.where(np.equal.outer(LABELS[:6], LABELS[:6]), 9, nearest).min(axis=1)
        return jnp.mean(jnp.maximum(0, jnp.sum((x - centers) ** 2, axis=1) - nearest + 3.0))

    same = jnp.asarray(np.equal.outer(LABELS[:6], LABELS[:6]))
    centers = dense_centers.centers_of(distances.unit_length(x), same, bandwidth=0.5, iterations=10)
    expected = jax.grad(fixed)(x, centers)
    close(value, fixed(x, centers), digits=12)
    close(slope, expected, digits=10)


@in_double
@pytest.mark.parametrize("name", TERMS)
def test_memory(name):
    """New classes take the batch's center, known ones move by a tenth; others stay."""
    term = make(name, memory=0.9)
    state = term.first_state(9, 2)
    assert state["centers"].shape == (9, 2)
    first, second = (jnp.asarray(A),), (jnp.asarray(A + B),)
    state = term.update(state, first, (jnp.asarray(LABELS[:4]),))
    of_a = center_by_loops(unit(np.asarray(A)), 10, 0.5)
    close(state["centers"][7], of_a)
    assert not np.delete(np.asarray(state["centers"]), 7, axis=0).any()
    moved = -np.asarray(state["centers"])
    state = term.update({"centers": jnp.asarray(moved)}, second, (jnp.asarray(LABELS[:6]),))
    close(state["centers"][7], 0.9 * -of_a + 0.1 * of_a)
    close(state["centers"][1], center_by_loops(unit(np.asarray(B)), 10, 0.5))
    settings = {key: value for key, value in (("second_margin", 0.25),) if name == "daql"}
    expected = by_loops(
        A + B,
        np.asarray(LABELS[:6]),
        bandwidth=0.5,
        iterations=10,
        margin=0.5,
        centers=np.asarray(state["centers"]),
        **settings,
    )
    close(value_of(term, A + B, labels=LABELS[:6], state=state), expected, digits=10)
    assert make(name).first_state is None


@in_double
@pytest.mark.parametrize("name", TERMS)
def test_batches_without_negatives_or_positives(name):
    value, (slope,) = value_and_slopes(make(name), A, labels=[3] * 4)
    assert value == 0
    assert not slope.any()
    two = value_of(make(name), A + B, labels=LABELS[:6])
    close(two, value_of(make("datl"), A + B, labels=LABELS[:6]), digits=12)  # no third identity
    single = value_of(make("datl"), [[1, 0], [0.6, 0.8]], labels=[0, 1])  # each is its own center
    close(single, max(0, -0.8 + 0.5), digits=12)


@pytest.mark.parametrize("name", TERMS)
def test_gradients_are_finite(name):
    """In float32, of equal features, of zeros, and with a bandwidth at which every weight would be 0."""

    (x, _), labels = batch_of(1, dtype=np.float32)
    term = make(name, bandwidth=1e-3, margin=4.0)
    for given in (x, 0 * x, np.broadcast_to(x[:1], x.shape)):
        value, (slope,) = compiled(term, (jnp.asarray(given),), (jnp.asarray(labels),), {})
        assert np.isfinite(value)
        assert np.isfinite(slope).all()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"bandwidth": 0}, "bandwidth=0 must be above 0"),
        ({"iterations": -1}, "iterations=-1 must be 0 or more"),
        ({"margin": -1}, "margin=-1 must be 0 or more"),
        ({"second_margin": -1}, "second_margin=-1 must be 0 or more"),
        ({"memory": 1}, "memory=1 must be below 1"),
    ],
)
def test_refuses(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        make("daql", **change)
