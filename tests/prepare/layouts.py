"""What published sets are made of: faces, pictures of one color, MATLAB lists; laid out as {path: bytes}."""

import io
import pathlib

import cv2
import numpy as np
import scipy.io

from lrfr_jax.data import records, synthetic


def write(root: pathlib.Path, files: dict[str, bytes]) -> str:
    """Writes the files below the folder, and returns its path."""
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return str(root)


def face(identity: int, image: int, *, size: tuple[int, int] = (112, 112)) -> bytes:
    """A generated face as JPEG of (width, height); every pair of numbers gives other bytes."""
    pixels = synthetic.render_face(identity, image, seed=0)
    if size != (112, 112):
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", pixels[..., ::-1])[1].tobytes()


def flat(*color: int) -> bytes:
    """An aligned picture of one color, without loss."""
    return cv2.imencode(".png", np.full((112, 112, 3), color[::-1], np.uint8))[1].tobytes()


def color(encoded: bytes) -> tuple[int, ...]:
    """The color of a picture of one color."""
    return tuple(records.decode_image(encoded)[0, 0].tolist())


def cells(names: list) -> np.ndarray:
    """Names as a cell array: a column, or rows of names."""
    rows = [row if isinstance(row, list) else [row] for row in names]
    array = np.empty((len(rows), len(rows[0])), object)
    for place, row in enumerate(rows):
        for column, name in enumerate(row):
            array[place, column] = name
    return array


def mat(**variables: np.ndarray) -> bytes:
    """A MATLAB 5 file, compressed as the published ones are."""
    stream = io.BytesIO()
    scipy.io.savemat(stream, variables, do_compression=True)
    return stream.getvalue()
