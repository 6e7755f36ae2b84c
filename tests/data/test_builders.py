import json
import pickle
import re
import resource
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow_datasets as tfds

from lrfr_jax.data import builders, face_sets, protocol_arrays, records
from lrfr_jax.errors import UserError
from lrfr_jax.files import folder_lock

_NUM_IMAGES = 11


def _images():
    return [records.encode_image(np.full((112, 112, 3), 20 * i, np.uint8), quality=90) for i in range(_NUM_IMAGES)]


def _write_training(data_dir, name="faces", *, num_shards=3, images=None, note="kept\n"):
    labeled = [(image, i % 4) for i, image in enumerate(_images())] if images is None else images
    return builders.write_training_set(
        str(data_dir),
        name,
        images=labeled,
        num_images=_NUM_IMAGES,
        identities=["a", "b", "c", "d"],
        num_shards=num_shards,
        arguments={"seed": 1},
        notes={"note.txt": note},
    )


def _write_verification(data_dir, *, pairs):
    return builders.write_test_set(
        str(data_dir),
        "pairs",
        images=[(image, f"a/{i}.jpg") for i, image in enumerate(_images())],
        num_images=_NUM_IMAGES,
        protocol=protocol_arrays.VerificationProtocol(np.array(pairs), np.array([True, False]), np.array([9, 10])),
        num_shards=2,
        arguments={},
        notes={},
    )


def test_nothing_is_left_among_the_temporary_files(tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    _write_training(tmp_path)
    assert not list((tmp_path / "temporary").iterdir())


@pytest.mark.parametrize("num_shards", [1, 3, _NUM_IMAGES])
def test_record_i_is_image_i_unchanged_over_any_number_of_shards(tmp_path, num_shards):
    folder = _write_training(tmp_path, num_shards=num_shards)
    opened = face_sets.open_training_set(str(tmp_path), "faces")
    assert (opened.num_images, opened.num_identities, len(opened.source)) == (_NUM_IMAGES, 4, _NUM_IMAGES)
    assert [record["image"] for record in opened.source] == _images()
    assert [record["label"] for record in opened.source] == [i % 4 for i in range(_NUM_IMAGES)]
    assert len(list(folder.glob("*.array_record-*"))) == num_shards
    assert (folder / "note.txt").read_text() == "kept\n"
    with pytest.raises(IndexError):
        opened.source[_NUM_IMAGES]


def test_the_files_are_a_tfds_dataset(tmp_path):
    builder = tfds.builder_from_directory(_write_training(tmp_path))
    assert builder.info.features["label"].names == ["a", "b", "c", "d"]
    example = builder.as_data_source(split="train")[5]
    np.testing.assert_array_equal(example["image"], records.decode_image(_images()[5]))
    assert example["label"] == 1


def test_raw_images_pass_through_and_shards_are_not_compressed(tmp_path):
    raw = [records.encode_raw(np.full((112, 112, 3), value, np.uint8)) for value in range(_NUM_IMAGES)]
    folder = _write_training(tmp_path, images=[(image, 0) for image in raw], num_shards=1)
    assert [record["image"] for record in face_sets.open_training_set(str(tmp_path), "faces").source] == raw
    example = tfds.builder_from_directory(folder).as_data_source(split="train")[5]
    np.testing.assert_array_equal(example["image"], records.decode_image(raw[5]))
    (shard,) = folder.glob("*.array_record-*")
    assert shard.stat().st_size > sum(map(len, raw))


def test_the_source_can_be_pickled_and_read_by_many_threads(tmp_path):
    _write_training(tmp_path)
    source = pickle.loads(pickle.dumps(face_sets.open_training_set(str(tmp_path), "faces").source))
    places = np.random.default_rng(0).integers(_NUM_IMAGES, size=200).tolist()
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(lambda i: source[i]["label"], places)) == [i % 4 for i in places]


def test_a_verification_set_returns_its_protocol(tmp_path):
    _write_verification(tmp_path, pairs=[[0, 1], [10, 3]])
    opened = face_sets.open_test_set(str(tmp_path), "pairs")
    np.testing.assert_array_equal(opened.protocol.pairs, [[0, 1], [10, 3]])
    np.testing.assert_array_equal(opened.protocol.is_same, [True, False])
    np.testing.assert_array_equal(opened.protocol.fold, [9, 10])
    assert [record["image"] for record in opened.source] == _images()
    with pytest.raises(ValueError, match="must index into the 11 images"):
        _write_verification(tmp_path / "other", pairs=[[0, 1], [11, 3]])


def test_images_are_not_kept_in_memory_while_a_shard_is_written(tmp_path):
    kept, extra_references = _images(), []

    def images():
        for i, image in enumerate(kept):
            if i >= 2:  # the image before may still be in the hands of the writer
                extra_references.append(sys.getrefcount(kept[i - 2]) - sys.getrefcount(kept[-1]))
            yield image, 0

    _write_training(tmp_path, images=images(), num_shards=1)
    assert extra_references[:-1] == [0] * (_NUM_IMAGES - 3)


def _failing(error):
    for i, image in enumerate(_images()):
        if i == 6:
            raise error
        yield image, 0


@pytest.mark.parametrize("error", [KeyboardInterrupt(), UserError("bad record"), OSError("disk full")])
def test_what_ends_in_the_middle_leaves_nothing_and_can_be_repeated(tmp_path, error):
    with pytest.raises(type(error)):
        _write_training(tmp_path, images=_failing(error))
    assert list((tmp_path / "faces").iterdir()) == []
    with pytest.raises(UserError, match="no set named faces"):
        face_sets.open_training_set(str(tmp_path), "faces")
    _write_training(tmp_path)
    assert face_sets.open_training_set(str(tmp_path), "faces").num_images == _NUM_IMAGES


def test_a_killed_write_does_not_open_and_the_next_one_clears_it(tmp_path):
    leftover = tmp_path / "faces" / "incomplete.ABCDEF_1.0.0"
    leftover.mkdir(parents=True)
    (leftover / "prepared.json").write_text("{}")
    with pytest.raises(UserError, match="was interrupted: run its"):
        face_sets.open_training_set(str(tmp_path), "faces")
    _write_training(tmp_path)
    assert [path.name for path in (tmp_path / "faces").iterdir()] == ["1.0.0"]


def test_two_writers_of_one_set_do_not_disturb_each_other(tmp_path):
    leftover = tmp_path / "faces" / "incomplete.OFTHEOTHER"
    leftover.mkdir(parents=True)
    with folder_lock.alone_in(tmp_path / "faces"), pytest.raises(UserError, match="another process is writing into"):
        _write_training(tmp_path)
    assert leftover.exists()
    _write_training(tmp_path)
    assert not leftover.exists()


def test_fewer_images_than_announced_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="shorter"):
        _write_training(tmp_path, images=[(image, 0) for image in _images()[:-1]])
    assert list((tmp_path / "faces").iterdir()) == []


def test_every_set_that_cannot_be_opened_has_its_sentence(tmp_path):
    folder = _write_training(tmp_path)
    _write_verification(tmp_path, pairs=[[0, 1], [2, 3]])
    data_dir = str(tmp_path)
    with pytest.raises(UserError, match=re.escape(f"no set named x in {tmp_path} (there: faces, pairs)")):
        face_sets.open_training_set(data_dir, "x")
    with pytest.raises(UserError, match="is a verification set where a training set is needed"):
        face_sets.open_training_set(data_dir, "pairs")
    with pytest.raises(UserError, match="is a training set where a test set is needed"):
        face_sets.open_test_set(data_dir, "faces")
    shard = sorted(folder.glob("*.array_record-*"))[1]
    shard.rename(tmp_path / "lost")
    with pytest.raises(UserError, match=rf"is incomplete, {shard.name} is missing"):
        face_sets.open_training_set(data_dir, "faces")
    folder.rename(folder.parent / "0.9.0")
    with pytest.raises(UserError, match=r"was prepared in format 0\.9\.0, not 1\.0\.0"):
        face_sets.open_training_set(data_dir, "faces")


@pytest.mark.parametrize("lost", ["protocol.npz", "prepared.json", "dataset_info.json", "features.json"])
def test_a_missing_file_makes_a_set_incomplete(tmp_path, lost):
    (_write_verification(tmp_path, pairs=[[0, 1], [2, 3]]) / lost).unlink()
    with pytest.raises(UserError, match=f"is incomplete, {lost} is missing"):
        face_sets.open_test_set(str(tmp_path), "pairs")


def test_an_existing_set_is_recognized_by_its_arguments_and_never_overwritten(tmp_path):
    assert not builders.is_complete(str(tmp_path), "faces", arguments={"seed": 1})
    _write_training(tmp_path)
    assert builders.is_complete(str(tmp_path), "faces", arguments={"seed": 1})
    with pytest.raises(UserError, match="was prepared with seed=1, not seed=2"):
        builders.is_complete(str(tmp_path), "faces", arguments={"seed": 2})
    with pytest.raises(UserError, match="exists: choose another --name"):
        _write_training(tmp_path)


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "with space", "ä", "-flag", "line\n"])
def test_unsafe_names_are_refused(tmp_path, name):
    with pytest.raises(UserError, match="--name"):
        _write_training(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_impossible_targets_are_refused(tmp_path):
    with pytest.raises(UserError, match="at least 1, it is 0"):
        builders.check_target("faces", num_shards=0)
    with pytest.raises(UserError, match="at most the number of images, 11; it is 12"):
        _write_training(tmp_path, num_shards=_NUM_IMAGES + 1)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        _write_training(tmp_path / "file")


@pytest.mark.parametrize("lost", [json.dumps({"kind": "other", "arguments": {}}), "{", "[]", '{"kind": "training"}'])
def test_a_damaged_description_is_named_and_does_no_harm_to_other_sets(tmp_path, lost):
    damaged = _write_training(tmp_path, "damaged") / "prepared.json"
    _write_training(tmp_path)
    damaged.write_text(lost)
    assert face_sets.list_sets(str(tmp_path)) == {"damaged": "damaged", "faces": "training"}
    with pytest.raises(UserError, match=r"damaged/1\.0\.0/prepared\.json is damaged: remove .* prepare the set again"):
        face_sets.open_training_set(str(tmp_path), "damaged")
    with pytest.raises(UserError, match=re.escape("(there: damaged, faces)")):
        face_sets.open_training_set(str(tmp_path), "x")


@pytest.mark.parametrize("content", [b"", b"{}", b'{"name": 3}', b"\xff"])
@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
def test_a_damaged_file_of_tfds_is_named(tmp_path, name, content):
    (_write_training(tmp_path) / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name}.* of .*/faces/1\.0\.0 is damaged \(.+\): remove .* prepare the set"):
        face_sets.open_training_set(str(tmp_path), "faces")


@pytest.mark.parametrize("lost", [b"", b"PK\3\4cut", None])
def test_a_damaged_protocol_is_named(tmp_path, lost):
    path = _write_verification(tmp_path, pairs=[[0, 1], [2, 3]]) / "protocol.npz"
    path.write_bytes(path.read_bytes()[:-100] if lost is None else lost)
    with pytest.raises(UserError, match=r"protocol\.npz is damaged \(.+\): remove .* prepare the set again"):
        face_sets.open_test_set(str(tmp_path), "pairs")


def test_a_damaged_shard_is_named(tmp_path):
    folder = _write_training(tmp_path)
    shard = min(folder.glob("*array_record*"))
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])  # an interrupted copy
    source = face_sets.open_training_set(str(tmp_path), "faces").source
    with pytest.raises(UserError, match=rf"record 0 of {folder} is damaged \(.+\): copy the set"):
        source[0]


@pytest.mark.parametrize("note_bytes", [0, 50_000])  # a shard is too large for the disk, or a file beside it
def test_a_disk_without_room_has_its_sentence_and_leaves_nothing(tmp_path, note_bytes):
    raw = [(records.encode_raw(np.full((112, 112, 3), value, np.uint8)), 0) for value in range(_NUM_IMAGES)]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, before[1]))
    try:
        with pytest.raises(UserError, match=f"set faces cannot be written to {tmp_path}: .*File too large"):
            _write_training(tmp_path, images=raw, note="-" * note_bytes)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_other_errors_keep_their_traceback(tmp_path, monkeypatch):
    with pytest.raises(RuntimeError, match="elsewhere"):
        _write_training(tmp_path, images=_failing(RuntimeError("write() failed: elsewhere")))

    def fail(*_, **__):
        raise RuntimeError("something else")

    monkeypatch.setattr(builders._Uncompressed, "write", fail)
    with pytest.raises(RuntimeError, match="something else"):
        _write_training(tmp_path)


def test_the_digest_is_of_the_content_whatever_name_and_shards(tmp_path):
    def digest(name, **changes):
        return face_sets.read_prepared(_write_training(tmp_path, name, **changes))["digest"]

    labeled = [(image, i % 4) for i, image in enumerate(_images())]
    first = digest("a")
    assert re.fullmatch("sha256:[0-9a-f]{64}", first)
    assert face_sets.open_training_set(str(tmp_path), "a").digest == first
    assert digest("b", num_shards=1, note="other") == first
    relabeled = [(image, (label + 1) % 4) for image, label in labeled]
    swapped = [labeled[1], labeled[0], *labeled[2:]]
    repainted = [(labeled[-1][0], labeled[0][1]), *labeled[1:]]
    others = [digest(f"c{i}", images=images) for i, images in enumerate((relabeled, swapped, repainted))]
    assert len({first, *others}) == 4


def test_the_digest_of_a_test_set_holds_its_pairs_and_folds(tmp_path):
    def digest(folder, pairs, is_same=(True, False), folds=(9, 10)):
        protocol = protocol_arrays.VerificationProtocol(np.array(pairs), np.array(is_same), np.array(folds))
        images = [(image, f"{folder}/{i}.jpg") for i, image in enumerate(_images())]
        shared = {"num_images": _NUM_IMAGES, "num_shards": 1, "arguments": {}, "notes": {}}
        builders.write_test_set(str(tmp_path), folder, images=images, protocol=protocol, **shared)
        return face_sets.open_test_set(str(tmp_path), folder).digest

    first = digest("a", [[0, 1], [2, 3]])
    assert digest("b", [[0, 1], [2, 3]]) == first
    others = [digest("c", [[0, 1], [2, 4]]), digest("d", [[0, 1], [2, 3]], is_same=(False, True))]
    assert len({first, *others, digest("e", [[0, 1], [2, 3]], folds=(9, 9))}) == 4


def test_a_set_of_an_older_version_has_no_digest(tmp_path):
    path = _write_training(tmp_path) / "prepared.json"
    prepared = json.loads(path.read_text())
    del prepared["digest"]
    path.write_text(json.dumps(prepared))
    assert face_sets.open_training_set(str(tmp_path), "faces").digest == ""
