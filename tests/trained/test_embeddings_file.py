"""Embeddings on disk come back as they were, and what is no such file is refused."""

import signal
import subprocess
import sys

import numpy as np
import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.trained import embeddings_file
from lrfr_jax.trained.embeddings_file import EmbeddingsFile

HELD = EmbeddingsFile(
    ["ä/1.png", "b.png"],
    np.eye(2, 4, dtype=np.float32),
    np.array([3, 4], np.float32),
    ["c"],
    ["is cut"],
    "1f",
    "sum",
    14,
    ["2e"],
)


ROWS = ("embeddings", "norms")


def write(path, held=HELD):
    with embeddings_file.Writer(path) as file:
        for row in range(len(held.norms)):
            file.add(held.embeddings[row : row + 1], held.norms[row : row + 1])
        file.finish(**{name: value for name, value in held._asdict().items() if name not in ROWS})


def test_round_trip(tmp_path):
    write(tmp_path / "new/f.npz")
    found = embeddings_file.read(str(tmp_path / "new/f.npz"), flag="--probes")
    for one, other in zip(found, HELD, strict=True):
        np.testing.assert_array_equal(one, other)
    write(tmp_path / "g.npz", HELD._replace(unreadable=[], reasons=[]))
    assert embeddings_file.read(str(tmp_path / "g.npz"), flag="--probes").unreadable == []


def test_a_file_of_an_older_version_fits_its_own_model_alone(tmp_path):
    arrays = {name: np.array(value) for name, value in HELD._asdict().items() if name != "fits"}
    np.savez(tmp_path / "f.npz", **arrays)
    found = embeddings_file.read(str(tmp_path / "f.npz"), flag="--probes")
    assert (found.fits, found.spaces) == ([], {"1f"})
    assert len(HELD.spaces) == 3  # with either rounding


def test_it_is_what_numpy_writes(tmp_path, monkeypatch):
    """Arrays, dtypes and the order of the bytes, with texts of many chunks."""
    monkeypatch.setattr(embeddings_file, "_CHUNK", 3)
    paths = [f"{'x' * number}.png" for number in range(10)]
    held = HELD._replace(
        paths=paths, embeddings=np.eye(10, 12, dtype=np.float32), norms=np.arange(10, dtype=np.float32)
    )
    write(tmp_path / "f.npz", held)
    np.savez(
        tmp_path / "g.npz", **held._asdict() | {name: np.array(getattr(held, name), np.str_) for name in ("paths",)}
    )
    with np.load(tmp_path / "f.npz") as ours, np.load(tmp_path / "g.npz") as numpys:
        assert set(ours.files) == set(numpys.files)
        for name in ours.files:
            np.testing.assert_array_equal(ours[name], numpys[name], strict=True)


def test_an_interrupted_writer_leaves_nothing(tmp_path):
    def interrupted():
        with embeddings_file.Writer(tmp_path / "new/f.npz") as file:
            file.add(HELD.embeddings, HELD.norms)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())


def test_a_killed_writer_leaves_nothing(tmp_path):
    code = """if True:
        import pathlib, sys, time, numpy as np
        from lrfr_jax.trained.embeddings_file import Writer
        with Writer(pathlib.Path(sys.argv[1])) as file:
            file.add(np.eye(2, 4, dtype=np.float32), np.ones(2, np.float32))
            print("added", flush=True)
            time.sleep(60)
    """
    with subprocess.Popen([sys.executable, "-c", code, tmp_path / "f.npz"], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"added\n"
        process.send_signal(signal.SIGKILL)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change",
    [
        {"embeddings": np.eye(3, 4, dtype=np.float32)},
        {"embeddings": np.eye(2, 4)},
        {"embeddings": np.full((2, 4), 0.4, np.float32)},
        {"embeddings": np.full((2, 4), np.nan, np.float32)},
        {"norms": np.ones(3, np.float32)},
    ],
)
def test_other_arrays_are_refused(tmp_path, change):
    arrays = HELD._asdict() | {"unreadable": np.array(["c"]), "reasons": np.array(["is cut"])} | change
    np.savez(tmp_path / "f.npz", **arrays)
    with pytest.raises(UserError, match=r"--probes .*f\.npz holds no unit vectors, one for each path"):
        embeddings_file.read(str(tmp_path / "f.npz"), flag="--probes")


def test_damaged_and_foreign_files_are_refused(tmp_path):
    write(tmp_path / "f.npz")
    whole = (tmp_path / "f.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[:-50])
    (tmp_path / "text.npz").write_text("paths")
    directory = whole.rindex(b"PK\1\2")  # its entry for the last array
    (tmp_path / "locked.npz").write_bytes(whole[: directory + 8] + b"\1" + whole[directory + 9 :])
    (tmp_path / "packed.npz").write_bytes(whole[: directory + 10] + b"\6" + whole[directory + 11 :])
    # So long that its header is read before its checksum can be.
    np.savez(tmp_path / "long.npz", **dict.fromkeys(HELD._fields, np.full(5000, "1.png")))
    (tmp_path / "header.npz").write_bytes((tmp_path / "long.npz").read_bytes().replace(b"{'descr'", b"{(descr "))
    np.savez(tmp_path / "foreign.npz", embeddings=HELD.embeddings)
    np.savez(tmp_path / "objects.npz", **HELD._asdict() | {"paths": np.array([{}, []], object)})
    for name in ("cut", "text", "locked", "packed", "header", "foreign", "objects", "missing"):
        with pytest.raises(UserError, match=f"{name}.npz cannot be read as a file of `lrfr_jax.embed`"):
            embeddings_file.read(str(tmp_path / f"{name}.npz"), flag="--probes")


def test_what_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    (tmp_path / "f").touch()
    with pytest.raises(UserError, match="cannot be written"):
        write(tmp_path / "f/g.npz")

    def full(file, header):
        file.write(b"PK")
        raise OSError("no space left on the disk")

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", full)
    with pytest.raises(UserError, match="no space left"):
        write(tmp_path / "h.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
