"""What the tests of packs share: running the command, reading what it wrote, faces of one gray."""

import numpy as np
import pytest

from lrfr_jax.data import face_sets, records
from lrfr_jax.prepare.__main__ import main


def face(value):
    """An aligned picture of one gray, as JPEG."""
    return records.encode_image(np.full((112, 112, 3), value, np.uint8), quality=90)


def prepare(tmp_path, kind, *sources, flags=(), name="faces"):
    """Makes a set of the sources."""
    given = [flag for source in sources for flag in ("--source", str(source))]
    main([kind, *given, "--name", name, "--data_dir", str(tmp_path / "sets"), "--shards", "1", *flags])


def refused(capsys, tmp_path, kind, *sources, flags=()):
    """Runs a command that must fail; returns its one line. Nothing may be left behind."""
    with pytest.raises(SystemExit) as status:
        prepare(tmp_path, kind, *sources, flags=flags)
    lines = capsys.readouterr().err.strip().splitlines()
    assert status.value.code == 1
    assert len(lines) == 1
    assert not (tmp_path / "sets").exists()
    return lines[0]


def content(tmp_path, name="faces"):
    """The (identity, gray) of each record."""
    opened = face_sets.open_training_set(str(tmp_path / "sets"), name)
    names = (tmp_path / "sets" / name / "1.0.0/label.labels.txt").read_text().split("\n")
    return [(names[record["label"]], int(records.decode_image(record["image"])[0, 0, 0])) for record in opened.source]
