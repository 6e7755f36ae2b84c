import pathlib

import pytest

from lrfr_jax.analysis.figures import __main__ as figures
from lrfr_jax.errors import UserError


@pytest.mark.parametrize(("output", "made"), [("a/b", "a/b/roc.png"), ("a/b.png", "a/b.png")])
def test_output_is_a_folder_or_a_file(output, made):
    assert figures.png_of(output, "roc") == pathlib.Path(made)


def test_nothing_half_written_stays(tmp_path, monkeypatch, capsys):
    def draw(arguments, png):
        png.write_bytes(b"half")
        raise UserError("no luck")

    monkeypatch.setattr(figures.derivatives, "draw", draw)
    with pytest.raises(SystemExit) as raised:
        figures.main(["derivatives", "--output", str(tmp_path)])
    assert raised.value.code == 1
    assert "error: no luck" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("output", ["afile", "afile/x.png", "folder.png", "taken.png"])
def test_an_output_that_cannot_be_is_told_before_the_work(tmp_path, monkeypatch, capsys, output):
    (tmp_path / "afile").touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "taken.npz").mkdir()
    monkeypatch.setattr(figures.derivatives, "draw", lambda *_: pytest.fail("it was drawn"))
    with pytest.raises(SystemExit, match="1"):
        figures.main(["derivatives", "--output", str(tmp_path / output)])
    assert capsys.readouterr().err.startswith("error: --output")


def test_a_full_disk_is_one_sentence_and_leaves_the_figure_before(tmp_path, monkeypatch, capsys):
    for name in ("derivatives.png", "derivatives.npz"):
        (tmp_path / name).write_text("before")

    def write_half(self, content):
        self.touch()
        raise OSError("no space left")

    monkeypatch.setattr(pathlib.Path, "write_bytes", write_half)
    with pytest.raises(SystemExit, match="1"):
        figures.main(["derivatives", "--output", str(tmp_path)])
    assert f"error: the figure of --output {tmp_path} cannot be made: no space left" in capsys.readouterr().err
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "derivatives.png": "before",
        "derivatives.npz": "before",
    }


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("pca --set generated_test --checkpoints {runs}/one,{runs}/nowhere", "nowhere is no checkpoint"),
        ("pca --set nosuch --checkpoints {runs}/one", "no set named nosuch"),
        ("tsne --set generated_test --checkpoints {runs}/one --images 5 --perplexity 35", "--perplexity=35.0 must lie"),
        ("roc --sets generated_test,nosuch --checkpoints {runs}/one", "no set named nosuch"),
        ("roc --sets generated_train --checkpoints {runs}/one", "is a training set where a test set is needed"),
        ("roc --sets generated_test --checkpoints {runs}/one --embeddings {file}", "--embeddings cannot be written"),
        ("resolution --set nosuch --checkpoints {runs}/one", "no set named nosuch"),
        ("dimension_errors --set generated_test --checkpoints {runs}/one --resolutions 112", "is the full one"),
        ("gradient_norm --set generated_test --checkpoints {runs}/one", "needs identities, generated_test has none"),
    ],
)
def test_what_cannot_be_drawn_is_told_before_a_model_is_loaded_and_leaves_nothing(
    runs, generated_data, tmp_path, monkeypatch, capsys, arguments, sentence
):
    monkeypatch.setattr("lrfr_jax.checkpoints.checkpoint.load_backbone", lambda path: pytest.fail("a model was loaded"))
    (tmp_path / "file").touch()
    words = arguments.format(runs=runs, file=tmp_path / "file").split()
    with pytest.raises(SystemExit, match="1"):
        figures.main([*words, "--data_dir", generated_data, "--output", str(tmp_path / "new")])
    assert sentence in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("kind", figures.KINDS)
def test_every_kind_has_its_help(kind, capsys):
    with pytest.raises(SystemExit) as raised:
        figures.main([kind, "--help"])
    assert raised.value.code == 0
    assert figures.KINDS[kind].EXAMPLE.split(" --")[0] in capsys.readouterr().out
    assert f"figures {kind} --" in figures.KINDS[kind].EXAMPLE


def test_examples_can_be_parsed():
    for module in figures.KINDS.values():
        words = module.EXAMPLE.replace("\\\n", " ").replace("'", "").replace(" p=", "_p=").split()
        words = [word for word in words if word not in ("only,MAug",)]
        figures._parser().parse_args(words[3:])
