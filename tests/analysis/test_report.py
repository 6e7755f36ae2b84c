import html
import pathlib
import re

import pytest

from lrfr_jax.analysis import report
from lrfr_jax.errors import UserError
from tests.analysis.made_up_sweep import evaluation, write_run, write_sweep
from tests.analysis.test_html_page import Reader
from tests.analysis.test_run_facts import LOG

LINE = '{"step": 1, "train/classification_hr": 5.0}\n{"step": 20, "train/classification_hr": 2.0}\n'
PNG = (pathlib.Path(__file__).resolve().parents[2] / "docs" / "method.png").read_bytes()


@pytest.fixture
def call(tmp_path):
    """Writes two runs, one of them with config, log and curves; then makes the page and returns its reader."""
    run = write_run(tmp_path, "first", 0, evaluation(0.9, 0.5), config={"loss": {"p": 1.0}, "batch_size": 8}, log=LOG)
    (run / "metrics.jsonl").write_text(LINE)
    write_run(tmp_path, "second", 0, evaluation(0.95, 0.75), config={"loss": {"p": 2.0}, "batch_size": 8})

    def make(*options):
        page = tmp_path / "pages" / "study.html"
        report.main([*options, "--output", str(page)])
        assert [path.name for path in page.parent.iterdir()] == ["study.html"]
        return Reader(page.read_text())

    return make


def sweep_options(tmp_path):
    return ("--sweep", str(write_sweep(tmp_path, paper={})), "--workdir", str(tmp_path))


def test_a_sweep_on_one_page(call, tmp_path):
    (tmp_path / "figures" / "deep").mkdir(parents=True)
    for name in ("pca_second", "deep/resolution", "deep/.roc.1.partial", "deep/my_own"):
        (tmp_path / "figures" / f"{name}.png").write_bytes(PNG)
    reader = call(*sweep_options(tmp_path), "--figures", str(tmp_path / "figures"))
    text = " ".join(reader.texts)
    for word in ("A table of <faces>.", "Faces", "ours - first, n=1", "+25.00", "Evaluations are of step 20."):
        assert word in text
    pictures = [value for name, value in reader.attributes if name == "alt"]
    assert pictures == [
        "my own",
        f"{report.CAPTIONS['resolution']} (resolution)",
        f"{report.CAPTIONS['pca']} (pca_second)",
        "first",
    ]
    for word in ("loss.p", "1 h 02 min", "2 x NVIDIA H100", "batch_size = 8"):
        assert word in text
    assert "python -m lrfr_jax.main --config a.py\npython -m lrfr_jax.analysis.report --sweep" in text


def test_single_runs_are_compared_with_the_first(call, tmp_path):
    reader = call("--workdirs", f"{tmp_path}/first/seed0,{tmp_path}/second/seed0")
    text = " ".join(reader.texts)
    assert "Comparison of first/seed0, second/seed0" in text
    assert "second/seed0 - first/seed0" in text
    assert "+25.00" in text
    assert "cams d1 112 px" in text
    pictures = [value for name, value in reader.attributes if name == "alt"]
    assert pictures == [report.CAPTIONS["accuracy_by_resolution"], "first/seed0"]


def test_every_kind_of_figure_has_a_caption_and_the_longest_name_counts():
    folder = pathlib.Path(report.__file__).parent / "figures"
    kinds = re.findall(r'^    "(\w+)": \w+,$', (folder / "__main__.py").read_text(), re.MULTILINE)
    assert len(kinds) == 8
    assert set(kinds) <= report.CAPTIONS.keys()
    assert report.caption_of("lfw_accuracy_by_resolution").startswith(report.CAPTIONS["accuracy_by_resolution"])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--sweep", "SWEEP"), "--sweep needs --workdir"),
        (("--workdirs", "ROOT/first/seed0", "--workdir", "ROOT"), "--workdir is for a --sweep"),
        (("--workdirs", "ROOT/first/seed0", "--reference", "first"), "--reference is for a --sweep"),
        (("--workdirs", "ROOT/first/seed0,ROOT/first/seed0"), "names a run twice"),
        (("--workdirs", "ROOT/nosuch"), "nosuch holds no evaluation"),
        (("--sweep", "SWEEP", "--workdir", "ROOT", "--figures", "ROOT/pages"), "pages holds no PNG"),
        (("--sweep", "SWEEP", "--workdir", "ROOT", "--figures", "ROOT/bad"), r"a\.png is no PNG"),
        (("--sweep", "SWEEP", "--workdir", "ROOT", "--also", "x=a", "--also", "x=b"), "--also has 'x' twice"),
        (("--sweep", "SWEEP", "--workdir", "ROOT/damaged"), r"first/seed0/metrics\.jsonl is damaged"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(call, tmp_path, options, sentence):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_text("GIF")
    damaged = write_run(tmp_path / "damaged", "first", 0, evaluation(0.9, 0.5))
    (damaged / "metrics.jsonl").write_text('{"train/accuracy_hr": 0.5}\nnot json\n')
    path = str(write_sweep(tmp_path, paper={}))
    with pytest.raises(UserError, match=sentence):
        call(*(word.replace("ROOT", str(tmp_path)).replace("SWEEP", path) for word in options))
    assert not (tmp_path / "pages").exists()


@pytest.mark.parametrize(
    ("output", "sentence"),
    [("afile/x.html", "/afile is a file: name a folder"), (".", r"--output .* is a folder: name a file in it")],
)
def test_an_output_that_cannot_be_is_told_before_the_work(tmp_path, output, sentence):
    (tmp_path / "afile").touch()
    with pytest.raises(UserError, match=sentence):
        report.main(["--workdirs", "nosuch", "--output", str(tmp_path / output)])


def test_a_full_disk_leaves_the_page_before(call, tmp_path, monkeypatch):
    call(*sweep_options(tmp_path))
    page = tmp_path / "pages" / "study.html"
    before = page.read_bytes()

    def write_half(self, *_, **__):
        self.touch()
        raise OSError("no space left")

    options = sweep_options(tmp_path)
    monkeypatch.setattr(pathlib.Path, "write_bytes", write_half)
    monkeypatch.setattr(pathlib.Path, "write_text", write_half)
    with pytest.raises(UserError, match=r"study\.html cannot be written: no space left"):
        call(*options)
    assert [path.name for path in page.parent.iterdir()] == ["study.html"]
    assert page.read_bytes() == before


def test_the_title_is_escaped(call, tmp_path):
    call(*sweep_options(tmp_path))
    assert f"<h1>{html.escape('A table of <faces>.')}</h1>" in (tmp_path / "pages" / "study.html").read_text()
