"""Generated faces: as many identities and images as asked, aligned like real ones, and of nobody.

They are the default training set of the quick start and the fake data of the tests. Identity shows at every scale, from
the outline and the hair's mass to moles and lips; pose, expression, light, background and camera change with the image.
"""

from functools import lru_cache
from types import SimpleNamespace

import cv2
import numpy as np
from jaxtyping import Complex, Float, Float32, UInt8

from lrfr_jax.data import face_parts, face_shapes, face_traits

IMAGE_SIZE = 112
# The five points that aligned face crops share (eyes, nose, mouth corners): x + iy in pixels of a 112 x 112 image.
TEMPLATE = np.array([38.29 + 51.70j, 73.53 + 51.50j, 56.03 + 71.74j, 41.55 + 92.37j, 70.73 + 92.20j])
NOSE_LIFT = 8.0  # how far the nose's tip stands out, pixels
MIDDLE_GREY = 127.5
SHARP = 0.3  # a lens blur below this standard deviation is less than a pixel
IDENTITY_STREAM, IMAGE_STREAM = 1, 2  # numpy pads short seeds with zeros: a first number keeps the two kinds apart
AXIS = np.arange(IMAGE_SIZE, dtype=np.float32)
SLOPE = AXIS / IMAGE_SIZE * 2 - 1


@lru_cache(maxsize=4096)
def _traits(seed: int, identity: int, population: int) -> SimpleNamespace:
    rng = np.random.default_rng((IDENTITY_STREAM, seed, identity))
    return face_traits.draw_traits(rng, face_traits.population_of(population))


def _image_rng(identity: int, image: int, *, seed: int) -> np.random.Generator:
    if min(identity, image, seed) < 0:
        raise ValueError(f"identity={identity}, image={image}, seed={seed}: none may be negative; count them from 0")
    return np.random.default_rng((IMAGE_STREAM, seed, identity, image))


def _turned_landmarks(traits: SimpleNamespace, state: SimpleNamespace) -> Complex[np.ndarray, "5"]:
    mouth = traits.mouth_width * (1 + state.mouth_stretch)
    corner_y = traits.mouth_y - traits.mouth_curve - state.smile
    eyes = [(-traits.eye_spacing, 0), (traits.eye_spacing, 0)]
    points = np.array([*eyes, (0, traits.nose_length), (-mouth, corner_y), (mouth, corner_y)])
    lift = np.array([0, 0, NOSE_LIFT, 0, 0])
    return face_shapes.turn_head(points, traits=traits, state=state, lift=lift)


def _pose_face(traits: SimpleNamespace, state: SimpleNamespace) -> face_shapes.Face:
    """Aligns the turned head to the template by least squares over similarities, then adds the alignment's error."""
    points = _turned_landmarks(traits, state)
    source, target = points - points.mean(), TEMPLATE - TEMPLATE.mean()
    turn = np.vdot(source, target) / np.vdot(source, source).real
    turn = turn * (1 + state.scale) * np.exp(1j * state.roll)
    center = TEMPLATE.mean() + state.shift_x + 1j * state.shift_y - turn * points.mean()
    return face_shapes.Face(traits=traits, state=state, turn=complex(turn), center=complex(center))


def landmarks(identity: int, image: int, *, seed: int, population: int = 0) -> Float[np.ndarray, "5 2"]:
    """Returns where `render_face` puts both eyes, the tip of the nose and the mouth's corners, (x, y) in pixels."""
    state = face_traits.draw_state(_image_rng(identity, image, seed=seed), face_traits.population_of(population))
    face = _pose_face(_traits(seed, identity, population), state)
    placed = face.turn * _turned_landmarks(face.traits, state) + face.center
    return np.stack([placed.real, placed.imag], axis=1)


def _background(state: SimpleNamespace) -> UInt8[np.ndarray, "112 112 3"]:
    corners = np.clip(state.background, 0, 255).astype(np.uint8).reshape(2, 2, 3)
    canvas = cv2.resize(corners, (IMAGE_SIZE, IMAGE_SIZE), interpolation=cv2.INTER_LINEAR)
    for triangle, color in zip(state.shapes, state.shape_colors, strict=False):
        face_shapes.paint(canvas, triangle, color, width=0)
    return canvas


def _soft_shapes(face: face_shapes.Face) -> np.ndarray:
    """Returns rows (x, y, half width, half height, lift, red, green, blue): light added where a Gaussian blob lies."""
    traits, state = face.traits, face.state
    eye, tip, mouth = traits.eye_spacing, traits.nose_length, traits.mouth_y
    socket, cheek = -0.22 * max(traits.socket, 0), 0.16 * max(traits.cheek, 0)
    stubble, side = -0.42 * traits.stubble, np.sign(state.light_x)
    blush = (0.1 * cheek, -cheek, -cheek)
    grey = [
        (-eye, -4, 9, 5, 0, socket),
        (eye, -4, 9, 5, 0, socket),
        (0, tip - 2, 4, 5, NOSE_LIFT, 0.12),  # highlight of the nose's tip and shadow of its side
        (side * -7, tip - 4, 4, 8, 4, -0.14),
        (0, mouth + 8, 8, 2.5, 0, -0.12),  # under the lip, chin, forehead
        (0, traits.chin_y - 7, 8, 5, 0, 0.06),
        (0, -24, 18, 10, 0, 0.07),
        (0, mouth + 12, 24, 9, 0, stubble),
        (0, mouth - 7, 13, 3, 0, 0.8 * stubble),
        (side * -traits.face_width, 18, 12, 34, 0, -0.9 * abs(state.light_x)),  # the cheek away from the light
    ]
    cheeks = [(-23, 20, 9, 8, 0, *blush), (23, 20, 9, 8, 0, *blush)]
    grey += [(x, y, width, height, 0, light) for x, y, width, height, light in state.shadows]
    return np.array([(*row, row[-1], row[-1]) for row in grey] + cheeks)


def _light(face: face_shapes.Face) -> Float32[np.ndarray, "112 112 3"]:
    """Returns the light that each pixel gets per channel: slopes over the picture, soft shapes, color, exposure."""
    state, blobs = face.state, _soft_shapes(face)
    centers = face_shapes.place(face, blobs[:, :2], lift=blobs[:, 4])
    sizes = blobs[:, 2:4] * abs(face.turn)
    warmth = np.array([state.temperature, 2 * state.tint, -state.temperature]) / 2
    gain = np.exp(state.exposure + warmth)
    across, down = (
        np.exp(((AXIS - centers[:, i, None]) / sizes[:, i, None]).astype(np.float32) ** 2 / -2) for i in (0, 1)
    )
    # slopes are separable as well: x * 1 + 1 * y, and the constant light itself
    across = np.concatenate([across, [1 + state.light_x * SLOPE, np.full_like(SLOPE, state.light_y)]])
    down = np.concatenate([down, [np.ones_like(SLOPE), SLOPE]])
    colors = np.concatenate([blobs[:, 5:], np.ones((2, 3))]) * gain
    rows = (across[:, :, None] * colors[:, None, :]).astype(np.float32).reshape(len(colors), -1)
    # Not numpy's product: its threads wait for each other longer than so small a product takes.
    field = cv2.gemm(down.astype(np.float32), rows, 1, None, 0, flags=cv2.GEMM_1_T)
    return field.reshape(IMAGE_SIZE, IMAGE_SIZE, 3)


def _photograph(
    canvas: UInt8[np.ndarray, "112 112 3"], face: face_shapes.Face, rng: np.random.Generator
) -> UInt8[np.ndarray, "112 112 3"]:
    """Lights the drawing and takes the picture: lens blur, contrast around the middle grey, sensor noise."""
    state = face.state
    if state.blur > SHARP:
        canvas = cv2.GaussianBlur(canvas, (5, 5), state.blur, borderType=cv2.BORDER_REPLICATE)
    contrast = np.float32(np.exp(state.contrast))
    noise = rng.standard_normal((IMAGE_SIZE, IMAGE_SIZE, 1), np.float32) * np.float32(state.noise)
    picture = canvas * (_light(face) * contrast)
    picture += noise + np.float32(MIDDLE_GREY) * (1 - contrast)
    return np.clip(np.rint(picture, out=picture), 0, 255, out=picture).astype(np.uint8)


def render_face(identity: int, image: int, *, seed: int, population: int = 0) -> UInt8[np.ndarray, "112 112 3"]:
    """Renders image number `image` of a generated person, aligned by eyes, nose and mouth.

    Args:
      identity: number of the person, from 0 on, without end.
      image: number of the person's image, from 0 on, without end.
      seed: another seed is another world of persons.
      population: another one has other means: of faces, of colors and of light.

    Returns:
      RGB; the same arguments give the same pixels in any process and in any order.

    Raises:
      ValueError: a negative number.
    """
    rng = _image_rng(identity, image, seed=seed)
    state = face_traits.draw_state(rng, face_traits.population_of(population))
    face = _pose_face(_traits(seed, identity, population), state)
    canvas = _background(state)
    face_shapes.draw(canvas, face, face_parts.all_parts(face))
    if state.occluded:
        x, y, radius = state.occluder
        patch = face_shapes.rounded_box(x, y, radius, radius, power=0.6)
        face_shapes.paint(canvas, patch, state.shape_colors[-1], width=0)
    return _photograph(canvas, face, rng)
