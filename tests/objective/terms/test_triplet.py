import jax.numpy as jnp
import numpy as np
import pytest

from tests.objective.terms.toy import batch_of, close, compiled, in_double, make, value_and_slopes, value_of


@in_double
def test_hinge_of_tcn():
    """The anchor's positive is the other image of its identity, with the distance .8; its negative has .4."""
    low = [[0.6, 0.8], [5, 5], [5, 5]]
    high = [[9, 9], [1, 0], [0, 1]]
    value, (slope, _) = value_and_slopes(make("coupled_triplet"), low, high, labels=[0, 0, 1])
    others = [50 - 50, 0]  # of the anchors (5, 5): written out below
    others[0] = 32 - 41 + 0.2  # own partner (9, 9) against (0, 1)
    others[1] = 41 - 32 + 0.2  # its own (0, 1), as it has no partner, against (9, 9)
    close(value, (0.6 + max(0, others[0]) + max(0, others[1])) / 3)
    close(3 * slope[0], [-2 * 1 + 2 * 0, 2 * (1 - 0)])


@in_double
@pytest.mark.parametrize("images", [1, 3])
def test_triplets_equal_the_loops(images):
    (low, high), labels = batch_of(0, images=images)
    total = 0
    for i, anchor in enumerate(low):
        mates = [j for j in range(len(low)) if labels[j] == labels[i]]
        partner = mates[(mates.index(i) + 1) % len(mates)]
        negative = min(np.sum((anchor - high[j]) ** 2) for j in range(len(low)) if labels[j] != labels[i])
        total += max(0, np.sum((anchor - high[partner]) ** 2) - negative + 0.2)
    assert total > 0.1
    close(value_of(make("coupled_triplet"), low, high, labels=labels), total / len(low), digits=10)


@in_double
def test_contrastive_equals_the_loops():
    views, labels = batch_of(1, identities=4, images=2)
    x, y = np.concatenate(views), np.concatenate([labels, labels])
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    kinds = {True: [], False: []}
    for i in range(len(x)):
        for j in range(i):
            apart = np.linalg.norm(x[i] - x[j])
            kinds[bool(y[i] == y[j])].append(apart**2 if y[i] == y[j] else max(0, 1.2 - apart) ** 2)
    expected = np.mean(kinds[True]) + np.mean(kinds[False])
    assert np.mean(kinds[False]) > 0.01
    close(value_of(make("contrastive", margin=1.2), *views, labels=labels), expected, digits=10)


@in_double
def test_contrastive_of_two():
    close(value_of(make("contrastive"), [[2, 0], [0, 3]], labels=[1, 1]), 2)
    value, (slope,) = value_and_slopes(make("contrastive"), [[1, 0], [0.96, 0.28]], labels=[1, 2])
    apart = np.sqrt(2 * (1 - 0.96))
    close(value, (1 - apart) ** 2, digits=12)
    # Along the circle: d = 2 sin(angle / 2).
    close(slope[0], [0, 2 * (1 - apart) * np.sqrt(1 - (apart / 2) ** 2)], digits=10)


@in_double
@pytest.mark.parametrize(("name", "views"), [("coupled_triplet", 2), ("contrastive", 1)])
def test_batches_of_one_kind(name, views):
    x = [[1.0, 0.0], [0.6, 0.8]]
    alone = value_of(make(name), *[x] * views, labels=[0, 1])
    close(alone, 0 if name == "coupled_triplet" else (1 - np.sqrt(0.8)) ** 2, digits=12)
    one_identity = value_of(make(name), *[x] * views, labels=[0, 0])
    close(one_identity, 0 if name == "coupled_triplet" else 0.8, digits=12)


@pytest.mark.parametrize("name", ["coupled_triplet", "contrastive"])
def test_gradients_are_finite(name):
    (x, _), labels = batch_of(2, dtype=np.float32)
    term, labels = make(name), (jnp.asarray(labels),) * 2
    for given in (x, 0 * x, np.broadcast_to(x[:1], x.shape)):
        value, slopes = compiled(term, (jnp.asarray(given),) * 2, labels, {})
        assert np.isfinite(value)
        assert all(np.isfinite(slope).all() for slope in slopes)


def test_refuses():
    with pytest.raises(ValueError, match="margin=-1 must be 0 or more"):
        make("coupled_triplet", margin=-1)
    with pytest.raises(ValueError, match="margin=0 must be above 0"):
        make("contrastive", margin=0)
