"""Landmarks of a face and the similarity transform that takes them to the ArcFace template."""

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from lrfr_jax.data.records import IMAGE_SIZE
from lrfr_jax.image_ops import FIVE_POINTS

TEMPLATE = np.array(FIVE_POINTS)
# What two, four and five landmarks are taken to: the eyes; with them nose and middle of the mouth; all.
_TEMPLATES = {2: TEMPLATE[:2], 4: np.stack([*TEMPLATE[:3], TEMPLATE[3:].mean(axis=0)]), 5: TEMPLATE}


def fit_similarity(
    points: Float[np.ndarray, "points 2"], targets: Float[np.ndarray, "points 2"]
) -> tuple[Float[np.ndarray, "2 3"], float]:
    """Finds the rotation, scale and shift that take `points` nearest to `targets`.

    With points and targets as complex numbers z, w about their means, the transform is w = a z and

    .. math:: a = \\sum_i \\bar z_i w_i / \\sum_i |z_i|^2,

    which in the plane is Umeyama's solution: all points count alike, and a mirror image is not allowed.

    Returns:
      The matrix that `cv2.warpAffine` takes, and the root mean square distance left, in units of the targets.

    Raises:
      ValueError: all points coincide.

    References:
      S. Umeyama, Least-squares estimation of transformation parameters between two point patterns, TPAMI 1991.
    """
    from_plane, to_plane = np.asarray(points, np.float64) @ [1, 1j], np.asarray(targets, np.float64) @ [1, 1j]
    from_mean, to_mean = from_plane.mean(), to_plane.mean()
    spread = np.sum(np.abs(from_plane - from_mean) ** 2)
    if spread == 0:
        raise ValueError("has all landmarks at one point")
    factor = np.sum((from_plane - from_mean).conj() * (to_plane - to_mean)) / spread
    shift = to_mean - factor * from_mean
    distances = np.abs(factor * from_plane + shift - to_plane)
    matrix = np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])
    return matrix, float(np.sqrt(np.mean(distances**2)))


def fit_face(landmarks: Float[np.ndarray, "points 2"]) -> tuple[Float[np.ndarray, "2 3"], float]:
    """Finds the similarity transform of two, four or five landmarks to the template, as `fit_similarity`.

    Two eyes are met exactly: what they say of turn and size has no check in it.

    Raises:
      ValueError: all landmarks coincide.
    """
    return fit_similarity(landmarks, _TEMPLATES[len(landmarks)])


def warp_face(
    photo: UInt8[np.ndarray, "height width 3"], landmarks: Float[np.ndarray, "points 2"]
) -> tuple[UInt8[np.ndarray, "112 112 3"], float]:
    """Cuts the face out at the template's place, bilinearly, black where the photo ends.

    Returns:
      The aligned face, and how far the landmarks stay from the template (root mean square, pixels of 112).

    Raises:
      ValueError: all landmarks coincide.
    """
    matrix, residual = fit_face(landmarks)
    return cv2.warpAffine(photo, matrix, (IMAGE_SIZE, IMAGE_SIZE), flags=cv2.INTER_LINEAR), residual


def share_outside(landmarks: Float[np.ndarray, "points 2"], *, height: int, width: int) -> float:
    """The share of an aligned face that lies beyond the borders of a photo of this size."""
    matrix, _ = fit_face(landmarks)
    to_photo = cv2.invertAffineTransform(matrix)
    middles = np.stack(np.meshgrid(np.arange(IMAGE_SIZE), np.arange(IMAGE_SIZE)), axis=-1)
    x, y = np.moveaxis(middles @ to_photo[:, :2].T + to_photo[:, 2], -1, 0)
    return float(np.mean((x < -0.5) | (x > width - 0.5) | (y < -0.5) | (y > height - 0.5)))


def crop_center(photo: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "112 112 3"]:
    """Shrinks (or enlarges) the largest square in the photo's middle: what is left to do where no face was found."""
    height, width = photo.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = photo[top : top + side, left : left + side]
    return cv2.resize(square, (IMAGE_SIZE, IMAGE_SIZE), interpolation=cv2.INTER_AREA)
