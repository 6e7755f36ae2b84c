"""Writes LMDB files: small ones page by page, as LMDB 0.9 lays them out, or by the library where it is installed."""

import struct

import numpy as np

_PAGE = 4096
_MOST_INLINE = _PAGE // 2 - 50  # larger values have pages of their own


def write(path, items):
    """Writes {key: value} as one file, and returns its path."""
    path.write_bytes(to_bytes(items))
    return str(path)


def write_by_library(path, items, *, in_folder=False):
    """The same, by the package lmdb; in several transactions and with values that are removed again."""
    import lmdb

    with lmdb.open(str(path), map_size=2**30, subdir=in_folder, lock=False) as environment:
        for turn in range(3):
            with environment.begin(write=True) as transaction:
                for place, (key, value) in enumerate(items.items()):
                    if place % 3 == turn:
                        transaction.put(b"%d is removed" % place, bytes(3000 * turn))
                        transaction.put(key, value)
        with environment.begin(write=True) as transaction:
            for place in range(len(items)):
                transaction.delete(b"%d is removed" % place)
    return str(path)


def to_bytes(items):
    """Lays the pages out: two that tell of the tree, then values of their own pages, leaves, and a root above them."""
    pages, leaves, nodes = [b"", b""], [], []
    for key, value in sorted(items.items()):
        if len(value) > _MOST_INLINE:
            data, flags = struct.pack("<Q", len(pages)), 1
            count = -(-(16 + len(value)) // _PAGE)
            whole = struct.pack("<QHHI", len(pages), 0, 4, count) + value
            whole += bytes(count * _PAGE - len(whole))
            pages += [whole[start : start + _PAGE] for start in range(0, len(whole), _PAGE)]
        else:
            data, flags = value, 0
        node = struct.pack("<HHHH", len(value) & 0xFFFF, len(value) >> 16, flags, len(key)) + key + data
        if nodes and _used([*nodes, node]) > _PAGE:
            leaves.append((nodes, first))
            nodes = []
        first = first if nodes else key
        nodes.append(node + bytes(len(node) % 2))
    leaves += [(nodes, first)] if nodes else []
    numbers = range(len(pages), len(pages) + len(leaves))
    pages += [_page(number, 2, own) for number, (own, _) in zip(numbers, leaves, strict=True)]
    root, depth = (numbers[0] if leaves else 2**64 - 1), min(len(leaves), 1)
    if len(leaves) > 1:
        own = [
            struct.pack("<HHHH", number & 0xFFFF, number >> 16, 0, len(key) * bool(place)) + key * bool(place)
            for place, (number, (_, key)) in enumerate(zip(numbers, leaves, strict=True))
        ]
        root, depth = len(pages), 2
        pages.append(_page(root, 1, [node + bytes(len(node) % 2) for node in own]))
    for number in range(2):
        database = struct.pack("<IHHQQQQQ", 0, 0, depth, depth > 1, len(leaves), 0, len(items), root)
        free = struct.pack("<IHHQQQQQ", _PAGE, 8, 0, 0, 0, 0, 0, 2**64 - 1)
        meta = struct.pack("<IIQQ", 0xBEEFC0DE, 1, 0, 2**30) + free + database
        meta += struct.pack("<QQ", len(pages) - 1, number)
        pages[number] = (struct.pack("<QHHHH", number, 0, 8, 0, 0) + meta).ljust(_PAGE, b"\0")
    return b"".join(pages)


def _used(nodes):
    return 16 + sum(2 + len(node) + len(node) % 2 for node in nodes)


def _page(number, flags, nodes):
    page = bytearray(_PAGE)
    end = _PAGE
    for place, node in enumerate(nodes):
        end -= len(node)
        page[end : end + len(node)] = node
        struct.pack_into("<H", page, 16 + 2 * place, end)
    struct.pack_into("<QHHHH", page, 0, number, 0, flags, 16 + 2 * len(nodes), end)
    return bytes(page)


def datum(data, label, *, shape=(3, 112, 112), encoded=None):
    """Caffe's message: channels, height and width; the data; the label; whether the data are an image file."""
    content = b"".join(bytes([place << 3]) + varint(side) for place, side in enumerate(shape, 1))
    content += b"\x22" + varint(len(data)) + data if data is not None else b""
    content += b"\x28" + varint(label) if label is not None else b""
    return content + (b"" if encoded is None else b"\x38" + varint(encoded))


def varint(number):
    number %= 2**64
    digits = []
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*digits, number])


def planes(image):
    """RGB pixels as Caffe has them: planes of blue, green and red."""
    return np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1)).tobytes()
