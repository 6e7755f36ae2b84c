"""One record's image: encoded bytes to pixels and back, with every way in which the bytes can be bad named."""

import re
import struct

import cv2
import numpy as np
from jaxtyping import UInt8

IMAGE_SIZE = 112  # the side of a face aligned to the ArcFace template; a format constant of the records

_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB`\x82"
_JPEG_START = b"\xff\xd8\xff"
_JPEG_END = b"\xff\xd9"
_JPEG_START_OF_SCAN = 0xDA
# Markers C0-CF open a frame and give its size, save three: Huffman tables, an extension, arithmetic conditioning.
_JPEG_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_SEGMENT, _JPEG_SIDES = struct.Struct(">BBH"), struct.Struct(">HH")
_BYTE_MAX = 255
# Netpbm's binary color image: width, height and the largest value in digits, one white space, the pixels as they are.
_PPM_START = b"P6"
_PPM_HEADER = re.compile(rb"P6\s+([0-9]{1,6})\s+([0-9]{1,6})\s+([0-9]{1,6})\s")
_PPM_HEADER_BEGINS = re.compile(rb"P6[\s0-9]{0,32}")


def decode_image(encoded: bytes) -> UInt8[np.ndarray, "112 112 3"]:
    """Decodes one aligned face to RGB, or says what is wrong with it.

    The size is read from the header, so a huge image is refused before a pixel of it is decoded. A truncated file is
    an error: OpenCV alone would fill the missing part with gray.

    Args:
      encoded: a whole JPEG, PNG, WebP or PPM file.

    Returns:
      RGB pixels in [0, 255]; gray images are repeated over the channels, alpha is dropped. Those of a PPM are the bytes
      of the file themselves, without a copy: read-only.

    Raises:
      ValueError: another format, truncated, not 112x112, or not decodable; the message starts with "is" or "cannot".
    """
    width, height = image_size(encoded)
    if (width, height) != (IMAGE_SIZE, IMAGE_SIZE):
        raise ValueError(
            f"is {width}x{height}, not {IMAGE_SIZE}x{IMAGE_SIZE}: align the face to the five-point ArcFace template"
        )
    if encoded.startswith(_PPM_START):
        return np.frombuffer(encoded, np.uint8)[-3 * width * height :].reshape(height, width, 3)
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB)
    if image is None or image.shape != (IMAGE_SIZE, IMAGE_SIZE, 3):
        raise ValueError("cannot be decoded: its header is that of an image, its content is damaged")
    return image


def encode_image(image: UInt8[np.ndarray, "112 112 3"], *, quality: int) -> bytes:
    """Encodes RGB pixels as JPEG; `quality` in 1..100."""
    if not 1 <= quality <= 100:  # the range of the format
        raise ValueError(f"JPEG quality must be in 1..100, not {quality}")
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def encode_raw(image: UInt8[np.ndarray, "112 112 3"]) -> bytes:
    """Lays RGB pixels out as PPM: 37,647 bytes that take no decoding."""
    return b"P6\n%d %d\n%d\n" % (IMAGE_SIZE, IMAGE_SIZE, _BYTE_MAX) + image.tobytes()


def image_size(encoded: bytes) -> tuple[int, int]:
    """Reads (width, height) in pixels from the header of a complete JPEG, PNG, WebP or PPM file, without decoding it.

    Raises:
      ValueError: another format, or the file ends before its image does.
    """
    try:
        if encoded.startswith(_JPEG_START):
            size, complete = _jpeg_size(encoded)
        elif encoded.startswith(_PNG_START):
            size, complete = struct.unpack_from(">II", encoded, 16), _PNG_END in encoded
        elif encoded[:4] == b"RIFF" and encoded[8:12] == b"WEBP":
            # The length in a RIFF header counts from byte 8 on.
            size, complete = _webp_size(encoded), struct.unpack_from("<I", encoded, 4)[0] + 8 <= len(encoded)
        elif encoded.startswith(_PPM_START):
            size, complete = _ppm_size(encoded)
        else:
            formats = "JPEG, PNG, WebP or PPM"
            raise ValueError(f"is not an image in a known format ({formats})" if encoded else "is an empty file")
    except (struct.error, IndexError):
        size, complete = None, False
    if not complete:
        raise ValueError("is truncated: the file ends before the image does")
    return size


def _jpeg_size(encoded: bytes) -> tuple[tuple[int, int] | None, bool]:
    """Walks the segments up to the first scan; behind it FF D9 is the end marker, as scans escape every FF."""
    size, position = None, 2
    while True:
        start, marker, length = _JPEG_SEGMENT.unpack_from(encoded, position)
        if start != 0xFF:
            raise ValueError("is a damaged JPEG: a segment does not start with a marker")
        if marker == 0xFF:  # fill byte before a marker
            position += 1
            continue
        if marker in _JPEG_FRAMES:
            height, width = _JPEG_SIDES.unpack_from(encoded, position + 5)
            size = (width, height)
        position += 2 + length
        if marker == _JPEG_START_OF_SCAN:
            if size is None:
                raise ValueError("is a damaged JPEG: a scan comes before the size")
            return size, encoded.rfind(_JPEG_END, position) >= 0


def _webp_size(encoded: bytes) -> tuple[int, int]:
    """Reads the canvas (VP8X), lossless (VP8L) or lossy (VP8) header of the first chunk."""
    kind = encoded[12:16]
    if kind == b"VP8X":  # two 24-bit numbers, each one less than the side
        return int.from_bytes(encoded[24:27], "little") + 1, int.from_bytes(encoded[27:30], "little") + 1
    if kind == b"VP8L":  # after a signature byte, two 14-bit numbers, each one less than the side
        bits = struct.unpack_from("<I", encoded, 21)[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", encoded, 26)
    return width & 0x3FFF, height & 0x3FFF  # the two upper bits hold a scale hint


def _ppm_size(encoded: bytes) -> tuple[tuple[int, int] | None, bool]:
    """Reads the header, and says whether all pixels stand behind it."""
    header = _PPM_HEADER.match(encoded)
    if header is None:
        if _PPM_HEADER_BEGINS.fullmatch(encoded):
            return None, False
        raise ValueError("is a damaged PPM: its header is not P6, width, height and largest value")
    width, height, largest = map(int, header.groups())
    if largest != _BYTE_MAX:
        raise ValueError(f"is a PPM with values up to {largest}, not {_BYTE_MAX}")
    surplus = len(encoded) - header.end() - 3 * width * height
    if surplus > 0:
        raise ValueError(f"is a damaged PPM: {surplus} bytes follow its pixels")
    return (width, height), surplus == 0
