"""The group `terms` of a config: what it means, and every way to get it wrong has its sentence."""

import importlib

import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.run import terms

SOURCES = {"hr": "first", "lr": "first", "wild": "second"}
ENTRY = {"term": "mse", "of": ("student.lr.feature", "teacher.hr.stage3"), "weight": 0.1, "weight_unit": "lambda"}


def test_entries_in_the_order_of_their_names():
    pull = ENTRY | {"term": "cosine", "over": "sum", "weight_unit": "gradient_share", "weight": 2}
    pull["of"] = ("student.lr.feature", "teacher.hr.feature") * 2
    second, first = terms.terms_of({"mimic": ENTRY, "attend": pull}, SOURCES)[::-1]
    assert (first.name, first.weight, first.weight_unit, len(first.of)) == ("attend", 2, "gradient_share", 4)
    assert (second.name, second.weight, second.weight_unit) == ("mimic", 0.1, "lambda")
    assert second.of == (("student", "lr", "feature"), ("teacher", "hr", "stage3"))
    assert terms.terms_of({}, SOURCES) == ()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"term": "nosuch"}, r"terms\.pull\.term='nosuch' is unknown: choose one of distance, mse"),
        ({"margin": 1.0}, r"terms\.pull with term='mse' has the fields term, of, weight, weight_unit, not .*margin"),
        ({"term": "cosine"}, r"term='cosine' has the fields .*weight_unit, over, not term, of, weight, weight_unit"),
        ({"term": "cosine", "over": "max"}, r"terms\.pull: over='max' is unknown: choose sum or mean"),
        ({"weight": -1.0}, r"terms\.pull\.weight=-1\.0 must be at least 0 and finite"),
        ({"weight": float("nan")}, r"terms\.pull\.weight=nan must be"),
        ({"weight": float("inf")}, r"terms\.pull\.weight=inf must be"),
        ({"weight": True}, r"terms\.pull\.weight=True must be"),
        ({"weight": "1"}, r"terms\.pull\.weight=1 must be"),
        ({"weight_unit": "share"}, "weight_unit='share' is unknown: choose one of lambda, gradient_share"),
        ({"of": ("student.lr",)}, r"terms\.pull\.of names 'student\.lr', which is not of the form WHO\.VIEW\.TAP"),
        ({"of": ("pupil.lr.feature",)}, "'pupil' is unknown: choose student or teacher"),
        ({"of": ("student.mid.feature",)}, "augment.views has no view 'mid': choose one of hr, lr, wild"),
        ({"of": "student.lr.feature"}, r"terms\.pull\.of names 1 features, and mse takes 2"),
        (
            {"term": "cosine", "over": "sum", "of": ("student.lr.feature",) * 3},
            "names 3 features, and cosine takes 2 or more, in groups of 2",
        ),
        (
            {"of": ("student.lr.feature", "student.wild.feature")},
            "names views of first and second, and mse compares features of the same images",
        ),
    ],
)
def test_refuses(change, sentence):
    with pytest.raises(UserError, match=sentence):
        terms.terms_of({"pull": ENTRY | change}, SOURCES)


@pytest.mark.parametrize("field", terms.COMMON)
def test_every_field_must_be_given(field):
    with pytest.raises(UserError, match=rf"terms\.pull has no field '{field}'"):
        terms.terms_of({"pull": {key: value for key, value in ENTRY.items() if key != field}}, SOURCES)


def test_numbers_must_be_finite():
    settings = {"term": "distance", "distance": "logexp", "p": float("inf"), "reduction": "paper"}
    with pytest.raises(UserError, match=r"terms\.pull\.p=inf must be finite"):
        terms.term_of("pull", settings)


@pytest.mark.parametrize(
    ("config", "arg", "features"),
    [
        ("octuplet", "metric=cosine", "hr lr"),
        ("datl", "loss=datl", "hr lr"),
        ("datl", "loss=daql", "hr lr"),
        ("ddl", "policy=st_m2,negatives=hardest", "first second"),
    ],
)
def test_terms_of_the_systems(config, arg, features):
    """Their numbers are the term's, their features those of their views, and K is the batch's."""
    config = importlib.import_module(f"configs.systems.{config}").get_config(arg)
    (found,) = terms.terms_of(config.terms.to_dict(), dict.fromkeys(config.augment.views, config.input.dataset))
    assert found.of == tuple(("student", view, "feature") for view in features.split())
    assert (found.weight, found.weight_unit, config.loss.distance_weight) == (1.0, "lambda", 0.0)
    assert config.input.order == "identities"
    size = config.input.images_per_identity
    assert config.terms[found.name].get("images_per_identity", size) == size
    assert config.batch_size % size == 0
    is_classified = any(rule.weight for rule in config.augment.views.values())
    assert is_classified == (config.head.name != "none")
