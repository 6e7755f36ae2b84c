"""Shapes of a generated face and their way to the canvas: curves, the turned head, antialiased polygons.

Shapes are described in the face's own pixels (from the point between the eyes, x to the right, y down); `draw` turns
the head, aligns it and paints. No image is ever warped, so contours stay sharp.
"""

from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Complex, Float, UInt8

SUBPIXEL_BITS = 4  # OpenCV takes polygon corners as integers with this many binary places
HEAD_DEPTH = 24.0  # how far the middle of the face stands before its outline, pixels
HEAD_CENTER, HEAD_HEIGHT = 8.0, 72.0  # middle of the head below the eyes and half its height, pixels
_ANGLES = np.arange(24) * np.pi / 12
CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)

Canvas = UInt8[np.ndarray, "height width 3"]
Points = Float[np.ndarray, "points 2"]


class Shape(NamedTuple):
    """A filled contour, or a line where `width` is not 0; `lift` is the depth it adds to the head's surface, pixels."""

    points: np.ndarray
    color: np.ndarray
    lift: float = 0.0
    width: int = 0


@dataclass(frozen=True)
class Face:
    """One identity in one image; a point z = x + iy of the turned head lands on the canvas at `turn` * z + `center`."""

    traits: SimpleNamespace
    state: SimpleNamespace
    turn: complex
    center: complex


@lru_cache(maxsize=64)
def _spline_weights(count: int, closed: bool, steps: int) -> np.ndarray:
    """Catmull-Rom weights [samples, count]: a curve through `count` points is weights @ points."""
    segments = count if closed else count - 1
    t = np.tile(np.arange(steps) / steps, segments)
    start = np.repeat(np.arange(segments), steps)
    if not closed:
        t, start = np.append(t, 1.0), np.append(start, segments - 1)
    cubic = np.array([[0, -1, 2, -1], [2, 0, -5, 3], [0, 1, 4, -3], [0, 0, -1, 1]], np.float64) / 2
    weights = np.zeros((len(t), count))
    for offset, row in zip((-1, 0, 1, 2), cubic @ t ** np.arange(4)[:, None], strict=True):
        neighbor = (start + offset) % count if closed else np.clip(start + offset, 0, count - 1)
        np.add.at(weights, (np.arange(len(t)), neighbor), row)
    return weights


def curve(points: list | np.ndarray, *, closed: bool, steps: int) -> Points:
    """Returns a smooth curve through the points (a Catmull-Rom spline), `steps` samples between neighbors."""
    points = np.asarray(points, np.float64)
    return _spline_weights(len(points), closed, steps) @ points


def ellipse(x: float, y: float, radius_x: float, radius_y: float) -> Points:
    """Returns a closed contour of 24 corners around (x, y)."""
    return CIRCLE * (radius_x, radius_y) + (x, y)


def rounded_box(x: float, y: float, radius_x: float, radius_y: float, *, power: float) -> Points:
    """Returns a closed contour between an ellipse (power 1) and a rectangle (power towards 0)."""
    return np.sign(CIRCLE) * np.abs(CIRCLE) ** power * (radius_x, radius_y) + (x, y)


def mirror(half: list | np.ndarray) -> Points:
    """Closes a right half, given from top to bottom with both ends on the axis."""
    half = np.asarray(half, np.float64)
    return np.concatenate([half, half[-2:0:-1] * (-1, 1)])


def turn_head(
    points: Points, *, traits: SimpleNamespace, state: SimpleNamespace, lift: np.ndarray
) -> Complex[np.ndarray, "points"]:
    """Turns the head by yaw and pitch (radians in `state`) and returns the points as x + iy.

    The face is an ellipsoid of depth HEAD_DEPTH, so inner features move against the outline.
    """
    x, y = points.T
    bulge = 1 - (x / traits.face_width) ** 2 - ((y - HEAD_CENTER) / HEAD_HEIGHT) ** 2
    depth = HEAD_DEPTH * np.maximum(bulge, -0.6) + lift  # beyond the outline the ellipsoid ends
    turned_x = x * np.cos(state.yaw) + depth * np.sin(state.yaw)
    return turned_x + 1j * (y * np.cos(state.pitch) + depth * np.sin(state.pitch))


def place(face: Face, points: Points, *, lift: np.ndarray) -> Points:
    """Returns where points of the face lie on the canvas, pixels."""
    placed = face.turn * turn_head(points, traits=face.traits, state=face.state, lift=lift) + face.center
    return np.stack([placed.real, placed.imag], axis=1)


def paint(canvas: Canvas, points: Points, color: np.ndarray, *, width: int) -> None:
    """Paints one contour or line, given in canvas pixels, onto the canvas in place."""
    corners = [np.rint(points * (1 << SUBPIXEL_BITS)).astype(np.int32)]
    red, green, blue = color.tolist()  # OpenCV saturates what leaves 0 to 255
    if width:
        cv2.polylines(canvas, corners, False, (red, green, blue), width, cv2.LINE_AA, SUBPIXEL_BITS)
    else:
        cv2.fillPoly(canvas, corners, (red, green, blue), cv2.LINE_AA, SUBPIXEL_BITS)


def draw(canvas: Canvas, face: Face, shapes: list[Shape]) -> None:
    """Paints shapes of the face onto the canvas in place, the first one lowest."""
    counts = [len(shape.points) for shape in shapes]
    lift = np.repeat([shape.lift for shape in shapes], counts)
    placed = place(face, np.concatenate([shape.points for shape in shapes]), lift=lift)
    end = 0
    for shape, count in zip(shapes, counts, strict=True):
        start, end = end, end + count
        paint(canvas, placed[start:end], shape.color, width=shape.width)
