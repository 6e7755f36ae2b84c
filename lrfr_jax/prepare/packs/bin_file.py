"""InsightFace's `.bin` files: a pickle of (images, is_same), two encoded images for each pair."""

import dataclasses
import io
import os
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from lrfr_jax.errors import UserError
from lrfr_jax.files import inert_pickle
from lrfr_jax.files.inert_pickle import Dialect, Name, Refused

_MAX_BYTES = 2**31  # the official sets have about 100 MB
# An image takes 26 opcodes in the wordiest form (numpy arrays, protocol 0) and more than 500 bytes.
_MIN_BYTES_PER_OPCODE = 16
_LONGEST_TYPE = 16  # characters of numpy's name of a type

_ORDERS = (b"|", b"<", b">")
_NUMBERS = (b"b1", b"f4", b"f8", *(b"%c%d" % (kind, width) for kind in b"iu" for width in (1, 2, 4, 8)))
_OBJECTS = (b"O", b"O4", b"O8")  # arrays of values, whose elements stand in a list

# Every name that may stand in a file, and what it stands for.
_NAMES = {
    b"_codecs encode": Name("bytes"),
    b"__builtin__ bytes": Name("bytes"),
    b"builtins bytes": Name("bytes"),
    b"__builtin__ bytearray": Name("bytes"),
    b"builtins bytearray": Name("bytes"),
    b"numpy ndarray": Name("ndarray"),
    b"numpy dtype": Name("dtype"),
    b"numpy.core.multiarray _reconstruct": Name("new array"),
    b"numpy._core.multiarray _reconstruct": Name("new array"),
    b"numpy.core.multiarray scalar": Name("scalar"),
    b"numpy._core.multiarray scalar": Name("scalar"),
    b"numpy.core.numeric _frombuffer": Name("whole array"),
    b"numpy._core.numeric _frombuffer": Name("whole array"),
}


class BinFile(NamedTuple):
    """Encoded images 2k and 2k + 1 form pair k; `is_same` says whether they show one person."""

    images: list[bytes]
    is_same: Bool[np.ndarray, " pairs"]


@dataclasses.dataclass
class Dtype:
    """Type of numpy's elements, one of `_NUMBERS` or `_OBJECTS`, and the order of their bytes."""

    code: bytes
    order: bytes = b"|"

    def numbers(self, content: bytes) -> np.ndarray:
        """The elements in so many bytes, which are whole ones."""
        return np.frombuffer(content, np.dtype((self.order + self.code).decode()))


@dataclasses.dataclass
class Array:
    """A numpy array; both fields are None if the pickle gave it no content, which is a list for one of objects."""

    dtype: Dtype | None = None
    content: bytes | list | None = None


def read_bin(path: str) -> BinFile:
    """Reads a `.bin` file; see `parse_bin`.

    Raises:
      UserError: no such file, an unreasonably large one, or not a `.bin` file.
    """
    try:
        if os.path.isdir(path):
            raise UserError(
                f"{path} is a folder: give the .bin file that folders of bcolz and memory files are made from"
            )
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > _MAX_BYTES:
                raise UserError(f"{path} has {size} bytes, more than {_MAX_BYTES}: this is no .bin file of a test set")
            return parse_bin(file, size=size, name=path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def parse_bin(file: io.BufferedIOBase, *, size: int, name: str) -> BinFile:
    """Reads a stream that consists of `size` bytes; runs nothing that it names, and decodes no image.

    Images are `bytes`, `bytearray`, Python 2's `str`, or numpy arrays of uint8; `is_same` is a list, a tuple or a numpy
    array of booleans, or of 0 and 1 as Python's or numpy's numbers. Both may stand in an array of objects. The pickle
    may be of Python 2 or 3, in any protocol.

    Raises:
      UserError: truncated, damaged, of another structure, or naming anything but byte strings and such arrays.
    """
    try:
        return _pairs(inert_pickle.read(file, size=size, dialect=DIALECT))
    except Refused as reason:
        raise UserError(f"{name} {reason}") from reason


def _pairs(value: Any) -> BinFile:
    if isinstance(value, list | tuple):
        value = [part.content if isinstance(part, Array) and isinstance(part.content, list) else part for part in value]
    match value:
        case (list() | tuple() as images, list() | tuple() | Array() as flags):
            encoded = [_image(image, place) for place, image in enumerate(images)]
            is_same = _is_same(flags)
        case _:
            raise Refused("is a pickle of something else than (images, is_same): it is no .bin file of a test set")
    if len(encoded) != 2 * len(is_same) or not encoded:
        raise Refused(f"holds {len(encoded)} images for {len(is_same)} pairs: it must hold two for each, and one pair")
    return BinFile(encoded, is_same)


def _image(value: Any, place: int) -> bytes:
    match value:
        case bytes(content) | Array(Dtype(b"u1"), bytes(content)):
            return content
    raise Refused(f"has an image, number {place}, that is neither a byte string nor an array of uint8")


def _is_same(flags: Any) -> Bool[np.ndarray, " pairs"]:
    if isinstance(flags, Array):
        values = flags.dtype.numbers(flags.content) if flags.dtype else np.zeros(0, np.uint8)
        are_flags = bool(np.isin(values, (0, 1)).all())
    else:
        values, are_flags = flags, all(isinstance(flag, int | float) and flag in (0, 1) for flag in flags)
    if not are_flags:
        raise Refused("has a pair that is neither matched nor mismatched: is_same must hold booleans, or 0 and 1")
    return np.array(values, bool)


def _call(function: Any, arguments: Any) -> Any:
    """Answers what a call of the named function would have returned."""
    match function, arguments:
        case Name("bytes"), ():
            return b""
        case Name("bytes"), (bytes(content),) | (bytes(content), b"latin1" | b"latin-1"):
            return content
        case Name("dtype"), (bytes(code), _, _) if code.removeprefix(b"|") in (*_NUMBERS, *_OBJECTS):
            return Dtype(code.removeprefix(b"|"))
        case Name("dtype"), (bytes(code), _, _) if code.isalnum() and len(code) < _LONGEST_TYPE:
            raise Refused(
                f"holds an array of numpy's type {code.decode('latin-1')}: images must be byte strings or arrays of "
                "uint8, and is_same booleans or numbers"
            )
        case Name("new array"), (Name("ndarray"), _, _):
            return Array()
        case Name("whole array"), (bytes(content), Dtype() as dtype, shape, _):
            return Array(dtype, _filled(shape, dtype, content))
        case Name("scalar"), (Dtype(code) as dtype, bytes(content)) if code in _NUMBERS and len(content) == _width(
            dtype
        ):
            return dtype.numbers(content)[0].item()
    what = f"makes a {function.meaning}" if isinstance(function, Name) else "calls a value"
    raise Refused(f"{what} in a way in which byte strings and byte arrays are not made: it is damaged")


def _build(target: Any, state: Any) -> None:
    """Gives a new array its content, and a dtype the order of its bytes."""
    match target, state:
        case Dtype(), (int(), bytes(order), None, None, None, *_) if order in _ORDERS:
            target.order = order
        case Array(content=None), (1, _, Dtype(code) as dtype, _, list(content)) if code in _OBJECTS:
            target.dtype, target.content = dtype, content
        case Array(content=None), (1, shape, Dtype() as dtype, _, bytes(content)):
            target.dtype, target.content = dtype, _filled(shape, dtype, content)
        case _:
            raise Refused("gives a value a state that byte arrays do not have: it is damaged")


def _width(dtype: Dtype) -> int:
    return int(dtype.code[1:])


def _filled(shape: Any, dtype: Dtype, content: bytes) -> bytes:
    """Returns the content if it fills a vector, or a matrix of one row or column as OpenCV's encoder makes it."""
    if dtype.code in _OBJECTS:
        raise Refused("holds an array of objects without a list of them: it is damaged")
    match shape:
        case (int(size),) | (int(size), 1) | (1, int(size)) if size * _width(dtype) == len(content):
            return content
        case (int(), _, _, *_) if all(isinstance(side, int) for side in shape):
            raise Refused(
                f"holds an array of shape {shape}, as pixels have: images must stand in it as JPEG or PNG files"
            )
    raise Refused("holds an array whose shape does not fit its bytes: it is damaged")


# What pickles of images may hold.
DIALECT = Dialect(
    purpose="images",
    names=_NAMES,
    call=_call,
    build=_build,
    persistent=None,
    encoding="latin-1",
    bytes_per_opcode=_MIN_BYTES_PER_OPCODE,
)
