import struct

import cv2
import numpy as np
import pytest

from lrfr_jax.pictures import photos

LEFT_RED = np.zeros((20, 30, 3), np.uint8)
LEFT_RED[:, :15, 0] = 250


def encode(image, suffix):
    return cv2.imencode(suffix, image)[1].tobytes()


def turned(jpeg, orientation):
    """Puts an EXIF orientation into a JPEG."""
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    exif = b"Exif\x00\x00" + b"II*\x00" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 0)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


def test_orientation_is_applied_and_channels_are_rgb():
    jpeg = encode(LEFT_RED[..., ::-1], ".jpg")
    upright = photos.decode_photo(jpeg)
    assert upright.shape == (20, 30, 3)
    assert upright[10, 5, 0] > 200 > 50 > upright[10, 5, 2]
    rotated = photos.decode_photo(turned(jpeg, 6))  # to be shown turned clockwise: what was left is on top
    assert rotated.shape == (30, 20, 3)
    assert rotated[5, 10, 0] > 200 > 50 > rotated[25, 10, 0]


def test_gray_alpha_and_16_bits_become_rgb_bytes():
    gray = photos.decode_photo(encode(LEFT_RED[..., 0], ".png"))
    np.testing.assert_array_equal(gray, np.repeat(LEFT_RED[..., :1], 3, axis=2))
    alpha = np.dstack([LEFT_RED[..., ::-1], np.full((20, 30), 7, np.uint8)])
    np.testing.assert_array_equal(photos.decode_photo(encode(alpha, ".png")), LEFT_RED)
    deep = photos.decode_photo(encode(LEFT_RED[..., ::-1].astype(np.uint16) * 256, ".png"))
    np.testing.assert_array_equal(deep, LEFT_RED)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "is a pointer of Git LFS"),
        (b"GIF90a" + bytes(99), "is not an image in a known format"),
        (encode(LEFT_RED, ".jpg")[:-40], "is truncated"),
        (
            encode(LEFT_RED, ".png")[:16] + struct.pack(">II", 8000, 5001) + encode(LEFT_RED, ".png")[24:],
            "is 8000x5001",
        ),
        (
            encode(LEFT_RED, ".png")[:16] + struct.pack(">II", 16_385, 1) + encode(LEFT_RED, ".png")[24:],
            "is 16385x1, a side may have at most 16384 pixels",
        ),
        (
            encode(LEFT_RED, ".png")[:16] + struct.pack(">II", 30, 21) + encode(LEFT_RED, ".png")[24:],
            "cannot be decoded",
        ),
    ],
)
def test_bad_photos_have_their_reason(content, reason):
    with pytest.raises(ValueError, match=reason):
        photos.decode_photo(content)
