import struct
import zipfile

import numpy as np
import pytest

from lrfr_jax.errors import UserError
from tests.weights import form_writers
from tests.weights.torch_writer import zip_of


def _npy(header, data=bytes(8), version=1):
    text = header.encode()
    return b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(2 if version == 1 else 4, "little") + text + data


def _header(shape="(2,)", kind="<f4", order="False"):
    return f"{{'descr': '{kind}', 'fortran_order': {order}, 'shape': {shape}, }}   \n"


def _parse(content, **changes):
    return form_writers.parse(zip_of({"a.npy": content}, **changes))["a"]


def test_orders_of_axes_and_bytes_and_versions_are_read():
    table = np.arange(6, dtype=">f4").reshape(2, 3)
    for version in (1, 2):
        found = _parse(_npy(_header("(2L, 3L)", ">f4", "True"), table.tobytes(order="F"), version))
        np.testing.assert_array_equal(found, table.astype("f4"))
    count = _parse(_npy(_header("()", ">i8"), (7).to_bytes(8, "big")))
    assert count == 7
    assert count.dtype.isnative


def test_bfloat16_is_read_as_numpy_writes_it():
    content = _npy(_header("(2,)", "<V2"), np.array([0x3FC0, 0xC000], "<u2").tobytes())
    np.testing.assert_array_equal(_parse(content), np.float32([1.5, -2]))


def test_a_pickle_inside_is_not_run():
    content = form_writers.FORMS["npz"]({"a": np.array([{}], object)})
    with pytest.raises(
        UserError, match=r"x.file holds a as something else than an array of numbers \(no object is ever"
    ):
        form_writers.parse(content)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (_npy(_header("(3,)")), r"gives a the shape \(3,\) of float32, which does not fit its 8 bytes"),
        (_npy(_header(f"({2**40},)")), "gives a the shape"),
        (_npy(_header(f"({2**40}, {2**40})")), "gives a a shape that no tensor has"),
        (_npy(_header(kind="<U2")), "holds a of type <U2"),
        (_npy(_header(kind="<c8")), "holds a of type <c8"),
        (_npy(_header(kind="<f1")), "holds a of type <f1"),
        (_npy("__import__('os')"), "something else than an array of numbers"),
        (_npy(_header() + "x"), "something else than an array of numbers"),
        (b"x" + _npy(_header())[1:], "something else than an array of numbers"),
        (_npy(_header())[:20], "something else than an array of numbers"),
        (b"", "something else than an array of numbers"),
    ],
)
def test_an_array_that_lies_is_refused(content, sentence):
    with pytest.raises(UserError, match=rf"^x\.file .*{sentence}"):
        _parse(content)


def test_an_archive_that_lies_is_refused():
    bomb = zip_of({"a.npy": bytes(2**24)}, compression=zipfile.ZIP_DEFLATED)
    assert len(bomb) < 2**15
    with pytest.raises(UserError, match="would unpack to 16777216 bytes"):
        form_writers.parse(bomb)
    with pytest.raises(UserError, match="compressed in a way that neither PyTorch nor numpy uses"):
        _parse(_npy(_header()), compression=zipfile.ZIP_LZMA)
    good = zip_of({"a.npy": _npy(_header()), "b.npy": _npy(_header())})
    place = good.index(b"PK\1\2") + 42
    with pytest.raises(UserError, match=r"is damaged as a zip archive in 'a.npy'"):
        form_writers.parse(good[:place] + (len(good) - 9).to_bytes(4, "little") + good[place + 4 :])  # begins astray
    with pytest.raises(UserError, match="holds two entries of one name"):
        form_writers.parse(good.replace(b"b.npy", b"a.npy"))
    with pytest.raises(UserError, match="has a list of entries of 4294967295 bytes"):
        form_writers.parse(good[:-10] + b"\xff" * 4 + good[-6:])
    with pytest.raises(UserError, match="does not end as a zip archive of weights does"):
        form_writers.parse(good + b"x")


def test_the_long_form_of_an_archive_is_read_where_it_is_true():
    good = zip_of({"a.npy": _npy(_header(), np.ones(2, "<f4").tobytes())})
    body, end = good[:-22], good[-22:]
    length, place = struct.unpack("<II", end[12:20])

    def write(length, at):
        record = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, length, place)
        return body + record + struct.pack("<4sIQI", b"PK\6\7", 0, at, 1) + end

    np.testing.assert_array_equal(form_writers.parse(write(length, len(body)))["a"], [1, 1])
    with pytest.raises(UserError, match="has a list of entries of 1099511627776 bytes"):
        form_writers.parse(write(2**40, len(body)))
    with pytest.raises(UserError, match="does not end as a zip archive of weights does"):
        form_writers.parse(write(length, len(body) - 1))
