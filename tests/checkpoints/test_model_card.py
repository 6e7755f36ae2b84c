"""A model's card is of its weights alone, for programs and for people; a damaged one is told."""

import dataclasses
import json
import shutil

import pytest

from lrfr_jax.checkpoints import lineage, model_card
from lrfr_jax.errors import UserError
from lrfr_jax.evals import report
from tests.evals.test_report import REPORT
from tests.evals.test_thresholds import HELD
from tests.exports.networks import arguments

CARD = model_card.Card(
    weights="a",
    model=arguments("iresnet18", order="bgr"),
    degradation_rounding="uint8",
    step=40,
    parameters=1234567,
    history=[
        lineage.entry("import", file="r18.pth", sha256="0f", layout="adaface_ir", licence=""),
        lineage.entry(
            "training",
            dataset="faces",
            num_images=11897,
            num_identities=1400,
            licence="research only",
            recipe={"loss.distance_weight": 500.0},
        ),
    ],
    results={},
    thresholds=HELD,
)


def test_round_trip(tmp_path):
    assert model_card.write(tmp_path, dataclasses.replace(CARD, thresholds=[])) == tmp_path / "card.json"
    model_card.write(tmp_path, CARD)
    assert model_card.read(tmp_path, weights="a") == CARD
    assert sorted(path.name for path in tmp_path.iterdir()) == ["card.json", "card.md"]


def test_the_text_for_people(tmp_path):
    model_card.write(tmp_path, CARD)
    text = (tmp_path / "card.md").read_text()
    for words in (
        "# iresnet18, embedding of 24",
        "iresnet18 of width 0.125, 1,234,567 parameters",
        "its weights want BGR, (pixel - 127.5) / 127.5, the middle 112 columns",
        "1. Imported from r18.pth (layout adaface_ir, SHA-256 0f; licence: not stated).",
        "2. Trained on faces: 11,897 images of 1,400 identities; licence: research only.",
        "   - loss.distance_weight: 500.0",
        "no results yet: `python -m lrfr_jax.evaluate --calibrate` writes them",
        "| HR-LR | 20 | 0.01 |",
        "biometric data",
        "consent",
    ):
        assert words in text
    bare = dataclasses.replace(CARD, history=[], thresholds=[])
    model_card.write(tmp_path, bare)
    text = (tmp_path / "card.md").read_text()
    assert "Not known: the checkpoint does not say." in text
    assert "Not calibrated" in text


def without(table, key):
    return {name: value for name, value in table.items() if name != key}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda card: card | {"weights": "b"}, "is the card of other weights"),
        (lambda card: card | {"schema": 1}, "has schema 1, this version reads 2"),
        (lambda card: {"schema": 2}, r"card\.json lacks weights: mend that, or remove the card"),
        (lambda card: card | {"thresholds": [{"mode": "hr_hr"}]}, r"card\.json lacks thresholds\[0\]\.resolution"),
        (
            lambda card: card | {"thresholds": [card["thresholds"][0] | {"threshold": 30.0}]},
            "is no model card .*a threshold is 30.0 at a false accept rate of 0.01",
        ),
        (lambda card: card | {"color": 1}, "is no model card"),
        (lambda card: [], "is no model card"),
        (lambda card: card | {"model": []}, r"card\.json has model=\[\], which must be an object"),
        (lambda card: card | {"step": "40"}, "has step='40', which must be a whole number"),
        (lambda card: card | {"step": True}, "has step=True, which must be a whole number"),
        (lambda card: card | {"degradation_rounding": "uint9"}, "degradation_rounding='uint9', which must be one of"),
        (lambda card: card | {"model": without(card["model"], "width")}, r"lacks model\.width"),
        (
            lambda card: card | {"model": card["model"] | {"width": "1"}},
            r"has model\.width=.1., which must be a num",
        ),
        (lambda card: card | {"model": card["model"] | {"depth": 1}}, r"has model\.depth, which no model has"),
        (lambda card: card | {"model": card["model"] | {"input": {"order": 3}}}, r"has model\.input\.order=3, .* text"),
        (lambda card: card | {"history": {}}, r"has history=\{\}, which must be a list"),
        (lambda card: card | {"history": [3]}, r"has history\[0\]=3, which must be an object"),
        (lambda card: card | {"history": [{"kind": "import"}]}, r"lacks history\[0\]\.code"),
        (
            lambda card: card | {"history": [{"kind": "made", "code": {}}]},
            r"history\[0\]\.kind='made', which must be one",
        ),
        (lambda card: card | {"history": [without(card["history"][0], "sha256")]}, r"lacks history\[0\]\.sha256"),
        (lambda card: card | {"results": {"lfw": 1}}, r"has results\['lfw'\]=1, which must be an object"),
        (lambda card: card | {"thresholds": [7]}, r"has thresholds\[0\]=7, which must be an object"),
        (
            lambda card: card | {"thresholds": [card["thresholds"][0] | {"threshold": "0.3"}]},
            r"has thresholds\[0\]\.threshold='0\.3', which must be a number",
        ),
    ],
)
def test_other_cards_are_refused(tmp_path, change, sentence):
    path = model_card.write(tmp_path, CARD)
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(UserError, match=sentence):
        model_card.read(tmp_path, weights="a")


def test_a_card_of_an_earlier_version_keeps_its_thresholds(tmp_path):
    path = model_card.write(tmp_path, CARD)
    plain = json.loads(path.read_text())
    for one in plain["thresholds"]:
        del one["digest"], one["calibration"]
    path.write_text(json.dumps(plain))
    assert model_card.read(tmp_path, weights="a") == CARD


def test_results_that_cannot_be_laid_out_are_told_and_nothing_is_written(tmp_path):
    model_card.write(tmp_path, CARD)
    before = (tmp_path / "card.json").read_text()
    with pytest.raises(UserError, match=r"the results in .*card\.json are not what `evaluate` writes"):
        model_card.write(tmp_path, dataclasses.replace(CARD, results={"lfw": {"kind": "verification"}}))
    assert (tmp_path / "card.json").read_text() == before


def test_the_card_of_a_run_takes_no_report_of_other_weights(tmp_path, caplog, tiny_checkpoint):
    shutil.copytree(tiny_checkpoint, tmp_path / "checkpoints/7")
    for weights, expected in (("other", []), ("", ["faces", "others", "cams"])):
        report.write_report(tmp_path / "eval/7.json", REPORT | {"weights": weights})
        model_card.describe(tmp_path, 7, is_main_process=True)
        assert list(json.loads((tmp_path / "checkpoints/7/card.json").read_text())["results"]) == expected
    assert "eval/7.json is of other weights: it is no part of the card of step 7" in caplog.text


def test_damaged_missing_and_unwritable(tmp_path):
    with pytest.raises(UserError, match=r"has no card card\.json beside it"):
        model_card.read(tmp_path, weights="a")
    (tmp_path / "card.json").write_text('{"schema": 2, ')
    with pytest.raises(UserError, match=r"card\.json is no model card"):
        model_card.read(tmp_path, weights="a")
    (tmp_path / "card.json").unlink()
    (tmp_path / "card.json").mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        model_card.write(tmp_path, CARD)


def test_a_checkpoint_that_cannot_be_read_gets_no_card_and_ends_no_run(tmp_path, caplog):
    model_card.describe(tmp_path, 3, is_main_process=True)
    assert "checkpoint 3 gets no card" in caplog.text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "{", "[]", '{"sets": 3}'])
def test_a_damaged_report_of_a_run_is_told_and_ends_no_run(tmp_path, caplog, tiny_checkpoint, content):
    shutil.copytree(tiny_checkpoint, tmp_path / "checkpoints/3")
    model_card.describe(tmp_path, 3, is_main_process=True)
    assert model_card.is_written(tmp_path, 3)
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval/3.json").write_text(content)
    model_card.describe(tmp_path, 3, is_main_process=True)
    assert "eval/3.json is no evaluation report" in caplog.text
