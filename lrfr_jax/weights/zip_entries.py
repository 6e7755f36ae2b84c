"""Zip archives whose list is short and whose contents are not much larger than they are: PyTorch's and numpy's.

References: PKWARE's APPNOTE 4.3.14 to 4.3.16 (the records at the end of an archive).
"""

import contextlib
import io
import zipfile
import zlib
from collections.abc import Iterator

from lrfr_jax.files.inert_pickle import Refused
from lrfr_jax.weights.tensor_bytes import Stream, require, take

MAGIC = b"PK\x03\x04"
_LONGEST_LIST = 2**22  # bytes: an entry takes about 100, and a model's tensors are about 1,000
# What compressed entries may take: so many times the file, and so many bytes besides (tensors of zeros).
_MOST_EXPANSION, _SPARE = 8, 2**20
_END_64, _LOCATOR, _END = 56, 20, 22  # sizes of the records at an archive's end, in their order; the first two are rare


def open_archive(file: io.BufferedIOBase, size: int) -> zipfile.ZipFile:
    """Opens an archive that names each entry once.

    Raises:
      Refused: damaged, names twice, compressed in an unusual way, or more to unpack than its size explains.
    """
    _check_list(file, size)
    with _refusing_damage():
        archive = zipfile.ZipFile(file)
    entries = archive.infolist()
    require(len({entry.filename for entry in entries}) == len(entries), "holds two entries of one name: it is damaged")
    are_usual = all(entry.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for entry in entries)
    require(are_usual, "is compressed in a way that neither PyTorch nor numpy uses: pack it anew")
    total = sum(entry.file_size for entry in entries)
    sentence = f"would unpack to {total} bytes, which its {size} bytes do not explain: it is malicious"
    require(total <= _MOST_EXPANSION * size + _SPARE, sentence)
    return archive


def read_entry(archive: zipfile.ZipFile, name: str) -> bytes:
    """Unpacks one entry and checks its sum.

    Raises:
      Refused: damaged or encrypted.
    """
    with _refusing_damage(f" in {name!r:.100}"):
        entry = archive.getinfo(name)
        content = archive.read(entry)
    require(len(content) == entry.file_size, f"is damaged: {name!r:.100} has another size than its list says")
    return content


def _check_list(file: io.BufferedIOBase, size: int) -> None:
    """Refuses a list of entries that would take much memory, before zipfile reads it."""
    file.seek(max(0, size - _END_64 - _LOCATOR - _END))
    tail = take(Stream(file, size), min(size, _END_64 + _LOCATOR + _END), inside="its list of entries")
    end_64, locator, end = tail[: -_END - _LOCATOR], tail[-_END - _LOCATOR : -_END], tail[-_END:]
    require(end.startswith(b"PK\x05\x06"), "does not end as a zip archive of weights does: it is truncated or damaged")
    length = int.from_bytes(end[12:16], "little")
    if locator.startswith(b"PK\x06\x07"):
        is_in_place = int.from_bytes(locator[8:16], "little") == size - len(tail) and end_64.startswith(b"PK\x06\x06")
        require(is_in_place, "does not end as a zip archive of weights does: it is damaged")
        length = int.from_bytes(end_64[40:48], "little")
    require(length <= _LONGEST_LIST, f"has a list of entries of {length} bytes, more than any backbone's tensors need")
    file.seek(0)


@contextlib.contextmanager
def _refusing_damage(where: str = "") -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, OSError) as error:
        raise Refused(f"is damaged as a zip archive{where} ({error})") from error
