"""Landmarks of faces in any pose pass; those that are written in another form are told."""

import numpy as np
import pytest

from lrfr_jax.pictures import faces, warp
from lrfr_jax.pictures.landmarks import Face
from lrfr_jax.pictures.plausibility import doubt

# A head in millimeters, the nose's tip at the origin, z into the head.
HEAD = np.array([[-31, -32, 30], [31, -32, 30], [0, 0, 0], [-24, 30, 22], [24, 30, 22]], float)
FORMS = {
    "in parts of its sides, 0 to 1": lambda points: points / 250,
    "in the order x1..x5,y1..y5": lambda points: points.T.reshape(5, 2),
    "with left and right exchanged": lambda points: points[[1, 0, 2, 4, 3]],
    "with the eyes exchanged": lambda points: points[[1, 0, 2, 3, 4]],
    "with the corners of the mouth exchanged": lambda points: points[[0, 1, 2, 4, 3]],
    "with y before x": lambda points: points[:, ::-1],
    "within 1.1 pixels": lambda points: points / 60,
}


def posed(yaw, pitch, roll):
    """The head's points in an image, turned by degrees."""
    (a, b, c), (x, y, z) = np.cos(np.radians([yaw, pitch, roll])), np.sin(np.radians([yaw, pitch, roll]))
    turn = np.array([[1, 0, 0], [0, b, -y], [0, y, b]]) @ np.array([[a, 0, x], [0, 1, 0], [-x, 0, a]])
    return (HEAD @ turn.T)[:, :2] @ np.array([[c, z], [-z, c]]) + 100


@pytest.mark.parametrize("yaw", range(-90, 91, 30))
def test_no_pose_and_no_noise_is_doubted(yaw):
    draw = np.random.default_rng(0)
    for pitch in (-30, 0, 30):
        for roll in (-60, -30, 0, 30, 60):
            for _ in range(5):
                noise = draw.normal(size=(5, 2)) * 0.05 * 62
                assert doubt(posed(yaw, pitch, roll) + noise) is None


@pytest.mark.parametrize("size", [0.1, 1, 10])
def test_a_small_face_is_a_face(size):
    assert doubt(warp.TEMPLATE * size) is None


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("pose", [(0, 0, 0), (20, 10, 15), (-30, 0, -20)])
def test_another_form_is_told(form, pose):
    assert doubt(FORMS[form](posed(*pose))).startswith("has landmarks")
    if "within" not in form:
        assert form in doubt(FORMS[form](posed(*pose)))


def test_points_of_no_face_are_told():
    assert "lie as no face's do" in doubt(posed(0, 0, 0)[[2, 4, 0, 1, 3]])
    assert "within 0.0 pixels" in doubt(np.full((5, 2), 9.0))


def test_a_detectors_face_goes_through_the_same_check():
    photo = np.zeros((200, 200, 3), np.uint8)
    points = posed(0, 0, 0)[:, ::-1]
    make_face = faces.aligned_by(lambda _: [Face(points, np.array([50.0, 50, 150, 150]), 1.0)])
    with pytest.raises(ValueError, match=r"^shows a face with landmarks that seem to be with y before x"):
        make_face(photo)
