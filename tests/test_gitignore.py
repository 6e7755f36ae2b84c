"""What the commands of README.md and docs/ leave in a checkout is never offered to `git add`."""

import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
_OUTPUTS = re.compile(r"--(?:output|out|sheet|workdir|workdirs|data_dir|report|embeddings)[ =]([^\s`|)\"']+)")
# Named in words, not by a command; and the faces that commands read or unpack.
_NAMED = [
    "photos112_report/contact_sheet.png",
    "casia_check/report.json",
    "model.onnx",
    "model.onnx.card.json",
    "model.onnx.card.md",
    "model.stablehlo",
    "model.safetensors",
    "model.npz",
    "a.jpg",
    "faces/ann/1.jpeg",
    "enrolled/ann/1.png",
    "cameras/2.webp",
    "pairs.csv",
    "landmarks.csv.gz",
    "lfw112.tar",
    "faces_emore/train.rec",
    "faces_emore/train.idx",
    "agedb_30.bin",
    "backbone.pth",
    "CASIA_112x112/0/1.bmp",
]
_KEPT = ["docs/method.png", "docs/new.png", "tests/golden/new.npz", "lrfr_jax/data/new.py", "tests/data/new.py"]
_KEPT += [
    "lrfr_jax/analysis/figures/new.py",
    "configs/sweeps/new.py",
    "lrfr_jax/demo/page.html",
    "tests/golden/onnx/new.onnx",
]


def _documented():
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for match in _OUTPUTS.finditer(path.read_text()):
            for name in match[1].split(","):
                is_here = re.match(r"[a-z]\w*(?![\w:])", name)  # no placeholder, variable, absolute path or bucket
                if is_here and not name.startswith("docs/results/"):
                    yield name if pathlib.Path(name).suffix else f"{name}/file"


def _ignored(names):
    """Those of the names that git ignores, whether they exist or not."""
    command = ["git", "check-ignore", "--no-index", "--stdin"]
    done = subprocess.run(command, input="\n".join(names), cwd=ROOT, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        pytest.skip("no git checkout")
    return set(done.stdout.splitlines())


def test_every_output_of_a_documented_command_is_ignored():
    documented = set(_documented())
    assert {"photos112/file", "faces.npz", "hits.png", "hits.csv", "study.html", "lowres.onnx"} <= documented
    assert {"pretrained/arcface_r50/file", "figures/file", "runs/maug/file", "data/file"} <= documented
    wanted = documented | set(_NAMED)
    assert wanted - _ignored(sorted(wanted)) == set()


def test_what_belongs_to_the_project_is_not():
    assert _ignored(_KEPT) == set()


def test_no_file_of_the_project_is_ignored():
    """What .gitignore hides is in this folder and in no clone of it."""
    folders = ("lrfr_jax", "configs", "launch", "tests", "benchmarks", "findings", "docs")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    names = {str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts}
    assert len(names) > 100
    assert names & _ignored(sorted(names)) == set()
