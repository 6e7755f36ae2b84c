"""A model's card is of its weights alone, and a damaged one is told."""

import json

import pytest

from lrfr_jax import model_card
from lrfr_jax.errors import UserError
from tests.evals.test_thresholds import HELD


def test_round_trip(tmp_path):
    assert model_card.read_thresholds(tmp_path, weights="a") == []
    assert model_card.write(tmp_path, weights="a", thresholds=HELD[:1]) == tmp_path / "card.json"
    model_card.write(tmp_path, weights="a", thresholds=HELD)
    assert model_card.read_thresholds(tmp_path, weights="a") == HELD
    assert [path.name for path in tmp_path.iterdir()] == ["card.json"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda card: card | {"weights": "b"}, "is the card of other weights"),
        (lambda card: card | {"schema": 2}, "has schema 2, this version reads 1"),
        (lambda card: {"schema": 1}, "is no model card"),
        (lambda card: card | {"thresholds": [{"mode": "hr_hr"}]}, "is no model card"),
        (lambda card: [], "is no model card"),
    ],
)
def test_other_cards_are_refused(tmp_path, change, sentence):
    path = model_card.write(tmp_path, weights="a", thresholds=HELD)
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(UserError, match=sentence):
        model_card.read_thresholds(tmp_path, weights="a")


def test_damaged_and_unwritable(tmp_path):
    (tmp_path / "card.json").write_text('{"schema": 1, ')
    with pytest.raises(UserError, match=r"card\.json is no model card"):
        model_card.read_thresholds(tmp_path, weights="a")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        model_card.write(tmp_path / "file", weights="a", thresholds=HELD)
