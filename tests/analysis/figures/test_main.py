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
