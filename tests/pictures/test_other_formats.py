"""Pictures that no record holds: known by their first bytes, sized before a pixel is decoded, decoded by OpenCV."""

import io
import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from lrfr_jax.data import records, synthetic
from lrfr_jax.pictures import other_formats, photos, resize

PIXELS = synthetic.render_face(3, 1, seed=0)[:, :100]


def encode(form, image=None, **options):
    stream = io.BytesIO()
    (image or Image.fromarray(PIXELS)).save(stream, form, **options)
    return stream.getvalue()


LOSSLESS = {
    "BMP": encode("BMP"),
    "TIFF": encode("TIFF"),
    "TIFF LZW": encode("TIFF", compression="tiff_lzw"),
    "TIFF of the other byte order": b"MM\0*"
    + struct.pack(">IH", 8, 9)
    + b"".join(
        struct.pack(">HHI", tag, 4, 1) + struct.pack(">I", value)
        for tag, value in ((256, 100), (257, 112), (259, 1), (262, 2), (273, 140), (277, 3), (278, 112), (279, 33600))
    )
    + struct.pack(">HHIHH", 284, 3, 1, 1, 0)
    + bytes(4 + 140 - 122)
    + PIXELS.tobytes(),
    "JPEG 2000": encode("JPEG2000"),
    "Netpbm": b"P6\n# made by hand\n100 112\n255\n" + PIXELS.tobytes(),
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_pictures_are_told_sized_and_decoded(name):
    kind = other_formats.kind_of(LOSSLESS[name][: other_formats.HEAD_BYTES])
    assert kind == " ".join(name.split()[: 2 if name == "JPEG 2000" else 1])
    assert photos.size_of(LOSSLESS[name]) == (100, 112)
    if "byte order" not in name:  # written by hand with one value for three samples' bits: only its header counts
        np.testing.assert_array_equal(photos.decode_photo(LOSSLESS[name]), PIXELS)


@pytest.mark.parametrize(("form", "suffix"), [("GIF", ".gif"), ("AVIF", ".avif")])
def test_gif_and_avif_are_decoded_where_opencv_does(form, suffix):
    if not cv2.haveImageWriter(suffix):
        pytest.skip(f"this OpenCV has no {form}")
    encoded = cv2.imencode(suffix, PIXELS[..., ::-1])[1].tobytes()
    assert photos.size_of(encoded) == (100, 112)
    assert np.abs(photos.decode_photo(encoded).astype(int) - PIXELS).mean() < 20


def test_gray_bitmaps_and_netpbm_become_rgb():
    gray = PIXELS[..., 0]
    for encoded in (encode("BMP", Image.fromarray(gray)), b"P5 100 112 255\n" + gray.tobytes()):
        np.testing.assert_array_equal(photos.decode_photo(encoded), np.repeat(gray[..., None], 3, axis=2))


def test_a_face_of_such_a_format_becomes_png_and_others_keep_their_bytes():
    face = synthetic.render_face(0, 0, seed=0)
    bitmap = encode("BMP", Image.fromarray(face))
    stored = resize.to_record(bitmap, resize=False, order="rgb")
    assert stored.startswith(b"\x89PNG")
    np.testing.assert_array_equal(records.decode_image(stored), face)
    for kept in (records.encode_image(face, quality=90), records.encode_raw(face), resize.encode_png(face)):
        assert resize.to_record(kept, resize=False, order="rgb") == kept


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (LOSSLESS["BMP"][:-99], "cannot be decoded"),
        (LOSSLESS["TIFF"][:-99], "cannot be decoded"),
        (LOSSLESS["JPEG 2000"][:-99], "cannot be decoded"),
        (LOSSLESS["BMP"][:18] + struct.pack("<ii", 30_000, -30_000) + LOSSLESS["BMP"][26:], "is 30000x30000, its"),
        (LOSSLESS["BMP"][:20], "is a damaged BMP: its header gives no size"),
        (b"II*\0\xff\xff\xff\xff" + bytes(60), "is a damaged TIFF"),
        (b"\0\0\0\x18ftypheic" + bytes(60), "is HEIC, which is not read here: convert it to PNG or JPEG"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heic" + bytes(60), "is HEIC, which is not read here"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(60), "is JPEG XL, which is not read here"),
        (encode("TIFF", Image.fromarray(PIXELS[..., 0] / np.float32(255))), "cannot be decoded"),
    ],
)
def test_bad_ones_have_their_reason(content, reason):
    with pytest.raises(ValueError, match=f"^{reason}"):
        photos.decode_photo(content)


def test_any_cut_or_changed_picture_is_decoded_or_refused(capfd):
    draw, reasons = np.random.default_rng(0), []
    for encoded in LOSSLESS.values():
        for _ in range(20):
            damaged = bytearray(encoded[: draw.integers(len(encoded))])
            for place in draw.integers(0, 80, 4):
                damaged[place : place + 1] = bytes([draw.integers(256)])[: len(damaged[place : place + 1])]
            try:
                photos.decode_photo(bytes(damaged))
            except ValueError as error:
                reasons.append(str(error))
    assert reasons
    assert all(reason.startswith(("is", "cannot")) for reason in reasons)
    assert "OpenCV" not in capfd.readouterr().err


@pytest.mark.parametrize("head", [b"", b"BMW is a car, no bitmap", b"P5 is", b"\0\0\0\x18ftypmp42", b"II*", b"x" * 64])
def test_what_is_no_picture_is_none(head):
    assert other_formats.kind_of(head) is None
