"""Writes `.bin` files as they are met: of Python 2, byte by byte from the documented opcodes, and of Python 3."""

import pickle
import struct

import numpy as np

# (Python, protocol, elements): 'strings', or arrays with the names that numpy 1 or 2 gives to their parts.
FORMS = [(2, protocol, elements) for protocol in (0, 1, 2) for elements in ("strings", "numpy 1")]
FORMS += [(3, protocol, elements) for protocol in range(6) for elements in ("strings", "numpy 1", "numpy 2")]


def write(images, is_same, form=(3, 4, "strings")):
    """Pickles (images, is_same) in one of the `FORMS`."""
    python, protocol, elements = form
    if python == 2:
        return _Python2(protocol, as_arrays=elements != "strings").dump(images, is_same)
    if elements != "strings":
        images = [np.frombuffer(image, np.uint8).copy() for image in images]
    content = pickle.dumps((images, list(is_same)), protocol)
    return _of_numpy_1(content) if elements == "numpy 1" else content


def _of_numpy_1(content):
    if content[2:3] == b"\x95":
        content = content[:2] + content[11:]  # a frame may be left out, and it would be too long
    for new in (b"numpy._core.multiarray", b"numpy._core.numeric"):
        old = new.replace(b"_core", b"core")
        content = content.replace(b"c" + new + b"\n", b"c" + old + b"\n")
        content = content.replace(b"\x8c%c" % len(new) + new, b"\x8c%c" % len(old) + old)
    return content


class _Python2:
    """Python 2's pickler, for what a `.bin` file holds."""

    def __init__(self, protocol, *, as_arrays):
        self.protocol, self.as_arrays = protocol, as_arrays
        self.out, self.memo = bytearray(), {}

    def dump(self, images, is_same):
        self.out += b"\x80\x02(" if self.protocol == 2 else b"("
        self.list(images, self.array if self.as_arrays else self.string)
        self.list(is_same, self.boolean)
        self.out += b"t"
        self.put(None)
        return bytes(self.out) + b"."

    def list(self, items, write_item):
        self.out += b"]" if self.protocol else b"(l"
        self.put(None)
        if self.protocol:
            self.out += b"("
        for item in items:
            write_item(item)
            self.out += b"" if self.protocol else b"a"
        self.out += b"e" if self.protocol else b""

    def put(self, name):
        place = len(self.memo)
        self.memo[place if name is None else name] = place
        self.out += self.place(place, b"p", b"q", b"r")

    def place(self, place, line, short, long):
        if not self.protocol:
            return line + b"%d\n" % place
        return short + b"%c" % place if place < 256 else long + struct.pack("<I", place)

    def string(self, value):
        if not self.protocol:
            self.out += b"S" + repr(value)[1:].encode() + b"\n"
        else:
            self.out += b"U%c" % len(value) if len(value) < 256 else b"T" + struct.pack("<i", len(value))
            self.out += value
        self.put(None)

    def boolean(self, value):
        if self.protocol == 2:
            self.out += b"\x88" if value else b"\x89"
        else:
            self.out += b"I01\n" if value else b"I00\n"

    def integer(self, value):
        if not self.protocol:
            self.out += b"I%d\n" % value
        elif 0 <= value < 65536:
            self.out += b"K%c" % value if value < 256 else b"M" + struct.pack("<H", value)
        else:
            self.out += b"J" + struct.pack("<i", value)

    def name(self, name):
        if name in self.memo:
            self.out += self.place(self.memo[name], b"g", b"h", b"j")
        else:
            self.out += b"c" + name.replace(b" ", b"\n") + b"\n"
            self.put(name)

    def close(self, opcodes):
        """Ends a tuple, and memoizes after each opcode."""
        for opcode in opcodes:
            self.out += b"%c" % opcode
            self.put(None)

    def array(self, value):
        self.name(b"numpy.core.multiarray _reconstruct")
        self.out += b"("
        self.name(b"numpy ndarray")
        self.out += b"("
        self.integer(0)
        self.close(b"t")
        self.string(b"b")
        self.close(b"tR")
        self.out += b"("
        self.integer(1)
        self.out += b"("
        self.integer(len(value))
        self.integer(1)  # OpenCV's encoder gave a column
        self.close(b"t")
        if b"dtype" in self.memo:
            self.name(b"dtype")
        else:
            self.dtype()
        self.boolean(False)
        self.string(value)
        self.close(b"t")
        self.out += b"b"

    def dtype(self):
        self.name(b"numpy dtype")
        self.out += b"("
        self.string(b"u1")
        self.integer(0)
        self.integer(1)
        self.close(b"t")
        self.out += b"R"
        self.put(b"dtype")
        self.out += b"("
        self.integer(3)
        self.string(b"|")
        self.out += b"NNN"
        for number in (-1, -1, 0):
            self.integer(number)
        self.close(b"t")
        self.out += b"b"
