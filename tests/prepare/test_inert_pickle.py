import io

import pytest

from lrfr_jax.prepare import inert_pickle

_DTYPE = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR"
_NEW_ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
_STATE = b"(K\x01K\x01\x85" + _DTYPE + b"\x89U\x01xtb"


def _read(content):
    return inert_pickle.read(io.BytesIO(content), size=len(content))


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"J\xfe\xff\xff\xff.", -2),
        (b"K\xfe.", 254),
        (b"M\xfe\xff.", 65534),
        (b"I-12\n.", -12),
        (b"L12L\n.", 12),
        (b"L12\n.", 12),
        (b"\x8a\x01\xfe.", -2),
        (b"\x8a\x02\x00\x01.", 256),
        (b"(I00\nI01\nI1\nt.", (False, True, 1)),
        (b"(N\x88\x89t.", (None, True, False)),
        (b"U\x02\xff\x00.", b"\xff\x00"),
        (b"X\x02\x00\x00\x00\xc3\xbf.", b"\xff"),
        (b"V\xff\\u0041\n.", b"\xffA"),
        (b'S"it\'s"\n.', b"it's"),
        (b"(K\x01K\x02l.", [1, 2]),
        (b"](K\x01K\x02eK\x03a.", [1, 2, 3]),
        (b"K\x01p7\ng7\n\x86.", (1, 1)),
        (b"K\x01\x94K\x02\x94h\x00h\x01\x87\x86.", (1, (2, 1, 2))),
    ],
)
def test_values_are_those_of_the_documented_opcodes(content, value):
    assert repr(_read(content)) == repr(value)


def test_an_array_gets_its_content_once():
    assert _read(_NEW_ARRAY + _STATE + b".") == inert_pickle.ByteArray(inert_pickle.Dtype(b"u1"), b"x")
    with pytest.raises(inert_pickle.Refused, match="a state that byte arrays do not have"):
        _read(_NEW_ARRAY + _STATE + _STATE + b".")
