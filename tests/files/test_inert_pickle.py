import io

import pytest

from lrfr_jax.files import inert_pickle
from lrfr_jax.files.inert_pickle import Dialect, Name, Opaque, Refused


def _read(content, **changes):
    """Calls and identifiers are answered by what was asked, states are kept as items of dicts."""
    settings = {
        "purpose": "tests",
        "names": {b"a call": Name("call"), b"a class": Opaque()},
        "call": lambda function, arguments: (function.meaning, arguments),
        "build": lambda target, state: target.update({b"state": state}),
        "persistent": lambda identifier: ["beside", identifier],
        "encoding": "latin-1",
        "bytes_per_opcode": 1,
    }
    return inert_pickle.read(io.BytesIO(content), size=len(content), dialect=Dialect(**settings | changes))


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
        (b"G\xbf\xf8\x00\x00\x00\x00\x00\x00.", -1.5),
        (b"}U\x01aK\x01s(U\x01bK\x02U\x01cK\x03u.", {b"a": 1, b"b": 2, b"c": 3}),
        (b"(U\x01aK\x01d.", {b"a": 1}),
        (b"}(K\x01K\x02]K\x03u.", {}),  # no key is hashed that is not a byte string
        (b"}K\x05b.", {b"state": 5}),
        (b"ca\ncall\nK\x05\x85R.", ("call", (5,))),
        (b"U\x01aU\x04call\x93)\x81.", ("call", ())),
        (b"K\x05Q.", ["beside", 5]),
        (b"ca\nclass\nNR(NNuNaNb.", Opaque()),
    ],
)
def test_values_are_those_of_the_documented_opcodes(content, value):
    assert repr(_read(content)) == repr(value)


def test_what_a_dialect_lacks_is_refused():
    with pytest.raises(Refused, match="the pickle opcode BINPERSID, which tests do not need"):
        _read(b"K\x05Q.", persistent=None)
    with pytest.raises(Refused, match=r"wants to use os.system, which tests do not need \(nothing was run\)"):
        _read(b"cos\nsystem\n.")
    with pytest.raises(Refused, match="more pickle opcodes than tests of its size need"):
        _read(b"N" + b"\x85" * 2000 + b".", bytes_per_opcode=2)
    with pytest.raises(Refused, match="neither a name nor bytes"):
        _read("X\x03\0\0\0\u20ac.".encode())
    assert _read("X\x03\0\0\0\u20ac.".encode(), encoding="utf-8") == "\u20ac".encode()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"}(U\x01aNU\x01aNu.", "holds b'a' twice"),
        (b"}(U\x01au.", "sets items of no dict"),
        (b"]U\x01aNs.", "sets items of no dict"),
        (b"}Na.", "no list"),
        (b"NN.", "does not end where its pickle ends"),
        (b"N.N", "does not end where its pickle ends"),
    ],
)
def test_damage_has_its_sentence(content, sentence):
    with pytest.raises(Refused, match=sentence):
        _read(content)


def test_a_pickle_before_other_bytes_says_what_it_took():
    dialect = Dialect("tests", {}, max, max, None, "latin-1", 1)
    assert inert_pickle.read_next(io.BytesIO(b"K\x01.rest"), size=7, dialect=dialect) == (1, 3)
