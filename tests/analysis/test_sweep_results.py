import pytest

from lrfr_jax.analysis import sweep_results
from lrfr_jax.analysis.sweep_results import Entry, Spread
from lrfr_jax.errors import UserError
from tests.analysis.made_up_sweep import evaluation, write_run


def test_reads_the_newest_evaluation_of_every_seed_that_has_one(tmp_path):
    write_run(tmp_path, "a", 0, evaluation(0.9, 0.5, step=10))
    write_run(tmp_path, "a", 0, evaluation(0.95, 0.5, step=20))
    write_run(tmp_path, "a", 3, evaluation(0.8, 0.5))
    (tmp_path / "a" / "seed4").mkdir()
    reports = sweep_results.read_reports(tmp_path, ["a", "b"])
    assert {name: list(runs) for name, runs in reports.items()} == {"a": [0, 3], "b": []}
    assert reports["a"][0]["step"] == 20


def test_a_seed_that_is_behind_is_not_counted_but_named():
    reports = {"a": {0: evaluation(0.9, 0.5, step=20), 1: evaluation(0.1, 0.1, step=10)}, "b": {}}
    kept, behind = sweep_results.finished(reports)
    assert {name: list(runs) for name, runs in kept.items()} == {"a": [0], "b": []}
    assert behind == ["a seed 1 is not counted: step 10 of 20"]


def test_metrics_are_percent_and_joined_ones_are_averaged():
    reports = {"a": {0: evaluation(0.9, 0.5, rank1=0.6), 2: evaluation(0.8, 0.5)}, "b": {}}
    del reports["a"][2]["sets"]["cams"]
    metrics = ["faces/accuracy", "faces/accuracy+cams_d1/rank1"]
    values = sweep_results.values_of(reports, metrics, need=all)
    assert values == {
        "a": {metrics[0]: {0: pytest.approx(90), 2: pytest.approx(80)}, metrics[1]: {0: pytest.approx(75)}},
        "b": {metrics[0]: {}, metrics[1]: {}},
    }


@pytest.mark.parametrize(
    ("metrics", "need", "is_refused"),
    [
        (["faces/accuracy", "other/accuracy"], any, False),
        (["faces/accuracy", "other/accuracy"], all, True),
        (["other/accuracy", "faces/accuracy+other/accuracy"], any, True),
    ],
)
def test_metrics_that_no_run_holds(metrics, need, is_refused):
    reports = {"a": {0: evaluation(0.9, 0.5)}}
    if is_refused:
        with pytest.raises(UserError, match=r"evaluated for other/accuracy.*choose --metrics of .*faces/hr_lr_7/auc"):
            sweep_results.values_of(reports, metrics, need=need)
    else:
        assert sweep_results.values_of(reports, metrics, need=need)["a"]["other/accuracy"] == {}
    assert sweep_results.values_of({"a": {}}, metrics, need=need)["a"][metrics[0]] == {}


def close(spread, mean, std, count):
    return (spread.mean, spread.std) == pytest.approx((mean, std)) and spread.count == count


def test_spread_is_that_of_a_sample():
    assert sweep_results.spread([]) is None
    assert sweep_results.spread([3.0]) == Spread(3.0, 0.0, 1)
    assert close(sweep_results.spread([1.0, 3.0]), 2.0, 2**0.5, 2)


def test_against_paper():
    values = {"a": {"m": {0: 1.0, 1: 3.0}, "n": {0: 5.0}, "o": {}}}
    entries = sweep_results.against_paper(values, {"a": {"m": 2.5, "o": 7}})["a"]
    assert close(entries["m"].ours, 2.0, 2**0.5, 2)
    assert close(entries["m"].difference, -0.5, 2**0.5, 2)
    assert entries["m"].paper == 2.5
    assert entries["n"] == Entry(Spread(5.0, 0.0, 1), None, None)
    assert entries["o"] == Entry(None, 7, None)


def test_differences_are_taken_seed_by_seed():
    values = {
        "a": {"m": {0: 1.0, 1: 3.0}},
        "b": {"m": {1: 4.0, 0: 2.0, 2: 90.0}},
        "c": {"m": {7: 1.0}},
        "weights": {"m": {0: 1.5}},
    }
    entries = sweep_results.against_row(values, "a", seedless={"weights"})
    assert entries["b"]["m"].difference == Spread(1.0, 0.0, 2)
    assert entries["b"]["m"].ours.count == 3
    assert [entries[name]["m"].difference for name in ("a", "c", "weights")] == [None] * 3
    entries = sweep_results.against_row(values, "weights", seedless={"weights"})
    assert close(entries["a"]["m"].difference, 0.5, 2**0.5, 2)
    entries = sweep_results.against_row(values | {"weights": {"m": {}}}, "weights", seedless={"weights"})
    assert entries["a"]["m"].difference is None


def test_unlike_evaluations_are_refused():
    reports = {"a": {0: evaluation(0.9, 0.5)}, "b": {1: evaluation(0.9, 0.5)}}
    setup = sweep_results.setups(reports)["cams"]
    assert setup.startswith("kind identification, is_partial False, protocol scface, images 9, a seed 0 does not tell")
    for run in (reports["a"][0], reports["b"][1]):
        run["sets"]["faces"]["digest"] = "sha256:a"
    assert sweep_results.setups(reports)["faces"].endswith("pairs 600, folds 10, digest sha256:a")
    reports["b"][1]["sets"]["faces"]["digest"] = "sha256:b"
    with pytest.raises(UserError, match=r"b seed 1 was evaluated on another faces than a seed 0: .*b, not sha256:a"):
        sweep_results.setups(reports)
    reports["b"][1]["sets"]["faces"]["pairs"] = 300
    with pytest.raises(UserError, match=r"b seed 1 was evaluated on faces \(.*300.*\) but a seed 0 on \(.*600"):
        sweep_results.setups(reports)
