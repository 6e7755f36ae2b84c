import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from lrfr_jax import image_ops

SIZES = (5, 7, 14, 20, 28, 56)


@pytest.fixture
def images():
    """Smooth shapes, hard edges and noise, so that every kind of neighbourhood occurs."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:112, :112] / 112
    waves = [np.sin(20 * rng.normal(size=3) * columns[..., None] + 20 * rng.normal(size=3) * rows[..., None])]
    waves.append(np.sign(np.sin(9 * rows + 30 * columns**2))[..., None] * np.array([1, 0.5, -1]))
    waves.append(rng.uniform(-1, 1, (112, 112, 3)))
    waves.append(0.5 * waves[0] + 0.5 * waves[1])
    return np.stack([127.5 * (1 + wave) for wave in waves]).round().astype(np.uint8)


def degrade_to(images, resolution, *, sizes=SIZES, **settings):
    settings = {"rounding": "uint8"} | settings
    degrade = jax.jit(image_ops.degrade, static_argnames=("sizes", "rounding", "kernel"))
    resolutions = jnp.full(len(images), resolution, jnp.int32)
    return np.asarray(degrade(jnp.asarray(images), resolutions, sizes=sizes, **settings))


def with_pillow(image, resolution, kernel=Image.Resampling.BICUBIC):
    small = Image.fromarray(image).resize((resolution, resolution), kernel)
    return np.asarray(small.resize((112, 112), kernel))


def assert_equals_pillow(actual, expected):
    assert (actual == expected).mean() >= 0.999
    assert np.abs(actual - expected).max() <= 2


@pytest.mark.parametrize("resolution", SIZES)
def test_degrade_is_pillows_bicubic(images, resolution):
    expected = np.stack([with_pillow(image, resolution) for image in images])
    assert_equals_pillow(degrade_to(images, resolution), expected)


@pytest.mark.parametrize("resolution", [8, 16, 32, 64])
def test_degrade_is_pillows_bilinear(images, resolution):
    expected = np.stack([with_pillow(image, resolution, Image.Resampling.BILINEAR) for image in images])
    difference = np.abs(degrade_to(images, resolution, sizes=(8, 16, 32, 64), kernel="linear") - expected)
    assert difference.max() <= 2
    # Its weights are simple fractions, 1/14 and its like from 64 to 112: many sums end in a half, which Pillow's
    # fixed-point weights push up or down.
    assert (difference == 0).mean() > 0.9
    off_by_one = np.abs(degrade_to(images, resolution, sizes=(8, 16, 32, 64)) - expected)
    assert (off_by_one == 0).mean() < 0.8  # bicubic is another image


@pytest.mark.parametrize("resolution", [5, 7, 10, 14, 20, 28, 56])
def test_degrade_of_faces_is_pillows_bicubic(reference, resolution):
    faces = reference("pillow_bicubic")
    actual = degrade_to(faces["images"], resolution, sizes=(resolution, 10))
    assert_equals_pillow(actual, faces[f"r{resolution}"].astype(np.float32))


@pytest.mark.parametrize("rounding", image_ops.ROUNDINGS)
def test_each_image_has_its_own_resolution(images, rounding):
    resolutions = np.array([20, 7, 112, 14], np.int32)
    degrade = jax.jit(functools.partial(image_ops.degrade, sizes=(7, 14, 20, 112), rounding=rounding))
    mixed = degrade(jnp.asarray(images), jnp.asarray(resolutions))
    for index, resolution in enumerate(resolutions):
        alone = degrade_to(images[index : index + 1], resolution, sizes=(int(resolution),), rounding=rounding)
        np.testing.assert_allclose(mixed[index], alone[0], atol=1e-3)
    np.testing.assert_array_equal(mixed[2], images[2])


@pytest.mark.parametrize("resolution", [7, 20])
def test_without_rounding_it_is_the_resampling_of_jax(images, resolution):
    resize = jax.jit(lambda x, size: jax.image.resize(x, (4, size, size, 3), "cubic"), static_argnums=1)
    expected = resize(resize(images.astype(np.float32), resolution), 112)
    actual = degrade_to(images, resolution, rounding="none")
    np.testing.assert_allclose(actual, expected, atol=1e-3)
    assert actual.min() < 0 < actual.max() - 255


def test_operators_keep_a_constant_and_pad_with_zeros():
    down, up = image_ops.resampling_operators((7, 20), image_size=112)
    assert down.shape == (2, 20, 112)
    assert up.shape == (2, 112, 20)
    np.testing.assert_allclose(down[0, :7].sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(up.sum(axis=2), 1, atol=1e-5)
    np.testing.assert_array_equal(down[0, 7:], 0)
    np.testing.assert_array_equal(up[0, :, 7:], 0)


def test_a_resolution_that_is_not_listed(images):
    with pytest.raises(ValueError, match=r"resolutions hold \{15\}"):
        image_ops.degrade(jnp.asarray(images), jnp.full(4, 15), sizes=SIZES, rounding="uint8")
    degrade = jax.jit(functools.partial(image_ops.degrade, sizes=(7, 14), rounding="uint8"))
    degraded = degrade(jnp.asarray(images), jnp.array([7, 15, 14, 0], jnp.int32))
    np.testing.assert_array_equal(jnp.isnan(degraded).all(axis=(1, 2, 3)), [False, True, False, True])
    np.testing.assert_array_equal(jnp.isnan(degraded).any(axis=(1, 2, 3)), [False, True, False, True])


@pytest.mark.parametrize("sizes", [(), (0,), (7, 113)])
def test_degrade_refuses_sizes(images, sizes):
    with pytest.raises(ValueError, match="side lengths from 1 to 112"):
        degrade_to(images, 7, sizes=sizes)


def test_degrade_refuses_a_rounding(images):
    with pytest.raises(ValueError, match="rounding='int8' is unknown"):
        degrade_to(images, 7, rounding="int8")


def test_degrade_refuses_a_kernel(images):
    with pytest.raises(ValueError, match="kernel='area' is unknown: choose one of cubic, linear"):
        degrade_to(images, 7, kernel="area")


def test_normalize_takes_bytes_to_minus_one_and_one():
    values = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    expected = (values.astype(np.float64) / 255 - 0.5) / 0.5
    for images in (values, values.astype(np.float32)):
        normalized = image_ops.normalize(jnp.asarray(images))
        assert normalized.dtype == jnp.float32
        np.testing.assert_allclose(normalized, expected, atol=1e-6)


def test_flip_mirrors_the_chosen_columns(images):
    flipped = image_ops.flip(jnp.asarray(images), jnp.array([True, False, True, False]))
    assert flipped.dtype == jnp.uint8
    np.testing.assert_array_equal(flipped[::2], np.stack([np.fliplr(image) for image in images[::2]]))
    np.testing.assert_array_equal(flipped[1::2], images[1::2])


def ssim_by_loops(x, y):
    """The formula of Wang et al. at every position of the window, in float64."""
    line = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    window = np.outer(line, line) / line.sum() ** 2
    c1, c2, values = 2.55**2, 7.65**2, []
    for channel in range(x.shape[2]):
        for top in range(x.shape[0] - 10):
            for left in range(x.shape[1] - 10):
                a, b = (image[top : top + 11, left : left + 11, channel].astype(np.float64) for image in (x, y))
                mean_a, mean_b = np.sum(window * a), np.sum(window * b)
                var_a, var_b = np.sum(window * (a - mean_a) ** 2), np.sum(window * (b - mean_b) ** 2)
                covariance = np.sum(window * (a - mean_a) * (b - mean_b))
                ratio = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
                values.append(ratio / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)))
    return np.mean(values)


def test_structural_similarity_is_the_published_formula():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (2, 16, 14, 3)).astype(np.float32)
    y = np.clip(x + rng.normal(size=x.shape) * np.array([10, 80])[:, None, None, None], 0, 255).astype(np.float32)
    found = image_ops.structural_similarity(jnp.asarray(x), jnp.asarray(y))
    np.testing.assert_allclose(found, [ssim_by_loops(*pair) for pair in zip(x, y, strict=True)], atol=1e-5)
    np.testing.assert_allclose(image_ops.structural_similarity(jnp.asarray(x), jnp.asarray(x)), 1, atol=1e-6)


def test_operators_are_made_wherever_they_are_asked_for():
    """While a program for a mesh of devices is traced, in float64 too, as evaluation within a training does."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    make = image_ops.resampling_operators.__wrapped__  # without its cache
    made = []

    def program(x):
        made.append(make((7, 30), image_size=112))
        return x

    with jax.set_mesh(mesh), jax.enable_x64(True):
        jax.jit(program)(jnp.zeros(8))
    for found, expected in zip(made[0], make((7, 30), image_size=112), strict=True):
        assert found.dtype == expected.dtype == np.float32
        np.testing.assert_array_equal(found, expected)
