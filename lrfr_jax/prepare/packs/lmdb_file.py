"""LMDB's files (data.mdb), read without the library: it maps them into memory and trusts every number in them.

A damaged file can end a process that uses the library; here each number is checked against the file
before use. A value is one stretch of the file, as an image in a tar is.

References:
  The structures MDB_page, MDB_meta, MDB_db and MDB_node in mdb.c of OpenLDAP's LMDB 0.9, data format 1.
"""

import io
import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped

from lrfr_jax.errors import UserError
from lrfr_jax.pictures import stored_files

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_PAGE = struct.Struct("<QHHHH")  # number, unused, flags, end of the pointers, begin of the nodes
_META = struct.Struct("<IIQQ")  # magic, version, address, size of the map
_DB = struct.Struct("<IHHQQQQQ")  # page size, flags, depth; pages of branches, leaves, overflow; entries; root
_LAST = struct.Struct("<QQ")  # last page, transaction
_NODE = struct.Struct("<HHHH")  # two halves of a size, flags, size of the key
_BRANCH, _LEAF, _OVERFLOW, _META_PAGE = 1, 2, 4, 8  # flags of pages
_FAR, _SUBTREE, _REPEATED = 1, 2, 4  # flags of nodes
_PAGE_SIZES = [2**power for power in range(8, 17)]
_NO_PAGE = 2**64 - 1
_DEEPEST = 32  # levels of the tree
# Where a value and its key lie in the file, in bytes.
VALUE = np.dtype([("offset", np.int64), ("size", np.int64), ("key_offset", np.int64), ("key_size", np.int64)])


class _Damaged(Exception):
    """What is wrong with a file; the sentence goes on after its name."""


class _Tree(NamedTuple):
    file: io.BufferedIOBase
    size: int
    page_size: int
    root: int
    last: int
    entries: int
    seen: np.ndarray  # pages of the tree that were read: it must not come back to one


def find(source: str) -> str:
    """Finds the file behind a `--source`: the file itself, or the data.mdb of a folder.

    Raises:
      UserError: there is none.
    """
    path = os.path.join(source, "data.mdb") if os.path.isdir(source) else source
    if not os.path.isfile(path):
        what = "has no data.mdb" if os.path.isdir(source) else "does not exist"
        raise UserError(f"--source {source} {what}: give the folder of an LMDB or its file")
    return path


def list_values(path: str) -> Shaped[np.ndarray, " values"]:
    """Finds all values of the main database, in the order of their keys; they are of the type `VALUE`.

    Raises:
      UserError: it cannot be read, is no LMDB, or is cut off or damaged.
    """
    try:
        with open(path, "rb") as file:
            tree = _open(file, os.fstat(file.fileno()).st_size)
            if tree.root == _NO_PAGE:
                return np.zeros(0, VALUE)
            values = np.fromiter(_walk(tree, tree.root, 0), VALUE)
    except _Damaged as reason:
        what = stored_files.what_instead(path)
        raise UserError(f"{path} is {what}" if what else f"{path} {reason}") from reason
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if len(values) != tree.entries:
        raise UserError(f"{path} says that it has {tree.entries} values, and has {len(values)}: it is damaged")
    return values


def _open(file: io.BufferedIOBase, size: int) -> _Tree:
    """Reads both of the pages that tell of the tree; the one of the later transaction counts."""
    page_size = _read_meta(file, size, 0)[1].page_size
    _require(page_size in _PAGE_SIZES, f"has a page size of {page_size}: it is damaged")
    metas = [_read_meta(file, size, offset) for offset in (0, page_size)]
    tree = max(metas, key=lambda meta: meta[0])[1]
    return tree._replace(page_size=page_size, seen=np.zeros(size // page_size, bool))


def _read_meta(file: io.BufferedIOBase, size: int, offset: int) -> tuple[int, _Tree]:
    """Returns the number of its transaction, and the tree."""
    length = _PAGE.size + _META.size + 2 * _DB.size + _LAST.size
    file.seek(offset)
    content = file.read(length)
    _require(len(content) == length, "is no LMDB, or cut off: it ends before its first pages do")
    magic, version, *_ = _META.unpack_from(content, _PAGE.size)
    is_meta = _PAGE.unpack_from(content)[2] & _META_PAGE and magic == _MAGIC
    _require(is_meta, "is no LMDB (or of a machine of another byte order): its first pages are none of it")
    _require(version == _VERSION, f"is of LMDB's data format {version}, known is {_VERSION}: copy it with mdb_copy")
    free, main = (_DB.unpack_from(content, _PAGE.size + _META.size + place * _DB.size) for place in range(2))
    last, transaction = _LAST.unpack_from(content, _PAGE.size + _META.size + 2 * _DB.size)
    return transaction, _Tree(file, size, free[0], main[7], last, main[6], np.zeros(0, bool))


def _walk(tree: _Tree, number: int, depth: int) -> Iterator[tuple[int, int, int, int]]:
    """Yields the values of a page and of those below it."""
    _require(not len(tree.seen) <= number <= tree.last, _CUT)
    _require(number < len(tree.seen) and not tree.seen[number] and depth < _DEEPEST, _BROKEN)
    tree.seen[number] = True
    start = number * tree.page_size
    page = _read(tree, start, tree.page_size)
    own, _, flags, lower, _ = _PAGE.unpack_from(page)
    count, odd = divmod(lower - _PAGE.size, 2)
    is_whole = own == number and not odd and count >= 0 and lower <= tree.page_size
    _require(is_whole and flags & (_BRANCH | _LEAF) in (_BRANCH, _LEAF), _BROKEN)
    for offset in struct.unpack_from(f"<{count}H", page, _PAGE.size):
        _require(lower <= offset <= tree.page_size - _NODE.size, _BROKEN)
        low, high, node_flags, key_size = _NODE.unpack_from(page, offset)
        if flags & _BRANCH:
            yield from _walk(tree, low | high << 16 | node_flags << 32, depth + 1)
        else:
            key_offset = offset + _NODE.size
            _require(key_offset + key_size <= tree.page_size, _BROKEN)
            place, size = _place(tree, page, key_offset + key_size, low | high << 16, node_flags, start)
            yield place, size, start + key_offset, key_size


def _place(tree: _Tree, page: bytes, offset: int, size: int, flags: int, start: int) -> tuple[int, int]:
    """Where the value behind a leaf's key lies: there, or on pages of its own."""
    _require(not flags & (_SUBTREE | _REPEATED), "holds several databases or several values of a key: give one of each")
    if not flags & _FAR:
        _require(offset + size <= tree.page_size, _BROKEN)
        return start + offset, size
    _require(offset + 8 <= tree.page_size, _BROKEN)
    number = int.from_bytes(page[offset : offset + 8], "little")
    place = number * tree.page_size + _PAGE.size
    _require(place + size <= tree.size, _CUT if number <= tree.last else _BROKEN)
    own, _, page_flags, *_ = _PAGE.unpack(_read(tree, place - _PAGE.size, _PAGE.size))
    _require(own == number and page_flags & _OVERFLOW, _BROKEN)
    return place, size


def _read(tree: _Tree, offset: int, size: int) -> bytes:
    tree.file.seek(offset)
    content = tree.file.read(size)
    _require(len(content) == size, "became shorter while it was read")
    return content


def _require(condition: object, otherwise: str) -> None:
    if not condition:
        raise _Damaged(otherwise)


_CUT = "is cut off: pages of its tree lie behind its end; copy it again"
_BROKEN = "is damaged: a page of its tree is not where it should be, or not whole; copy it again"
