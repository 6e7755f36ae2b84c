import ast
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrfr_jax import image_ops
from lrfr_jax.errors import UserError
from lrfr_jax.objective import resampling, view_rules, views

HR = {"sizes": (), "ratios": (), "share": 0.0, "operator": "bicubic", "source": "first", "weight": 0.5}
GROWTH = {"first": 0.1, "increment": 0.1, "every_images": 100}
LR = HR | {"sizes": (4, 8), "ratios": (1, 2.0), "share": 1.0}
POLICY = {"views": {"hr": HR, "lr": LR}, "rounding": "uint8", "flip": "shared"}
POLICY |= {"border_probability": 0.0, "border_largest": 0}
NEVER = {
    "crop": {"probability": 0.0, "areas": (0.2, 1.0), "aspects": (3 / 4, 4 / 3)},
    "low_resolution": {"probability": 0.0, "sides": (0.2, 1.0)},
    "light": {"probability": 0.0, "strength": 0.5},
    "gray": {"probability": 0.0},
}
POLICY |= NEVER
KEY = jax.random.key(5)


@functools.cache
def _jitted(policy):
    return jax.jit(functools.partial(views.make_views, **ast.literal_eval(policy)))


def make_views(rng, images, step=0, second=None, **policy):
    """As a tuple: jit hands dicts back by the alphabet, in which order the views are."""
    return tuple(_jitted(repr(policy))(rng, images, step=step, second=second).values())


def of(lr=LR, **others):
    """A policy of the high-resolution view and another, or of `views` by name."""
    return POLICY | {"views": {"hr": HR, "lr": LR | lr} | others}


def one(**rule):
    return POLICY | {"views": {"mixed": LR | {"weight": 1.0} | rule}, "flip": "none"}


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
    degrade = jax.jit(functools.partial(image_ops.degrade, sizes=LR["sizes"], rounding="uint8"))
    candidates = [(size, flipped) for size in LR["sizes"] for flipped in (False, True)]
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


def test_a_view_alone_is_the_one_beside_another(images):
    alone = make_views(KEY, images, **POLICY | {"views": {"hr": HR}})
    assert len(alone) == 1
    np.testing.assert_array_equal(alone[0], make_views(KEY, images, **POLICY)[0])


def test_the_first_two_views_draw_what_they_have_always_drawn(images):
    """Numbers that runs of before were made with: a change here would give every run other images."""
    hr_view, lr_view = make_views(KEY, images, **POLICY | {"flip": "independent"})
    flips = [np.asarray(jax.random.bernoulli(jax.random.fold_in(KEY, n), shape=(64,))) for n in (1, 2)]
    drawn = views.sample_resolutions(jax.random.fold_in(KEY, 0), 64, sizes=(4, 8), ratios=(1, 2.0))
    np.testing.assert_array_equal(is_flipped(hr_view, images), flips[0])
    resolutions, flipped = nearest_dressing(lr_view, images)
    np.testing.assert_array_equal(resolutions, drawn)
    np.testing.assert_array_equal(flipped, flips[1])


@pytest.mark.parametrize(("share", "number"), [(0.5, 31), (0.29, 18), (0.02, 1), (1.0, 63)])
def test_a_share_of_the_batch_is_degraded_and_the_rest_is_the_image_itself(images, share, number):
    images = images[:63]
    (view,) = make_views(KEY, images, **one(share=share))
    touched = np.asarray((view != image_ops.normalize(images)).any(axis=(1, 2, 3)))
    assert touched.sum() == number
    (whole,) = make_views(KEY, images, **one(share=1.0))
    np.testing.assert_array_equal(np.asarray(view)[touched], np.asarray(whole)[touched])
    if number == 31:
        (other,) = make_views(jax.random.key(9), images, **one(share=share))
        chosen = np.asarray((other != image_ops.normalize(images)).any(axis=(1, 2, 3)))
        assert chosen.sum() == 31
        assert 8 < (chosen & touched).sum() < 23  # 15.5 by chance
        assert (touched[:32].sum() > 5) & (touched[32:].sum() > 5)


def test_two_drawn_views_and_the_full_size_leaves_an_image_as_it_is(images):
    rule = LR | {"sizes": (4, 8, 16), "ratios": (1, 1, 1)}
    policy = POLICY | {"views": {"second": rule, "first": rule}, "flip": "none"}
    kept = [
        np.asarray((view == image_ops.normalize(images)).all(axis=(1, 2, 3)))
        for view in make_views(KEY, images, **policy)
    ]
    for number, key in ((0, views._draw(KEY, views.RESOLUTION, 0)), (1, jax.random.fold_in(KEY, 0))):
        drawn = views.sample_resolutions(key, 64, sizes=(4, 8, 16), ratios=(1, 1, 1))
        np.testing.assert_array_equal(kept[number], drawn == 16)
        assert 10 < kept[number].sum() < 35
    assert (kept[0] != kept[1]).sum() > 10


def test_views_are_named_and_ordered(images):
    rules = {"b": LR | {"weight": 2}, "a": HR | {"weight": 0.25}, "c": HR | {"weight": 0}}
    found = view_rules.views_of(rules)
    assert list(found) == ["a", "b", "c"]
    assert found["b"] == view_rules.View((4, 8), (1, 2.0), 1.0, "bicubic", "first", 2)
    assert len(make_views(KEY, images, **POLICY | {"views": rules})) == 3


def test_every_draw_has_its_own_number():
    numbers = [views.BORDER_COIN, views.BORDER_WIDTHS, views.CROP, views.LOW_RESOLUTION, views.LIGHT, views.GRAY]
    numbers.append(views.SECOND)
    kinds = (views.RESOLUTION, views.FLIP, views.CHOICE, views.KERNEL)
    places = [(place, view) for view in range(4) for place in kinds]
    keys = {jax.random.key_data(views._draw(KEY, *place)).tobytes() for place in places}
    keys |= {jax.random.key_data(jax.random.fold_in(KEY, number)).tobytes() for number in numbers}
    assert len(keys) == len(places) + len(numbers)


def test_augmentations_change_the_image_of_all_views(images):
    dark = images // 4 + 1
    for group, change in (("crop", {}), ("low_resolution", {"sides": (0.2, 0.5)}), ("light", {}), ("gray", {})):
        policy = POLICY | {"flip": "none", group: NEVER[group] | {"probability": 0.5} | change}
        policy["views"] = {"hr": HR, "lr": LR | {"sizes": (16,), "ratios": (1,)}}
        hr_view, lr_view = make_views(KEY, dark, **policy)
        np.testing.assert_array_equal(hr_view, lr_view)
        touched = np.asarray((hr_view != image_ops.normalize(dark)).any(axis=(1, 2, 3)))
        assert 15 < touched.sum() < 45, group


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        (of({"ratios": (1,)}), "augment.views.lr.ratios=(1,) does not fit augment.views.lr.sizes=(4, 8)"),
        (of({"ratios": (1, -1)}), "none negative"),
        (of({"ratios": (0, 0)}), "not all 0"),
        (of({"ratios": (1, float("nan"))}), "does not fit"),
        (of({"sizes": ()}), "does not fit augment.views.lr.sizes=()"),
        (of({"sizes": (4, 17)}), "augment.views.lr.sizes=(4, 17) holds [17]"),
        (of({"sizes": (0, 8)}), "from 1 to 16 pixels"),
        (
            of({"size": 4}),
            "augment.views.lr has the fields operator, ratios, share, size, sizes, source, weight: give sizes, "
            "ratios, share",
        ),
        (
            of(third={"sizes": ()}),
            "augment.views.third has the fields sizes: give sizes, ratios, share, operator, source, weight, and no",
        ),
        (of({"share": 1.5}), "augment.views.lr.share=1.5 must be above 0 and at most 1 with sizes, and 0 without"),
        (of({"share": 0.0}), "augment.views.lr.share=0.0 must be above 0"),
        (
            of(hr=HR | {"share": 1.0}),
            "augment.views.hr.share=1.0 must be above 0 and at most 1 with sizes, and 0 without",
        ),
        (of({"share": float("nan")}), "augment.views.lr.share=nan must be"),
        (of({"weight": -0.5}), "augment.views.lr.weight=-0.5 must be at least 0 and finite"),
        (
            of({"operator": "area"}),
            "augment.views.lr.operator='area' is unknown: choose one of bicubic, bilinear, askd",
        ),
        (of({"source": "third"}), "augment.views.lr.source='third' is unknown: choose one of first, second"),
        (of({"source": "second"}), "augment.views.lr.source='second' needs a second set of images"),
        (
            of({"share": {"first": 0.1}}),
            "lr.share has the fields first: give a number, or first, increment, every_images",
        ),
        (of({"share": GROWTH | {"increment": 0}}), "lr.share={'first': 0.1, 'increment': 0, 'every_images': 100} must"),
        (of({"share": GROWTH | {"every_images": 0.5}}), "a whole number of every_images, at least 1"),
        (of({"share": GROWTH | {"first": 1.5}}), "must have first in [0, 1]"),
        (POLICY | {"gray": {"probability": 2}}, "augment.gray.probability=2 must be in [0, 1]"),
        (of({"share": 0.01}), "augment.views.lr.share=0.01 of a batch of 64 is no image: raise one of the two"),
        (POLICY | {"views": {"hr": HR}, "rounding": "uint16"}, "augment.rounding='uint16' is unknown"),
        (POLICY | {"flip": "both"}, "augment.flip='both' is unknown: choose one of shared, independent, none"),
        (POLICY | {"crop": NEVER["crop"] | {"areas": (1, 2)}}, "augment.crop.areas=(1, 2) must be two numbers"),
    ],
)
def test_policies_that_are_refused(policy, sentence, images):
    with pytest.raises(UserError) as error:
        views.make_views(KEY, images, step=0, **policy)
    assert sentence in str(error.value)


def test_views_without_a_weight_are_refused():
    rules = {"hr": HR | {"weight": 0.0}, "lr": LR | {"weight": 0}}
    with pytest.raises(UserError, match=r"augment\.views gives hr, lr no weight: set one view's above 0"):
        view_rules.check_weights(view_rules.views_of(rules))
    with pytest.raises(UserError, match=r"augment\.views gives no view no weight"):
        view_rules.check_weights({})
    view_rules.check_weights(view_rules.views_of(rules | {"hr": HR}))


def test_a_share_grows_with_the_images_seen(images):
    """Massoli's curriculum: 0.1 more of a batch of 64 every 100 images, so from the steps 2, 4, 5, 7, ... on."""
    growth = view_rules.Growth(**GROWTH)
    seen = {step: min(1, 0.1 + 0.1 * (64 * step // 100)) for step in range(20)}
    wanted = [int(share * 64 + 1e-9) for share in seen.values()]
    assert [int(growth.number(step, 64)) for step in seen] == wanted
    assert (wanted[:5], wanted[14:]) == ([6, 6, 12, 12, 19], [57, 64, 64, 64, 64, 64])
    for step in (0, 4, 15):
        (view,) = make_views(KEY, images, step=jnp.int32(step), **one(share=GROWTH))
        touched = np.asarray((view != image_ops.normalize(images)).any(axis=(1, 2, 3)))
        assert touched.sum() == wanted[step]
        (whole,) = make_views(KEY, images, **one(share=1.0))
        np.testing.assert_array_equal(np.asarray(view)[touched], np.asarray(whole)[touched])
    assert int(view_rules.Growth(0.0, 1.0, 2**31).number(2**31 - 1, 64)) == 64  # more images than 32 bits hold
    assert int(view_rules.Growth(1, 0.5, 10).number(0, 64)) == 64
    assert int(view_rules.Growth(0.5, 0.3, 10).number(10**6, 64)) == 64


def test_an_operator_is_what_its_function_does(images):
    key = jax.random.fold_in(KEY, 0)  # the second view's resolutions, as ever
    resolutions = views.sample_resolutions(key, 64, sizes=(4, 8), ratios=(1, 2.0))

    def wanted(operator):
        if operator == "opencv":
            down, up = jax.random.randint(views._draw(KEY, views.KERNEL, 1), (2, 64), 0, 5)
            assert len(set(map(tuple, zip(np.asarray(down).tolist(), np.asarray(up).tolist(), strict=True)))) > 15
            return resampling.shrink_and_enlarge(images, resolutions, down=down, up=up)
        if operator == "askd_released":
            return resampling.nearest_and_blur(images, resolutions, sizes=(4, 8))
        return image_ops.degrade(images, resolutions, sizes=(4, 8), rounding="uint8", kernel="linear")

    found = {"bicubic": make_views(KEY, images, **POLICY | {"flip": "none"})[1]}
    for operator in ("bilinear", "askd_released", "opencv"):
        _, found[operator] = make_views(KEY, images, **of({"operator": operator}) | {"flip": "none"})
        np.testing.assert_allclose(found[operator], image_ops.normalize(wanted(operator)), atol=1e-5)
    assert len({np.asarray(view).tobytes() for view in found.values()}) == 4


def test_full_size_is_left_alone_by_every_operator(images):
    for operator in view_rules.OPERATORS:
        (view,) = make_views(KEY, images, **one(sizes=(8, 16), ratios=(1, 1), operator=operator))
        kept = (view == image_ops.normalize(images)).all(axis=(1, 2, 3))
        key = views._draw(KEY, views.RESOLUTION, 0)
        np.testing.assert_array_equal(kept, views.sample_resolutions(key, 64, sizes=(8, 16), ratios=(1, 1)) == 16)


def test_a_second_source_is_dressed_by_its_own_views(images):
    second = images[:24] // 2 + 60
    rules = {"hr": HR, "native": HR | {"source": "second", "weight": 0}, "small": LR | {"source": "second"}}
    policy = POLICY | {"views": rules}
    hr_view, native, small = make_views(KEY, images, second=second, **policy)
    np.testing.assert_array_equal(hr_view, make_views(KEY, images, **POLICY)[0])
    flipped = is_flipped(native, second)
    assert 5 < flipped.sum() < 19
    _, small_flipped = nearest_dressing(small, second)
    np.testing.assert_array_equal(small_flipped, flipped)
    assert (flipped != is_flipped(hr_view, images)[:24]).any()
    gray = make_views(KEY, images, second=second, **policy | {"gray": {"probability": 1.0}})
    assert all((view == view[..., :1]).all() for view in gray[:2])


@pytest.mark.parametrize("flip", views.FLIPS)
def test_which_way_round_a_view_is_can_be_asked(images, flip):
    second = images[:10]
    rules = {"a": HR, "b": HR, "c": HR | {"source": "second"}, "d": HR | {"source": "second"}}
    dressed = make_views(KEY, images, second=second, **POLICY | {"views": rules, "flip": flip})
    coins = views.flips_of(KEY, 64, view_rules.views_of(rules), flip, second_size=10)
    assert list(coins) == list(rules)
    for name, view in zip(rules, dressed, strict=True):
        seen = is_flipped(view, images if name in "ab" else second)
        np.testing.assert_array_equal(seen, False if coins[name] is None else coins[name])
    assert (flip == "none") == (coins["a"] is None)
    if flip == "shared":
        np.testing.assert_array_equal(coins["a"], coins["b"])
    if flip == "independent":
        assert (coins["a"] != coins["b"]).any()
        assert (coins["c"] != coins["d"]).any()


def test_a_share_is_rounded_down_as_it_is_written():
    assert view_rules.number_degraded(0.29, 100) == 29  # 28.999999999999996 in float64
    assert view_rules.number_degraded(0.5, 7) == 3


def test_half_of_one_image_is_refused(images):
    with pytest.raises(UserError, match=r"share=0\.5 of a batch of 1 is no image"):
        views.make_views(KEY, images[:1], step=0, **one(share=0.5))


def test_views_do_not_depend_on_the_number_of_devices(images):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.device_put(images, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data")))
    policy = of({"share": 0.5}) | {"light": {"probability": 0.5, "strength": 0.5}}
    dressed = functools.partial(make_views, KEY, **policy)
    for single, eight in zip(dressed(images), dressed(spread), strict=True):
        np.testing.assert_array_equal(single, eight)


def test_borders_are_erased_in_some_images_and_in_both_views(images):
    images = jnp.maximum(images, 1)  # so that black is a border
    changes = {"border_probability": 0.5, "border_largest": 5, "flip": "none"}
    hr_view, lr_view = make_views(KEY, images, **of({"sizes": (16,), "ratios": (1,)}) | changes)
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
        views.make_views(KEY, images, step=0, **POLICY | {"border_probability": probability, "border_largest": largest})
