"""Mutated packs go through the whole reader: it reads them or refuses them with its own error, in little memory.

100,000 inputs and their figures: pytest -m slow -rP tests/prepare/test_recordio_fuzz.py
"""

import struct
import tracemalloc

import numpy as np
import pytest

from lrfr_jax.data import records
from lrfr_jax.errors import UserError
from lrfr_jax.prepare.packs import recordio_table
from lrfr_jax.prepare.sets.pixel_options import PixelOptions
from lrfr_jax.prepare.sets.training_options import Selection
from tests.make_recordio import MAGIC, frame, labeled, with_header, write

_EVERYBODY = Selection(None, frozenset())
_WORDS = [0, 1, 2, 3, 23, 24, 2**16, 2**24, 2**29 - 1, 2**29, 2**30, 3 * 2**29, 2**31, 2**32 - 1]
_FLOATS = [0.0, -1.0, 0.5, 3.0, 7.0, 2.0**24, 3e38, float("nan"), float("inf")]
_INTERESTING = (
    [struct.pack("<I", word) for word in _WORDS] + [struct.pack("<f", number) for number in _FLOATS] + [MAGIC]
)
_NUMBERS = [b"0", b"1", b"-1", b"3.5", b"", b"9" * 18, b"9" * 30, b"4", b"2", b"100", b"x"]
_SPARE_BYTES = 2**20  # what the reader may take beside the file's size: tables, messages, one decoded image


def _packs():
    face = records.encode_image(np.full((112, 112, 3), 90, np.uint8), quality=20)
    with_magic = face[:2] + b"\xff\xfe\x00\x18??" + MAGIC * 5 + face[2:]  # at multiples of 4 in the record: six parts
    faces = [face, with_magic]
    yield with_header([(3, faces), (5, [face]), (9, [with_magic])])
    yield [(key, frame(labeled(key % 3, key, faces[key % 2]))) for key in range(5)]
    yield [(0, frame(labeled((5, 3), 0, face))), *((k, frame(labeled(k % 3, k, faces[k % 2]))) for k in range(1, 5))]
    yield [(key, frame(labeled((key, 1, 2), key, faces[key % 2]))) for key in (4, 2, 9)]


def _mutate(rng, data, places):
    """Changes some bytes; half of the time at or behind one of `places`, where records start."""
    place = int(rng.integers(len(data) + 1))
    if rng.random() < 0.5:
        place = int(rng.choice(places)) + 4 * int(rng.integers(10))
    length = int(rng.integers(1, 40)) if rng.random() < 0.7 else int(rng.integers(1, len(data) + 2))
    before, stretch, after = data[:place], data[place : place + length], data[place + length :]
    other = int(rng.integers(len(data) + 1))
    match int(rng.integers(8)):
        case 0:
            return before + bytes([stretch[0] ^ 1 << int(rng.integers(8))]) + data[place + 1 :] if stretch else data
        case 1 | 2:
            return before + _INTERESTING[int(rng.integers(len(_INTERESTING)))] + data[place + 4 :]
        case 3:
            return before
        case 4:
            return before + after
        case 5:
            return before + stretch + stretch + after
        case 6:
            return before + rng.bytes(length) + after
        case _:
            return before + data[other : other + length] + after


def _mutate_index(rng, text):
    lines = text.split(b"\n")
    place, other = (int(place) for place in rng.integers(len(lines), size=2))
    match int(rng.integers(6)):
        case 0:
            del lines[place]
        case 1:
            lines.insert(other, lines[place])
        case 2:
            lines[place], lines[other] = lines[other], lines[place]
        case 3 | 4:
            fields = lines[place].split(b"\t")
            fields[int(rng.integers(len(fields)))] = _NUMBERS[int(rng.integers(len(_NUMBERS)))]
            lines[place] = b"\t".join(fields)
        case _:
            return _mutate(rng, text, [0])
    return b"\n".join(lines)


def _read(folder, *, with_index, on_error):
    """Reads all that the command reads; returns how many images there are, None where it refuses the files."""
    rec, idx = str(folder / "train.rec"), str(folder / "train.idx") if with_index else None
    try:
        layout = recordio_table.read_layout(rec, idx)
        checked = recordio_table.check_records(
            layout, selection=_EVERYBODY, pixels=PixelOptions(False, "rgb"), on_error=on_error
        )
    except UserError as error:
        return None if str(error).isprintable() else pytest.fail(f"no line: {error!r}")
    return sum(1 for _ in recordio_table.read_images(layout, np.flatnonzero(checked.is_usable)))


def _fuzz(folder, *, seed, count):
    """Returns how many inputs were read and how many refused, the largest use of memory and the largest file."""
    rng = np.random.default_rng(seed)
    originals = []
    for pack in _packs():
        rec = write(folder, pack)
        offsets = np.cumsum([0, *(len(record) for _, record in pack)])
        originals.append((rec.read_bytes(), (folder / "train.idx").read_bytes(), offsets))
        assert _read(folder, with_index=True, on_error="error") == _read(folder, with_index=False, on_error="error") > 2
    read = refused = worst = largest = 0
    tracemalloc.start()
    for _ in range(count):
        data, index, offsets = originals[int(rng.integers(len(originals)))]
        with_index, at_index = rng.random() < 0.7, rng.random() < 0.3
        for _ in range(int(rng.integers(1, 4))):
            if with_index and at_index and index.strip():
                index = _mutate_index(rng, index)
            else:
                data = _mutate(rng, data, offsets)
        for name, content in {"train.rec": data, "train.idx": index}.items():
            (folder / name).unlink()  # some file systems write an overwritten file to the disk at once
            (folder / name).write_bytes(content)
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        found = _read(folder, with_index=with_index, on_error="skip" if rng.random() < 0.5 else "error")
        read, refused = read + (found is not None), refused + (found is None)
        used = tracemalloc.get_traced_memory()[1] - before
        assert used < 2 * len(data) + _SPARE_BYTES
        worst, largest = max(worst, used), max(largest, len(data))
    tracemalloc.stop()
    return read, refused, worst, largest


def test_some_mutated_packs_are_read_or_refused(tmp_path):
    read, refused, _, _ = _fuzz(tmp_path, seed=0, count=600)
    assert min(read, refused) > 50


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_many_mutated_packs_are_read_or_refused(tmp_path, seed):
    read, refused, worst, largest = _fuzz(tmp_path, seed=seed, count=10_000)
    print(f"{read} read, {refused} refused, at most {worst} bytes of memory, files of up to {largest} bytes")
    assert min(read, refused) > 1000
