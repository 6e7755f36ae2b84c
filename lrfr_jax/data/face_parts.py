"""The parts of a generated face: each function returns the shapes of one part, lowest first.

The numbers in this file are proportions of drawn shapes in the face's pixels; what is random lives in `face_traits`.
"""

from types import SimpleNamespace

import numpy as np
from jaxtyping import Float

from lrfr_jax.data.face_shapes import Face, Points, Shape, curve, ellipse, mirror, rounded_box

TEETH, MOUTH_INSIDE = np.array([232.0, 226, 216]), np.array([70.0, 26, 28])
EYE_WHITE, PUPIL = np.array([236.0, 232, 228]), np.array([14.0, 12, 14])
LID_ACROSS = np.linspace(-1, 1, 9)  # from the inner to the outer corner of the eye
LID_UPPER, LID_LOWER = (1 - LID_ACROSS**2) ** 0.8, 0.55 * (1 - LID_ACROSS**2)
BROW_ALONG = np.linspace(-1, 1, 6)  # from the inner to the outer end
BROW_PROFILE = np.array([0.7, 1.1, 1.15, 0.95, 0.65, 0.2])
HAIR_ACROSS = np.linspace(-1, 1, 13)  # from temple to temple
LENS_DISTANCE = 17.6  # glasses have one size: half the mean distance of the eyes


def face_outline(traits: SimpleNamespace, state: SimpleNamespace) -> Points:
    """Returns the contour of the skin from the top of the forehead to the chin, which an open mouth lowers."""
    width, chin = traits.face_width, traits.chin_y + 0.5 * state.mouth_open
    half = [
        (0, -56),
        (0.6 * width * traits.forehead_width, -50),
        (width * traits.forehead_width, -24),
        (width, 4),
        (0.5 * width * (1 + traits.jaw_width), 24),
        (width * traits.jaw_width, 0.62 * chin),
        (width * traits.chin_width, chin - 4),
        (0, chin),
    ]
    return curve(mirror(half), closed=True, steps=5)


def _hair_today(face: Face) -> tuple[float, float, Float[np.ndarray, "3"]]:
    """Returns volume, lower end and color of the hair in this image."""
    traits, state, style = face.traits, face.state, face.traits.style
    volume, color = style.volume * traits.volume * (1 + state.bulk), traits.hair * np.exp(state.hair_tone)
    return (0.4 * volume, -2.0, color) if state.tied and style.length > 20 else (volume, style.length, color)


def _hair_contour(face: Face) -> Points:
    """Returns the outer edge of the hair from the left end over the crown to the right end."""
    traits, style = face.traits, face.traits.style
    volume, end_y, _ = _hair_today(face)
    width = traits.face_width * traits.forehead_width + 1 + volume
    side = [(width + 0.25 * volume, end_y), (width + 0.4 * volume, 0.5 * (max(end_y, -8) - 12)), (width, -26)]
    half = np.array([*side, (0.66 * width, -51 - volume), (0, -58 - 1.3 * volume)])
    line = curve(np.concatenate([half * (-1, 1), half[-2::-1]]), closed=False, steps=8)
    wave = style.curl * np.sin(np.arange(len(line)) * 1.15 + traits.waves[0])
    return line + wave[:, None] * (0.8, 0.6)


def back_hair(face: Face) -> list[Shape]:
    """Returns the hair behind the face and the neck."""
    if face.traits.style.volume == 0:
        return []
    return [Shape(_hair_contour(face), _hair_today(face)[2] * 0.75, -8)]


def body(face: Face) -> list[Shape]:
    """Returns shoulders, neck and ears."""
    traits, height = face.traits, face.traits.chin_y
    neck = traits.neck_width * traits.face_width
    shoulders = [(0, height + 14), (neck, height + 4), (62, height + 12), (80, 100), (0, 100)]
    shapes = [
        Shape(mirror([(0, 24), (neck, 24), (neck * 1.06, height + 8), (0, height + 16)]), traits.skin * 0.72, -10),
        Shape(mirror(shoulders), face.state.clothes, -12),
    ]
    for side in (-1, 1):
        x = side * (traits.face_width + traits.ear_out - 0.5)
        shapes.append(Shape(ellipse(x, 10.0, 5.0, traits.ear_size), traits.skin * 0.92, -6))
        shapes.append(Shape(ellipse(x + side, 10.0, 2.4, traits.ear_size * 0.6), traits.skin * 0.72, -6))
    return shapes


def skin(face: Face) -> list[Shape]:
    """Returns the face's surface with its freckles and moles."""
    traits = face.traits
    shapes = [Shape(face_outline(traits, face.state), traits.skin)]
    for marks, darkness in ((traits.freckles, 0.76), (traits.moles, 0.42)):
        shapes += [
            Shape(ellipse(x * traits.face_width, y, radius, radius), traits.skin * darkness) for x, y, radius in marks
        ]
    return shapes


def beard(face: Face) -> list[Shape]:
    """Returns a full beard along the jaw and a moustache, each mixed with the skin by its density."""
    traits, shapes = face.traits, []
    hair = np.minimum(traits.hair, 150)
    if traits.beard > 0:
        outer = face_outline(traits, face.state) * (1.0, 1.03)
        right = outer[(outer[:, 0] >= 0) & (outer[:, 1] > traits.beard_top - 14)]
        top, corner = traits.mouth_y + 3, traits.mouth_width + 4
        inner = [(0, top + 5 + face.state.mouth_open), (0.7 * corner, top + 4), (corner, top - 6)]
        inner += [(0.72 * traits.face_width, traits.beard_top), (traits.face_width, traits.beard_top - 16)]
        half = np.concatenate([curve(inner, closed=False, steps=4), right, outer[outer[:, 1].argmax()][None]])
        shapes.append(Shape(mirror(half), traits.beard * hair + (1 - traits.beard) * traits.skin))
    if traits.moustache > 0:
        nose, mouth, end = traits.nose_length + 5, traits.mouth_y - traits.upper_lip, traits.mouth_width + 2
        half = [(0, nose + 1.5), (6, nose + 1), (end, mouth + 3), (end - 2, mouth + 5), (6, mouth + 0.5), (0, mouth)]
        color = traits.moustache * hair + (1 - traits.moustache) * traits.skin
        shapes.append(Shape(curve(mirror(half), closed=True, steps=3), color, 3))
    return shapes


def wrinkles(face: Face) -> list[Shape]:
    """Returns lines of the forehead, folds beside the mouth and bags under the eyes, as dark as the trait is strong."""
    traits, shapes = face.traits, []
    strength = max(traits.wrinkles, 0)
    color = traits.skin * (1 - 0.4 * strength)
    if strength > 0.35:
        for y in (-25, -30):
            line = [(-14, y + 1), (-5, y - 0.5), (5, y), (15, y + 1)]
            shapes.append(Shape(curve(line, closed=False, steps=3), color, width=1))
    nose, mouth = traits.nose_width + 3, traits.mouth_width + 4
    for side in (-1, 1):
        fold = [(nose, traits.nose_length + 1), (mouth, traits.mouth_y - 6), (mouth + 1, traits.mouth_y - 1)]
        shapes.append(Shape(curve(fold, closed=False, steps=3) * (side, 1), color, width=1))
        x, size = side * traits.eye_spacing, traits.eye_size
        bag = [(x - size, 5), (x, 7.5), (x + size, 5)]
        shapes.append(Shape(curve(bag, closed=False, steps=3), color, width=1))
    return shapes


def nose(face: Face) -> list[Shape]:
    """Returns the shaded side of the bridge, the wings and the nostrils."""
    traits = face.traits
    y, width = traits.nose_length, traits.nose_width
    half = np.array([(0, y + 5.5), (0.45 * width, y + 4), (width, y + 3), (width, y - 1)])
    base = np.concatenate([half[::-1] * (-1, 1), half[1:]])
    side = -1 if face.state.light_x > 0 else 1  # the bridge shades the side away from the light
    bridge = [(side * 5.5, -6), (side * 3.0, 5), (side * 0.5 * width, y - 5)]
    shade = traits.skin * (1 - 0.3 * max(traits.bridge, 0))
    shapes = [
        Shape(curve(bridge, closed=False, steps=3), shade, 6, 1),
        Shape(curve(base, closed=False, steps=3), traits.skin * 0.66, 5, 1),
    ]
    for x in (-0.5 * width, 0.5 * width):
        shapes.append(Shape(ellipse(x, y + 3, traits.nostril, 0.6 * traits.nostril), traits.skin * 0.36, 6))
    return shapes


def mouth(face: Face) -> list[Shape]:
    """Returns both lips and the seam, with the teeth between them where the mouth is open."""
    traits, state = face.traits, face.state
    width, y = traits.mouth_width * (1 + state.mouth_stretch), traits.mouth_y
    rise, gap = traits.mouth_curve + state.smile, state.mouth_open
    upper, lower = max(traits.upper_lip, 0.8), max(traits.lower_lip, 1.0)
    red = np.clip(traits.lip_red + state.make_up, 0, 1)
    lip = traits.skin * (0.94 - red * np.array([0.1, 0.46, 0.4]))
    corner = (width, y - rise)
    line = [(0, y), (0.5 * width, y - 0.3 * rise)]
    low_line = [(0, y + gap), (0.55 * width, y + 0.75 * gap - 0.3 * rise)]
    teeth = [(0, y + 0.45 * gap), (0.4 * width, y + 0.4 * gap - 0.2 * rise)]
    bow = [(0, y - upper + traits.lip_bow), (0.25 * width, y - upper - 0.5 * traits.lip_bow)]
    top = [*bow, (0.6 * width, y - 0.7 * upper - 0.3 * rise)]
    bottom = [(0, y + gap + lower), (0.5 * width, y + 0.8 * gap + 0.8 * lower - 0.3 * rise)]

    def between(first: list, second: list, color: np.ndarray) -> Shape:
        return Shape(curve(mirror([*first, corner, *second[::-1]]), closed=True, steps=4), color, 2)

    shapes = [between(line, low_line, MOUTH_INSIDE), between(line, teeth, TEETH)] if gap > 0 else []
    half = np.array([*line, corner])
    seam = curve(np.concatenate([half[::-1] * (-1, 1), half[1:]]), closed=False, steps=4)
    shapes += [between(top, line, lip * 0.9), between(low_line, bottom, lip * 1.05), Shape(seam, lip * 0.55, 2, 1)]
    return shapes


def eye(face: Face, side: int) -> list[Shape]:
    """Returns one eye: white, iris and pupil cut by the lids, lashes and crease; `side` is -1 or 1."""
    traits, state, size = face.traits, face.state, face.traits.eye_size
    opening = max(traits.eye_open * (1 + state.lids), 0.12) * size
    upper, lower = opening * LID_UPPER, opening * LID_LOWER
    lid_x = size * LID_ACROSS

    def put(x: np.ndarray, y: np.ndarray) -> Points:
        slanted = y - traits.eye_slant * x  # the outer corner rises for a positive slant
        return np.stack([side * (traits.eye_spacing + x), slanted], axis=1)

    lids = np.concatenate([-upper, lower[-2:0:-1]])
    shapes = [Shape(put(np.concatenate([lid_x, lid_x[-2:0:-1]]), lids), EYE_WHITE)]
    for radius, color in ((traits.iris, traits.iris_color), (0.45 * traits.iris, PUPIL)):
        x, y = ellipse(side * state.gaze_x, state.gaze_y - 0.2 * opening, radius, radius).T
        y = np.clip(y, -np.interp(x, lid_x, upper), np.interp(x, lid_x, lower))
        shapes.append(Shape(put(x, y), color))
    lashes, crease = np.clip((traits.lashes, traits.crease), 0, 1)
    shapes.append(Shape(put(lid_x, -upper), traits.skin * (0.75 - 0.65 * lashes), 0, 2 if lashes > 0.6 else 1))
    shapes.append(Shape(put(lid_x, lower), traits.skin * 0.7, width=1))
    shapes.append(Shape(put(lid_x, -upper - 2.2), traits.skin * (1 - 0.6 * crease), width=1))
    return shapes


def brow(face: Face, side: int) -> list[Shape]:
    """Returns one brow, thick at its inner third and thin at its outer end; `side` is -1 or 1."""
    traits, state = face.traits, face.state
    slope = (traits.brow_angle + state.brow_frown) * traits.brow_length * BROW_ALONG
    y = -traits.brow_height - state.brow_raise - slope + traits.brow_arch * (BROW_ALONG**2 - 0.4)
    x = side * (traits.eye_spacing + traits.brow_shift + BROW_ALONG * traits.brow_length)
    half = max(traits.brow_thickness, 0.5) * BROW_PROFILE
    contour = np.stack([np.concatenate([x, x[::-1]]), np.concatenate([y - half, (y + half)[::-1]])], axis=1)
    return [Shape(contour, 0.85 * traits.hair * (1 - max(traits.brow_dark, 0)) + 0.08 * traits.skin)]


def _hair_edge(face: Face) -> Points:
    """Returns the inner edge of the hair, against forehead and cheeks, from the left end to the right end."""
    traits, state, style = face.traits, face.state, face.traits.style
    end_y = _hair_today(face)[1]
    across = HAIR_ACROSS
    fall = (traits.sweep + state.fall) * style.sweep * np.abs(across - state.part_side * traits.part) ** 1.4
    bays = style.recede * np.exp(-(((np.abs(across) - 0.55) / 0.25) ** 2))
    temples = 26 * np.maximum(np.abs(across) - 0.82, 0)
    waves = 0.8 * style.curl * np.sin(9 * across + traits.waves[1])
    y = style.hairline + traits.hairline + state.fringe + fall - bays + temples + waves
    width = traits.face_width * traits.forehead_width
    top = np.stack([across * width, np.clip(y, -54, -13)], axis=1)[1:-1]
    inset = width * (0.97 if end_y < 20 else 0.88 - 0.05 * traits.volume)  # long hair covers the cheeks
    low = max(end_y, -11)
    side = np.array([(inset, low), (inset, 0.5 * (low - 12))])
    return curve(np.concatenate([side * (-1, 1), top, side[::-1]]), closed=False, steps=3)


def front_hair(face: Face) -> list[Shape]:
    """Returns the hair over the forehead and beside the face, with darker and lighter strands."""
    traits = face.traits
    if traits.style.volume == 0:
        return []
    outer, inner, color = _hair_contour(face), _hair_edge(face), _hair_today(face)[2]
    shapes = [Shape(np.concatenate([outer, inner[::-1]]), color, 2)]
    along = np.linspace(0, 1, len(outer))
    matched = np.stack([np.interp(along, np.linspace(0, 1, len(inner)), column) for column in inner.T], axis=1)
    strength = np.clip(traits.strands, 0, 1)
    dark, light = color * (1 - 0.25 * strength), color * (1 + 0.3 * strength) + 4
    for share, tone in ((0.2, dark), (0.38, light), (0.55, dark), (0.72, light), (0.88, dark)):
        depth = share + 0.06 * np.sin(along * 25 + traits.waves[2])
        shapes.append(Shape(outer + (matched - outer) * depth[:, None], tone, 2, 1))
    return shapes


def hat(face: Face) -> list[Shape]:
    """Returns the cap that some images show, its edge a darker band."""
    if not face.state.hat:
        return []
    y, width = face.state.hat_y, face.traits.face_width + 4
    cap = [(0, -76), (0.7 * width, -66), (width, y - 10), (width, y + 6), (0.5 * width, y + 1), (0, y)]
    band = [(0, y - 7), (0.5 * width, y - 6), (width + 1, y - 2), (width + 1, y + 8), (0.5 * width, y + 2), (0, y + 1)]
    colors = (face.state.hat_color, 0.8 * face.state.hat_color)
    halves = zip((cap, band), colors, strict=True)
    return [Shape(curve(mirror(half), closed=True, steps=4), color, 3) for half, color in halves]


def glasses(face: Face) -> list[Shape]:
    """Returns the frame of a wearer's glasses, unless they are off in this image."""
    traits, shapes = face.traits, []
    if not traits.glasses or face.state.glasses_off:
        return shapes
    width, height = traits.frame_size
    bridge = np.array([(width - LENS_DISTANCE, -1), (0, -2.5), (LENS_DISTANCE - width, -1)])
    lines = [bridge]
    for side in (-1, 1):
        lens = rounded_box(side * LENS_DISTANCE, 1.0, width, height, power=traits.frame_square)
        temple = np.array([(side * (LENS_DISTANCE + width), -2), (side * (traits.face_width + 1), -1)])
        lines += [np.concatenate([lens, lens[:1]]), temple]
    return [Shape(line, traits.frame_color, 4, traits.frame_width) for line in lines]


def all_parts(face: Face) -> list[Shape]:
    """Returns every shape of the face, the lowest first."""
    shapes = [*back_hair(face), *body(face), *skin(face), *beard(face), *wrinkles(face), *nose(face), *mouth(face)]
    for side in (-1, 1):
        shapes += eye(face, side) + brow(face, side)
    return shapes + front_hair(face) + hat(face) + glasses(face)
