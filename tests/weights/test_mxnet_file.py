import struct

import numpy as np
import pytest

from lrfr_jax.errors import UserError
from tests.weights import form_writers, mxnet_writer

_ONES = np.ones((2, 3), "f4")


def _one(content=None, names=("arg:a",), count=None, **lies):
    return mxnet_writer.write_list(
        [mxnet_writer.array(_ONES, **lies) if content is None else content], names, count=count
    )


def test_names_keep_their_prefix_and_version_3_has_scalars():
    content = mxnet_writer.write({"arg:a": _ONES, "aux:b": np.array(2.5)}, version=3)
    found = form_writers.parse(content)
    np.testing.assert_array_equal(found["arg:a"], _ONES)
    assert found["aux:b"].shape == ()
    assert found["aux:b"] == 2.5


def test_bfloat16_is_read():
    values = np.array([0x3FC0, 0xC000], "u2")  # 1.5 and -2
    content = mxnet_writer.array(values.astype("<u2").view("f2"), code=12)
    np.testing.assert_array_equal(form_writers.parse(_one(content))["arg:a"], np.array([1.5, -2], "f4"))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (_one(count=2**61), "says that it holds 2305843009213693952 arrays, for which it is too short"),
        (_one(shape=(2, 4)), "has 1 arrays and [0-9]+ names"),
        (_one(shape=(2**20, 2**20)), r"truncated: it ends inside array number 0, of shape \[1048576, 1048576\]"),
        (_one(shape=(2**63, 2)), "gives array number 0 a shape that no tensor has"),
        (_one(shape=(1,) * 2000), "gives array number 0 2000 axes"),
        (_one(shape=()), "has no shape for array number 0"),
        (_one(storage=1), "stores array number 0 as a sparse array"),
        (_one(code=99), "has 99 as the element type of array number 0"),
        (_one(struct.pack("<I", 4) + bytes(60)), "has another start of array number 0"),
        (_one(names=()), "has 1 arrays and 0 names"),
        (_one() + b"x", "does not end where its names end"),
        (mxnet_writer.write_list([mxnet_writer.array(_ONES)] * 2, ["arg:a"] * 2), "holds arg:a twice"),
        (mxnet_writer.write({}), "holds no tensors"),
    ],
)
def test_a_file_that_lies_is_refused(content, sentence):
    with pytest.raises(UserError, match=rf"^x\.file .*({sentence})"):
        form_writers.parse(content)
