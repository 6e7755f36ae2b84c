import copy
import csv
import pathlib

import pytest

from lrfr_jax.analysis import compare
from lrfr_jax.errors import UserError
from lrfr_jax.evals import report


def run_report(step, low):
    def one(mode, resolution, accuracy):
        interval = [accuracy - 0.01, accuracy + 0.01]
        return {"mode": mode, "resolution": resolution, "accuracy": accuracy, "accuracy_interval": interval}

    results = [one("hr_hr", 112, 0.99), one("hr_lr", 14, 0.8), one("hr_lr", 7, low), one("lr_lr", 7, low - 0.05)]
    faces = {"kind": "verification", "is_partial": False, "protocol": "insightface", "pairs": 600, "folds": 10}
    faces["results"] = results
    return {"step": step, "checkpoint": "c", "sets": {"faces": faces}}


@pytest.fixture
def runs(tmp_path):
    for name, low in (("hr", 0.6), ("maug", 0.75)):
        report.write_report(tmp_path / name / "eval" / "9.json", run_report(9, 0.1))
        report.write_report(tmp_path / name / "eval" / "20.json", run_report(20, low))
    return tmp_path


def call(runs, names=("hr", "maug"), *options):
    workdirs = ",".join(str(runs / name) for name in names)
    compare.main(["--workdirs", workdirs, "--output", str(runs / "out"), *options])


def test_tables_and_figure(runs, capsys):
    call(runs)
    with open(runs / "out" / "table.csv", newline="") as file:
        lines = list(csv.reader(file))
    assert lines == [
        ["run", "mode", "112 px", "14 px", "7 px"],
        ["hr", "faces HR-LR", "99.00", "80.00", "60.00"],
        ["maug", "faces HR-LR", "99.00", "80.00", "75.00"],
        ["maug - hr", "faces HR-LR", "+0.00", "+0.00", "+15.00"],
        ["hr", "faces LR-LR", "99.00", "-", "55.00"],
        ["maug", "faces LR-LR", "99.00", "-", "70.00"],
        ["maug - hr", "faces LR-LR", "+0.00", "-", "+15.00"],
    ]
    markdown = (runs / "out" / "table.md").read_text()
    assert "| maug - hr | faces HR-LR | +0.00 | +0.00 | +15.00 |" in markdown
    assert "protocol insightface, pairs 600, folds 10" in markdown
    assert "hr: step 20. maug: step 20." in markdown
    assert (runs / "out" / "accuracy_by_resolution.png").stat().st_size > 0
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["maug", "-", "hr", "faces", "HR-LR", "+0.00", "+0.00", "+15.00"] in printed


def test_labels_name_the_rows(runs):
    call(runs, ("hr", "maug"), "--labels", "a,b")
    assert "| b - a |" in (runs / "out" / "table.md").read_text()
    for labels in ("a", "a,a"):
        with pytest.raises(UserError, match="must be 2 different names"):
            call(runs, ("hr", "maug"), "--labels", labels)


def test_an_output_that_is_a_file_is_told_before_the_work(runs, capsys):
    (runs / "out").touch()
    for end in ("", "/deeper"):
        with pytest.raises(UserError, match=r"--output cannot be written, as .*/out is a file"):
            call(runs, ("hr", "maug"), "--output", str(runs / "out") + end)
    assert capsys.readouterr().out == ""


def test_a_full_disk_leaves_the_tables_before(runs, monkeypatch):
    call(runs)
    before = {path.name: path.read_bytes() for path in (runs / "out").iterdir()}

    def write_half(self, *_, **__):
        self.touch()
        raise OSError("no space left")

    monkeypatch.setattr(pathlib.Path, "write_bytes", write_half)
    monkeypatch.setattr(pathlib.Path, "write_text", write_half)
    with pytest.raises(UserError, match="out cannot be written: no space left"):
        call(runs, ("maug", "hr"))
    assert {path.name: path.read_bytes() for path in (runs / "out").iterdir()} == before


def test_a_run_without_evaluation_is_told(runs):
    with pytest.raises(UserError, match=r"none holds no evaluation .*python -m lrfr_jax\.evaluate --workdir"):
        call(runs, ("hr", "none"))


@pytest.mark.parametrize("key", ["protocol", "pairs", "folds", "is_partial", "results", "name"])
def test_unlike_evaluations_are_refused(runs, key):
    other = copy.deepcopy(run_report(30, 0.7))
    faces = other["sets"]["faces"]
    if key == "name":
        other["sets"] = {"others": faces}
    else:
        faces[key] = faces[key][:-1] if key == "results" else "other"
    report.write_report(runs / "maug" / "eval" / "30.json", other)
    with pytest.raises(UserError, match=r"maug was evaluated on \(.*\) but hr on \(.*evaluate both alike"):
        call(runs)
    assert not (runs / "out").exists()


def test_identification_sets_have_a_table_of_their_own(runs, capsys):
    for name, gain in (("hr", 0.0), ("maug", 0.25)):
        made = run_report(40, 0.7)
        measures = [("d1", 0.5 + gain), ("d2", 0.75)]
        results = [{"name": "rank1", "group": group, "resolution": 112, "value": value} for group, value in measures]
        shared = {"kind": "identification", "is_partial": True, "protocol": "scface", "images": 99}
        made["sets"]["cams"] = shared | {"results": results}
        report.write_report(runs / name / "eval" / "40.json", made)
    call(runs)
    markdown = (runs / "out" / "table.md").read_text()
    assert "| maug - hr | cams (partial) d1 112 px | +25.00 |" in markdown
    assert "| maug - hr | cams (partial) d2 112 px | +0.00 |" in markdown
    assert "| maug | faces HR-LR | 99.00 | 80.00 | 70.00 |" in markdown
    with open(runs / "out" / "table.csv", newline="") as file:
        assert ["hr", "cams (partial) d1 112 px", "50.00"] in list(csv.reader(file))


def test_sets_of_one_name_with_other_content_are_refused(runs):
    for name, digest in (("hr", "sha256:a"), ("maug", "sha256:b")):
        made = run_report(20, 0.6)
        made["sets"]["faces"]["digest"] = digest
        report.write_report(runs / name / "eval" / "20.json", made)
    with pytest.raises(
        UserError, match=r"maug was evaluated on another faces than hr: .*digest sha256:b, not sha256:a"
    ):
        call(runs)
    assert not (runs / "out").exists()


def test_a_set_without_digest_is_told(runs):
    call(runs)
    assert "folds 10, hr_lr 112,14,7; lr_lr 112,7; hr does not tell the content" in (runs / "out/table.md").read_text()


def test_a_run_that_was_evaluated_otherwise_since_is_compared_by_what_all_have(runs, capsys):
    made = run_report(20, 0.75)
    front = made["sets"]["faces"]
    made["sets"]["faces"] = run_report(20, 0.1)["sets"]["faces"] | {"protocol": "released", "beside": [front]}
    report.write_report(runs / "maug" / "eval" / "20.json", made)
    call(runs)
    assert "| maug - hr | faces HR-LR | +0.00 | +0.00 | +15.00 |" in (runs / "out" / "table.md").read_text()
    made["sets"]["faces"]["beside"] = []
    report.write_report(runs / "maug" / "eval" / "20.json", made)
    with pytest.raises(UserError, match=r"protocol released.* but hr on .*protocol insightface"):
        call(runs)
