"""Writes MXNet's `.params` of its three versions."""

import struct

_TYPES = {"f4": 0, "f8": 1, "f2": 2, "u1": 3, "i4": 4, "i1": 5, "i8": 6, "b1": 7}
_MAGICS = {1: 0xF993FAC8, 2: 0xF993FAC9, 3: 0xF993FACA}


def array(values, *, version=2, storage=0, shape=None, code=None):
    """Writes one array."""
    shape = values.shape if shape is None else shape
    head = struct.pack("<I", _MAGICS[version]) + (struct.pack("<i", storage) if version > 1 else b"")
    head += struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    code = _TYPES[values.dtype.str[1:]] if code is None else code
    return head + struct.pack("<iii", 1, 0, code) + values.tobytes()


def write(arrays, **changes):
    """Writes named arrays; `changes` go to each."""
    return write_list([array(values, **changes) for values in arrays.values()], list(arrays))


def write_list(arrays, names, *, count=None):
    """Writes arrays as they are, and names."""
    count = len(arrays) if count is None else count
    parts = [struct.pack("<QQQ", 0x112, 0, count), *arrays, struct.pack("<Q", len(names))]
    return b"".join([*parts, *(struct.pack("<Q", len(name.encode())) + name.encode() for name in names)])
