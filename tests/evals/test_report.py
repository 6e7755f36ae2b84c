import json
import pathlib

import numpy as np
import pytest

from lrfr_jax.data import face_sets, protocol_arrays
from lrfr_jax.errors import UserError
from lrfr_jax.evals import metrics, report, tables
from lrfr_jax.evals.evaluation import Evaluation, SetResult
from lrfr_jax.evals.measures import Measure
from lrfr_jax.evals.protocols import PROTOCOLS
from lrfr_jax.evals.verification import Comparison, VerificationResult


def comparison(mode, resolution, accuracy, first=112):
    folds = metrics.KFoldAccuracy(np.array([accuracy, accuracy]), np.array([-1.0, -1.1]), accuracy, 0.0)
    tar, interval = {0.00001: 0.25}, (0.5, 1.0)
    return Comparison(
        mode, resolution, first, folds, interval, 0.9, (0.8, 0.95), tar, {0.00001: (0.2, 0.3)}, np.zeros(4)
    )


def result(name, protocol, outcome, *, kind="verification", is_partial=False, ssim=None):
    source = face_sets.RecordSource([b""] * 7, name="made up")
    unused = protocol_arrays.VerificationProtocol(np.zeros((1, 2), int), np.ones(1, bool), np.ones(1, int))
    test_set = face_sets.TestSet(name, kind, pathlib.Path("unused"), source, unused, is_partial)
    return SetResult(Evaluation(test_set, protocol, PROTOCOLS[protocol], ()), outcome, ssim or {})


COMPARISONS = (
    comparison("hr_hr", 112, 0.9925),
    comparison("hr_lr", 14, 0.75),
    comparison("hr_lr", 7, 0.5),
    comparison("lr_lr", 7, 0.625),
)
MATRIX = tuple(comparison("matrix", r, 0.5 + r / 1000, first=f) for f in (112, 7) for r in (112, 7))
IS_SAME = np.array([True, False] * 2)
RESULTS = {
    "faces": result(
        "faces", "released", VerificationResult(2, 21.5, IS_SAME, COMPARISONS), ssim={112: 1.0, 14: 0.7, 7: 0.5}
    ),
    "others": result(
        "others",
        "insightface",
        VerificationResult(2, 20.0, IS_SAME, COMPARISONS[:1] + MATRIX + (comparison("sizes_low", 112, 0.625),)),
    ),
    "cams": result(
        "cams",
        "scface",
        [
            Measure("rank1", "d1", 112, 0.5, (0.4, 0.6), (0.25, 0.75), 400),
            Measure("rank1", "d2", 112, 0.9, (0.8, 0.95), (0.9, 0.9), 400),
            Measure("rank1", "d1", 7, 0.1, (0.0, 0.2), (0.1,), 400),
        ],
        kind="identification",
        is_partial=True,
    ),
}
REPORT = report.report_of(RESULTS, step=12, checkpoint="runs/a/checkpoints/12")


def test_metrics_are_named_by_set_group_mode_and_resolution_with_rates_in_full():
    flat = report.metrics_of(RESULTS)
    assert flat["faces/hr_lr_14/tar@far=0.00001"] == 0.25
    assert flat["faces/accuracy"] == 0.9925
    assert flat["faces/ssim_14"] == 0.7
    assert flat["others/matrix_7_112/accuracy"] == 0.612
    assert flat["others/sizes_low/auc"] == 0.9
    assert flat["partial/cams_d1/rank1"] == 0.5
    assert flat["partial/cams_d1/lr_7/rank1"] == 0.1
    assert REPORT["sets"]["faces"]["results"][0]["tar"] == {"0.00001": 0.25}


def test_report_survives_the_disk_and_the_newest_step_is_read(tmp_path):
    report.write_report(tmp_path / "eval" / "9.json", report.report_of(RESULTS, step=9, checkpoint="old"))
    report.write_report(tmp_path / "eval" / "12.json", REPORT)
    assert report.read_newest(tmp_path) == REPORT == json.loads((tmp_path / "eval" / "12.json").read_text())
    assert sorted(path.name for path in (tmp_path / "eval").iterdir()) == ["12.json", "9.json"]


def test_every_number_carries_protocol_parts_and_interval():
    faces, cams = REPORT["sets"]["faces"], REPORT["sets"]["cams"]
    assert (faces["protocol"], faces["pairs"], faces["folds"], faces["feature_norm"]) == ("released", 4, 2, 21.5)
    assert faces["results"][0]["fold_accuracies"] == [0.9925, 0.9925]
    assert faces["results"][0]["auc_interval"] == [0.8, 0.95]
    assert faces["results"][0]["tar_intervals"] == {"0.00001": [0.2, 0.3]}
    assert (cams["protocol"], cams["is_partial"], cams["images"]) == ("scface", True, 7)
    first = cams["results"][0]
    assert (first["parts"], first["std"], first["interval"], first["trials"]) == ([0.25, 0.75], 0.25, [0.4, 0.6], 400)


def test_a_failed_write_leaves_the_old_report(tmp_path):
    path = tmp_path / "12.json"
    report.write_report(path, REPORT)
    with pytest.raises(TypeError):
        report.write_report(path, {"sets": object()})
    assert json.loads(path.read_text()) == REPORT


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "eval").touch()
    with pytest.raises(UserError, match=r"eval/12\.json cannot be written \(.*\): make room"):
        report.write_report(tmp_path / "eval" / "12.json", REPORT)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"sets": {"a": {}}}',
        '{"sets": {"a": {"kind": "verification", "results": []}}}',
        '{"sets": {"a": {"kind": "identification", "results": [{}]}}}',
    ],
)
def test_a_run_without_a_readable_report_is_told(tmp_path, content):
    with pytest.raises(UserError, match=r"holds no evaluation.*python -m lrfr_jax\.evaluate --workdir"):
        report.read_newest(tmp_path)
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "5.json").write_text(content)
    with pytest.raises(UserError, match=r"5\.json is no evaluation report"):
        report.read_newest(tmp_path)


def test_full_resolution_stands_in_the_rows_of_both_modes():
    rows = report.accuracy_rows(REPORT["sets"]["faces"])
    assert {name: list(row) for name, row in rows.items()} == {"hr_lr": [112, 14, 7], "lr_lr": [112, 7]}
    assert rows["lr_lr"][112]["accuracy"] == 0.9925
    only = {**REPORT["sets"]["faces"], "results": REPORT["sets"]["faces"]["results"][:1]}
    assert list(report.accuracy_rows(only)) == ["hr_hr"]


def test_cells_of_a_matrix_are_hr_lr_and_lr_lr_where_only_the_second_or_both_images_are_reduced():
    rows = report.accuracy_rows(REPORT["sets"]["others"])
    found = {mode: {r: one["first_resolution"] for r, one in row.items()} for mode, row in rows.items()}
    assert found == {"hr_lr": {112: 112, 7: 112}, "lr_lr": {112: 112, 7: 7}}
    flat = report.metrics_of(RESULTS)
    assert flat["others/hr_lr_7/accuracy"] == flat["others/matrix_112_7/accuracy"]
    assert flat["others/lr_lr_7/auc"] == flat["others/matrix_7_7/auc"]
    assert "others/hr_lr_112/accuracy" not in flat
    # What was measured by itself counts first.
    both = VerificationResult(2, 1.0, IS_SAME, (*COMPARISONS, *MATRIX))
    assert both.by_mode["hr_lr", 7] is COMPARISONS[2]
    assert both.by_mode.keys() == {("hr_hr", 112), ("hr_lr", 14), ("hr_lr", 7), ("lr_lr", 7)}


def test_table_is_aligned_and_complete():
    lines = tables.table(REPORT).splitlines()
    assert [line.split() for line in lines[:5]] == [
        ["accuracy", "%", "mode", "112", "px", "14", "px", "7", "px"],
        ["faces", "HR-LR", "99.25", "75.00", "50.00"],
        ["faces", "LR-LR", "99.25", "-", "62.50"],
        ["faces", "SSIM", "1.000", "0.700", "0.500"],
        ["others", "HR-LR", "99.25", "-", "50.70"],
    ]
    assert lines.pop(5).split() == ["others", "LR-LR", "99.25", "-", "50.70"]
    assert len({len(line) for line in lines[:5]}) == 1
    facts = "99.25 +- 0.00 at 112 px, AUC 90.00, TAR 25.00 at FAR 0.00001, feature norm 21.50 (4 pairs, 2 folds"
    assert facts in lines[5]
    assert "protocol released" in lines[5]
    assert "protocol insightface" in lines[6]
    assert [line.split()[-4:] for line in lines[7:10]] == [
        ["112", "px", "7", "px"],
        ["112", "px", "61.20", "50.70"],
        ["7", "px", "61.20", "50.70"],
    ]
    assert lines[10] == "others, sizes low: 62.50 +- 0.00, AUC 90.00"
    assert [line.split() for line in lines[11:15]] == [
        ["cams", "(partial),", "%", "probes", "rank1"],
        ["d1", "112", "px", "50.00", "+-", "25.00"],
        ["d2", "112", "px", "90.00", "+-", "0.00"],
        ["d1", "7", "px", "10.00"],
    ]
    assert lines[15] == "(7 images, protocol scface)"
