import itertools
import json
import types

import numpy as np
import pytest
import tensorflow_datasets as tfds

from lrfr_jax.data import batches, builders, face_sets, pipeline, records
from lrfr_jax.prepare.__main__ import main

NUM_IMAGES = 100  # more than one batch of the conversion, and no multiple of it


def jpeg(number):
    """Colored noise in blocks; every number gives another picture."""
    blocks = np.random.default_rng(number).integers(0, 256, (7, 7, 3), np.uint8)
    return records.encode_image(blocks.repeat(16, axis=0).repeat(16, axis=1), quality=90)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A folder with the training set `faces`, whose labels stand in no order, and `faces_raw` made of it."""
    folder = tmp_path_factory.mktemp("sets")
    builders.write_training_set(
        str(folder),
        "faces",
        images=((jpeg(number), number * 7 % 5) for number in range(NUM_IMAGES)),
        num_images=NUM_IMAGES,
        identities=["Ann", "Bo", "Çelik", "Dé", "17"],
        num_shards=3,
        arguments={"kind": "folder", "seed": 1},
        notes={"skipped.txt": "one.jpg is truncated\n"},
    )
    convert(folder, "faces_raw")
    return folder


def convert(folder, name, *, source="faces", shards=2):
    main(["raw", "--source", str(folder / source), "--name", name, "--data_dir", str(folder), "--shards", str(shards)])


def refused(capsys, folder, name, **changes):
    with pytest.raises(SystemExit) as status:
        convert(folder, name, **changes)
    assert status.value.code == 1
    assert not list(folder.glob(f"{name}/*"))
    return capsys.readouterr().err


def test_order_labels_and_names_are_those_of_the_source(data_dir):
    before, after = (face_sets.open_training_set(str(data_dir), name) for name in ("faces", "faces_raw"))
    assert (after.num_images, after.num_identities) == (NUM_IMAGES, 5)
    for one, other in zip(before.source, after.source, strict=True):
        assert one["label"] == other["label"]
        assert other["image"].startswith(b"P6\n112 112\n255\n")
        np.testing.assert_array_equal(*(records.decode_image(record["image"]) for record in (one, other)))
    folder = face_sets.folder_of(str(data_dir), "faces_raw")
    assert tfds.builder_from_directory(folder).info.features["label"].names == ["Ann", "Bo", "Çelik", "Dé", "17"]
    assert (folder / "skipped.txt").read_text() == "one.jpg is truncated\n"
    assert not (folder / "labels.csv").exists()
    assert len(list(folder.glob("*.array_record-*"))) == 2
    assert face_sets.read_prepared(folder)["arguments"] == {
        "kind": "raw",
        "source": {"kind": "folder", "seed": 1},
        "images": NUM_IMAGES,
        "licence": None,
        "shards": 2,
    }


def test_batches_are_equal_bit_for_bit(data_dir):
    def taken(name):
        how = {"order": "shuffled", "images_per_identity": 1, "group": "config.input", "num_threads": 2}
        source = batches.make_source(face_sets.open_training_set(str(data_dir), name), batch_size=24, seed=3, **how)
        which = {"start_batch": 2, "process_index": 0, "process_count": 1}
        reading = {"num_threads": 2, "prefetch_images": 48}
        return itertools.islice(pipeline.training_batches(source, **which, **reading), NUM_IMAGES // 24 + 2)

    for one, other in zip(taken("faces"), taken("faces_raw"), strict=True):
        for key in ("image", "label"):
            np.testing.assert_array_equal(one[key], other[key])


def test_check_looks_at_it(data_dir, tmp_path, capsys):
    main(["check", "faces_raw", "--data_dir", str(data_dir), "--output", str(tmp_path)])
    assert "faces_raw: a training set of 100 images" in capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["formats"], report["sizes"]) == ({"PPM": NUM_IMAGES}, {"112x112": NUM_IMAGES})
    assert report["num_undecodable"] == 0
    assert (tmp_path / "contact_sheet.png").exists()


def test_a_second_run_changes_nothing_and_another_one_is_refused(data_dir, capsys):
    convert(data_dir, "faces_raw")
    assert capsys.readouterr().out == f"faces_raw is complete already in {data_dir}: nothing to do\n"
    with pytest.raises(SystemExit):
        convert(data_dir, "faces_raw", shards=3)
    assert "was prepared with shards=2, not shards=3" in capsys.readouterr().err


def test_what_cannot_be_is_a_sentence(data_dir, capsys, monkeypatch):
    assert f"no set named nosuch in {data_dir} (there: faces, faces_raw" in refused(
        capsys, data_dir, "bad", source="nosuch"
    )
    assert "--shards must be at least 1" in refused(capsys, data_dir, "bad", shards=0)
    monkeypatch.setattr(builders.shutil, "disk_usage", lambda path: types.SimpleNamespace(free=3e6))
    sentence = "has 0.003 GB free, 100 images take 0.00376 GB: choose a folder on another disk"
    assert sentence in refused(capsys, data_dir, "bad")


def test_an_image_that_cannot_be_decoded_ends_the_command(tmp_path, capsys):
    builders.write_training_set(
        str(tmp_path),
        "damaged",
        images=[(jpeg(0), 0), (jpeg(1)[:-40], 1)],
        num_images=2,
        identities=["a", "b"],
        num_shards=1,
        arguments={},
        notes={},
    )
    sentence = "a training record with label 1 is truncated: the file ends before the image does; prepare the set again"
    assert sentence in refused(capsys, tmp_path, "bad", source="damaged")
