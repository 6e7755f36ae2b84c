"""Results of one model from several evaluations: nothing that was measured is lost, nothing of others is mixed in."""

import copy
import json

import pytest

from lrfr_jax.evals import earlier_results, report, tables
from lrfr_jax.evals.verification import VerificationResult
from tests.evals.test_report import IS_SAME, REPORT, comparison, result


def made(*comparisons, protocol="released", ssim=None):
    outcome = VerificationResult(2, 21.5, IS_SAME, comparisons)
    return report.report_of({"faces": result("faces", protocol, outcome, ssim=ssim)}, step=12, checkpoint="c")


FULL = comparison("hr_hr", 112, 0.9)
EARLIER = made(
    FULL, comparison("hr_lr", 14, 0.7), comparison("hr_lr", 7, 0.6), comparison("lr_lr", 7, 0.5), ssim={7: 1.0}
)
NOW = made(
    FULL, comparison("hr_lr", 20, 0.8), comparison("hr_lr", 7, 0.65), comparison("lr_lr", 20, 0.8), ssim={20: 0.9}
)


def accuracies(set_report):
    return [(one["mode"], one["resolution"], one["accuracy"]) for one in set_report["results"]]


def test_sizes_that_are_not_measured_again_stay(tmp_path):
    path = tmp_path / "eval" / "12.json"
    assert earlier_results.write(path, EARLIER) == []
    assert earlier_results.write(path, NOW) == ["faces: kept 2 results that were measured before and not now"]
    merged = report.read_newest(tmp_path)
    assert accuracies(merged["sets"]["faces"]) == [
        *[("hr_hr", 112, 0.9), ("hr_lr", 20, 0.8), ("hr_lr", 14, 0.7), ("hr_lr", 7, 0.65)],
        *[("lr_lr", 20, 0.8), ("lr_lr", 7, 0.5)],
    ]
    assert merged["sets"]["faces"]["ssim"] == {"7": 1.0, "20": 0.9}
    # As one evaluation of all would have said it.
    assert report.flat_metrics(merged).items() >= report.flat_metrics(NOW).items()
    assert earlier_results.merge(merged["sets"], NOW["sets"]) == merged["sets"]


def test_rates_of_another_call_stay_beside_those_of_this_one():
    other = copy.deepcopy(EARLIER)
    other["sets"]["faces"]["results"][0] |= {"tar": {"0.1": 0.9}, "tar_intervals": {"0.1": [0.8, 1.0]}}
    [full, *_] = earlier_results.merge(other["sets"], EARLIER["sets"])["faces"]["results"]
    assert full["tar"] == {"0.1": 0.9, "0.00001": 0.25}
    assert list(full["tar_intervals"]) == ["0.1", "0.00001"]


@pytest.mark.parametrize("change", [{"protocol": "insightface"}, {"digest": "sha256:" + "0" * 64}, {"pairs": 5}])
def test_other_protocols_and_other_data_stand_beside(tmp_path, change):
    path = tmp_path / "12.json"
    earlier_results.write(path, EARLIER)
    other = copy.deepcopy(NOW)
    other["sets"]["faces"] |= change
    [told] = earlier_results.write(path, other)
    assert told.startswith(
        "faces: kept beside these results: those by protocol released, data without a digest, 4 pairs"
    )
    kept = json.loads(path.read_text())["sets"]["faces"]
    assert kept.pop("beside") == [EARLIER["sets"]["faces"]]
    assert kept == other["sets"]["faces"]
    assert "faces: kept in the json beside these: protocol released" in tables.table(json.loads(path.read_text()))
    # The first ones come to the front again, with all that they had.
    earlier_results.write(path, NOW)
    kept = json.loads(path.read_text())["sets"]["faces"]
    assert ("digest" in change) == ("data 00000000" in tables.table(json.loads(path.read_text())))
    assert kept.pop("beside") == [other["sets"]["faces"]]
    assert kept == earlier_results.merge(EARLIER["sets"], NOW["sets"])["faces"]


def test_sets_of_other_calls_and_all_kinds_stay(tmp_path):
    path = tmp_path / "12.json"
    parts = [{**REPORT, "sets": {name: REPORT["sets"][name] for name in names}} for names in (["faces"], ["cams"])]
    earlier_results.write(path, parts[0] | {"checkpoint": "moved"})
    assert earlier_results.write(path, parts[1]) == ["kept from earlier evaluations of these weights: the sets faces"]
    assert json.loads(path.read_text()) == {**REPORT, "sets": parts[0]["sets"] | parts[1]["sets"]}
    fewer = copy.deepcopy(parts[1])
    del fewer["sets"]["cams"]["results"][0]
    earlier_results.write(path, fewer)
    assert json.loads(path.read_text())["sets"]["cams"] == REPORT["sets"]["cams"]
    assert earlier_results.merge(REPORT["sets"], REPORT["sets"]) == REPORT["sets"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (json.dumps(EARLIER | {"step": 11}), "of step 11"),
        (json.dumps(EARLIER | {"weights": "other"}), "of other weights"),
        ("", "is no evaluation report"),
        ("[]", "is no evaluation report"),
        (
            json.dumps({"step": 12, "sets": {"faces": EARLIER["sets"]["faces"] | {"ssim": 3}}}),
            "are not what `evaluate`",
        ),
    ],
)
def test_what_is_of_another_model_or_damaged_gets_another_name(tmp_path, content, reason):
    path = tmp_path / "eval" / "12.json"
    path.parent.mkdir()
    (path.parent / "12.earlier1.json").touch()
    path.write_text(content)
    now = NOW | {"weights": "mine"}
    [told] = earlier_results.write(path, now)
    assert reason in told
    assert told.endswith("they are in 12.earlier2.json now")
    assert (path.parent / "12.earlier2.json").read_text() == content
    assert report.read_newest(tmp_path) == now
    # A report of an older version does not say whose it is, but for the step.
    path.write_text(json.dumps({key: value for key, value in EARLIER.items() if key != "weights"}))
    earlier_results.write(path, now)
    assert len(report.read_newest(tmp_path)["sets"]["faces"]["results"]) == 6


def test_matrices_at_different_sizes_are_laid_out_together():
    def matrix(size):
        return made(FULL, *(comparison("matrix", r, 0.5, first=f) for f in (112, size) for r in (112, size)))

    merged = earlier_results.merge(matrix(14)["sets"], matrix(7)["sets"])
    lines = [line.split() for line in tables.table({"sets": merged}).splitlines()]
    assert ["7", "px", "50.00", "-", "50.00"] in lines
    assert ["14", "px", "50.00", "50.00", "-"] in lines
    assert ["faces", "HR-LR", "90.00", "50.00", "50.00"] in lines
