"""Which models fit each other: by digest, and nothing else does."""

import pytest

from lrfr_jax.checkpoints import compatibility
from lrfr_jax.errors import UserError

FITTED = {"compatible_with": compatibility.entry("runs/y1/checkpoints/2000", digest="t" * 64, resolution=28)}
EXPORT = {"history": [{"kind": "import"}, {"kind": "export", "weights": "t" * 64}]}


def test_an_entry_names_the_model_by_digest_and_by_the_last_parts_of_its_path():
    assert FITTED["compatible_with"] == {"digest": "t" * 64, "name": "y1/2000", "resolution": 28}
    assert compatibility.entry("/a/pretrained/y1", digest="t", resolution=112)["name"] == "pretrained/y1"
    for resolution in (0, 113):
        with pytest.raises(UserError, match=f"is {resolution}: it must be whole pixels in 1..112"):
            compatibility.entry("y1", digest="t", resolution=resolution)


@pytest.mark.parametrize(
    ("weights", "metadata", "expected"),
    [
        ("a", {}, ("a",)),
        ("a", FITTED, ("a", "t" * 64)),
        ("a", EXPORT, ("a", "t" * 64)),
        ("a", EXPORT | FITTED, ("a", "t" * 64)),
        ("a", {"history": [EXPORT["history"][1], {"kind": "import"}]}, ("a",)),  # imported again, it has its own
        ("a", {"history": [{"kind": "export"}], "compatible_with": {}}, ("a",)),  # of an older version
    ],
)
def test_digests(weights, metadata, expected):
    assert compatibility.digests_of(weights, metadata) == expected


@pytest.mark.parametrize(
    "damaged", [{"digest": "t"}, {"digest": "t", "name": "y", "resolution": 0}, {**FITTED, "resolution": "28"}]
)
def test_a_damaged_entry_is_told(damaged):
    with pytest.raises(UserError, match="must name digest, name and resolution"):
        compatibility.of_metadata({"compatible_with": damaged})


def test_two_models_fit_if_one_was_made_for_the_other_or_both_for_a_third():
    teacher, fitted, also, stranger = ("t",), ("a", "t"), ("b", "t"), ("c",)
    for one, other in ((teacher, teacher), (fitted, teacher), (teacher, fitted), (fitted, also)):
        compatibility.check("x", one, "y", other)
    for one, other in ((stranger, teacher), (fitted, stranger)):
        with pytest.raises(UserError) as error:
            compatibility.check("runs/x", one, "runs/y", other)
        for words in ("runs/x (weights", "runs/y (weights", "fit no others", *one, *other):
            assert words in str(error.value)
