"""100,000 damaged `.bin` files: `pytest -m slow -s tests/prepare/test_bin_fuzz.py` prints the figures."""

import io
import pathlib
import pickle
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.prepare.packs import bin_file
from tests.prepare import bin_writer

_NUM_INPUTS = 100_000
# Bytes of memory that an input may take: so many times its size, and so many besides.
_TIMES_SIZE, _CONSTANT = 8, 2**15
_TOKENS = [bytes([opcode]) for opcode in range(256)]
_COUNTED = b"TUBCXJKMhjqr\x8a\x8b\x8c\x8d\x8e\x95\x96"  # opcodes before a number
_TOKENS += [bytes([opcode]) + b"\xff" * width for opcode in _COUNTED for width in (1, 4, 8)]
_TOKENS += [b"cos\nsystem\n", b"c__builtin__\neval\n", b"cnumpy\ndtype\n", b"cnumpy\nndarray\n", b"c_codecs\nencode\n"]
_TOKENS += [b"(lp0\n", b"I-1\n", b"L9999999999999999999L\n", b"S'\\xff'\n", b"X\6\0\0\0latin1\x86R", b"q\0h\0a"]


def _mutate(content, rng, other):
    """Flips, overwrites, inserts, cuts out, repeats, cuts off or exchanges a stretch."""
    start = int(rng.integers(len(content) + 1))
    end = min(len(content), start + int(rng.geometric(0.1)))
    head, middle, tail = content[:start], content[start:end], content[end:]
    kind = rng.integers(7)
    if kind == 0:
        middle = bytes(value ^ 1 << int(rng.integers(8)) for value in middle)
    elif kind == 1:
        middle = rng.bytes(len(middle))
    elif kind == 2:
        middle = _TOKENS[rng.integers(len(_TOKENS))] + middle
    elif kind == 3:
        middle = b""
    elif kind == 4:
        middle = middle * int(rng.integers(2, 100))
    elif kind == 5:
        tail = b""
    else:
        tail = other[int(rng.integers(len(other))) :]
    return head + middle + tail


def _inputs(rng):
    seeds = [
        bin_writer.write([rng.bytes(size) for _ in range(2 * pairs)], [True, False][:pairs], form)
        for form in bin_writer.FORMS
        for size, pairs in ((3, 1), (40, 2), (2000, 2))
    ]
    for flags in (np.array([1, 0]), list(np.array([1, 0])), np.array([True, False])):  # of other than Python's booleans
        seeds += [pickle.dumps(([rng.bytes(700) for _ in range(4)], flags), protocol) for protocol in range(6)]
    for _ in range(_NUM_INPUTS):
        content = seeds[rng.integers(len(seeds))]
        for _ in range(rng.integers(1, 4)):
            content = _mutate(content, rng, seeds[rng.integers(len(seeds))])
        yield content
    for unit in (b"]\x94", b"]", b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x94", b"U\x01a"):  # as many as are allowed
        content = unit * (2**16 // (1 + unit.endswith(b"\x94")))
        yield content + b"B" + (2**20).to_bytes(4, "little") + bytes(2**20) + b"."


def _fuzz():
    outcomes, most, largest = {"read": 0, "refused": 0}, 0.0, 0
    tracemalloc.start()
    for content in _inputs(np.random.default_rng(0)):
        file = io.BytesIO(content)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        try:
            bin_file.parse_bin(file, size=len(content), name="x.bin")
            outcomes["read"] += 1
        except UserError:
            outcomes["refused"] += 1
        used = tracemalloc.get_traced_memory()[1] - before
        most = max(most, (used - _CONSTANT) / max(len(content), 1))
        largest = max(largest, used)
    print(f"{outcomes}, memory at most {largest} bytes, and {_CONSTANT} bytes + {most:.1f} x the size of the input")
    assert min(outcomes.values()) > _NUM_INPUTS / 100
    assert most <= _TIMES_SIZE


@pytest.mark.slow
def test_damaged_files_are_read_or_refused_in_bounded_memory():
    root = pathlib.Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "tests.prepare.test_bin_fuzz"]  # alone: a test's shape checks slow it 30 times
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=1800)
    print(f"\n{_NUM_INPUTS} inputs: {done.stdout}{done.stderr}")
    assert done.returncode == 0


if __name__ == "__main__":
    _fuzz()
