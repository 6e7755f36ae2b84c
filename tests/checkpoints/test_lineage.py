"""Which code made weights: versions, and the commit only where this code itself lies in a checkout."""

import shutil
import subprocess
import sys

import jax

from lrfr_jax.checkpoints import lineage
from tests.conftest import ROOT


def test_versions_and_facts():
    entry = lineage.entry("import", file="a.pth")
    assert (entry["kind"], entry["file"]) == ("import", "a.pth")
    assert entry["code"]["jax"] == jax.__version__


def commit_of(package_folder):
    """What a copy of the module in this folder says."""
    code = "import importlib.util as u, sys; s = u.spec_from_file_location('lineage', sys.argv[1]); "
    code += "m = u.module_from_spec(s); s.loader.exec_module(m); print(m.code_version().get('commit', ''))"
    path = package_folder / "lineage.py"
    return subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True).stdout.strip()


def test_commit(tmp_path):
    shutil.copy(ROOT / "lrfr_jax" / "checkpoints/lineage.py", tmp_path)
    assert commit_of(tmp_path) == ""  # no checkout
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "other.txt").write_text("1")
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "other.txt"], check=True)
    subprocess.run([*git, "commit", "-qm", "a"], check=True)
    assert commit_of(tmp_path) == ""  # somebody else's: this file is not tracked in it
    subprocess.run([*git, "add", "lineage.py"], check=True)
    subprocess.run([*git, "commit", "-qm", "b"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert commit_of(tmp_path) == head
    (tmp_path / "other.txt").write_text("2")
    assert commit_of(tmp_path) == f"{head}+changes"
