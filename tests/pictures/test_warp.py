import numpy as np
import pytest

from lrfr_jax.pictures import warp
from tests import alignment_figures


def umeyama(points, targets):
    """The published solution, by singular values."""
    centered, wanted = points - points.mean(0), targets - targets.mean(0)
    left, values, right = np.linalg.svd(wanted.T @ centered / len(points))
    signs = np.array([1, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    scale = (values * signs).sum() / (centered**2).sum() * len(points)
    matrix = scale * left @ np.diag(signs) @ right
    return np.column_stack([matrix, targets.mean(0) - matrix @ points.mean(0)])


@pytest.mark.parametrize("mirrored", [False, True])
def test_fit_is_umeyamas_also_where_a_mirror_image_would_fit_better(mirrored):
    random = np.random.default_rng(0)
    for _ in range(20):
        points = random.normal(size=(5, 2)) * 40 + 100
        targets = warp.TEMPLATE * ([-1, 1] if mirrored else [1, 1]) + random.normal(size=(5, 2))
        matrix, residual = warp.fit_similarity(points, targets)
        np.testing.assert_allclose(matrix, umeyama(points, targets), atol=1e-9)
        moved = points @ matrix[:, :2].T + matrix[:, 2]
        assert residual == pytest.approx(np.sqrt(((moved - targets) ** 2).sum(1).mean()))


def test_warp_undoes_a_known_similarity_and_is_black_outside():
    rotation = 1.5 * np.exp(0.3j)
    points = np.stack([((warp.TEMPLATE @ [1, 1j]) * rotation + 60 + 20j).real, 0 * warp.TEMPLATE[:, 0]], axis=1)
    points[:, 1] = ((warp.TEMPLATE @ [1, 1j]) * rotation + 60 + 20j).imag
    x, y = np.meshgrid(np.arange(300), np.arange(300))
    photo = np.stack([x * 0.5, y * 0.5, np.full(x.shape, 90)], axis=2).astype(np.uint8)
    face, residual = warp.warp_face(photo, points)
    assert residual < 1e-9
    for row, column in [(56, 56), (30, 80), (90, 40)]:
        place = (column + 1j * row) * rotation + 60 + 20j
        np.testing.assert_allclose(face[row, column], [place.real * 0.5, place.imag * 0.5, 90], atol=1.0)
    outside = warp.warp_face(photo, points - 200)[0]
    assert not outside[:20, :20].any()


def test_points_at_one_place_are_refused():
    with pytest.raises(ValueError, match="all landmarks at one point"):
        warp.fit_similarity(np.full((5, 2), 7.0), warp.TEMPLATE)


def test_center_is_the_largest_square_in_the_middle():
    photo = np.zeros((224, 400, 3), np.uint8)
    photo[:, 88:312] = 200
    np.testing.assert_array_equal(warp.crop_center(photo), np.full((112, 112, 3), 200))
    assert not warp.crop_center(photo[:, :88]).any()


@pytest.mark.parametrize("shift", [(0, 0), (-60, 0), (70, 0), (0, -50), (0, 80), (-60, 80), (500, 0)])
def test_the_share_outside_is_what_a_white_photo_leaves_black(shift):
    points = warp.TEMPLATE * 0.9 @ np.array([[0.96, 0.28], [-0.28, 0.96]]) + 50 + shift
    white = np.full((180, 170, 3), 255, np.uint8)
    black = (warp.warp_face(white, points)[0] < 128).mean()
    assert warp.share_outside(points, height=180, width=170) == pytest.approx(black, abs=0.01)


def test_the_figures_of_fewer_points_and_of_reduced_photos():
    points = warp.TEMPLATE * 2 + 7
    for take in alignment_figures.FEWER.values():
        assert alignment_figures.shift(points, take(points)) < 1e-9
        assert alignment_figures.shift(points, take(points) + np.array([6, 8])) == pytest.approx(5)
    photo = np.full((300, 400, 3), 90, np.uint8)
    small, moved = alignment_figures.reduced(photo, points, face=56)
    assert small.shape == (75, 100, 3)
    np.testing.assert_allclose(moved, (points + 0.5) / 4 - 0.5)
    assert alignment_figures.reduced(photo, points, face=None)[0] is photo
