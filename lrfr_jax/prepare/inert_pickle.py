"""Pickles of byte strings and byte arrays, read without importing or running what they name.

A small stack machine follows the opcodes by which picklers of protocols 0 to 5 write tuples, lists, byte strings,
integers, booleans and numpy's byte arrays, and refuses every other one. Its values are inert: a name that the file
wants to call is looked up in a table and answered here. All text is held as Latin-1 bytes, which makes one of Python
2's `str`, of Python 3's `bytes`, and of the text by which Python 3 spells bytes in the old protocols.

Memory: nothing is allocated before the file is known to hold it, every byte string is made of its own stretch of the
file, and the number of opcodes is bounded by the file's size. Nothing follows nested values, so their depth is free.

References: the opcodes are documented in `pickletools` of Python's standard library.
"""

import codecs
import dataclasses
import io
import pickletools
import re
from typing import Any

# An image takes 26 opcodes in the wordiest form (numpy arrays, protocol 0) and more than 500 bytes.
_MIN_BYTES_PER_OPCODE, _SPARE_OPCODES = 16, 1000
_HIGHEST_PROTOCOL = 5
_SHOWN = 100  # characters of a name that an error repeats

_CONSTANTS = {b"N": None, b"\x88": True, b"\x89": False}
_TUPLES = {b")": 0, b"\x85": 1, b"\x86": 2, b"\x87": 3}
_INTEGERS = {b"J": (4, True), b"K": (1, False), b"M": (2, False)}  # width in bytes, signed
# Opcodes before a length and as many bytes: the width of the length.
_STRINGS = {b"T": 4, b"U": 1, b"B": 4, b"C": 1, b"\x8e": 8, b"\x96": 8}
_TEXTS = {b"X": 4, b"\x8c": 1, b"\x8d": 8}
# The memo's place is a line of digits (0), or so many bytes.
_PUTS = {b"p": 0, b"q": 1, b"r": 4}
_GETS = {b"g": 0, b"h": 1, b"j": 4}
_MARK = object()

# Every name that may stand in a file, and what it stands for.
_NAMES = {
    b"_codecs encode": "bytes",
    b"__builtin__ bytes": "bytes",
    b"builtins bytes": "bytes",
    b"__builtin__ bytearray": "bytes",
    b"builtins bytearray": "bytes",
    b"numpy ndarray": "ndarray",
    b"numpy dtype": "dtype",
    b"numpy.core.multiarray _reconstruct": "new array",
    b"numpy._core.multiarray _reconstruct": "new array",
    b"numpy.core.multiarray scalar": "scalar",
    b"numpy._core.multiarray scalar": "scalar",
    b"numpy.core.numeric _frombuffer": "whole array",
    b"numpy._core.numeric _frombuffer": "whole array",
}


class Refused(Exception):
    """Why a pickle cannot be read; the sentence goes on after the name of its file."""


@dataclasses.dataclass(frozen=True)
class Name:
    """A function or class that the pickle refers to, by what it stands for."""

    meaning: str


@dataclasses.dataclass(frozen=True)
class Dtype:
    """Type of single bytes: b'u1' for numbers, b'b1' for booleans."""

    code: bytes


@dataclasses.dataclass
class ByteArray:
    """A numpy array of one-byte elements; both fields are None if the pickle gave it no content."""

    dtype: Dtype | None = None
    content: bytes | None = None


@dataclasses.dataclass
class _Machine:
    """The file, how many bytes are left of it, and what was read."""

    file: io.BufferedIOBase
    left: int
    stack: list = dataclasses.field(default_factory=list)
    memo: dict = dataclasses.field(default_factory=dict)


def read(file: io.BufferedIOBase, *, size: int) -> Any:
    """Reads the value of a pickle that takes `size` bytes, the whole stream; a list in it may hold itself.

    Raises:
      Refused: truncated, damaged, or with anything else in it.
    """
    machine = _Machine(file, size)
    for _ in range(_SPARE_OPCODES + size // _MIN_BYTES_PER_OPCODE):
        opcode = _take(machine, 1)
        if opcode == b".":
            break
        _push_literal(opcode, machine) or _work(opcode, machine)
    else:
        raise Refused("has more pickle opcodes than images of its size need")
    value = _pop(machine)
    _require(not machine.left and not machine.stack, "does not end where its pickle ends: it is damaged")
    return value


def _push_literal(opcode: bytes, machine: _Machine) -> bool:
    """Pushes the value of an opcode that needs nothing but the bytes after it; says whether it was one."""
    if opcode in _CONSTANTS:
        value = _CONSTANTS[opcode]
    elif opcode in _INTEGERS:
        width, signed = _INTEGERS[opcode]
        value = int.from_bytes(_take(machine, width), "little", signed=signed)
    elif opcode in _STRINGS:
        value = _take(machine, _number(machine, _STRINGS[opcode]))
    elif opcode in _TEXTS:
        value = _latin1(_take(machine, _number(machine, _TEXTS[opcode])), "utf-8")
    elif opcode == b"V":
        value = _latin1(_line(machine), "raw_unicode_escape")
    elif opcode == b"S":
        value = _unquoted(_line(machine))
    elif opcode == b"I":  # booleans of protocols 0 and 1 are integers with a leading zero
        line = _line(machine)
        value = line == b"01" if line in (b"00", b"01") else _integer(line)
    elif opcode == b"L":
        value = _integer(_line(machine).removesuffix(b"L"))
    elif opcode == b"\x8a":
        value = int.from_bytes(_take(machine, _number(machine, 1)), "little", signed=True)
    elif opcode == b"]":
        value = []
    elif opcode == b"c":
        value = _name(_line(machine), _line(machine))
    else:
        return False
    machine.stack.append(value)
    return True


def _work(opcode: bytes, machine: _Machine) -> None:
    """Follows an opcode that works on the stack or the memo, or that frames the others."""
    stack, memo = machine.stack, machine.memo
    if opcode in _PUTS:
        memo[_number(machine, _PUTS[opcode])] = _top(machine)
    elif opcode == b"\x94":
        memo[len(memo)] = _top(machine)
    elif opcode in _GETS:
        place = _number(machine, _GETS[opcode])
        _require(place in memo, "refers to a value that it does not hold: it is damaged")
        stack.append(memo[place])
    elif opcode in _TUPLES:
        items = [_pop(machine) for _ in range(_TUPLES[opcode])]
        stack.append(tuple(reversed(items)))
    elif opcode == b"(":
        stack.append(_MARK)
    elif opcode == b"t":
        stack.append(tuple(_pop_to_mark(machine)))
    elif opcode == b"l":
        stack.append(_pop_to_mark(machine))
    elif opcode in (b"a", b"e"):
        items = [_pop(machine)] if opcode == b"a" else _pop_to_mark(machine)
        _require(isinstance(_top(machine), list), "appends to a value that is no list: it is damaged")
        stack[-1].extend(items)
    elif opcode == b"\x93":
        name, module = _pop(machine), _pop(machine)
        stack.append(_name(module, name))
    elif opcode == b"R":
        arguments, function = _pop(machine), _pop(machine)
        stack.append(_call(function, arguments))
    elif opcode == b"b":
        state = _pop(machine)
        _build(_top(machine), state)
    elif opcode == b"\x80":
        protocol = _number(machine, 1)
        _require(protocol <= _HIGHEST_PROTOCOL, f"has protocol {protocol}, known are 0 to {_HIGHEST_PROTOCOL}")
    elif opcode == b"\x95":
        _check_left(machine, _number(machine, 8))
    else:
        known = pickletools.code2op.get(opcode.decode("latin-1"))
        what = f"the pickle opcode {known.name}" if known else f"the byte {opcode[0]:#04x} as a pickle opcode"
        raise Refused(f"holds {what}, which byte strings and arrays do not need: it is damaged or malicious")


def _call(function: Any, arguments: Any) -> Any:
    """Answers what a call of the named function would have returned."""
    match function, arguments:
        case Name("bytes"), ():
            return b""
        case Name("bytes"), (bytes(content),) | (bytes(content), b"latin1" | b"latin-1"):
            return content
        case Name("dtype"), (b"u1" | b"b1" | b"|u1" | b"|b1" as code, _, _):
            return Dtype(code[-2:])
        case Name("new array"), (Name("ndarray"), _, _):
            return ByteArray()
        case Name("whole array"), (bytes(content), Dtype() as dtype, shape, _):
            return ByteArray(dtype, _filled(shape, content))
        case Name("scalar"), (Dtype(b"b1"), b"\0" | b"\1" as content):
            return content == b"\1"
    what = f"makes a {function.meaning}" if isinstance(function, Name) else "calls a value"
    raise Refused(f"{what} in a way in which byte strings and byte arrays are not made: it is damaged or no .bin file")


def _build(target: Any, state: Any) -> None:
    """Gives a new array its content; a dtype must keep the state that single bytes have."""
    match target, state:
        case Dtype(), (int(), b"|", None, None, None, *_):
            pass
        case ByteArray(content=None), (1, shape, Dtype() as dtype, _, bytes(content)):
            target.dtype, target.content = dtype, _filled(shape, content)
        case _:
            raise Refused("gives a value a state that byte arrays do not have: it is damaged or no .bin file")


def _filled(shape: Any, content: bytes) -> bytes:
    """Returns the content if it fills a vector, or a matrix of one row or column as OpenCV's encoder makes it."""
    match shape:
        case (int(size),) | (int(size), 1) | (1, int(size)) if size == len(content):
            return content
    raise Refused("holds an array whose shape does not fit its bytes: it is damaged")


def _name(module: Any, name: Any) -> Name:
    full = b"%s %s" % (module, name) if isinstance(module, bytes) and isinstance(name, bytes) else b"? ?"
    shown = full.replace(b" ", b".").decode("ascii", "backslashreplace")[:_SHOWN]
    sentence = f"wants to use {shown}, which byte strings and arrays do not need (nothing was run): do not unpickle it"
    _require(full in _NAMES, sentence)
    return Name(_NAMES[full])


def _take(machine: _Machine, count: int) -> bytes:
    _check_left(machine, count)
    content = machine.file.read(count)
    _require(len(content) == count, "became shorter while it was read")
    machine.left -= count
    return content


def _line(machine: _Machine) -> bytes:
    line = machine.file.readline(machine.left)
    machine.left -= len(line)
    _check_left(machine, 0 if line.endswith(b"\n") else machine.left + 1)
    return line[:-1]


def _check_left(machine: _Machine, count: int) -> None:
    _require(count <= machine.left, "is truncated: it ends before its pickle does")


def _number(machine: _Machine, width: int) -> int:
    """Reads a length or a place in the memo: little-endian, or of width 0 a line of digits."""
    return int.from_bytes(_take(machine, width), "little") if width else _integer(_line(machine))


def _integer(text: bytes) -> int:
    _require(re.fullmatch(rb"-?[0-9]{1,19}", text), "holds a number that is none, or has over 19 digits: it is damaged")
    return int(text)


def _unquoted(text: bytes) -> bytes:
    """Reads Python 2's repr of a `str`."""
    is_quoted = len(text) > 1 and text[:1] in (b"'", b'"') and text[:1] == text[-1:]
    try:
        content = codecs.escape_decode(text[1:-1])[0] if is_quoted else None
    except ValueError:
        content = None
    _require(content is not None, "holds a string that is not quoted or escaped as Python does it: it is damaged")
    return content


def _latin1(text: bytes, encoding: str) -> bytes:
    try:
        return text.decode(encoding).encode("latin-1")
    except UnicodeError as error:
        raise Refused("holds text that spells neither a name nor bytes: it is damaged or no .bin file") from error


def _top(machine: _Machine) -> Any:
    _require(machine.stack and machine.stack[-1] is not _MARK, "uses a value that it does not hold: it is damaged")
    return machine.stack[-1]


def _pop(machine: _Machine) -> Any:
    _top(machine)
    return machine.stack.pop()


def _pop_to_mark(machine: _Machine) -> list:
    items = []
    while machine.stack and machine.stack[-1] is not _MARK:
        items.append(machine.stack.pop())
    _require(machine.stack, "closes a list that it did not open: it is damaged")
    machine.stack.pop()
    return items[::-1]


def _require(condition: Any, otherwise: str) -> None:
    if not condition:
        raise Refused(otherwise)
