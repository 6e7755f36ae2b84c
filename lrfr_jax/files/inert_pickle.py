"""Pickles read without importing or running what they name.

A small stack machine follows the opcodes by which picklers of protocols 0 to 5 write tuples, lists, dicts, byte
strings, text, numbers and what a `Dialect` allows, and refuses every other one. Its values are inert: a name that the
file wants to call is looked up in the dialect's table and answered there. All text is held as bytes. In Latin-1 that
makes one of Python 2's `str`, of Python 3's `bytes`, and of the text by which Python 3 spells bytes in old protocols.

Memory: nothing is allocated before the file is known to hold it, every byte string is made of its own stretch of the
file, and the number of opcodes is bounded by the file's size. Nothing follows nested values, so their depth is free.

References: the opcodes are documented in `pickletools` of Python's standard library.
"""

import codecs
import dataclasses
import io
import pickletools
import re
import struct
from collections.abc import Callable, Mapping
from typing import Any

_SPARE_OPCODES, _HIGHEST_PROTOCOL = 1000, 5
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


class Refused(Exception):
    """Why a file cannot be read; the sentence goes on after the name of the file."""


@dataclasses.dataclass(frozen=True)
class Name:
    """A function or class that the pickle refers to, by what it stands for."""

    meaning: str


@dataclasses.dataclass(frozen=True)
class Opaque:
    """A value of no interest: it may be called and given items and a state, and none of that does anything."""


@dataclasses.dataclass(frozen=True)
class Dialect:
    """What one kind of file means by its pickles.

    Attributes:
      purpose: what such a file consists of, as errors put it.
      names: what stands for each name that may occur: `{b"module name": Name("meaning") or Opaque()}`.
      call: returns what a call of (function, arguments) would have returned, or refuses it.
      build: gives (value, state) the state, or refuses it.
      persistent: returns what an identifier refers to beside the pickle; None where pickles do not refer to anything.
      encoding: how text is held as bytes.
      bytes_per_opcode: fewer bytes of file than this for each opcode are refused.
    """

    purpose: str
    names: Mapping[bytes, Name | Opaque]
    call: Callable[[Any, Any], Any]
    build: Callable[[Any, Any], None]
    persistent: Callable[[Any], Any] | None
    encoding: str
    bytes_per_opcode: int


@dataclasses.dataclass
class _Machine:
    """The file, how many bytes are left of it, and what was read."""

    file: io.BufferedIOBase
    left: int
    dialect: Dialect
    stack: list = dataclasses.field(default_factory=list)
    memo: dict = dataclasses.field(default_factory=dict)


def read(file: io.BufferedIOBase, *, size: int, dialect: Dialect) -> Any:
    """Reads the value of a pickle that takes `size` bytes, the whole stream; see `read_next`.

    Raises:
      Refused: as `read_next`, or bytes follow the pickle.
    """
    value, used = read_next(file, size=size, dialect=dialect)
    _require(used == size, "does not end where its pickle ends: it is damaged")
    return value


def read_next(file: io.BufferedIOBase, *, size: int, dialect: Dialect) -> tuple[Any, int]:
    """Reads the pickle that begins here and takes at most `size` bytes: its value, and how many bytes it took.

    A list or a dict in the value may hold itself. A dict keeps the items whose keys are text or byte strings.

    Raises:
      Refused: truncated, damaged, or with anything else in it.
    """
    machine = _Machine(file, size, dialect)
    for _ in range(_SPARE_OPCODES + size // dialect.bytes_per_opcode):
        opcode = _take(machine, 1)
        if opcode == b".":
            break
        _push_literal(opcode, machine) or _collect(opcode, machine) or _work(opcode, machine)
    else:
        raise Refused(f"has more pickle opcodes than {dialect.purpose} of its size need")
    value = _pop(machine)
    _require(not machine.stack, "does not end where its pickle ends: it is damaged")
    return value, size - machine.left


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
        value = _recoded(_take(machine, _number(machine, _TEXTS[opcode])), "utf-8", machine.dialect.encoding)
    elif opcode == b"V":
        value = _recoded(_line(machine), "raw_unicode_escape", machine.dialect.encoding)
    elif opcode == b"S":
        value = _unquoted(_line(machine))
    elif opcode == b"I":  # booleans of protocols 0 and 1 are integers with a leading zero
        line = _line(machine)
        value = line == b"01" if line in (b"00", b"01") else _integer(line)
    elif opcode == b"L":
        value = _integer(_line(machine).removesuffix(b"L"))
    elif opcode == b"\x8a":
        value = int.from_bytes(_take(machine, _number(machine, 1)), "little", signed=True)
    elif opcode == b"G":
        value = struct.unpack(">d", _take(machine, 8))[0]
    elif opcode in (b"]", b"}"):
        value = [] if opcode == b"]" else {}
    elif opcode == b"c":
        value = _name(_line(machine), _line(machine), machine.dialect)
    else:
        return False
    machine.stack.append(value)
    return True


def _collect(opcode: bytes, machine: _Machine) -> bool:
    """Follows an opcode that puts values of the stack into a tuple, list or dict; says whether it was one."""
    stack = machine.stack
    if opcode in _TUPLES:
        stack.append(tuple([_pop(machine) for _ in range(_TUPLES[opcode])][::-1]))
    elif opcode == b"(":
        stack.append(_MARK)
    elif opcode == b"t":
        stack.append(tuple(_pop_to_mark(machine)))
    elif opcode == b"l":
        stack.append(_pop_to_mark(machine))
    elif opcode in (b"a", b"e"):
        items = [_pop(machine)] if opcode == b"a" else _pop_to_mark(machine)
        _require(isinstance(_top(machine), list | Opaque), "appends to a value that is no list: it is damaged")
        isinstance(stack[-1], Opaque) or stack[-1].extend(items)
    elif opcode == b"d":
        items = _pop_to_mark(machine)
        stack.append({})
        _set_items(stack[-1], items)
    elif opcode in (b"s", b"u"):
        items = [_pop(machine), _pop(machine)][::-1] if opcode == b"s" else _pop_to_mark(machine)
        _set_items(_top(machine), items)
    else:
        return False
    return True


def _set_items(target: Any, items: list) -> None:
    """Puts keys and values in turn into a dict; other keys than byte strings may not be hashable, or at a cost."""
    _require(isinstance(target, dict | Opaque) and len(items) % 2 == 0, "sets items of no dict: it is damaged")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if isinstance(target, dict) and isinstance(key, bytes):
            _require(key not in target, f"holds {key[:_SHOWN]!r} twice in one dict: it is damaged")
            target[key] = value


def _work(opcode: bytes, machine: _Machine) -> None:
    """Follows an opcode that works on the memo, calls, builds or refers, or that frames the others."""
    stack, memo, dialect = machine.stack, machine.memo, machine.dialect
    if opcode in _PUTS:
        memo[_number(machine, _PUTS[opcode])] = _top(machine)
    elif opcode == b"\x94":
        memo[len(memo)] = _top(machine)
    elif opcode in _GETS:
        place = _number(machine, _GETS[opcode])
        _require(place in memo, "refers to a value that it does not hold: it is damaged")
        stack.append(memo[place])
    elif opcode == b"\x93":
        name, module = _pop(machine), _pop(machine)
        stack.append(_name(module, name, dialect))
    elif opcode in (b"R", b"\x81"):
        arguments, function = _pop(machine), _pop(machine)
        stack.append(function if isinstance(function, Opaque) else dialect.call(function, arguments))
    elif opcode == b"b":
        state = _pop(machine)
        if not isinstance(_top(machine), Opaque):
            dialect.build(stack[-1], state)
    elif opcode == b"Q" and dialect.persistent:
        stack.append(dialect.persistent(_pop(machine)))
    elif opcode == b"\x80":
        protocol = _number(machine, 1)
        _require(protocol <= _HIGHEST_PROTOCOL, f"has protocol {protocol}, known are 0 to {_HIGHEST_PROTOCOL}")
    elif opcode == b"\x95":
        _check_left(machine, _number(machine, 8))
    else:
        known = pickletools.code2op.get(opcode.decode("latin-1"))
        what = f"the pickle opcode {known.name}" if known else f"the byte {opcode[0]:#04x} as a pickle opcode"
        raise Refused(f"holds {what}, which {dialect.purpose} do not need: it is damaged or malicious")


def _name(module: Any, name: Any, dialect: Dialect) -> Name | Opaque:
    full = b"%s %s" % (module, name) if (type(module), type(name)) == (bytes, bytes) else b"? ?"
    shown = full.replace(b" ", b".").decode("ascii", "backslashreplace")[:_SHOWN]
    sentence = f"wants to use {shown}, which {dialect.purpose} do not need (nothing was run): do not unpickle it"
    _require(full in dialect.names, sentence)
    return dialect.names[full]


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


def _recoded(text: bytes, encoding: str, held: str) -> bytes:
    try:
        return text.decode(encoding).encode(held)
    except UnicodeError as error:
        raise Refused("holds text that spells neither a name nor bytes: it is damaged") from error


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
