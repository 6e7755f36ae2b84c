"""Many faces on one picture, each with a title, for the eye of who prepares a set."""

import pathlib
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import UInt8

from lrfr_jax.data.records import IMAGE_SIZE
from lrfr_jax.errors import UserError
from lrfr_jax.files import paths

_GAP, _LINE, _WHITE = 8, 16, 255  # pixels between tiles and of a title's height; the paper
_FONT, _FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.35
_TITLE_LENGTH = 18  # letters that this font puts over 112 pixels


def draw_sheet(
    faces: Sequence[UInt8[np.ndarray, "112 112 3"]], titles: Sequence[str], *, columns: int
) -> UInt8[np.ndarray, "height width 3"]:
    """Sets faces in rows of `columns`, each with its title above; a long title loses its start."""
    rows = -(-len(faces) // columns)
    width, height = IMAGE_SIZE + _GAP, IMAGE_SIZE + _LINE + _GAP
    sheet = np.full((rows * height + _GAP, columns * width + _GAP, 3), _WHITE, np.uint8)
    for place, (face, title) in enumerate(zip(faces, titles, strict=True)):
        top, left = _GAP + place // columns * height, _GAP + place % columns * width
        text = title if len(title) <= _TITLE_LENGTH else ".." + title[2 - _TITLE_LENGTH :]
        text = text.encode("ascii", "replace").decode()  # the font has no other letters
        cv2.putText(sheet, text, (left, top + _LINE - 5), _FONT, _FONT_SCALE, (0, 0, 0), 1, cv2.LINE_AA)
        sheet[top + _LINE : top + _LINE + IMAGE_SIZE, left : left + IMAGE_SIZE] = face
    return sheet


def sample(number: int, *, size: int, seed: int) -> list[int]:
    """Draws at most `size` of `number` indices without repetition, in rising order."""
    chosen = np.random.default_rng(seed).choice(number, min(size, number), replace=False)
    return sorted(int(index) for index in chosen)


def save_png(path: pathlib.Path, picture: UInt8[np.ndarray, "height width 3"]) -> None:
    """Writes RGB pixels as PNG, whole or not at all."""
    write_whole(path, cv2.imencode(".png", picture[..., ::-1])[1].tobytes())


def write_whole(path: pathlib.Path, content: bytes) -> None:
    """Writes a file of a report whole or not at all.

    Raises:
      UserError: the folder cannot be written.
    """
    try:
        paths.write_bytes(path, content)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error}") from error
