"""Embeddings on disk come back as they were, and what is no such file is refused."""

import numpy as np
import pytest

from lrfr_jax import embeddings_file
from lrfr_jax.embeddings_file import EmbeddingsFile
from lrfr_jax.errors import UserError

HELD = EmbeddingsFile(
    ["ä/1.png", "b.png"],
    np.eye(2, 4, dtype=np.float32),
    np.array([3, 4], np.float32),
    ["c"],
    ["is cut"],
    "1f",
    "sum",
    14,
)


def test_round_trip(tmp_path):
    embeddings_file.write(tmp_path / "new/f.npz", HELD)
    found = embeddings_file.read(str(tmp_path / "new/f.npz"), flag="--probes")
    for one, other in zip(found, HELD, strict=True):
        np.testing.assert_array_equal(one, other)
    embeddings_file.write(tmp_path / "g.npz", HELD._replace(unreadable=[], reasons=[]))
    assert embeddings_file.read(str(tmp_path / "g.npz"), flag="--probes").unreadable == []


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
    embeddings_file.write(tmp_path / "f.npz", HELD._replace(**change))
    with pytest.raises(UserError, match=r"--probes .*f\.npz holds no unit vectors, one for each path"):
        embeddings_file.read(str(tmp_path / "f.npz"), flag="--probes")


def test_damaged_and_foreign_files_are_refused(tmp_path):
    embeddings_file.write(tmp_path / "f.npz", HELD)
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
        embeddings_file.write(tmp_path / "f/g.npz", HELD)

    def full(file, **arrays):
        file.write(b"PK")
        raise OSError("no space left on the disk")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(UserError, match="no space left"):
        embeddings_file.write(tmp_path / "h.npz", HELD)
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
