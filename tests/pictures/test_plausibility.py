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
    "in the order x1,y1,...,x5,y5: give --points retinaface": lambda points: points.reshape(2, 5).T,
    "within 1.1 pixels": lambda points: points / 60,
}
FORMS_OF_FOUR = {
    "with the eyes exchanged": lambda points: points[[1, 0, 2, 3]],
    "with x and y exchanged": lambda points: points[:, ::-1],
    "in parts of its sides, 0 to 1": lambda points: points / 250,
}
FORMS_OF_EYES = {
    "with the eyes exchanged": lambda points: points[::-1],
    "with y before x": lambda points: points[:, ::-1],
    "in parts of its sides, 0 to 1": lambda points: points / 250,
}


def four(points):
    """Eyes, nose and the middle of the mouth."""
    return np.vstack([points[:3], points[3:].mean(0)])


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
                points = posed(yaw, pitch, roll) + noise
                assert doubt(points) is None
                assert doubt(four(points)) is None


@pytest.mark.parametrize("size", [0.1, 1, 10])
def test_a_small_face_is_a_face(size):
    assert doubt(warp.TEMPLATE * size) is None


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("pose", [(0, 0, 0), (20, 10, 15), (-30, 0, -20)])
def test_another_form_is_told(form, pose):
    assert doubt(FORMS[form](posed(*pose))).startswith("has landmarks")
    if "within" not in form:
        assert form in doubt(FORMS[form](posed(*pose)))


@pytest.mark.parametrize("form", FORMS_OF_FOUR)
@pytest.mark.parametrize("pose", [(0, 0, 0), (20, 10, 15), (-30, 0, -20)])
def test_another_form_of_four_points_is_told(form, pose):
    assert form in doubt(FORMS_OF_FOUR[form](four(posed(*pose))))


@pytest.mark.parametrize("form", FORMS_OF_EYES)
@pytest.mark.parametrize("tilt", [-25, 0, 25])
def test_another_form_of_two_eyes_is_told(form, tilt):
    assert form in doubt(FORMS_OF_EYES[form](posed(0, 0, tilt)[:2]))


@pytest.mark.parametrize("tilt", [-59, -20, 0, 20, 59])
def test_eyes_of_a_tilted_face_pass_and_beyond_are_told(tilt):
    turn = np.exp(1j * np.radians([tilt, -90]))
    eyes, steep = (np.array([[100, 100], [100 + 40 * z.real, 100 + 40 * z.imag]]) for z in turn)
    assert doubt(eyes) is None
    assert "of a face tilted by 90 degrees" in doubt(steep)
    assert "within 0.0 pixels" in doubt(eyes[[0, 0]])


@pytest.mark.parametrize(("tilt", "form"), [(130, "with y before x"), (140, "with the eyes exchanged")])
def test_of_two_mistakes_that_would_make_a_face_the_one_that_tilts_it_less_is_told(tilt, form):
    turn = np.exp(1j * np.radians(tilt))
    assert form in doubt(np.array([[100, 100], [100 + 40 * turn.real, 100 + 40 * turn.imag]]))


def test_points_of_no_face_are_told():
    assert "lie as no face's do" in doubt(posed(0, 0, 0)[[2, 4, 0, 1, 3]])
    assert "within 0.0 pixels" in doubt(np.full((5, 2), 9.0))


def test_a_detectors_face_goes_through_the_same_check():
    photo = np.zeros((200, 200, 3), np.uint8)
    points = posed(0, 0, 0)[:, ::-1]
    make_face = faces.aligned_by(lambda _: [Face(points, np.array([50.0, 50, 150, 150]), 1.0)])
    with pytest.raises(ValueError, match=r"^shows a face with landmarks that seem to be with y before x"):
        make_face(photo)
