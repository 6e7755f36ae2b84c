"""Writes PyTorch's checkpoints opcode by opcode, true ones and ones that lie."""

import dataclasses
import io
import struct
import zipfile

import numpy as np

_KINDS = {
    "f4": "Float",
    "f8": "Double",
    "f2": "Half",
    "i8": "Long",
    "i4": "Int",
    "i1": "Char",
    "u1": "Byte",
    "b1": "Bool",
}


@dataclasses.dataclass
class Tensor:
    """A view of a storage; what is None is told truly. Tensors with the same key share a storage."""

    elements: np.ndarray
    shape: tuple | None = None
    strides: tuple | None = None
    offset: object = 0
    kind: str | None = None
    key: str | None = None
    length: int | None = None


@dataclasses.dataclass
class Storage:
    """What a tensor is a view of."""

    of: Tensor


@dataclasses.dataclass
class Call:
    """What unpickling would call: `name` is "module name"."""

    name: str
    arguments: tuple


class _Pickler:
    """Protocol 2 without a memo; `storages` are the bytes and lengths of what the pickle refers to."""

    def __init__(self, view_metadata=()):
        self.view_metadata, self.storages = view_metadata, {}

    def dump(self, value):
        return b"\x80\x02" + self.item(value) + b"."

    def item(self, value):
        match value:
            case None | True | False:
                return {None: b"N", True: b"\x88", False: b"\x89"}[value]
            case int():
                content = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
                return b"\x8a" + bytes([len(content)]) + content
            case float():
                return b"G" + struct.pack(">d", value)
            case str():
                return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
            case bytes():  # opcodes as they are
                return value
            case tuple():
                return b"(" + b"".join(map(self.item, value)) + b"t"
            case list():
                return b"](" + b"".join(map(self.item, value)) + b"e"
            case dict():
                items = [self.item(key) + self.item(entry) for key, entry in value.items()]
                return self.call("collections OrderedDict", ()) + b"(" + b"".join(items) + b"u"
            case Call():
                return self.call(value.name, value.arguments)
            case Storage():
                return self.storage(value.of)
            case Tensor():
                return self.tensor(value)
            case np.ndarray():
                return self.tensor(Tensor(value))

    def call(self, name, arguments):
        return b"c" + name.replace(" ", "\n").encode() + b"\n" + self.item(arguments) + b"R"

    def storage(self, tensor):
        flat = np.ascontiguousarray(tensor.elements)
        key = str(len(self.storages)) if tensor.key is None else tensor.key
        length = flat.size if tensor.length is None else tensor.length
        self.storages[key] = flat.tobytes(), flat.size
        kind = tensor.kind or f"{_KINDS[flat.dtype.str[1:]]}Storage"
        name = f"ctorch\n{kind}\n".encode()
        return self.item(("storage", name, key, "cpu", length, *self.view_metadata)) + b"Q"

    def tensor(self, tensor):
        place = self.storage(tensor)
        shape = tensor.elements.shape if tensor.shape is None else tensor.shape
        strides = tuple(np.cumprod((1, *shape[:0:-1]))[::-1][: len(shape)].tolist())
        strides = strides if tensor.strides is None else tensor.strides
        empty = self.call("collections OrderedDict", ())
        return self.call("torch._utils _rebuild_tensor_v2", (place, tensor.offset, shape, strides, False, empty))


def write_zip(value, *, compression=zipfile.ZIP_STORED, byteorder="little", without=(), more=()):
    """Writes a zip archive, `without` some storages and with `more` entries."""
    pickler = _Pickler()
    entries = {"data.pkl": pickler.dump(value), "byteorder": byteorder.encode()}
    entries |= {f"data/{key}": content for key, (content, _) in pickler.storages.items() if key not in without}
    return zip_of(
        {f"archive/{name}": content for name, content in {**entries, "version": b"3\n"}.items()} | dict(more),
        compression,
    )


def zip_of(entries, compression=zipfile.ZIP_STORED):
    """Packs {name: bytes}."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return file.getvalue()


def write_legacy(value, *, magic=0x1950A86A20F9469CFC6C, protocol=1001, is_little=True, lengths=None, view=None):
    """Writes the form before 1.6; `lengths` are what the storages are said to have."""
    pickler = _Pickler(view_metadata=(view,))
    parts = [pickler.dump(part) for part in (magic, protocol, {"little_endian": is_little}, value)]
    parts.append(pickler.dump(list(pickler.storages)))
    for key, (content, length) in pickler.storages.items():
        parts.append(struct.pack("<q", (lengths or {}).get(key, length)) + content)
    return b"".join(parts)
