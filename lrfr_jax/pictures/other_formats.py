"""Pictures that no record holds, yet OpenCV decodes: what they are and how large, from their first bytes."""

import re
import struct

# Every picture is known by its first bytes, whatever its name; so many suffice to tell it.
HEAD_BYTES = 64
_RECORD_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")  # WebP and PPM have their own lines in `kind_of`
_TIFF_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_JP2_START, _J2K_START = b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # bytes of the header that gives the size, of each version
_NETPBM = re.compile(rb"P([1-6])(?:\s+|#[^\n]*\n)+([0-9]{1,6})(?:\s+|#[^\n]*\n)+([0-9]{1,6})\s")
_NETPBM_BEGINS = re.compile(rb"P[1-6]\s+[0-9#]")
_RECORD_PPM = re.compile(rb"P6\s+[0-9]+\s+[0-9]+\s+255\s")
_WIDTH_TAG, _HEIGHT_TAG, _SUBFILE_TAG = 256, 257, 254  # of TIFF
_SHORT = 3  # TIFF's type of a number of two bytes; all others that a size may have take four
_FAR = 4096  # bytes within which JPEG 2000 and AVIF tell their size
_REFUSED = {"HEIC": "HEIC", "JPEG XL": "JPEG XL", "BigTIFF": "a BigTIFF"}
HELD, NETPBM = "held", "Netpbm"


def kind_of(head: bytes) -> str | None:
    """Names a picture's format by its first `HEAD_BYTES`: `HELD` if a record holds it; None if it is no picture."""
    if head.startswith(_RECORD_STARTS) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP") or _RECORD_PPM.match(head):
        return HELD
    if head[:4] in _TIFF_ORDERS:
        return "TIFF"
    if head[:4] in (b"II+\0", b"MM\0+"):
        return "BigTIFF"
    if head[:2] == b"BM" and len(head) >= 18 and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if head.startswith((_JP2_START, _J2K_START)):
        return "JPEG 2000"
    if head.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")):
        return "JPEG XL"
    if head[4:8] == b"ftyp":
        brands = head[8 : int.from_bytes(head[:4], "big")]
        return "AVIF" if b"avi" in brands else "HEIC" if b"hei" in brands or b"mif1" in brands else None
    return NETPBM if _NETPBM_BEGINS.match(head) else None


def size_of(encoded: bytes, kind: str) -> tuple[int, int]:
    """Reads (width, height) from the header of a picture of this kind, which no record holds, without decoding it.

    Raises:
      ValueError: nothing here decodes it, or its header is damaged; the message starts with "is".
    """
    if kind in _REFUSED:
        raise ValueError(f"is {_REFUSED[kind]}, which is not read here: convert it to PNG or JPEG")
    try:
        size = _READERS[kind](encoded)
    except (struct.error, IndexError, ValueError, StopIteration):
        size = None
    if size is None or min(size) < 1:
        raise ValueError(f"is a damaged {kind}: its header gives no size")
    return size


def _bmp_size(encoded: bytes) -> tuple[int, int]:
    if int.from_bytes(encoded[14:18], "little") == _BMP_HEADERS[0]:
        return struct.unpack_from("<HH", encoded, 18)
    width, height = struct.unpack_from("<ii", encoded, 18)
    return width, abs(height)  # negative: the first row is the upper one


def _tiff_size(encoded: bytes) -> tuple[int, int]:
    order = _TIFF_ORDERS[encoded[:4]]
    (start,) = struct.unpack_from(f"{order}I", encoded, 4)
    (count,) = struct.unpack_from(f"{order}H", encoded, start)
    numbers = {}
    for place in range(start + 2, start + 2 + 12 * count, 12):
        tag, form = struct.unpack_from(f"{order}HH", encoded, place)
        if tag in (_WIDTH_TAG, _HEIGHT_TAG, _SUBFILE_TAG):
            (numbers[tag],) = struct.unpack_from(f"{order}{'H' if form == _SHORT else 'I'}", encoded, place + 8)
    if numbers.get(_SUBFILE_TAG, 0) & 1:
        return 0, 0  # a preview of another picture in the file, as in a camera's raw files
    return numbers.get(_WIDTH_TAG, 0), numbers.get(_HEIGHT_TAG, 0)


def _gif_size(encoded: bytes) -> tuple[int, int]:
    return struct.unpack_from("<HH", encoded, 6)


def _jpeg2000_size(encoded: bytes) -> tuple[int, int]:
    if encoded.startswith(_J2K_START):
        right, lower, left, upper = struct.unpack_from(">IIII", encoded, 8)
        return right - left, lower - upper
    height, width = struct.unpack_from(">II", encoded, encoded.index(b"ihdr", 0, _FAR) + 4)
    return width, height


def _avif_size(encoded: bytes) -> tuple[int, int]:
    """The largest of the sizes that the file lists: those of its tiles and previews are smaller."""
    places = [match.end() + 4 for match in re.finditer(b"ispe", encoded[:_FAR])]
    return max((struct.unpack_from(">II", encoded, place) for place in places), key=lambda size: size[0] * size[1])


def _netpbm_size(encoded: bytes) -> tuple[int, int] | None:
    header = _NETPBM.match(encoded[:_FAR])
    return header and (int(header[2]), int(header[3]))


_READERS = {
    "BMP": _bmp_size,
    "TIFF": _tiff_size,
    "GIF": _gif_size,
    "JPEG 2000": _jpeg2000_size,
    "AVIF": _avif_size,
    NETPBM: _netpbm_size,
}
