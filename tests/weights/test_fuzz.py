"""Damaged weight files: `pytest -m slow -s tests/weights/test_fuzz.py` reads 100,000 and prints the figures."""

import io
import pathlib
import subprocess
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest

from lrfr_jax.errors import UserError
from tests.weights import form_writers, torch_writer
from tests.weights.torch_writer import Call, Tensor

# Bytes of memory that an input may take: so many times its size (a list takes one byte of pickle), and so many besides.
_TIMES_SIZE, _CONSTANT = 100, 2**17
_TOKENS = [bytes([opcode]) for opcode in range(256)] + [bytes(8), b"\xff" * 8, b"\xff\xff\xff\x7f", b"\x01" + bytes(7)]
_TOKENS += [
    b"X\1\0\0\0w",
    b"cos\nsystem\n",
    b"ctorch\nHalfStorage\n",
    b"ccollections\nOrderedDict\n)R",
    b"(X\1\0\0\0aNu",
]
_TOKENS += [
    b'{"a": ',
    b'"shape": []',
    b"[0, 8]",
    b'"F16"',
    b"PK\1\2",
    b"PK\5\6",
    b"PK\6\7",
    b"'shape': (2, 3)",
    b"\x8a\x01\xff",
]


def mutate(content, rng, other):
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


def _mutate_entry(content, rng, other):
    """Damages one entry of a zip archive, whose sums then are right."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    name = list(entries)[rng.integers(len(entries))] if rng.integers(2) else next(iter(entries))
    entries[name] = mutate(entries[name], rng, other)
    return torch_writer.zip_of(entries, zipfile.ZIP_DEFLATED if rng.integers(8) == 0 else zipfile.ZIP_STORED)


def _inputs(rng, count):
    arrays = {"w": rng.normal(size=(2, 3)).astype("f4"), "n": np.array(7), "v": rng.normal(size=5)}
    view = Tensor(np.arange(40, dtype="f4"), (3, 4), (1, 3), 2, key="7")
    nested = {"epoch": 1, "model": {"a": view, "b": view}, "other": Call("argparse Namespace", ()), "rates": [0.5]}
    seeds = [write(arrays) for write in form_writers.FORMS.values()]
    seeds += [torch_writer.write_zip(nested), torch_writer.write_legacy(nested)]
    for _ in range(count):
        content = seeds[rng.integers(len(seeds))]
        is_zip = content.startswith(b"PK") and rng.integers(4)
        for _ in range(rng.integers(1, 4)):
            other = seeds[rng.integers(len(seeds))]
            content = _mutate_entry(content, rng, other) if is_zip else mutate(content, rng, other)
        yield content
    for unit in (b"]\x94", b"}\x94", b"]", b"(", b"G\0\0\0\0\0\0\0\0", b"}K\1\x94", b"N)\x94", b"X\1\0\0\0a\x94"):
        yield torch_writer.write_legacy(unit * (2**16 // len(unit)))
    yield torch_writer.zip_of({str(k): b"" for k in range(5000)})
    yield len(b := b"{" + b'"a":[' * 900 + b"]" * 900 + b"}").to_bytes(8, "little") + b
    yield len(b := b'{"a":[' + b"[]," * 20_000 + b"0]}").to_bytes(8, "little") + b


def _fuzz(count):
    outcomes, most, largest = {"read": 0, "refused": 0}, 0.0, 0
    tracemalloc.start()
    for content in _inputs(np.random.default_rng(0), count):
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        try:
            form_writers.parse(content)
            outcomes["read"] += 1
        except UserError:
            outcomes["refused"] += 1
        used = tracemalloc.get_traced_memory()[1] - before
        most = max(most, (used - _CONSTANT) / max(len(content), 1))
        largest = max(largest, used)
    print(f"{outcomes}, memory at most {largest} bytes, and {_CONSTANT} bytes + {most:.1f} x the size of the input")
    assert min(outcomes.values()) > count / 100
    assert most <= _TIMES_SIZE


@pytest.mark.parametrize("count", [3000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_damaged_files_are_read_or_refused_in_bounded_memory(count):
    root = pathlib.Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "tests.weights.test_fuzz", str(count)]  # alone: shape checks slow it 30 times
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=1800)
    print(f"\n{count} inputs: {done.stdout}{done.stderr}")
    assert done.returncode == 0


if __name__ == "__main__":
    _fuzz(int(sys.argv[1]))
