import gzip
import re
import struct
import zlib

import numpy as np
import pytest
import scipy.io

from lrfr_jax.prepare.lists import mat_file
from tests.prepare.layouts import cells, mat

_NAMES = ["1_1.jpg", "1_2.jpg", "20_1.jpg"]


def _element(order, kind, data):
    """Writes one element as the format's document lays it out: type, length, data, padding to 8 bytes."""
    return struct.pack(f"{order}II", kind, len(data)) + data + bytes(-len(data) % 8)


def _array(order, array_class, shape, name, content):
    flags = _element(order, 6, struct.pack(f"{order}II", array_class, 0))
    return flags + _element(order, 5, struct.pack(f"{order}2i", *shape)) + _element(order, 1, name) + content


def _file(order, *elements):
    start = b"MATLAB 5.0 MAT-file, by hand".ljust(124)
    return start + struct.pack(f"{order}H", 0x0100) + {"<": b"IM", ">": b"MI"}[order] + b"".join(elements)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_file_written_byte_by_byte(order):
    utf16 = {"<": "utf-16-le", ">": "utf-16-be"}[order]
    texts = [
        _element(order, 4, "ab.jpg".encode(utf16)),
        struct.pack(f"{order}I", 2 << 16 | 16) + b"cd\0\0",  # a small element: length and type share a word
        _element(order, 17, "é.png".encode(utf16)),
        _element(order, 16, "é.png".encode()),
    ]
    lengths = (6, 2, 5, 5)
    parts = [_element(order, 14, _array(order, 4, (1, n), b"", t)) for n, t in zip(lengths, texts, strict=True)]
    listed = _element(order, 14, _array(order, 1, (2, 2), b"names", b"".join(parts)))
    numbers = _array(order, 6, (2, 3), b"ids", _element(order, 4, struct.pack(f"{order}6H", 1, 2, 3, 4, 5, 600)))
    packed = zlib.compress(_element(order, 14, numbers))
    content = _file(order, struct.pack(f"{order}II", 15, len(packed)) + packed, listed)  # not padded
    # columns first
    assert mat_file.read_variable(content, "names").tolist() == [["ab.jpg", "é.png"], ["cd", "é.png"]]
    assert mat_file.read_variable(content, "ids").tolist() == [[1, 3, 5], [2, 4, 600]]
    with pytest.raises(ValueError, match="has no other, it has ids, names"):
        mat_file.read_variable(content, "other")


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_every_type_of_number_as_scipy_writes_it(dtype):
    numbers = np.array([[0, 1, 2], [3, 100, 127]], dtype)
    found = mat_file.read_variable(mat(other=np.ones(3), numbers=numbers), "numbers")
    np.testing.assert_array_equal(found, numbers)


def test_text_as_scipy_writes_it(tmp_path):
    assert mat_file.read_variable(mat(names=np.array(_NAMES)), "names").tolist() == [[name] for name in _NAMES]
    scipy.io.savemat(tmp_path / "plain.mat", {"names": cells([*_NAMES, ""])})
    content = (tmp_path / "plain.mat").read_bytes()
    assert mat_file.read_variable(content, "names")[:, 0].tolist() == [*_NAMES, ""]


def test_other_formats_are_refused_in_words(tmp_path):
    hdf5 = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n"
    scipy.io.savemat(tmp_path / "four.mat", {"names": np.array(_NAMES)}, format="4")
    scipy.io.savemat(tmp_path / "numbers.mat", {"ids": np.ones((3, 1))}, format="4")
    four_big = struct.pack(">5i", 1000, 1, 1, 0, 4) + b"ids\0" + bytes(8)
    octave = b"Octave-1-L\0\5\0\0\0names" + bytes(200)
    octave_text = b"# Created by Octave 9.2.0, Mon Jan 01 00:00:00 2024 UTC <a@b>\n# name: names\n# type: cell\n" * 3
    for content, what in (
        (hdf5, "a MATLAB 7.3 file, which is HDF5"),
        (hdf5[128:] + bytes(500), "an HDF5 file, as Octave's -hdf5 and h5py write it"),
        ((tmp_path / "four.mat").read_bytes(), "a MATLAB 4 file"),
        ((tmp_path / "numbers.mat").read_bytes(), "a MATLAB 4 file"),
        (four_big, "a MATLAB 4 file"),
        (octave, "a file in Octave's own binary format"),
        (octave_text, "a file in Octave's own text format"),
        (gzip.compress(octave_text), "packed by gzip"),
    ):
        with pytest.raises(ValueError, match=rf"is {re.escape(what)}.*: load it in .* and type `save -v7 new\.mat`"):
            mat_file.read_variable(content, "names")
    for content in (b"", b"{}" * 100, bytes(19), b"version https://git-lfs.github.com/spec/v1\n" * 4):
        with pytest.raises(ValueError, match=r"is not a MATLAB file of version 5 to 7.2"):
            mat_file.read_variable(content, "names")
    for variable in (np.ones(2) * 1j, np.ones((2, 2, 2)), {"a": 1}, cells([np.ones(2)]), np.array([("a", 1)], "O,i4")):
        with pytest.raises(ValueError, match=r"neither|shape|not all text"):
            mat_file.read_variable(mat(names=variable), "names")


def test_an_array_of_strings_has_its_way_out_and_harms_no_other_variable():
    flags = _element("<", 6, struct.pack("<II", 17, 0))
    strings = flags + b"".join(_element("<", 1, text) for text in (b"names", b"MCOS", b"string")) + bytes(16)
    numbers = _array("<", 6, (1, 2), b"ids", _element("<", 4, struct.pack("<2H", 7, 8)))
    content = _file("<", _element("<", 14, strings), _element("<", 14, numbers))
    assert mat_file.read_variable(content, "ids").tolist() == [[7, 8]]
    with pytest.raises(ValueError, match=r"holds names as an object.*`names = cellstr\(names\)`"):
        mat_file.read_variable(content, "names")
    beside = mat(waves=np.ones((2, 2, 2)) * 1j, ids=np.ones(3), names=cells(_NAMES))
    assert mat_file.read_variable(beside, "names")[:, 0].tolist() == _NAMES


def test_claims_beyond_the_file_are_refused_before_memory_is_taken(monkeypatch):
    cell = _element("<", 14, _array("<", 4, (1, 1), b"", _element("<", 1, b"a")))
    claims = {
        "claims 4611686014132420609 cells": _array("<", 1, (2**31 - 1, 2**31 - 1), b"n", cell),
        "has 8 numbers and claims a shape": _array("<", 9, (2**31 - 1, 2), b"n", _element("<", 2, bytes(8))),
        "text of 3 characters claims a shape": _array("<", 4, (1, 2**30), b"n", _element("<", 1, b"abc")),
        "claims more bytes than there are": _array("<", 4, (1, 3), b"n", struct.pack("<II", 1, 2**32 - 1)),
    }
    for sentence, array in claims.items():
        with pytest.raises(ValueError, match=sentence):
            mat_file.read_variable(_file("<", _element("<", 14, array)), "n")
    monkeypatch.setattr(mat_file, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match="holds a variable of more than 1000 bytes"):
        mat_file.read_variable(mat(n=np.zeros(1000)), "n")


def test_a_damaged_file_is_read_or_refused():
    whole = [mat(names=cells(_NAMES), ids=np.ones(3)), _file("<", _element("<", 14, _array("<", 1, (0, 0), b"n", b"")))]
    rng, outcomes = np.random.default_rng(0), []
    for trial in range(3000):
        damaged = bytearray(whole[trial % 2])
        del damaged[rng.integers(1, len(damaged) + 1) if trial % 5 == 0 else len(damaged) :]
        for place in rng.integers(0, len(damaged), 3):
            damaged[place] = rng.integers(0, 256)
        try:
            mat_file.read_variable(bytes(damaged), "names")
            outcomes.append("read")
        except ValueError:
            outcomes.append("refused")
    assert set(outcomes) == {"read", "refused"}
