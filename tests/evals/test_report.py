import json

import numpy as np
import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.evals import metrics, report
from lrfr_jax.evals.verification import ModeResult, VerificationResult


def mode(name, resolution, accuracy):
    folds = metrics.KFoldAccuracy(np.array([accuracy, accuracy]), np.array([-1.0, -1.1]), accuracy, 0.0)
    return ModeResult(name, resolution, folds, (0.5, 1.0), 0.9, {0.00001: 0.25}, np.zeros(4))


MODES = (mode("hr_hr", 112, 0.9925), mode("hr_lr", 14, 0.75), mode("hr_lr", 7, 0.5), mode("lr_lr", 7, 0.625))
RESULTS = {
    "faces": VerificationResult("released", 2, 21.5, np.array([True, False] * 2), MODES),
    "others": VerificationResult("insightface", 2, 20.0, np.array([True, False] * 2), MODES[:1]),
}
REPORT = report.report_of(RESULTS, step=12, checkpoint="runs/a/checkpoints/12")


def test_rates_are_written_in_full():
    assert report.metrics_of(RESULTS)["faces/hr_lr_14/tar@far=0.00001"] == 0.25
    assert REPORT["sets"]["faces"]["results"][0]["tar"] == {"0.00001": 0.25}


def test_report_survives_the_disk_and_the_newest_step_is_read(tmp_path):
    report.write_report(tmp_path / "eval" / "9.json", report.report_of(RESULTS, step=9, checkpoint="old"))
    report.write_report(tmp_path / "eval" / "12.json", REPORT)
    assert report.read_newest(tmp_path) == REPORT == json.loads((tmp_path / "eval" / "12.json").read_text())
    assert sorted(path.name for path in (tmp_path / "eval").iterdir()) == ["12.json", "9.json"]
    faces = REPORT["sets"]["faces"]
    assert (faces["protocol"], faces["pairs"], faces["folds"], faces["feature_norm"]) == ("released", 4, 2, 21.5)


def test_a_failed_write_leaves_the_old_report(tmp_path):
    path = tmp_path / "12.json"
    report.write_report(path, REPORT)
    with pytest.raises(TypeError):
        report.write_report(path, {"sets": object()})
    assert json.loads(path.read_text()) == REPORT


@pytest.mark.parametrize("content", ["", "[]", '{"sets": {"a": {}}}', '{"sets": {"a": {"results": []}}}'])
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
    assert list(report.accuracy_rows(REPORT["sets"]["others"])) == ["hr_hr"]


def test_table_is_aligned_and_complete():
    lines = report.table(REPORT).splitlines()
    assert [line.split() for line in lines[:4]] == [
        ["accuracy", "%", "mode", "112", "px", "14", "px", "7", "px"],
        ["faces", "HR-LR", "99.25", "75.00", "50.00"],
        ["faces", "LR-LR", "99.25", "-", "62.50"],
        ["others", "HR-HR", "99.25", "-", "-"],
    ]
    assert len({len(line) for line in lines[:4]}) == 1
    for fact in (
        "99.25 +- 0.00 at 112 px",
        "AUC 90.00",
        "TAR 25.00 at FAR 0.00001",
        "feature norm 21.50",
        "4 pairs, 2 folds",
    ):
        assert fact in lines[4]
    assert "protocol released" in lines[4]
    assert "protocol insightface" in lines[5]
