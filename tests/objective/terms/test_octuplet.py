import jax.numpy as jnp
import numpy as np
import pytest

from tests.objective.terms.toy import batch_of, close, compiled, in_double, make, slopes, value_and_slopes, value_of

HR, LR, LABELS = [[1, 0], [0.8, 0.6], [0, 1]], [[0.6, 0.8], [1, 0.2], [0.1, 0.9]], [0, 0, 1]
METRICS = ("euclidean", "euclidean_squared", "cosine")


def measured(x, y, metric):
    if metric == "cosine":
        return 1 - x @ y / np.linalg.norm(x) / np.linalg.norm(y)
    return np.linalg.norm(x - y) ** (2 if metric == "euclidean_squared" else 1)


def by_loops(hr, lr, labels, metric, margin):
    """The definition, anchor by anchor."""
    blocks = []
    for anchors in (hr, lr):
        for others in (hr, lr):
            total = 0
            for i, anchor in enumerate(anchors):
                distances = [measured(anchor, other, metric) for other in others]
                positives = [d for j, d in enumerate(distances) if labels[j] == labels[i] and j != i]
                negatives = [d for j, d in enumerate(distances) if labels[j] != labels[i]]
                if negatives:
                    total += max(0, max(positives, default=0) - min(negatives) + margin)
            blocks.append(total / len(labels))
    return blocks


@in_double
@pytest.mark.parametrize(
    ("metric", "value", "blocks", "of_hr", "of_lr"),
    [
        (
            "euclidean",
            0.4006080,
            (0.0793428, 0.0070885, 0.0501291, 0.2640477),
            (0.105409, -0.316228),
            (-1.484293, 1.196886),
        ),
        ("euclidean_squared", 0.46, (0.0333333, 0.0333333, 0.06, 0.3333333), (0.133333, -0.4), (-2, 1.066667)),
        ("cosine", 0.8282679, (0.1333333, 0.1748918, 0.1748918, 0.3451510), (0, -0.2), (-1.095883, 0.821912)),
    ],
)
def test_published_values(metric, value, blocks, of_hr, of_lr):
    found, (hr, lr) = value_and_slopes(make("octuplet", metric=metric), HR, LR, labels=LABELS)
    close(found, value, digits=7)
    close(hr[0], of_hr)
    if metric == "euclidean_squared":
        # The hinge of one anchor is 0 to the last digit there, and the source's gradient that of its side above 0.
        lr = slopes(make("octuplet", metric=metric, margin=0.5 + 1e-9), HR, LR, labels=LABELS)[1]
    close(lr[0], of_lr)
    close(by_loops(*map(np.asarray, (HR, LR, LABELS)), metric, 0.5), blocks, digits=6)


@in_double
def test_a_batch_without_positives_keeps_the_negatives():
    close(value_of(make("octuplet"), HR, LR, labels=[0, 1, 2]), 0.3447715, digits=7)


@in_double
def test_a_batch_without_negatives_is_worth_nothing():
    value, slopes = value_and_slopes(make("octuplet"), HR, LR, labels=[4, 4, 4])
    assert value == 0
    assert all(not slope.any() for slope in slopes)


@in_double
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("images", [1, 3])
def test_equals_the_loops(metric, images):
    for seed in range(3):
        (hr, lr), labels = batch_of(seed, images=images)
        expected = sum(by_loops(hr, lr, labels, metric, 9.0))
        assert expected > 0.1
        close(value_of(make("octuplet", metric=metric, margin=9.0), hr, lr, labels=labels), expected, digits=10)


@in_double
@pytest.mark.parametrize("metric", METRICS)
def test_gradient_is_that_of_finite_differences(metric):
    """Along one direction of both views."""
    views, labels = batch_of(5, identities=3, images=2)
    ways, term = np.random.default_rng(0).normal(size=(2, *views[0].shape)), make("octuplet", metric=metric)
    found = sum(np.sum(slope * way) for slope, way in zip(slopes(term, *views, labels=labels), ways, strict=True))
    above, below = (value_of(term, *np.asarray(views) + step * ways, labels=labels) for step in (1e-6, -1e-6))
    assert found == pytest.approx(float(above - below) / 2e-6, rel=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_equal_features_have_a_finite_gradient(metric):
    """In float32; equal features have a distance of 0, which pulls nowhere."""
    (hr, _), labels = batch_of(6, dtype=np.float32)
    alike = np.broadcast_to(20 * hr[:1], hr.shape)
    term, labels = make("octuplet", metric=metric), (jnp.asarray(labels),) * 2
    for given in (alike, 0 * alike, hr):
        value, gradients = compiled(term, (jnp.asarray(given),) * 2, labels, {})
        gradient = gradients[0] + gradients[1]
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
        assert given is hr or not np.abs(gradient).max() > 1e-6


def test_refuses():
    with pytest.raises(ValueError, match="metric='l2' is unknown: choose euclidean, euclidean_squared or cosine"):
        make("octuplet", metric="l2")
    with pytest.raises(ValueError, match="margin=-1 must be 0 or more"):
        make("octuplet", margin=-1)
