"""Resampling by OpenCV's kernels, against OpenCV where it is installed and against sums written out otherwise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrfr_jax.objective import resampling

SIZE = 112
shrink_and_enlarge = jax.jit(resampling.shrink_and_enlarge)


def matrix(kernel, before, after, largest=SIZE):
    numbers = (jnp.array([number]) for number in (resampling.KERNELS.index(kernel), before, after))
    return np.asarray(resampling.operators(*numbers, largest=largest))[0]


def row_of_sums(kernel, before, after, i):
    """Row i by walking over the pixels that it reads, in float64."""
    row = np.zeros(before)
    scale = before / after
    if kernel == "area" and after <= before:
        for part in range(1000):  # the mean of a thousand points of the interval
            row[min(int((i + (part + 0.5) / 1000) * scale), before - 1)] += 1 / 1000
        return row
    place = (i + 0.5) * scale - 0.5
    if kernel == "nearest":
        row[i * before // after] = 1
        return row
    if kernel == "area":
        left = i * before // after
        place = left + max((i + 1) - (left + 1) / scale, 0)
    weights = {}
    for j in range(int(np.floor(place)) - 3, int(np.floor(place)) + 5):
        d = abs(place - j)
        cubic = 1.25 * d**3 - 2.25 * d**2 + 1 if d <= 1 else -0.75 * (d**3 - 5 * d**2 + 8 * d - 4) if d < 2 else 0
        lanczos = np.sinc(d) * np.sinc(d / 4) if d < 4 else 0
        weights[j] = {"cubic": cubic, "lanczos4": lanczos}.get(kernel, max(1 - d, 0))
    for j, weight in weights.items():
        row[min(max(j, 0), before - 1)] += weight / sum(weights.values())
    return row


@pytest.mark.parametrize("kernel", resampling.KERNELS)
@pytest.mark.parametrize(("before", "after"), [(16, 5), (5, 16), (16, 8), (16, 16), (1, 16), (16, 1)])
def test_rows_are_the_sums_of_the_kernel(kernel, before, after):
    found = matrix(kernel, before, after, largest=16)
    wanted = np.zeros((16, 16))
    for i in range(after):
        wanted[i, :before] = row_of_sums(kernel, before, after, i)
    np.testing.assert_allclose(found, wanted, atol=2e-3 if kernel == "area" and after <= before else 1e-5)
    np.testing.assert_allclose(found.sum(axis=1), np.arange(16) < after, atol=1e-5)
    if before == after:
        np.testing.assert_allclose(found, np.eye(16), atol=1e-6)


def test_each_image_has_its_own_size_and_kernels():
    images = np.random.default_rng(0).integers(0, 256, (3, 20, 20, 3)).astype(np.uint8)
    sides, down, up = np.array([5, 20, 9]), np.array([4, 1, 2]), np.array([0, 3, 4])
    together = np.asarray(shrink_and_enlarge(images, sides, down=down, up=up))
    np.testing.assert_array_equal(together[1], images[1])
    for n in range(3):
        one = slice(n, n + 1)
        alone = np.asarray(shrink_and_enlarge(images[one], sides[one], down=down[one], up=up[one]))
        np.testing.assert_array_equal(together[one], alone)
    assert np.array_equal(together, np.floor(together))
    assert together.min() >= 0
    assert together.max() <= 255


@pytest.mark.parametrize(("down", "up"), [(kernel, kernel) for kernel in resampling.KERNELS] + [("cubic", "nearest")])
def test_images_are_those_of_opencv(down, up):
    cv2 = pytest.importorskip("cv2")
    numbers = [resampling.KERNELS.index(kernel) for kernel in (down, up)]
    flags = [getattr(cv2, f"INTER_{kernel.upper()}") for kernel in (down, up)]
    # OpenCV finds the nearest pixel by i * (1 / (side / 112)) in float64, which falls below a whole number at times.
    rows = {side: np.floor(np.arange(side) * (1 / (side / SIZE))) for side in range(22, SIZE)}
    exact = [side for side in rows if np.array_equal(rows[side], np.arange(side) * SIZE // side)]
    assert 75 < len(exact) < len(rows)
    sides = np.array(exact[::6])
    images = np.random.default_rng(1).integers(0, 256, (len(sides), SIZE, SIZE, 3)).astype(np.uint8)
    kernels = [np.full(len(sides), number) for number in numbers]
    found = np.asarray(shrink_and_enlarge(images, sides, down=kernels[0], up=kernels[1]))
    for image, side, ours in zip(images, sides.tolist(), found, strict=True):
        small = cv2.resize(image, (side, side), interpolation=flags[0])
        errors = np.abs(cv2.resize(small, (SIZE, SIZE), interpolation=flags[1]) - ours)
        assert errors.max() <= (0 if down == "nearest" else 2)
        assert errors.mean() < 0.4


def test_askd_reads_these_columns_and_blurs_downwards():
    """Of torch's nearest and of torchvision's gaussian_blur with the sigmas (0.1, 2.0), reflected at borders."""
    rows, columns = resampling.nearest_and_blur_operators((24, 56), image_size=112)
    read = columns.argmax(axis=2)
    assert (columns.sum(axis=2) == 1).all()
    assert read[0][:15].tolist() == [0, 0, 0, 0, 0, 4, 4, 4, 4, 4, 9, 9, 9, 9, 14]
    assert read[1].tolist() == [2 * (i // 2) for i in range(112)]
    window = np.array([0.152469, 0.221841, 0.251379, 0.221841, 0.152469])
    nearest = columns[1]
    np.testing.assert_allclose(rows[1][50], window @ nearest[48:53], atol=1e-6)
    np.testing.assert_allclose(rows[1][0], window @ nearest[[2, 1, 0, 1, 2]], atol=1e-6)
    np.testing.assert_allclose(rows[1][111], window @ nearest[[109, 110, 111, 110, 109]], atol=1e-6)

    images = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3)).astype(np.float32)
    resolutions = np.array([56, 24, 7])
    found = resampling.nearest_and_blur(jnp.asarray(images), jnp.asarray(resolutions), sizes=(24, 56))
    for image, result, which in zip(images[:2], found, (1, 0), strict=False):
        small = image[read[which]][:, read[which]]
        padded = np.pad(small, ((2, 2), (0, 0), (0, 0)), mode="reflect")
        wanted = sum(weight * padded[shift : shift + 112] for shift, weight in enumerate(window))
        np.testing.assert_allclose(result, wanted, atol=2e-3)
    assert np.isnan(found[2]).all()
