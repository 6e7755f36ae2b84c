"""Names of identities as two sets compare them."""

import pytest

from lrfr_jax.prepare.sets.training_options import Selection, compared_name


@pytest.mark.parametrize(
    "names",
    [
        ("O'Brien", "OBrien", "o_brien"),
        ("P-1000002", "p1000002"),
        ("Abel_Pacheco", "Abel Pacheco", "abel.pacheco "),
        ("Jean-Pierre", "Jean_Pierre", "JeanPierre"),
    ],
)
def test_capitals_and_punctuation_do_not_tell_names_apart(names):
    assert len(set(map(compared_name, names))) == 1
    assert not any(Selection(None, frozenset({name})).takes(other) for name in names for other in names)


@pytest.mark.parametrize("name", ["17", "017", "1-7", "1 7", "--", "faces/17"])
def test_names_without_a_letter_stay_as_they_are_written(name):
    assert compared_name(name) == name
