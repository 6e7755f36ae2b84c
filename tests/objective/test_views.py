import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrfr_jax import image_ops
from lrfr_jax.errors import UserError
from lrfr_jax.objective import views

POLICY = {"sizes": (4, 8), "ratios": (1, 2.0), "rounding": "uint8", "flip": "shared"}
POLICY |= {"border_probability": 0.0, "border_largest": 0}
KEY = jax.random.key(5)
make_views = jax.jit(views.make_views, static_argnames=tuple(POLICY))


@pytest.fixture
def images():
    return jnp.asarray(np.random.default_rng(0).integers(0, 256, (64, 16, 16, 3)), jnp.uint8)


def is_flipped(views, images):
    """Which way round each image of a high-resolution view is; fails if it is neither."""
    upright = (views == image_ops.normalize(images)).all(axis=(1, 2, 3))
    mirrored = (views == image_ops.normalize(images[:, :, ::-1])).all(axis=(1, 2, 3))
    assert (upright ^ mirrored).all()
    return np.asarray(mirrored)


def nearest_dressing(lr_view, images):
    """(resolution, flipped) of each image of a low-resolution view, by comparing with all four possibilities."""
    degrade = jax.jit(functools.partial(image_ops.degrade, sizes=POLICY["sizes"], rounding="uint8"))
    candidates = [(size, flipped) for size in POLICY["sizes"] for flipped in (False, True)]
    errors = []
    for size, flipped in candidates:
        turned = images[:, :, ::-1] if flipped else images
        degraded = image_ops.normalize(degrade(turned, jnp.full(len(images), size)))
        errors.append(jnp.abs(degraded - lr_view).max(axis=(1, 2, 3)))
    assert np.min(errors, axis=0).max() <= 2 / 127.5  # a rounding may tip over when mirrored
    return np.array(candidates)[np.argmin(errors, axis=0)].T


@pytest.mark.parametrize("ratios", [(1, 1, 2), (0.25, 0.0, 0.5), (0, 0, 3.0)])
def test_resolutions_follow_their_ratios(ratios):
    drawn = views.sample_resolutions(KEY, 40_000, sizes=(7, 14, 20), ratios=ratios)
    shares = np.array([(drawn == size).mean() for size in (7, 14, 20)])
    np.testing.assert_allclose(shares, np.array(ratios) / sum(ratios), atol=0.01)
    np.testing.assert_array_equal(shares[np.array(ratios) == 0], 0)


def test_views_are_the_image_and_its_degradation(images):
    hr_view, lr_view = make_views(KEY, images, **POLICY | {"flip": "none"})
    assert not is_flipped(hr_view, images).any()
    resolutions, flipped = nearest_dressing(lr_view, images)
    assert not flipped.any()
    assert set(resolutions) == {4, 8}
    expected = image_ops.degrade(images, jnp.asarray(resolutions), sizes=(4, 8), rounding="uint8")
    np.testing.assert_allclose(lr_view, image_ops.normalize(expected), atol=1e-6)


def test_shared_and_independent_flips(images):
    shared = make_views(KEY, images, **POLICY)
    hr_flipped = is_flipped(shared[0], images)
    assert 16 < hr_flipped.sum() < 48
    resolutions, lr_flipped = nearest_dressing(shared[1], images)
    np.testing.assert_array_equal(lr_flipped, hr_flipped)

    independent = make_views(KEY, images, **POLICY | {"flip": "independent"})
    np.testing.assert_array_equal(independent[0], shared[0])
    again, lr_flipped = nearest_dressing(independent[1], images)
    np.testing.assert_array_equal(again, resolutions)
    assert 16 < (lr_flipped != hr_flipped).sum() < 48


def test_resolution_and_flips_are_independent_draws():
    images = jnp.tile(jnp.arange(16, dtype=jnp.uint8)[None, None, :, None] * 16, (4000, 16, 1, 1))
    hr_view, lr_view = make_views(KEY, images, **POLICY | {"flip": "independent"})
    # A ramp tells both draws: its direction is the flip, and its range shrinks with the resolution.
    row_range = np.ptp(np.asarray(lr_view[:, 0, :, 0]), axis=1)
    assert len(np.unique(row_range.round(3))) == 2
    draws = [hr_view[:, 0, 0, 0] > 0, lr_view[:, 0, 0, 0] > 0, row_range > row_range.mean()]
    correlations = np.corrcoef(np.asarray(draws, np.float64))
    np.testing.assert_allclose(correlations, np.eye(3), atol=0.06)


def test_the_key_alone_decides(images):
    first, again = (make_views(KEY, images, **POLICY) for _ in range(2))
    other = make_views(jax.random.key(6), images, **POLICY)
    for view in range(2):
        np.testing.assert_array_equal(first[view], again[view])
        assert (first[view] != other[view]).any()


def test_without_sizes_there_is_one_view(images):
    views = make_views(KEY, images, **POLICY | {"sizes": (), "ratios": ()})
    assert len(views) == 1
    np.testing.assert_array_equal(views[0], make_views(KEY, images, **POLICY)[0])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"ratios": (1,)}, "augment.ratios=(1,) does not fit augment.sizes=(4, 8)"),
        ({"ratios": (1, -1)}, "none negative"),
        ({"ratios": (0, 0)}, "not all 0"),
        ({"ratios": (1, float("nan"))}, "does not fit"),
        ({"sizes": ()}, "does not fit augment.sizes=()"),
        ({"sizes": (4, 17)}, "augment.sizes=(4, 17) holds [17]"),
        ({"sizes": (0, 8)}, "from 1 to 16 pixels"),
        ({"sizes": (), "ratios": (), "rounding": "uint16"}, "augment.rounding='uint16' is unknown"),
        ({"flip": "both"}, "augment.flip='both' is unknown: choose one of shared, independent, none"),
    ],
)
def test_policies_that_are_refused(change, sentence, images):
    with pytest.raises(UserError) as error:
        views.make_views(KEY, images, **POLICY | change)
    assert sentence in str(error.value)


def test_views_do_not_depend_on_the_number_of_devices(images):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.device_put(images, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data")))
    views = functools.partial(make_views, KEY, **POLICY)
    for one, eight in zip(views(images), views(spread), strict=True):
        np.testing.assert_array_equal(one, eight)


def test_borders_are_erased_in_some_images_and_in_both_views(images):
    images = jnp.maximum(images, 1)  # so that black is a border
    changes = {"border_probability": 0.5, "border_largest": 5, "flip": "none", "sizes": (16,), "ratios": (1,)}
    hr_view, lr_view = make_views(KEY, images, **POLICY | changes)
    np.testing.assert_allclose(hr_view, lr_view, atol=1e-6)
    black = np.asarray(hr_view == -1).all(axis=-1)
    np.testing.assert_array_equal(np.asarray(hr_view)[~black], np.asarray(image_ops.normalize(images))[~black])
    rows, columns = black.all(axis=2), black.all(axis=1)
    np.testing.assert_array_equal(black, rows[:, :, None] | columns[:, None, :])  # bands and nothing else
    assert not rows[:, 5:-5].any()
    assert not columns[:, 5:-5].any()
    assert 0.3 < black.any(axis=(1, 2)).mean() < 0.7
    for side in (rows[:, :5], rows[:, -5:], columns[:, :5], columns[:, -5:]):
        assert set(side.sum(axis=1)) == set(range(6))


@pytest.mark.parametrize(("probability", "largest"), [(1.5, 2), (0.5, 8), (0.5, 0), (0.0, 3)])
def test_borders_that_are_refused(images, probability, largest):
    with pytest.raises(UserError, match=f"augment.border_probability={probability} .*augment.border_largest={largest}"):
        views.make_views(KEY, images, **POLICY | {"border_probability": probability, "border_largest": largest})
