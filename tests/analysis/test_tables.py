import csv

import pytest

from lrfr_jax.analysis import tables
from lrfr_jax.errors import UserError
from tests.analysis import made_up_sweep
from tests.analysis.made_up_sweep import evaluation, write_run, write_sweep


@pytest.fixture
def call(tmp_path, capsys):
    """Runs the command over three rows, of which the third has not run; returns the lines printed, split at spaces."""
    for seed, full in ((0, 0.9), (1, 0.92)):
        write_run(tmp_path, "first", seed, evaluation(full, 0.5))
        write_run(tmp_path, "second", seed, evaluation(full + 0.01, 0.6 + seed / 10))

    def run(*options, paper=None):
        path = write_sweep(tmp_path, paper=paper or {})
        tables.main(["--sweep", str(path), "--workdir", str(tmp_path), *options])
        return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]

    return run


def test_ours_beside_the_papers(call, tmp_path):
    lines = call(
        "--output", str(tmp_path / "out"), paper={"faces/accuracy": 90.5, "cams_d1/rank1+faces/accuracy": 70.0}
    )
    assert lines[2:9] == [
        "Faces",
        "row 112 px 7 px",
        "first ours, n=2 91.00 +- 1.41 50.00 +- 0.00",
        "first paper 90.50 -",
        "first ours - paper, n=2 +0.50 +- 1.41 -",
        "second ours, n=2 92.00 +- 1.41 65.00 +- 7.07",
        "third ours - -",
    ]
    assert "first ours - paper, n=2 +0.50 +- 0.71" in lines
    assert "Evaluations are of step 20." in lines
    setup = "faces: kind verification, is_partial False, protocol insightface, pairs 600, folds 10, "
    assert any(line.startswith(setup) for line in lines)
    markdown = (tmp_path / "out" / "table.md").read_text()
    assert "# A table of <faces>." in markdown
    assert "| row |  | 112 px | 7 px |\n| --- | --- | --: | --: |\n| first | ours, n=2 | 91.00 +- 1.41 |" in markdown
    with open(tmp_path / "out" / "table.csv", newline="") as file:
        first, *_, last = csv.DictReader(file)
    assert (first["row"], first["metric"], first["n"]) == ("first", "faces/accuracy", "2")
    assert (float(first["mean"]), float(first["paper"]), float(first["difference"])) == pytest.approx((91, 90.5, 0.5))
    assert (first["compared_with"], float(first["standard_deviation"])) == ("paper", pytest.approx(2**0.5))
    assert (last["table"], last["row"], last["n"], last["mean"], last["difference"]) == ("Mean", "third", "0", "", "")


def test_a_row_without_a_config_has_its_published_numbers_alone(call, monkeypatch, capsys):
    told = 'yield {"name": "told", "arg": "", "overrides": {}, "paper": {"faces/accuracy": 80.5}, "config": None}'
    monkeypatch.setattr(made_up_sweep, "TEXT", made_up_sweep.TEXT.replace("    for name", f"    {told}\n    for name"))
    lines = call()
    assert lines[2:6] == [
        "Faces",
        "row 112 px 7 px",
        "told paper 80.50 -",
        "first ours, n=2 91.00 +- 1.41 50.00 +- 0.00",
    ]
    assert "Published numbers alone, as no config trains them: told." in lines
    assert not any("told" in line for line in call("--reference", "first"))
    with pytest.raises(UserError, match="--reference told is no row that runs: choose one of first, second, third"):
        call("--reference", "told")


def test_without_a_paper_the_first_row_is_the_reference(call):
    lines = call()
    assert "second ours - first, n=2 +1.00 +- 0.00 +15.00 +- 7.07" in lines
    assert not any("paper" in line for line in lines)
    assert lines.count("third ours - -") == 1
    assert any("Differences to first are taken seed by seed." in line for line in lines)


def test_another_reference_stands_in_for_the_papers(call):
    lines = call("--reference", "second", paper={"faces/accuracy": 90.5})
    assert "first ours - second, n=2 -1.00 +- 0.00 -15.00 +- 7.07" in lines
    assert not any("paper" in line for line in lines)


def test_metrics_of_choice_and_a_row_that_was_not_trained(call, tmp_path):
    weights = write_run(tmp_path / "elsewhere", "w", 0, evaluation(0.5, 0.25, step=0))
    options = ("--also", f"as they come={weights}", "--reference", "as they come")
    lines = call("--metrics", "low:faces/hr_lr_7/accuracy,faces/auc", *options)
    assert lines[2:6] == [
        "Metrics",
        "row low faces/auc",
        "as they come ours, n=1 25.00 90.00",
        "first ours, n=2 50.00 +- 0.00 90.00 +- 0.00",
    ]
    assert "second ours - as they come, n=2 +40.00 +- 7.07 +0.00 +- 0.00" in lines
    assert "Evaluations are of step 20; as they come is of step 0." in lines


def test_a_number_of_fewer_seeds_says_so(call, tmp_path):
    half = evaluation(0.7, 0.6)
    del half["sets"]["faces"]["results"][1]
    write_run(tmp_path, "second", 2, half)
    write_run(tmp_path, "second", 3, evaluation(0.1, 0.1, step=10))
    lines = call()
    assert any(line.startswith("second ours, n=3 84.67 +- 12.74 65.00 +- 7.07 (n=2)") for line in lines)
    assert "second seed 3 is not counted: step 10 of 20" in lines


def test_nothing_has_run_yet(tmp_path, capsys):
    path = write_sweep(tmp_path, paper={"faces/accuracy": 90.5})
    tables.main(["--sweep", str(path), "--workdir", str(tmp_path / "none"), "--metrics", "faces/accuracy"])
    out = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["first", "ours", "-"] in out
    assert ["first", "paper", "90.50"] in out
    assert ["No", "run", "was", "evaluated", "yet."] in out


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--reference", "fourth"), "--reference fourth is no row that runs: choose one of first, second, third"),
        (("--metrics", "faces/accuracy,faces/acc"), "no run was evaluated for faces/acc: choose"),
        (("--also", "first"), "--also 'first' must be NAME=DIR"),
        (("--also", "x=nosuch"), "nosuch holds no evaluation"),
        (("--also", "first=nosuch"), "--also first has the name of a row"),
        (("--also", "x=a", "--also", "x=b"), "--also has 'x' twice: give each a name of its own"),
        (("--metrics", "t:faces/accuracy,t:faces/auc"), "--metrics has 't' twice"),
    ],
)
def test_bad_options_are_one_sentence(call, options, sentence):
    with pytest.raises(UserError, match=sentence):
        call(*options)


def test_markdown_escapes_bars():
    assert tables.markdown([["a", "b"], ["x|y", "z"]]).splitlines()[-1] == "| x\\|y | z |"


def test_an_output_that_cannot_be_written_has_its_sentence(call, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--output cannot be written, as .*/file is a file"):
        call("--output", str(tmp_path / "file/x"))
    (tmp_path / "full" / "table.csv").mkdir(parents=True)
    with pytest.raises(UserError, match=r"--output .*full cannot be written: .*Is a directory"):
        call("--output", str(tmp_path / "full"))


def test_a_dot_in_the_name_of_a_sweep_stays(tmp_path):
    tables._write(tmp_path / "sweep.v2", "# T\n", [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sweep.v2.csv", "sweep.v2.md"]
