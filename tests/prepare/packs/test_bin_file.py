import io
import os
import pickle
import struct

import numpy as np
import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.prepare.packs import bin_file
from tests.prepare import bin_writer

# Every byte value, both quotes and backslashes at their ends, short and long strings, an empty one.
_IMAGES = [bytes(range(256)), b"\\'\"" * 100, b"'", b"\x00\xff\n\\", b"", b"x" * 70000]
_IS_SAME = [True, False, True]


def _parse(content):
    return bin_file.parse_bin(io.BytesIO(content), size=len(content), name="x.bin")


@pytest.mark.parametrize("form", bin_writer.FORMS, ids=str)
def test_every_form_gives_the_images_and_flags_that_python_itself_reads(form):
    images = [*_IMAGES[:-1], b"x" * 700]  # one frame, as bin_writer needs it
    content = bin_writer.write(images, _IS_SAME, form)
    elements, is_same = pickle.loads(content, encoding="bytes")
    assert ([bytes(element) for element in elements], is_same) == (images, _IS_SAME)
    found = _parse(content)
    assert found.images == images
    np.testing.assert_array_equal(found.is_same, _IS_SAME)


def _objects(values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("images", "is_same"),
    [
        (list(map(bytearray, _IMAGES)), _IS_SAME),
        (tuple(_IMAGES), tuple(_IS_SAME)),
        (_IMAGES, np.array(_IS_SAME)),
        (_IMAGES, list(np.array(_IS_SAME))),
        (_IMAGES, [1, 0, 1]),
        (_IMAGES, np.array([1, 0, 1])),
        (_IMAGES, np.array([1, 0, 1], ">u4")),
        (_IMAGES, np.array([[1], [0], [1]], np.int16)),
        (_IMAGES, tuple(np.array([1, 0, 1]))),
        (_IMAGES, [np.int8(1), 0, True]),
        (_IMAGES, [np.float64(1), np.float32(0), 1]),
        (_IMAGES, np.array([1.0, 0.0, 1.0], np.float32)),
        (_objects(_IMAGES), _objects(_IS_SAME)),
        ([np.frombuffer(image, np.uint8) for image in _IMAGES], np.array([1, 0, 1], np.uint8)),
        ([np.frombuffer(image, np.uint8)[None] for image in _IMAGES], _IS_SAME),
    ],
    ids=[
        "bytearrays",
        "tuples",
        "array",
        "numpy booleans",
        "integers",
        "int64",
        "other order",
        "column",
        "scalars",
        "mixed",
        "floats",
        "float32",
        "objects",
        "read-only arrays",
        "rows",
    ],
)
def test_variants_of_both_lists_mean_the_same(images, is_same, protocol):
    found = _parse(pickle.dumps((images, is_same), protocol))
    assert found.images == _IMAGES
    np.testing.assert_array_equal(found.is_same, _IS_SAME)


class _Call:
    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("protocol", range(6))
def test_a_malicious_file_is_refused_by_name_and_runs_nothing(tmp_path, protocol):
    victim = tmp_path / "victim"
    for call, name in (
        (_Call(os.system, f"touch {victim}"), f"{os.system.__module__}.system"),
        (_Call(victim.touch), "getattr"),
        (_Call(exec, f"open({str(victim)!r}, 'w')"), "exec"),
        (_Call(np.load, str(victim)), "numpy.load"),
        (_Call(__import__("codecs").decode, b"", "zlib"), "_codecs.decode"),
    ):
        with pytest.raises(UserError, match=rf"x.bin wants to use .*{name}.* \(nothing was run\)"):
            _parse(pickle.dumps(([call, b""], [True]), protocol))
        assert not victim.exists()


def _tail(*values, protocol=2):
    return pickle.dumps(values, protocol)[2:-1]


_PROTOCOL_2 = b"\x80\x02"
_DTYPE = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR"
_NEW_ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is truncated"),
        (_PROTOCOL_2, "is truncated"),
        (b"\x80\x06.", "has protocol 6, known are 0 to 5"),
        (b"]" * 100, "is truncated"),
        (b"T\xff\xff\xff\x7f", "is truncated"),
        (b"\x8e" + b"\xff" * 8, "is truncated"),
        (b"\x96" + struct.pack("<Q", 2**40) + b"x", "is truncated"),
        (b"\x95" + struct.pack("<Q", 2**40) + b"N.", "is truncated"),
        (b"S'no end", "is truncated"),
        (b"S'x\n.", "not quoted or escaped"),
        (b"S'\\x1'\n.", "not quoted or escaped"),
        (b"V\\ud800\n.", "neither a name nor bytes"),
        (b"X\x01\x00\x00\x00\xff.", "neither a name nor bytes"),
        (b"I0x1\n.", "a number that is none"),
        (b"L" + b"9" * 20 + b"L\n.", "over 19 digits"),
        (b"h\x05.", "refers to a value"),
        (b"q\x05.", "uses a value that it does not hold"),
        (b"(q\x05.", "uses a value that it does not hold"),
        (b"\x85.", "uses a value that it does not hold"),
        (b".", "uses a value that it does not hold"),
        (b"t.", "closes a list that it did not open"),
        (b"NNa.", "appends to a value that is no list"),
        (b"NN.", "does not end where its pickle ends"),
        (b"N.N", "does not end where its pickle ends"),
        (b"}.", "something else than"),
        (b"\x8f.", "the pickle opcode EMPTY_SET"),
        (b"\xf0.", "the byte 0xf0"),
        (b"N)R.", "calls a value in a way"),
        (b"cnumpy\nndarray\n)R.", "makes a ndarray in a way"),
        (b"NN\x93.", "wants to use"),
        (b"cnumpy\ndtype\n(U\x02c8K\x00K\x01tR.", "holds an array of numpy's type c8: images must"),
        (b"cnumpy\ndtype\n(NK\x00K\x01tR.", "makes a dtype in a way"),
        (_NEW_ARRAY + b"(K\x01K\x02\x85cnumpy\ndtype\n(U\x02O8K\x00K\x01tR\x89U\x01xtb.", "objects without a list"),
        (pickle.dumps((np.zeros((2, 4, 4, 3), np.uint8), [True]), 2), r"array of shape \(2, 4, 4, 3\), as pixels have"),
        (pickle.dumps([[b"", b""], [True], 1], 2), "something else than"),
        (_DTYPE + b"(K\x03U\x01=NNNtb.", "a state that byte arrays do not have"),
        (b"cnumpy.core.multiarray\nscalar\n(" + _DTYPE + b"U\x02\x01\x00tR.", "makes a scalar in a way"),
        (_NEW_ARRAY + b"(K\x01K\x02\x85" + _DTYPE + b"\x89U\x01xtb.", "shape does not fit its bytes"),
        (_NEW_ARRAY + b"Nb.", "a state that byte arrays do not have"),
        (b"].", "something else than"),
        (_tail([b"", b""], None).join([_PROTOCOL_2, b"."]), "something else than"),
        (pickle.dumps(([], []), 2), "holds 0 images for 0 pairs"),
        (pickle.dumps(([b"", b"", b""], [True]), 2), "holds 3 images for 1 pairs"),
        (pickle.dumps(([b"", b""], [True, False]), 2), "holds 2 images for 2 pairs"),
        (pickle.dumps(([b"", None], [True]), 2), "has an image, number 1, that is neither"),
        (pickle.dumps(([b"", np.array([True])], [True]), 2), "has an image, number 1, that is neither"),
        (b"(](U\x00" + _NEW_ARRAY + b"e](\x88et.", "has an image, number 1, that is neither"),
        (pickle.dumps(([b"", b""], [2]), 2), "neither matched nor mismatched"),
        (pickle.dumps(([b"", b""], [b"1"]), 2), "neither matched nor mismatched"),
        (pickle.dumps(([b"", b""], np.array([2], np.uint8)), 2), "neither matched nor mismatched"),
        (pickle.dumps(([b"", b""], np.array([256])), 2), "neither matched nor mismatched"),
        (pickle.dumps(([b"", b""], [np.int64(-1)]), 2), "neither matched nor mismatched"),
        (pickle.dumps(([b"", b""], np.array([0.5])), 2), "neither matched nor mismatched"),
        (pickle.dumps(([b"", b""], [np.float32("nan")]), 2), "neither matched nor mismatched"),
        (pickle.dumps(([b"", b""], np.array(["1"])), 2), "numpy's type U1: images must"),
    ],
)
def test_a_bad_file_has_its_sentence(content, sentence):
    with pytest.raises(UserError, match=rf"x\.bin .*{sentence}"):
        _parse(content)


@pytest.mark.parametrize("form", bin_writer.FORMS, ids=str)
def test_a_file_cut_anywhere_is_truncated(form):
    content = bin_writer.write([b"ab\n'\xff", b"c"], [True], form)
    for length in range(0, len(content), 3):
        with pytest.raises(UserError, match="is truncated"):
            _parse(content[:length])


def test_depth_is_free_and_the_number_of_opcodes_is_not():
    deep = b"N" + b"\x85" * 900 + b"."
    with pytest.raises(UserError, match="something else than"):
        _parse(deep)
    deeper = b"N" + b"\x85" * 30_000 + b"0B" + struct.pack("<I", 480_000) + bytes(480_000)
    with pytest.raises(UserError, match="the pickle opcode POP"):
        _parse(deeper)
    with pytest.raises(UserError, match="more pickle opcodes than images of its size need"):
        _parse(b"N" + b"\x85" * 2000 + b".")
    itself = b"]q\x00h\x00ah\x00\x86."
    with pytest.raises(UserError, match="has an image, number 0, that is neither"):
        _parse(itself)


def test_files_that_cannot_be_read_are_named(tmp_path):
    for path, sentence in ((tmp_path / "none.bin", "cannot be read"), (tmp_path, "is a folder: give the .bin file")):
        with pytest.raises(UserError, match=f"{path} {sentence}"):
            bin_file.read_bin(str(path))
    with open(tmp_path / "huge.bin", "wb") as file:
        file.truncate(2**31 + 1)
    with pytest.raises(UserError, match=r"this is no \.bin file of a test set"):
        bin_file.read_bin(str(tmp_path / "huge.bin"))
    content = bin_writer.write(_IMAGES, _IS_SAME)
    (tmp_path / "good.bin").write_bytes(content)
    assert bin_file.read_bin(str(tmp_path / "good.bin")).images == _IMAGES
    with pytest.raises(UserError, match="became shorter while it was read"):
        bin_file.parse_bin(io.BytesIO(content[:-70000]), size=len(content), name="x.bin")
