"""AdaFace's augmentations: boxes, resolutions and light as the original draws them, each for its share of a batch."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import PIL.ImageEnhance
import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.objective import augmentations

KEY = jax.random.key(3)
IMAGES = np.random.default_rng(0).integers(1, 256, (64, 16, 16, 3)).astype(np.uint8)
CROP = {"probability": 1.0, "areas": (0.2, 1.0), "aspects": (3 / 4, 4 / 3)}
LOW = {"probability": 1.0, "sides": (0.2, 1.0)}
LIGHT = {"probability": 1.0, "strength": 0.5}
ALL = [
    (augmentations.random_crop, CROP),
    (augmentations.random_low_resolution, LOW),
    (augmentations.random_light, LIGHT),
]


def run(function, settings, images=IMAGES, key=KEY):
    return np.asarray(jax.jit(functools.partial(function, **settings))(key, images))


def changed(images, originals=IMAGES):
    return (images != originals).any(axis=(1, 2, 3))


@pytest.mark.parametrize(("function", "settings"), ALL)
def test_a_share_of_the_images_is_changed_and_the_others_not_at_all(function, settings):
    images = np.tile(IMAGES, (4, 1, 1, 1))
    touched = changed(run(function, settings | {"probability": 0.25}, images), images)
    every = changed(run(function, settings, images), images)
    assert 0.18 < touched.mean() / every.mean() < 0.32
    assert every.mean() > 0.8
    np.testing.assert_array_equal(run(function, settings), run(function, settings))
    assert (run(function, settings) != run(function, settings, key=jax.random.key(4))).any()


@pytest.mark.parametrize(("function", "settings"), ALL)
def test_probability_zero_computes_nothing(function, settings):
    program = jax.make_jaxpr(functools.partial(function, **settings | {"probability": 0.0}))(KEY, IMAGES)
    assert not program.jaxpr.eqns
    assert program.jaxpr.outvars == program.jaxpr.invars[1:]


def test_boxes_lie_in_the_image_and_have_the_areas_and_aspects():
    draw = functools.partial(augmentations.random_boxes, KEY, 20_000, size=112)
    top, left, height, width = np.asarray(draw(areas=(0.2, 1.0), aspects=(3 / 4, 4 / 3))).T
    assert top.min() == left.min() == 0
    assert (top + height).max() == (left + width).max() == 112
    areas, logs = height * width / 112**2, np.log(width / height)
    assert 0.19 < areas.min() < 0.21
    assert areas.max() == 1
    assert abs(logs).max() < math.log(4 / 3) + 0.02
    assert abs(logs.mean()) < 0.01
    # Small boxes always fit, so their areas are as many in each tenth; those near 1 need an aspect near 1.
    counts = np.histogram(areas, bins=(0.2, 0.3, 0.4, 0.5))[0]
    assert counts.max() < 1.1 * counts.min()
    # The place is uniform: the mean of top over the room that there is.
    room = 112 - height
    assert abs((top[room > 0] / room[room > 0]).mean() - 0.5) < 0.01
    whole = np.asarray(draw(areas=(1.0, 1.0), aspects=(2.0, 3.0)))  # none fits
    np.testing.assert_array_equal(whole, np.tile([0, 0, 112, 112], (20_000, 1)))


def test_a_box_keeps_its_place_on_black():
    kept = np.asarray(augmentations.keep_boxes(jnp.asarray(IMAGES[:2]), jnp.array([[2, 3, 4, 5], [0, 0, 16, 16]])))
    wanted = np.zeros_like(IMAGES[0])
    wanted[2:6, 3:8] = IMAGES[0, 2:6, 3:8]
    np.testing.assert_array_equal(kept[0], wanted)
    np.testing.assert_array_equal(kept[1], IMAGES[1])


def test_sides_are_within_the_range_and_kernels_are_drawn_apart(monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        augmentations.resampling,
        "shrink_and_enlarge",
        lambda pixels, sides, **ways: drawn.update(ways, s=sides) or pixels,
    )
    images = jnp.zeros((4000, 8, 8, 3), jnp.uint8)
    augmentations.random_low_resolution(KEY, images, probability=1.0, sides=(0.25, 1.0))
    assert set(np.asarray(drawn["s"]).tolist()) == set(range(2, 8))
    pairs = np.bincount(np.asarray(drawn["down"]) * 5 + np.asarray(drawn["up"]), minlength=25)
    assert pairs.min() > 110
    assert pairs.max() < 220


def test_orders_and_factors_of_light_are_drawn(monkeypatch):
    drawn = []
    monkeypatch.setattr(augmentations, "change_light", lambda pixels, *draws: drawn.extend(draws) or pixels)
    augmentations.random_light(KEY, jnp.zeros((3000, 1, 1, 3)), probability=1.0, strength=0.25)
    orders, factors = map(np.asarray, drawn)
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 6
    assert counts.min() > 430
    assert counts.max() < 570
    assert 0.75 <= factors.min() < 0.76
    assert 1.24 < factors.max() <= 1.25
    assert abs(np.corrcoef(factors.T) - np.eye(3)).max() < 0.07


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_light_is_that_of_pillow(order):
    factors = np.random.default_rng(2).uniform(0.5, 1.5, (8, 3)).astype(np.float32)
    found = augmentations.change_light(
        *map(jnp.asarray, (IMAGES[:8].astype(np.float32), np.tile(order, (8, 1)), factors))
    )
    kinds = (PIL.ImageEnhance.Brightness, PIL.ImageEnhance.Contrast, PIL.ImageEnhance.Color)
    errors = []
    for image, factor, ours in zip(IMAGES, factors, np.asarray(found), strict=False):
        picture = PIL.Image.fromarray(image)
        for kind in order:
            picture = kinds[kind](picture).enhance(float(factor[kind]))
        errors.append(np.abs(np.asarray(picture, np.float32) - ours))
    assert np.max(errors) <= 2
    assert np.mean(errors) < 0.1


def test_gray_is_that_of_pillow_in_some_images():
    images = np.tile(IMAGES, (4, 1, 1, 1))
    found = run(augmentations.random_gray, {"probability": 0.5}, images)
    touched = changed(found, images)
    assert 0.35 < touched.mean() < 0.65
    wanted = np.stack([np.asarray(PIL.Image.fromarray(image).convert("L"), np.float32) for image in images[touched]])
    assert np.abs(found[touched] - wanted[..., None]).max() <= 1
    assert (found[touched] == wanted[..., None]).mean() > 0.99
    program = jax.make_jaxpr(functools.partial(augmentations.random_gray, probability=0.0))(KEY, IMAGES)
    assert not program.jaxpr.eqns


def test_light_follows_the_order_and_factor_one_changes_nothing():
    images, orders = jnp.asarray(IMAGES[:2], jnp.float32), jnp.array([[0, 1, 2], [1, 0, 2]])
    np.testing.assert_array_equal(augmentations.change_light(images, orders, jnp.ones((2, 3))), images)
    factors, same = jnp.array([[1.5, 0.5, 1.0]] * 2), jnp.stack([images[0]] * 2)
    first, second = np.asarray(augmentations.change_light(same, orders, factors))
    assert (first != second).any()


@pytest.mark.parametrize(
    ("function", "settings", "sentence"),
    [
        (
            augmentations.random_crop,
            CROP | {"probability": 1.5},
            r"augment\.crop\.probability=1\.5 must be in \[0, 1\]",
        ),
        (augmentations.random_crop, CROP | {"areas": (0.5, 0.2)}, r"augment\.crop\.areas=\(0\.5, 0\.2\) must be two"),
        (augmentations.random_crop, CROP | {"aspects": (0.0, 2.0)}, r"augment\.crop\.aspects=.* above 0 and finite"),
        (augmentations.random_low_resolution, LOW | {"sides": (0.2, 1.1)}, r"sides=.* above 0 and at most 1"),
        (augmentations.random_low_resolution, LOW | {"sides": ()}, r"sides=\(\) must be two numbers"),
        (augmentations.random_gray, {"probability": -0.1}, r"augment\.gray\.probability=-0\.1 must be in \[0, 1\]"),
        (augmentations.random_light, LIGHT | {"strength": 2}, r"augment\.light\.strength=2 must be in \[0, 1\]"),
        (augmentations.random_light, LIGHT | {"probability": float("nan")}, r"augment\.light\.probability=nan"),
    ],
)
def test_numbers_out_of_range_are_refused(function, settings, sentence):
    with pytest.raises(UserError, match=sentence):
        function(KEY, jnp.asarray(IMAGES), **settings)
