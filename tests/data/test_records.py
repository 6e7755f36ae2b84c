import struct

import cv2
import numpy as np
import pytest

from lrfr_jax.data import records


def _picture(height=112, width=112):
    """Smooth colors, different in each channel, so that JPEG keeps them and a channel swap shows."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 2 % 256, columns * 2 % 256, np.full_like(rows, 40)], -1).astype(np.uint8)


def _encode(suffix, picture, *parameters):
    return cv2.imencode(suffix, picture[..., ::-1], list(parameters))[1].tobytes()


_PROGRESSIVE = (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
_LOSSY, _LOSSLESS = (cv2.IMWRITE_WEBP_QUALITY, 90), (cv2.IMWRITE_WEBP_QUALITY, 101)
_FORMATS = [(".jpg", ()), (".jpg", _PROGRESSIVE), (".png", ()), (".webp", _LOSSY), (".webp", _LOSSLESS)]


def _webp_extended(encoded, width, height):
    """Puts a VP8X header with the canvas size before the chunk of a simple WebP file."""
    canvas = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + (10).to_bytes(4, "little") + canvas + encoded[12:]
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def test_jpeg_round_trip_keeps_colors_in_rgb_order():
    picture = _picture()
    decoded = records.decode_image(records.encode_image(picture, quality=100))
    assert decoded.dtype == np.uint8
    assert np.abs(decoded.astype(int) - picture).mean() < 3


def test_png_is_decoded_exactly_and_quality_changes_the_size():
    picture = _picture()
    np.testing.assert_array_equal(records.decode_image(_encode(".png", picture)), picture)
    assert len(records.encode_image(picture, quality=30)) < len(records.encode_image(picture, quality=95))
    with pytest.raises(ValueError, match="quality must be in"):
        records.encode_image(picture, quality=0)


@pytest.mark.parametrize(("suffix", "parameters"), _FORMATS)
def test_header_size_equals_the_decoder(suffix, parameters):
    for height, width in ((112, 112), (30, 50), (301, 70)):
        encoded = _encode(suffix, _picture(height, width), *parameters)
        assert records.image_size(encoded) == (width, height)
    with pytest.raises(ValueError, match="is 70x301, not 112x112: align"):
        records.decode_image(encoded)


def test_extended_webp_header_is_read():
    encoded = _webp_extended(_encode(".webp", _picture(), *_LOSSY), 112, 112)
    assert records.image_size(encoded) == (112, 112)
    assert records.decode_image(encoded).shape == (112, 112, 3)


@pytest.mark.parametrize(("suffix", "parameters"), _FORMATS)
def test_every_truncation_is_an_error(suffix, parameters):
    encoded = _encode(suffix, _picture(), *parameters)
    for length in [*range(1, 60), *range(60, len(encoded) - 1, 97), len(encoded) - 2]:
        with pytest.raises(ValueError, match=r"truncated|not an image"):
            records.decode_image(encoded[:length])


def test_raw_pixels_come_back_exactly_and_the_world_reads_them():
    picture = _picture()
    raw = records.encode_raw(picture)
    assert (len(raw), records.image_size(raw)) == (37_647, (112, 112))
    np.testing.assert_array_equal(records.decode_image(raw), picture)
    np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR_RGB), picture)
    np.testing.assert_array_equal(records.decode_image(_encode(".ppm", picture)), picture)


def test_raw_pixels_need_no_decoder(monkeypatch):
    monkeypatch.setattr(records.cv2, "imdecode", None)
    assert records.decode_image(records.encode_raw(_picture())).shape == (112, 112, 3)


def test_pixels_that_look_like_a_header_are_pixels():
    # Values 9 to 13 are white space, 48 to 57 digits.
    for value in (9, 10, 32, 48, 57):
        picture = np.full((112, 112, 3), value, np.uint8)
        np.testing.assert_array_equal(records.decode_image(records.encode_raw(picture)), picture)


def test_every_truncation_of_raw_pixels_is_an_error():
    raw = records.encode_raw(_picture())
    for length in [*range(2, 40), *range(40, len(raw), 997), len(raw) - 1]:
        with pytest.raises(ValueError, match="is truncated"):
            records.decode_image(raw[:length])


def test_the_end_of_a_preview_in_the_header_is_not_the_images():
    encoded = _encode(".jpg", _picture())
    with_preview = encoded[:2] + b"\xff\xe1" + struct.pack(">H", 6) + b"ab\xff\xd9" + encoded[2:]
    assert records.image_size(with_preview) == (112, 112)
    with pytest.raises(ValueError, match="is truncated"):
        records.image_size(with_preview[:-2])


def test_trailing_bytes_are_no_truncation():
    assert records.decode_image(_encode(".jpg", _picture()) + bytes(7)).shape == (112, 112, 3)


@pytest.mark.parametrize(
    ("encoded", "sentence"),
    [
        (b"", "is an empty file"),
        (b"hello, I am a text", "is not an image in a known format"),
        (_encode(".bmp", _picture()), "is not an image in a known format"),
        (b"\xff\xd8\xff\xe0\x00\x04abcdef", "is a damaged JPEG: a segment"),
        (records.encode_raw(_picture()) + bytes(3), "is a damaged PPM: 3 bytes follow its pixels"),
        (b"P6\n112 112\n65535\n" + bytes(2 * 37_632), "is a PPM with values up to 65535, not 255"),
        (b"P6\n30 50\n255\n" + bytes(4500), "is 30x50, not 112x112: align"),
        (b"P6\n112 112 255 0\n" + bytes(37_632), "is a damaged PPM: 2 bytes follow"),
        (b"P6 is a pencil", "is a damaged PPM: its header"),
        (b"P6\n# a comment\n112 112\n255\n" + bytes(37_632), "is a damaged PPM: its header"),
        (b"P6\n1120000 112\n255\n" + bytes(37_632), "is a damaged PPM: its header"),
        (b"P5\n112 112\n255\n" + bytes(12_544), "is not an image in a known format"),
        (b"\xff\xd8\xff\xda\x00\x04ab\xff\xd9", "is a damaged JPEG: a scan comes before"),
    ],
)
def test_bad_bytes_have_their_sentence(encoded, sentence):
    with pytest.raises(ValueError, match=sentence):
        records.decode_image(encoded)


def test_an_image_with_a_good_header_and_damaged_content_is_an_error():
    encoded = bytearray(_encode(".png", _picture()))
    encoded[60:-20] = bytes(len(encoded) - 80)
    with pytest.raises(ValueError, match="cannot be decoded"):
        records.decode_image(bytes(encoded))


def test_a_claimed_huge_size_is_refused_before_decoding(monkeypatch):
    encoded = bytearray(_encode(".png", _picture()))
    encoded[16:24] = (60_000).to_bytes(4, "big") * 2
    monkeypatch.setattr(records.cv2, "imdecode", None)
    with pytest.raises(ValueError, match="is 60000x60000"):
        records.decode_image(bytes(encoded))
