"""Generated faces: the same ones everywhere, of one person and of another, aligned, with identity at every scale."""

import hashlib
import subprocess
import sys

import cv2
import numpy as np
import pytest

from lrfr_jax.data import face_parts, face_shapes, face_traits, synthetic

IDENTITIES, IMAGES, SEED = 20, 5, 3
EVERYONE = face_traits.population_of(0)


@pytest.fixture(scope="module")
def faces():
    """[identities, images, 112, 112, 3]"""
    people = range(IDENTITIES)
    return np.stack([[synthetic.render_face(i, k, seed=SEED) for k in range(IMAGES)] for i in people])


def _digest(images: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest()


def test_same_pixels_in_another_process_and_order(faces):
    program = (
        "import hashlib, numpy as np\n"
        "from lrfr_jax.data.synthetic import render_face\n"
        "images = [render_face(i, k, seed=3) for i in (2, 1, 0) for k in (1, 0)]\n"
        "print(hashlib.sha256(np.stack(images[::-1]).tobytes()).hexdigest())\n"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == _digest(faces[:3, :2].reshape(6, 112, 112, 3))


def test_rendering_leaves_the_global_random_state_alone():
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    synthetic.render_face(0, 0, seed=0)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_every_image_identity_and_seed_differs(faces):
    assert faces.dtype == np.uint8
    assert faces.shape[2:] == (112, 112, 3)
    assert len({_digest(image) for image in faces.reshape(-1, 112, 112, 3)}) == IDENTITIES * IMAGES
    assert len({_digest(synthetic.render_face(0, 0, seed=seed)) for seed in range(5)}) == 5


@pytest.mark.parametrize("wrong", [(-1, 0, 0, 0), (0, -1, 0, 0), (0, 0, -1, 0), (0, 0, 0, -1)])
def test_negative_numbers_are_refused(wrong):
    identity, image, seed, population = wrong
    with pytest.raises(ValueError, match="count them from 0"):
        synthetic.render_face(identity, image, seed=seed, population=population)


def _means(population: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean traits of 200 people of a population and mean states of as many images, in the tables' deviations."""
    people = face_traits.population_of(population)
    traits = [face_traits.draw_traits(np.random.default_rng(k), people) for k in range(200)]
    states = [face_traits.draw_state(np.random.default_rng(k), people) for k in range(200)]
    of_traits = [np.mean([getattr(one, name) for one in traits]) for name in face_traits.IDENTITY_TRAITS]
    of_states = [np.mean([getattr(one, name) for one in states]) for name in face_traits.IMAGE_STATE]
    spreads = [spread for _, spread in face_traits.IDENTITY_TRAITS.values()]
    return np.divide(of_traits, spreads), np.divide(of_states, list(face_traits.IMAGE_STATE.values()))


def test_another_population_has_other_means():
    one, again, other = (_means(population) for population in (0, 1, 2))
    at = list(face_traits.IDENTITY_TRAITS).index("part")  # is kept away from the middle
    for kind in (0, 1):
        apart = np.delete(np.abs(again[kind] - one[kind]), at if kind == 0 else [])
        np.testing.assert_allclose(apart, face_traits.FARTHEST, atol=1e-6)
    assert 0.3 < np.mean(np.sign(again[0] - one[0]) == np.sign(other[0] - one[0])) < 0.7
    assert sorted(face_traits.population_of(1).hair) == sorted(face_traits.HAIR_SHARES)
    assert _digest(synthetic.render_face(0, 0, seed=0, population=1)) != _digest(synthetic.render_face(0, 0, seed=0))
    assert (synthetic.landmarks(0, 0, seed=0, population=1) != synthetic.landmarks(0, 0, seed=0)).any()


@pytest.mark.parametrize("resolution", [28, 7])
def test_identity_is_visible_at_every_scale(faces, resolution):
    small = [
        cv2.resize(image, (resolution, resolution), interpolation=cv2.INTER_AREA)
        for image in faces.reshape(-1, 112, 112, 3)
    ]
    features = np.stack(small).astype(np.float64).reshape(IDENTITIES * IMAGES, -1, 3)
    features = (features - features.mean(1, keepdims=True)) / features.std(1, keepdims=True)
    features = features.reshape(len(features), -1)
    distance = ((features[:, None] - features[None]) ** 2).mean(-1)
    label = np.repeat(np.arange(IDENTITIES), IMAGES)
    same = label[:, None] == label
    other = ~np.eye(len(label), dtype=bool)
    assert distance[same & other].mean() < 0.93 * distance[~same].mean()


def test_mean_color_is_a_poor_cue(faces):
    color = faces.reshape(IDENTITIES, IMAGES, -1, 3).mean(2)
    within = color.var(1).mean()
    between = color.mean(1).var(0).mean() - within / IMAGES  # the images' own share of the spread of means removed
    assert between < within


def test_brightness_is_sane(faces):
    brightness = faces.reshape(IDENTITIES * IMAGES, -1).mean(1)
    assert 80 < brightness.mean() < 150
    assert brightness.min() > 15
    assert brightness.max() < 240
    # values outside uint8 that wrapped around would put black beside white all over: a median filter would undo them
    speckle = [np.abs(cv2.medianBlur(image, 3).astype(int) - image).max(-1) > 150 for image in faces[:, 0]]
    assert np.mean(speckle) < 0.005


def test_landmarks_are_near_the_template():
    points = np.array([[synthetic.landmarks(i, k, seed=SEED) for k in range(4)] for i in range(60)])
    template = np.stack([synthetic.TEMPLATE.real, synthetic.TEMPLATE.imag], axis=1)
    error = points - template
    assert np.abs(error.mean((0, 1))).max() < 2
    assert np.abs(error).max() < 20
    assert error.std((0, 1)).min() > 0.5
    assert (points > 0).all()
    assert (points < 112).all()


def test_alignment_undoes_size_and_place_of_the_head():
    traits = face_traits.draw_traits(np.random.default_rng(0), EVERYONE)
    state = face_traits.draw_state(np.random.default_rng(1), EVERYONE)
    state.scale = state.roll = state.shift_x = state.shift_y = 0.0
    face = synthetic._pose_face(traits, state)
    placed = face.turn * synthetic._turned_landmarks(traits, state) + face.center
    residual = placed - synthetic.TEMPLATE
    centered = placed - placed.mean()
    # least squares over similarities: nothing of shift, scale and rotation is left in the residual
    assert abs(residual.sum()) < 1e-9
    assert abs(np.vdot(centered, residual)) < 1e-9 * abs(np.vdot(centered, centered))


def test_turning_the_head_moves_the_nose_further_than_the_outline():
    traits = face_traits.draw_traits(np.random.default_rng(0), EVERYONE)
    state = face_traits.draw_state(np.random.default_rng(1), EVERYONE)
    points = np.array([(0.0, 20.0), (traits.face_width, 8.0)])
    state.yaw = state.pitch = 0.0
    straight = face_shapes.turn_head(points, traits=traits, state=state, lift=np.zeros(2))
    np.testing.assert_allclose(straight, points[:, 0] + 1j * points[:, 1])
    state.yaw = 0.2
    moved = face_shapes.turn_head(points, traits=traits, state=state, lift=np.zeros(2)) - straight
    assert moved[0].real > 3 > abs(moved[1].real)


def test_curve_passes_through_its_points():
    points = np.random.default_rng(0).normal(size=(6, 2))
    np.testing.assert_allclose(face_shapes.curve(points, closed=True, steps=4)[::4], points, atol=1e-12)
    np.testing.assert_allclose(face_shapes.curve(points, closed=False, steps=3)[::3], points, atol=1e-12)
    line = np.stack([np.arange(5.0), 2 * np.arange(5.0)], axis=1)
    inner = face_shapes.curve(line, closed=False, steps=4)
    np.testing.assert_allclose(inner[:, 1], 2 * inner[:, 0], atol=1e-12)


def test_contours_have_the_area_they_should():
    def area(points):
        return abs(cv2.contourArea(points.astype(np.float32)))

    assert area(face_shapes.ellipse(50.0, 40.0, 10.0, 5.0)) == pytest.approx(np.pi * 50, rel=0.02)
    round_lens = face_shapes.rounded_box(50.0, 40.0, 10.0, 5.0, power=1.0)
    np.testing.assert_allclose(round_lens, face_shapes.ellipse(50.0, 40.0, 10.0, 5.0))
    assert area(round_lens) < area(face_shapes.rounded_box(50.0, 40.0, 10.0, 5.0, power=0.5)) < 200
    square = face_shapes.mirror([(0, 0), (3, 0), (3, 6), (0, 6)])
    assert area(square) == 36


def test_paint_fills_a_square_and_nothing_else():
    canvas = np.zeros((20, 20, 3), np.uint8)
    square = np.array([(5, 5), (14, 5), (14, 14), (5, 14)], np.float64)
    face_shapes.paint(canvas, square, np.array([10.0, 20, 300]), width=0)
    assert (canvas[6:14, 6:14] == (10, 20, 255)).all()
    assert canvas.sum() == canvas[4:16, 4:16].sum()


def test_drawn_features_lie_at_the_landmarks():
    for seed in range(6):
        traits = face_traits.draw_traits(np.random.default_rng(seed), EVERYONE)
        state = face_traits.draw_state(np.random.default_rng(seed), EVERYONE)
        traits.glasses, traits.moles, state.lids, state.gaze_x, state.yaw = False, traits.moles[:0], 0.3, 0.0, 0.0
        traits.skin, traits.hair, traits.part = np.array([200.0, 150, 100]), np.array([30.0, 200, 30]), 0.3
        face = synthetic._pose_face(traits, state)
        points = face.turn * synthetic._turned_landmarks(traits, state) + face.center
        parts = {"eye": [*face_parts.eye(face, -1), *face_parts.eye(face, 1)], "nose": face_parts.nose(face)}
        parts["mouth"] = face_parts.mouth(face)
        parts["brow"] = [*face_parts.brow(face, -1), *face_parts.brow(face, 1)]
        ink = {}
        for name, shapes in parts.items():
            canvas = np.zeros((112, 112, 3), np.uint8)
            face_shapes.draw(canvas, face, [shape._replace(color=np.full(3, 255.0)) for shape in shapes])
            y, x = np.nonzero(canvas[..., 0] > 128)
            ink[name] = x + 1j * y
        assert abs(ink["eye"].mean() - points[:2].mean()) < 4
        assert max(np.abs(ink["eye"] - eye).min() for eye in points[:2]) < 1
        assert abs(ink["mouth"].mean() - points[3:].mean()) < 6
        assert max(np.abs(ink["mouth"] - corner).min() for corner in points[3:]) < 3
        assert np.abs(ink["nose"] - points[2]).min() < 8
        assert ink["brow"].imag.mean() < ink["eye"].imag.mean() - 5


def test_draw_paints_each_shape_where_it_is_placed_and_in_order():
    traits = face_traits.draw_traits(np.random.default_rng(0), EVERYONE)
    face = synthetic._pose_face(traits, face_traits.draw_state(np.random.default_rng(1), EVERYONE))
    shapes = face_parts.all_parts(face)
    together, alone = np.zeros((2, 112, 112, 3), np.uint8)
    face_shapes.draw(together, face, shapes)
    for shape in shapes:
        placed = face_shapes.place(face, shape.points, lift=np.full(len(shape.points), shape.lift))
        face_shapes.paint(alone, placed, shape.color, width=shape.width)
    np.testing.assert_array_equal(together, alone)


def test_beard_hat_and_wrinkles_only_where_they_belong():
    traits = face_traits.draw_traits(np.random.default_rng(0), EVERYONE)
    state = face_traits.draw_state(np.random.default_rng(1), EVERYONE)
    traits.beard = traits.moustache = 0.0
    state.hat = False
    bare = synthetic._pose_face(traits, state)
    assert face_parts.beard(bare) == face_parts.hat(bare) == []
    traits.beard = traits.moustache = 0.9
    state.hat = True
    full, moustache = (shape.points for shape in face_parts.beard(bare))
    assert full[:, 1].max() > traits.chin_y > traits.mouth_y > moustache[:, 1].min() > traits.nose_length
    assert all(shape.points[:, 1].max() < 0 for shape in face_parts.hat(bare))  # above the eyes
    traits.wrinkles = 0.0
    smooth = face_parts.wrinkles(bare)
    traits.wrinkles = 0.9
    aged = face_parts.wrinkles(bare)
    assert len(aged) > len(smooth)
    assert (aged[-1].color < smooth[-1].color).all()


@pytest.mark.parametrize("style", list(face_traits.HAIR_STYLES))
def test_every_hair_style_draws_finite_shapes(style):
    traits = face_traits.draw_traits(np.random.default_rng(0), EVERYONE)
    state = face_traits.draw_state(np.random.default_rng(1), EVERYONE)
    traits.style, traits.glasses, traits.beard, state.glasses_off, state.hat = (
        face_traits.HAIR_STYLES[style],
        True,
        0.5,
        False,
        True,
    )
    face = synthetic._pose_face(traits, state)
    shapes = face_parts.all_parts(face)
    assert all(np.isfinite(shape.points).all() and np.isfinite(shape.color).all() for shape in shapes)
    assert (len(face_parts.front_hair(face)) == 0) == (len(face_parts.back_hair(face)) == 0) == (style == "bald")
    assert len(face_parts.glasses(face)) == 5


def test_tables_are_shares_and_known_traits():
    shares = np.array([style.shares for style in face_traits.HAIR_STYLES.values()])
    np.testing.assert_allclose(shares.sum(0), 1)
    assert sum(face_traits.HAIR_SHARES) == pytest.approx(1)
    assert len(face_traits.HAIR_SHARES) == len(face_traits.HAIR_PALETTE)
    assert set(face_traits.FEMALE_SHIFTS) <= set(face_traits.IDENTITY_TRAITS)


def test_traits_stay_within_two_deviations():
    for seed in range(20):
        traits = face_traits.draw_traits(np.random.default_rng(seed), EVERYONE)
        for name, (mean, spread) in face_traits.IDENTITY_TRAITS.items():
            center = mean + face_traits.FEMALE_SHIFTS.get(name, 0) * traits.female
            if name != "part":  # moved away from the middle after the draw
                assert abs(getattr(traits, name) - center) <= 2 * spread + 1e-9
        assert not (traits.female and max(traits.beard, traits.moustache, traits.stubble) > 0)
