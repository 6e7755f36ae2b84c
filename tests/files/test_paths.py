"""What a flag names: nothing is mangled, and what an object store answers is one sentence."""

import os
import pathlib
import subprocess
import sys

import pytest
from etils import epath

from lrfr_jax.errors import UserError
from lrfr_jax.files import paths
from tests import commands, object_stores


@pytest.fixture
def unreached(monkeypatch):
    """Paths of buckets that nobody asks for."""
    monkeypatch.setattr(paths, "_reach", lambda *names: None)


def test_local_text_stays_what_it_was(tmp_path, monkeypatch):
    for text in ("runs/a", "/runs/a", "a:b/c", str(tmp_path), tmp_path):
        assert paths.of(text) == pathlib.Path(text)
        assert isinstance(paths.of(text), pathlib.Path)
        assert not paths.is_remote(text)
    monkeypatch.chdir(tmp_path)
    assert paths.absolute("runs/../a") == tmp_path.resolve() / "a"


def test_a_text_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "a.json").mkdir()
    with pytest.raises(OSError, match=r"a\.json"):
        paths.write_text(tmp_path / "a.json", "1")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("text", ["gs://bucket/run", "s3://bucket/deep/run", "gs://bucket"])
def test_remote_text_comes_back_letter_by_letter(text, unreached):
    for path in (paths.of(text), paths.of(f"{text}/"), paths.of(paths.of(text)), paths.absolute(text)):
        assert isinstance(path, epath.Path)
        assert str(path) == os.fspath(path) == text
        assert paths.is_remote(path)
        assert str(path / "checkpoints" / "3") == f"{text}/checkpoints/3"
        assert str((path / "eval" / "3.json").with_suffix("")) == f"{text}/eval/3"


@pytest.mark.parametrize("text", ["gs:/bucket/run", pathlib.Path("s3://b/run"), "gs:///run", "gs://", "hdfs://a/b"])
def test_mangled_text_is_refused(text, unreached):
    with pytest.raises(UserError, match=r"is neither a folder of this machine nor gs://BUCKET/PATH or s3://"):
        paths.of(text)
    with pytest.raises(UserError, match=r"--output .* must be on this machine: copy it here"):
        paths.local(text, "--output")


def test_commands_that_work_on_this_machine_refuse_others():
    paths.require_local({"source": "a,b", "seed": 3, "sets": ("a",), "set": ["init_from=gs://b/c"], "name": None})
    with pytest.raises(UserError, match="--workdirs gs://b/run must be on this machine"):
        paths.require_local({"workdirs": "runs/a,gs://b/run"})


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("prepare", ["folder", "--source", "s3://a/b/c", "--name", "n", "--data_dir", "data"]),
        ("prepare", ["folder", "--source", "a", "--name", "n", "--data_dir", "gs://b/data"]),
        ("pretrained", ["--source", "a.pth", "--backbone", "iresnet50", "--out", "gs://b/out"]),
        ("analysis.tables", ["--sweep", "configs/sweeps/table4.py", "--workdir", "gs://b/runs"]),
        ("main", [f"--config={commands.ROOT}/configs/quickstart.py", "--workdir=W", "--data_dir=gs://b/data"]),
    ],
)
def test_doors_of_this_machine(module, arguments, tmp_path):
    result = commands.run(module, *arguments, folder=tmp_path)
    assert result.returncode == 1, result.stderr
    assert "must be on this machine" in result.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_missing_package_and_tensorflow_are_told(monkeypatch):
    paths._reach.cache_clear()
    monkeypatch.setattr(paths.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"s3:// needs the package s3fs: pip install -e '\.\[remote\]'"):
        paths.of("s3://bucket/run")
    monkeypatch.setattr(paths.importlib.util, "find_spec", lambda name: name)
    monkeypatch.delenv("EPATH_USE_TF", raising=False)
    with pytest.raises(UserError, match="TensorFlow is installed and would take gs:// over: set EPATH_USE_TF=false"):
        paths.of("gs://bucket/run")


def test_files_and_folders_come_and_go(bucket, tmp_path):
    there = paths.of(f"{bucket}/files")
    paths.write_text(there / "deep" / "a.json", "1")
    paths.write_text(there / "deep" / "a.json", "2")
    (tmp_path / "more" / "b").mkdir(parents=True)
    (tmp_path / "more" / "b" / "c").write_text("3")
    paths.upload(tmp_path / "more", there / "deep")
    paths.move(there / "deep", there / "aside" / "deep")
    assert not (there / "deep").exists()
    paths.download(there / "aside", tmp_path / "back")
    assert (tmp_path / "back/deep/a.json").read_text() == "2"
    assert (tmp_path / "back/deep/b/c").read_text() == "3"
    with paths.at_hand(there / "aside", "deep") as folder:
        assert (folder / "deep/a.json").read_text() == "2"
    assert not folder.exists()
    paths.download(there / "nothing", tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_other_writers_are_seen(bucket):
    """A listing is not kept: a file that another process writes appears."""
    there = paths.of(f"{bucket}/seen")
    paths.write_text(there / "1", "")
    assert [path.name for path in there.iterdir()] == ["1"]
    script = f"from lrfr_jax.files import paths; paths.write_text(paths.of('{there}/2'), '')"
    subprocess.run([sys.executable, "-c", script], cwd=commands.ROOT, check=True)
    assert sorted(path.name for path in there.iterdir()) == ["1", "2"]
    assert (there / "2").exists()


def test_missing_bucket_is_told_and_not_made(bucket):
    absent = bucket.replace(object_stores.BUCKET, "absent")
    for _ in range(2):
        with pytest.raises(UserError, match=f"{absent} is not there: make the bucket first"):
            paths.of(f"{absent}/run")


def test_denied_access_is_told(bucket):
    if bucket.startswith("gs"):
        pytest.skip("the server of gs:// lets everybody in")
    there = paths.of(f"{bucket}/denied")
    with object_stores.denied(os.environ["AWS_ENDPOINT_URL"]):
        with pytest.raises(UserError, match=r"config.json: access denied \(.*\): log in as one who may"):
            paths.write_text(there / "config.json", "")
        paths._reach.cache_clear()
        with pytest.raises(UserError, match=f"{bucket}: access denied"):
            paths.of(there)


def test_a_silent_server_is_told():
    pytest.importorskip("s3fs")
    script = "from lrfr_jax import errors\nfrom lrfr_jax.files import paths\nwith errors.one_sentence(): paths.of('s3://faces/run')"
    environment = os.environ | {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_MAX_ATTEMPTS": "1"}
    environment |= {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests"}
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=commands.ROOT, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 1
    assert result.stderr.startswith("error: s3://faces cannot be reached (Could not connect")


def test_places_to_write_are_looked_at(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for path in ("new", "new/deep", "."):
        paths.check_folder(tmp_path / path)
    paths.check_file(tmp_path / "new/file")
    paths.check_file(tmp_path / "file")
    for check, name, sentence in (
        (paths.check_folder, "file", r"--plots cannot be written, as .*/file is a file"),
        (paths.check_folder, "file/deep/er", r"--plots cannot be written, as .*/file is a file"),
        (paths.check_file, "file/x", r"--plots cannot be written, as .*/file is a file"),
        (paths.check_file, ".", r"--plots .* is a folder: name a file in it"),
    ):
        with pytest.raises(UserError, match=sentence):
            check(tmp_path / name, flag="--plots")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match="--output cannot be written, as you may not write in"):
        paths.check_file(tmp_path / "new/file")
    paths.check_file(epath.Path("gs://bucket/file"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
