"""One face written in every form comes back as the same points."""

import numpy as np
import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.pictures import landmarks, warp
from lrfr_jax.pictures.landmark_forms import FORMS, form_of

FIVE = np.array([[10.0, 21], [30, 20], [20, 33], [12, 40], [28, 41]])
FOUR = np.array([[10.0, 21], [30, 20], [20, 33], [20, 40.5]])


def of_68():
    """All 68 points: nonsense, but for the hexagons about the eyes, the nose's tip and the corners of the mouth."""
    points = np.full((68, 2), -7.0)
    hexagon = np.array([[-3, 0], [-1, -2], [1, -2], [3, 0], [1, 2], [-1, 2]], float)
    points[36:42], points[42:48] = FIVE[0] + hexagon, FIVE[1] + hexagon
    points[30], points[48], points[54] = FIVE[2:]
    return points


WRITTEN = {
    "eyes": (FIVE[:2], FIVE[:2]),
    "idiap_xy": (FOUR, FOUR),
    "idiap_yx": ([[21, 10], [20, 30], [33, 20], [40.5, 20]], FOUR),
    "retinaface": (FIVE, FIVE),
    "mtcnn": ([[10, 30, 20, 12, 28], [21, 20, 33, 40, 41]], FIVE),
    "dlib68": (of_68(), FIVE),
}


def test_every_form_has_a_case():
    assert WRITTEN.keys() == FORMS.keys()


@pytest.mark.parametrize("name", FORMS)
def test_each_form_gives_the_points_in_one_order(tmp_path, name):
    numbers, points = np.ravel(WRITTEN[name][0]), WRITTEN[name][1]
    assert len(numbers) == FORMS[name].numbers
    for parting, suffix in ((",", "csv"), ("\t", "txt"), ("  ", "pos")):
        path = tmp_path / f"points.{suffix}"
        path.write_text("# a remark\n" + parting.join(["a/1.jpg", *map(str, numbers)]) + "\n \n")
        ((read, box, score),) = landmarks.read_landmarks(str(path), points=name)["a/1.jpg"]
        np.testing.assert_array_equal(read, points)
        assert score == 1
        if name != "eyes":
            np.testing.assert_array_equal(box, [*np.min(points, 0), *np.max(points, 0)])


@pytest.mark.parametrize(("columns", "name"), [(5, "eyes"), (11, "retinaface"), (137, "dlib68")])
def test_the_number_of_columns_tells_the_form(columns, name):
    assert form_of(None, columns=columns, where="f") is FORMS[name]
    assert form_of("mtcnn", columns=columns, where="f") is FORMS["mtcnn"]


def test_columns_that_tell_no_form_are_refused():
    with pytest.raises(UserError, match=r"^f has 9 columns: say .* with --points idiap_xy or idiap_yx$"):
        form_of(None, columns=9, where="f")
    with pytest.raises(
        UserError, match=r"^f has 7 columns, the photo and its landmarks have 5 \(eyes\), 9 \(idiap_xy\)"
    ):
        form_of(None, columns=7, where="f")


def test_of_two_pairs_of_eyes_the_farther_apart_are_the_larger_face(tmp_path):
    (tmp_path / "eyes.csv").write_text("a/1.jpg,10,50,20,50\na/1.jpg,30,50,60,50\na/1.jpg,70,40,88,40\n")
    faces = landmarks.read_landmarks(str(tmp_path / "eyes.csv"))["a/1.jpg"]
    np.testing.assert_array_equal(faces[0].box, [10, 45, 20, 55])
    largest = landmarks.choose_face(faces, choice="largest", height=100, width=100)
    np.testing.assert_array_equal(largest.landmarks, [[30, 50], [60, 50]])
    # The square may reach out of a photo in which the eyes lie.
    landmarks.check_inside(faces[1], height=50, width=60)


@pytest.mark.parametrize("number", [2, 4, 5])
def test_the_template_stays_where_it_is_and_a_moved_one_comes_back(number):
    template = {2: warp.TEMPLATE[:2], 4: np.vstack([warp.TEMPLATE[:3], warp.TEMPLATE[3:].mean(0)]), 5: warp.TEMPLATE}
    points = template[number]
    matrix, residual = warp.fit_face(points)
    np.testing.assert_allclose(matrix, [[1, 0, 0], [0, 1, 0]], atol=1e-12)
    assert residual < 1e-12
    turn = 1.7 * np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    matrix, residual = warp.fit_face(points @ turn.T + (31, -7))
    np.testing.assert_allclose(matrix[:, :2], np.linalg.inv(turn), atol=1e-12)
    np.testing.assert_allclose(matrix[:, 2], -np.linalg.inv(turn) @ (31, -7), atol=1e-9)
    assert residual < 1e-9
