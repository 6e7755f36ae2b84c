"""Whether landmarks lie as those of a face do; if not, what they look like instead and what to do."""

import numpy as np
from jaxtyping import Float

from lrfr_jax.pictures import warp

# In pixels of the template, where its eyes are 35 apart and where no fit can be worse than 23 (of four points 21).
# Frontal faces are within 12 (all 13,233 of LFW), a profile is at 16 to 17, and any two points exchanged lead to 15 or
# more.
_GOOD, _NO_FACE = 10.0, 20.0
# Points read in another way must fit so much better than as they are, and give a face that is less tilted (degrees).
_BETTER, _MOST_TILTED = 0.5, 60.0
_LEAST_EXTENT = 2.0  # pixels: less is no face, but perhaps a part of one
_PARTS = (-0.5, 1.5)  # parts of a photo's sides, of points a little outside, too

_LEFT_EYE_FIRST = "with the eyes exchanged: write the eye that is left in the image first"
# How else landmarks may be meant, by their number: what the reason calls it, and the points read in this way.
_READINGS = {
    2: {
        _LEFT_EYE_FIRST: lambda points: points[::-1],
        "with y before x: write x1,y1,x2,y2": lambda points: points[:, ::-1],
    },
    4: {
        _LEFT_EYE_FIRST: lambda points: points[[1, 0, 2, 3]],
        "with x and y exchanged: of --points idiap_xy and idiap_yx give the other": lambda points: points[:, ::-1],
    },
    5: {
        "with left and right exchanged: write the eye and the corner of the mouth that are left in the image first": (
            lambda points: points[[1, 0, 2, 4, 3]]
        ),
        _LEFT_EYE_FIRST: lambda points: points[[1, 0, 2, 3, 4]],
        "with the corners of the mouth exchanged: write the one that is left in the image first": (
            lambda points: points[[0, 1, 2, 4, 3]]
        ),
        "in the order x1..x5,y1..y5: write x1,y1,...,x5,y5, or give --points mtcnn": (
            lambda points: points.reshape(2, -1).T
        ),
        "in the order x1,y1,...,x5,y5: give --points retinaface": lambda points: points.T.reshape(-1, 2),
        "with y before x: write x1,y1,...,x5,y5": lambda points: points[:, ::-1],
    },
}


def doubt(points: Float[np.ndarray, "points 2"]) -> str | None:
    """Says why two, four or five points are no face's landmarks in pixels; None if they may be.

    Tilted faces, profiles and a detector's errors pass: of the 13,233 of LFW, also with noise of a tenth of the
    distance of the eyes, none is doubted. Two eyes fit a template in any way: they are doubted for their tilt alone.

    Returns:
      The rest of a sentence about a photo; it starts with "has landmarks".
    """
    if np.ptp(points, axis=0).max() < _LEAST_EXTENT:
        if points.min() >= _PARTS[0] and points.max() <= _PARTS[1]:
            return "has landmarks in parts of its sides, 0 to 1: multiply each x by its width and each y by its height"
        return f"has landmarks within {np.ptp(points, axis=0).max():.1f} pixels: give them in pixels of this photo"
    given, tilt = _fit(points)
    if tilt <= _MOST_TILTED if len(points) == 2 else given <= _GOOD:
        return None
    fits = {name: _fit(read(points)) for name, read in _READINGS[len(points)].items()}
    upright = {name: fit for name, fit in fits.items() if fit[1] < _MOST_TILTED}
    # Two eyes fit in any reading, to rounding: the one that tilts the face least is named.
    best = min(upright, key=lambda name: (round(upright[name][0], 6), upright[name][1]), default=None)
    if best is not None and (len(points) == 2 or upright[best][0] < _BETTER * given):
        return f"has landmarks that seem to be {best}"
    if len(points) == 2:
        return f"has landmarks of a face tilted by {tilt:.0f} degrees, for which its eyes alone are no proof: leave out"
    if given > _NO_FACE:
        return f"has landmarks that lie as no face's do, {given:.0f} px of 112 from the template: mend or leave out"
    return None


def _fit(points: Float[np.ndarray, "points 2"]) -> tuple[float, float]:
    """How far the points stay from the template, and by how many degrees the face is tilted."""
    matrix, residual = warp.fit_face(points)
    return residual, abs(float(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0]))))
