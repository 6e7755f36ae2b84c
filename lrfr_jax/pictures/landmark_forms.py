"""The forms in which landmarks are given, a name for each; they become two, four or five points in one order.

That order: the eye left in the image, the right one, the nose, then the mouth: its middle (of four points), or its left
and its right corner (of five). What stands left in the image is on the person's right, so that "right eye, left eye" in
the annotations of Idiap, YuNet and dlib, who speak of the person, and "left eye, right eye" in those of RetinaFace and
MTCNN, who speak of the image, are one order.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from lrfr_jax.errors import UserError

# Points of dlib's 68, counted from 0: those around each eye, the nose's tip, the corners of the mouth.
_EYES_OF_68, _NOSE_OF_68, _MOUTH_OF_68 = (slice(36, 42), slice(42, 48)), 30, [48, 54]


class Form(NamedTuple):
    """How many numbers stand for a face, what they are, and what makes points of them."""

    numbers: int
    columns: str
    to_points: Callable[[Float[np.ndarray, " numbers"]], Float[np.ndarray, "points 2"]]


def _five_of_68(numbers: Float[np.ndarray, "136"]) -> Float[np.ndarray, "5 2"]:
    points = numbers.reshape(68, 2)
    eyes = [points[eye].mean(axis=0) for eye in _EYES_OF_68]
    return np.stack([*eyes, points[_NOSE_OF_68], *points[_MOUTH_OF_68]])


FORMS = {
    "eyes": Form(4, "x1,y1,x2,y2", lambda numbers: numbers.reshape(2, 2)),
    # Idiap's positions of SCface (the package bob.db.scface): its text file has x before y, its interface y before x.
    "idiap_xy": Form(8, "x1,y1,...,x4,y4", lambda numbers: numbers.reshape(4, 2)),
    "idiap_yx": Form(8, "y1,x1,...,y4,x4", lambda numbers: numbers.reshape(4, 2)[:, ::-1]),
    "retinaface": Form(10, "x1,y1,...,x5,y5", lambda numbers: numbers.reshape(5, 2)),
    "mtcnn": Form(10, "x1,...,x5,y1,...,y5", lambda numbers: numbers.reshape(2, 5).T),
    "dlib68": Form(136, "x1,y1,...,x68,y68", _five_of_68),
}
# What is taken where nothing is said; of eight numbers it is not known which of each two is x.
_TAKEN = ("eyes", "retinaface", "dlib68")


def form_of(name: str | None, *, columns: int, where: str) -> Form:
    """Looks a form up by its name, or by the number of columns of a line, of which the first is the photo.

    Raises:
      UserError: no name is given, and the number of columns fits no form, or two that differ; it begins with `where`.
    """
    if name is not None:
        return FORMS[name]
    fitting = [name for name, form in FORMS.items() if form.numbers == columns - 1]
    if not fitting:
        known = ", ".join(f"{form.numbers + 1} ({name})" for name, form in FORMS.items())
        raise UserError(f"{where} has {columns} columns, the photo and its landmarks have {known}")
    taken = [name for name in fitting if name in _TAKEN]
    if not taken:
        raise UserError(
            f"{where} has {columns} columns: say which landmarks they are with --points {' or '.join(fitting)}"
        )
    return FORMS[taken[0]]
