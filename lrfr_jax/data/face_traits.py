"""Who a generated face is and how it was photographed: every number of the face generator that is drawn at random.

Lengths are pixels of the aligned 112 x 112 crop, measured from the point between the eyes (x to the right, y down).
"""

from functools import lru_cache
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

# What stays with an identity: (mean, standard deviation) of a normal draw that is cut at two standard deviations.
IDENTITY_TRAITS = {
    # outline: half width at the cheekbones; jaw, chin, forehead as shares of it; how far below the eyes the chin ends
    "face_width": (38.0, 3.6),
    "jaw_width": (0.79, 0.09),
    "chin_width": (0.34, 0.09),
    "forehead_width": (0.90, 0.06),
    "chin_y": (64.0, 4.5),
    # eyes: half distance, half length, opening as a share of it, slant (radians), lashes, crease (0 to 1), iris radius
    "eye_spacing": (17.6, 1.7),
    "eye_size": (6.8, 0.9),
    "eye_open": (0.50, 0.11),
    "eye_slant": (0.0, 0.12),
    "lashes": (0.55, 0.22),
    "crease": (0.35, 0.2),
    "iris": (3.1, 0.3),
    # brows: height over the eye, half thickness, half length, angle (radians), arch, mix of hair and black, distance
    "brow_height": (11.5, 1.9),
    "brow_thickness": (1.5, 0.6),
    "brow_length": (9.5, 1.3),
    "brow_angle": (0.0, 0.14),
    "brow_arch": (1.8, 1.2),
    "brow_dark": (0.35, 0.2),
    "brow_shift": (0.0, 1.3),
    # nose: tip below the eyes, half width, nostril radius, bridge shading (0 to 1)
    "nose_length": (21.0, 2.8),
    "nose_width": (6.8, 1.4),
    "nostril": (1.5, 0.4),
    "bridge": (0.5, 0.25),
    # mouth: height below the eyes, half width, lips, bow, resting curve, redness (0 to 1)
    "mouth_y": (41.0, 2.4),
    "mouth_width": (13.8, 1.9),
    "upper_lip": (2.4, 0.8),
    "lower_lip": (3.4, 0.9),
    "lip_bow": (0.8, 0.5),
    "mouth_curve": (0.3, 1.0),
    "lip_red": (0.5, 0.25),
    # ears, neck and the lasting signs of age (0 to 1)
    "ear_size": (9.5, 1.7),
    "ear_out": (1.5, 1.4),
    "neck_width": (0.62, 0.09),
    "wrinkles": (0.3, 0.25),
    "socket": (0.5, 0.25),
    "cheek": (0.5, 0.3),
    # hair: differences from the style's row below, and the mix of strands
    "hairline": (0.0, 3.0),
    "sweep": (1.0, 0.35),
    "part": (0.0, 0.45),
    "volume": (1.0, 0.3),
    "strands": (0.5, 0.25),
    # colors: place in the palettes (skin, iris), small shifts of the hair color and of the skin's warmth
    "skin_warmth": (0.0, 0.04),
    "hair_shift": (1.0, 0.15),
}

# What is added to the means above for a woman.
FEMALE_SHIFTS = {
    "face_width": -1.2,
    "jaw_width": -0.06,
    "chin_width": -0.05,
    "eye_open": 0.05,
    "lashes": 0.3,
    "brow_thickness": -0.4,
    "brow_height": 0.8,
    "upper_lip": 0.5,
    "lower_lip": 0.6,
    "lip_red": 0.2,
    "neck_width": -0.1,
    "wrinkles": -0.08,
    "nose_width": -0.5,
}

# What changes from image to image: standard deviation of a normal draw around zero, cut at two standard deviations.
IMAGE_STATE = {
    # head: roll, yaw, pitch (radians); alignment error (pixels) and scale error (share)
    "roll": 0.035,
    "yaw": 0.18,
    "pitch": 0.11,
    "shift_x": 1.4,
    "shift_y": 1.4,
    "scale": 0.03,
    # expression: smile (pixels at the mouth's corner), mouth width (share), brows (pixels), lids (share), gaze (pixels)
    "smile": 1.2,
    "mouth_stretch": 0.09,
    "brow_raise": 1.1,
    "brow_frown": 0.06,
    "lids": 0.17,
    "gaze_x": 1.3,
    "gaze_y": 0.5,
    # hair of the day: height of its edge (pixels), volume, fall of the edge (shares), log tone
    "fringe": 2.0,
    "bulk": 0.16,
    "fall": 0.2,
    "hair_tone": 0.16,
    # light: log exposure, log red over blue, log green, slopes over half a picture, log contrast, redness of lips
    "exposure": 0.16,
    "temperature": 0.15,
    "tint": 0.05,
    "light_x": 0.22,
    "light_y": 0.14,
    "contrast": 0.16,
    "make_up": 0.12,
}

# Shares of images or identities for which a yes-or-no trait holds.
CHANCES = {
    "female": 0.5,  # of identities
    "glasses": 0.16,  # of identities
    "glasses_off": 0.15,  # of a wearer's images
    "freckles": 0.3,
    "beard": 0.34,  # of men, as are the next two
    "moustache": 0.15,
    "stubble": 0.35,
    "mouth_open": 0.35,  # of images
    "occluded": 0.08,
    "tied": 0.2,  # long hair worn tied
    "parted_otherwise": 0.15,
    "hat": 0.06,
    "pattern": 0.6,  # of backgrounds that show shapes
}

SKIN_PALETTE = ((236, 206, 186), (228, 186, 156), (212, 162, 126), (184, 130, 94), (142, 96, 68), (100, 66, 50))
HAIR_PALETTE = (
    (26, 22, 24),
    (44, 32, 28),
    (72, 46, 32),
    (112, 74, 46),
    (158, 114, 70),
    (214, 178, 112),
    (160, 74, 36),
    (150, 148, 148),
    (218, 214, 208),
)
HAIR_SHARES = (0.28, 0.2, 0.16, 0.1, 0.07, 0.07, 0.05, 0.05, 0.02)  # how frequent each row of the palette is
IRIS_PALETTE = ((48, 30, 20), (92, 58, 30), (112, 104, 52), (72, 118, 84), (70, 122, 166), (120, 138, 148))
FRAME_PALETTE = ((24, 24, 28), (92, 52, 30), (140, 30, 34), (36, 54, 96), (150, 146, 140))


class HairStyle(NamedTuple):
    """A hair style in pixels of the face: y is 0 between the eyes and grows downwards."""

    hairline: float  # y of the hair's edge over the brow
    sweep: float  # how far that edge falls away from the part
    recede: float  # depth of the bays at the temples
    volume: float  # thickness over the skull
    length: float  # y where the hair ends
    curl: float  # height of the contour's waves
    shares: tuple[float, float]  # of men and of women who wear it


HAIR_STYLES = {
    "bald": HairStyle(-70.0, 0.0, 0.0, 0.0, -30.0, 0.0, (0.13, 0.01)),
    "buzz": HairStyle(-35.0, 3.0, 3.0, 1.0, -4.0, 0.0, (0.17, 0.03)),
    "short": HairStyle(-34.0, 5.0, 1.0, 4.5, 2.0, 0.7, (0.24, 0.08)),
    "receding": HairStyle(-36.0, 1.0, 11.0, 2.5, 4.0, 0.3, (0.15, 0.01)),
    "swept": HairStyle(-38.0, 19.0, 0.0, 5.0, 6.0, 0.3, (0.15, 0.12)),
    "fringe": HairStyle(-22.0, -2.0, 0.0, 5.0, 32.0, 0.3, (0.04, 0.17)),
    "bob": HairStyle(-36.0, 14.0, 0.0, 7.0, 40.0, 0.5, (0.02, 0.17)),
    "long": HairStyle(-38.0, 16.0, 0.0, 6.5, 80.0, 0.6, (0.04, 0.22)),
    "curly": HairStyle(-32.0, 4.0, 0.0, 9.5, 24.0, 2.2, (0.06, 0.1)),
    "tied": HairStyle(-37.0, 6.0, 1.0, 1.8, -2.0, 0.0, (0.0, 0.09)),
}


# Another population: how far its means lie from those above, in standard deviations, each to one side or the other; the
# part of the skin's palette that its people have.
FARTHEST, SKIN_PART = 1.2, 0.4


class Population(NamedTuple):
    """What the people of a population and their pictures have in common."""

    traits: Float[np.ndarray, " traits"]  # added to the means of IDENTITY_TRAITS
    state: Float[np.ndarray, " states"]  # added to those of IMAGE_STATE, which are 0
    skin: tuple[float, float]  # first and last place in SKIN_PALETTE
    hair: tuple[float, ...]  # how frequent each row of HAIR_PALETTE is


@lru_cache
def population_of(number: int) -> Population:
    """Returns population 0, whose numbers are the tables above, or another one, which `number` alone decides.

    Raises:
      ValueError: a negative number.
    """
    if number < 0:
        raise ValueError(f"population={number}: it must not be negative; count them from 0")
    traits, state = np.array([spread for _, spread in IDENTITY_TRAITS.values()]), np.array(list(IMAGE_STATE.values()))
    if number == 0:
        return Population(0 * traits, 0 * state, (0.0, 1.0), HAIR_SHARES)
    rng = np.random.default_rng(number)
    traits, state = (FARTHEST * spreads * rng.choice((-1, 1), len(spreads)) for spreads in (traits, state))
    skin = rng.uniform(0, 1 - SKIN_PART)
    return Population(traits, state, (skin, skin + SKIN_PART), tuple(rng.permutation(HAIR_SHARES).tolist()))


def _cut_normal(rng: np.random.Generator, count: int) -> np.ndarray:
    return np.clip(rng.standard_normal(count), -2, 2)


def _mix(palette: tuple, place: float) -> np.ndarray:
    colors = np.asarray(palette, np.float64)
    return np.array([np.interp(place * (len(colors) - 1), np.arange(len(colors)), channel) for channel in colors.T])


def _draw_beard(rng: np.random.Generator, traits: SimpleNamespace) -> None:
    beard, moustache, stubble = rng.random(3) < (CHANCES["beard"], CHANCES["moustache"], CHANCES["stubble"])
    density = rng.uniform(0.45, 0.95, 3) * (not traits.female)
    traits.beard, traits.moustache, traits.stubble = density * (beard, beard or moustache, stubble)
    traits.beard_top = rng.uniform(24, 36)


def _draw_glasses(rng: np.random.Generator, traits: SimpleNamespace) -> None:
    traits.glasses = rng.random() < CHANCES["glasses"]
    traits.frame_size = rng.uniform((9.5, 7.4), (13, 10.2))
    traits.frame_square = rng.uniform(0.45, 1)  # exponent of the lens contour: 1 an ellipse, towards 0 a rectangle
    traits.frame_width = int(rng.integers(1, 3))
    traits.frame_color = np.asarray(FRAME_PALETTE, np.float64)[rng.integers(len(FRAME_PALETTE))]


def draw_traits(rng: np.random.Generator, population: Population) -> SimpleNamespace:
    """Draws one identity: the rows of IDENTITY_TRAITS as floats, colors as RGB, marks as rows (x, y, radius)."""
    female = rng.random() < CHANCES["female"]
    mean, spread = np.array(list(IDENTITY_TRAITS.values())).T
    mean = mean + np.array([FEMALE_SHIFTS.get(name, 0) * female for name in IDENTITY_TRAITS])
    values = mean + population.traits + spread * _cut_normal(rng, len(mean))
    traits = SimpleNamespace(female=female, **dict(zip(IDENTITY_TRAITS, values.tolist(), strict=True)))
    styles = list(HAIR_STYLES.values())
    traits.style = styles[rng.choice(len(styles), p=[style.shares[int(female)] for style in styles])]
    traits.skin = _mix(SKIN_PALETTE, rng.uniform(*population.skin)) * (1 + traits.skin_warmth * np.array([1, 0, -2]))
    hair = HAIR_PALETTE[rng.choice(len(HAIR_PALETTE), p=population.hair)]
    traits.hair = np.asarray(hair, np.float64) * traits.hair_shift
    traits.iris_color = _mix(IRIS_PALETTE, rng.random() ** 1.5)
    traits.part = np.sign(traits.part) * (0.25 + abs(traits.part))  # a part in the very middle is rare
    traits.waves = rng.uniform(0, 2 * np.pi, 3)  # phases of the hair's waves
    _draw_beard(rng, traits)
    _draw_glasses(rng, traits)
    traits.moles = rng.uniform((-0.75, -22, 0.6), (0.75, 54, 1.2), (rng.integers(0, 5), 3))
    freckled = rng.random() < CHANCES["freckles"]
    traits.freckles = rng.uniform((-0.6, 6, 0.35), (0.6, 28, 0.65), (24 * int(freckled), 3))
    return traits


def draw_state(rng: np.random.Generator, population: Population) -> SimpleNamespace:
    """Draws what one image adds: each row of IMAGE_STATE as a float, and the colors and shapes around the face."""
    spread = np.array(list(IMAGE_STATE.values()))
    values = population.state + spread * _cut_normal(rng, len(spread))
    state = SimpleNamespace(**dict(zip(IMAGE_STATE, values.tolist(), strict=True)))
    state.mouth_open = float(rng.random() < CHANCES["mouth_open"]) * rng.uniform(1.5, 7)
    state.tied, state.hat = rng.random(2) < (CHANCES["tied"], CHANCES["hat"])
    state.part_side = -1 if rng.random() < CHANCES["parted_otherwise"] else 1
    state.hat_color = rng.uniform(50, 180) + rng.uniform(-45, 45, 3)
    state.hat_y = rng.uniform(-34, -24)
    state.shadows = rng.uniform((-50, -50, 12, 12, -0.5), (50, 60, 34, 34, 0.35), (3, 5))  # x, y, width, height, light
    state.glasses_off = rng.random() < CHANCES["glasses_off"]
    state.occluded = rng.random() < CHANCES["occluded"]
    state.occluder = rng.uniform((0, 0, 8), (112, 112, 20))  # center and radius
    state.background = rng.uniform(35, 215, (4, 1)) + rng.uniform(-35, 35, (4, 3))  # colors of the crop's corners
    state.shapes = rng.uniform(0, 1, (int(rng.random() < CHANCES["pattern"]) * 4, 3, 2)) * 112
    state.shape_colors = rng.uniform(45, 205, (5, 1)) + rng.uniform(-45, 45, (5, 3))
    state.clothes = rng.uniform(55, 195) + rng.uniform(-45, 45, 3)
    state.blur = rng.uniform(0, 0.4)  # standard deviation, pixels
    state.noise = rng.uniform(6, 12)  # standard deviation, grey levels
    return state
