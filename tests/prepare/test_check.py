import argparse
import json
import shutil

import cv2
import numpy as np
import pytest

from lrfr_jax.data import builders, face_sets, protocol_arrays, records, synthetic
from lrfr_jax.errors import one_sentence
from lrfr_jax.prepare import check


def run(*flags):
    parser = argparse.ArgumentParser()
    check.add_arguments(parser.add_argument)
    with one_sentence():
        return check.run(parser.parse_args([str(flag) for flag in flags]))


def encode(face, quality=95):
    return records.encode_image(face, quality=quality)


@pytest.fixture(scope="module")
def faces():
    """Six images of each of four generated persons."""
    return [synthetic.render_face(identity, number, seed=0) for identity in range(4) for number in range(6)]


@pytest.fixture
def checked(tmp_path, capsys):
    """Writes a training set of (bytes, label), checks it, and returns (report, stdout, stderr, status)."""

    def write_and_check(images, *flags, identities=("Ann B", "cid", "dora", "17")):
        builders.write_training_set(
            str(tmp_path / "sets"), "faces", images=iter(images), num_images=len(images), identities=list(identities),
            num_shards=1, arguments={}, notes={},
        )  # fmt: skip
        status, out = 0, ""
        try:
            out = run("faces", "--data_dir", tmp_path / "sets", "--output", tmp_path / "report", *flags)
        except SystemExit as error:
            status = error.code
        captured = capsys.readouterr()
        report = json.loads((tmp_path / "report" / "report.json").read_text())
        return report, out or captured.out, captured.err, status

    return write_and_check


def write_test_set(tmp_path, images, names):
    protocol = protocol_arrays.VerificationProtocol(
        np.array([[0, 1]], np.int32), np.array([True]), np.array([1], np.int32)
    )
    builders.write_test_set(
        str(tmp_path / "sets"), "probe", images=((image, f"x/{i}") for i, image in enumerate(images)),
        num_images=len(images), protocol=protocol, num_shards=1, arguments={},
        notes={"identities.txt": "".join(f"{name}\n" for name in names)},
    )  # fmt: skip


def test_a_good_set_is_counted_and_shown(tmp_path, faces, checked):
    images = [(encode(face), index // 6) for index, face in enumerate(faces)]
    report, out, err, status = checked(images, "--min_images", "7", "--batch_size", "5", "--embedding_size", "10")
    assert (status, err) == (0, "")
    assert report["images"] == 24
    assert report["sizes"] == {"112x112": 24}
    assert report["formats"] == {"JPEG": 24}
    identities = report["identities"]
    assert identities["images_per_identity"] == {"least": 6, "median": 6.0, "most": 6}
    assert identities["histogram"] == {"1-1": 0, "2-3": 0, "4-7": 4}
    assert (identities["num_tiny"], identities["tiny"]) == (4, [0, 1, 2, 3])
    assert report["duplicates"]["num_exact"] == report["duplicates"]["num_near"] == 0
    estimates = report["estimates"]
    assert estimates["classifier_bytes"] == 4 * 10 * 4
    assert estimates["logits_bytes_per_batch"] == 2 * 5 * 4 * 4
    assert estimates["steps_per_epoch"] == 4
    assert estimates["mean_bytes_per_image"] == sum(len(image) for image, _ in images) // 24
    assert "faces: a training set of 24 images" in out
    sheet = cv2.imread(str(tmp_path / "report/contact_sheet.png"))[..., ::-1]
    stored, exchanged = sheet[24:136, 8:120], sheet[24:136, 128:240]
    np.testing.assert_array_equal(stored, records.decode_image(images[0][0]))
    np.testing.assert_array_equal(exchanged, stored[..., ::-1])


def test_what_is_plainly_wrong_ends_with_status_1_and_names_it(faces, checked):
    small = cv2.imencode(".png", faces[0][:50])[1].tobytes()
    images = [(encode(faces[0]), 0), (encode(faces[6])[:900], 0), (encode(faces[7]), 3), (small, 3)]
    report, out, err, status = checked(images)
    assert status == 1
    assert len(err.strip().splitlines()) == 1
    assert "2 records cannot be used, as record 1, which is truncated" in err
    assert "2 labels have no image, as label 1" in err
    assert report["undecodable"].keys() == {"1", "3"}
    assert report["sizes"] == {"112x112": 2, "unknown": 1, "112x50": 1}
    assert report["formats"] == {"JPEG": 3, "PNG": 1}
    assert report["identities"]["empty"] == [1, 2]
    assert "faces: a training set of 4 images" in out


def test_a_set_of_one_label_is_not_fit_for_use(faces, checked, monkeypatch):
    monkeypatch.setattr(builders, "check_identities", lambda count, name: None)  # as sets were made before
    _, _, err, status = checked([(encode(face), 0) for face in faces[:4]], identities=["0"])
    assert status == 1
    assert "all images have one label, so there is nothing to tell apart: the identities stand elsewhere" in err


def test_the_report_lies_beside_the_set_and_disturbs_nothing(tmp_path, faces, checked, monkeypatch):
    checked([(encode(face), index // 6) for index, face in enumerate(faces)])
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    run("faces", "--data_dir", "sets")
    assert sorted(tmp_path.iterdir()) == before
    assert sorted(path.name for path in (tmp_path / "sets/faces/check").iterdir()) == [
        "contact_sheet.png",
        "report.json",
    ]
    assert face_sets.list_sets("sets") == {"faces": "training"}
    shutil.rmtree(tmp_path / "sets/faces/1.0.0")
    with pytest.raises(SystemExit):
        run("faces", "--data_dir", "sets")
    assert face_sets.list_sets("sets") == {}
    builders.write_training_set(
        "sets", "faces", images=iter([(encode(faces[0]), 0), (encode(faces[6]), 1)]), num_images=2,
        identities=["a", "b"], num_shards=1, arguments={}, notes={},
    )  # fmt: skip
    assert face_sets.list_sets("sets") == {"faces": "training"}


def test_a_set_to_compare_with_that_is_missing_is_told_before_the_first_image(
    tmp_path, faces, checked, capsys, monkeypatch
):
    checked([(encode(face), index // 6) for index, face in enumerate(faces)])
    monkeypatch.setattr(check, "survey", None)  # must not be reached
    with pytest.raises(SystemExit):
        run("faces", "--data_dir", tmp_path / "sets", "--against", "nosuch")
    assert "no set named nosuch" in capsys.readouterr().err


def test_labels_beyond_the_identities_are_named():
    found = check._identities(np.array([0, 1, -1, 5, 1]), 3, 2)
    assert (found["num_out_of_range"], found["out_of_range"]) == (2, [2, 3])
    assert (found["empty"], found["tiny"]) == ([2], [0])


def test_duplicates_are_found_and_labels_that_disagree(faces, checked):
    images = [(encode(face), index // 6) for index, face in enumerate(faces)]
    images[3] = (images[0][0], 0)  # byte by byte
    images[20] = (encode(faces[1], quality=70), 3)  # another encoding, another label
    report, out, _, status = checked(images)
    duplicates = report["duplicates"]
    assert duplicates["exact"] == [[0, 3]]
    assert duplicates["near"] == [[1, 20]]
    assert duplicates["across_identities"] == [[1, 20]]
    assert "warning: 1 pairs of duplicates have different labels" in out
    assert status == 0


def test_images_and_names_that_a_test_set_has_too_are_found(tmp_path, faces, checked, capsys):
    images = [(encode(face), index // 6) for index, face in enumerate(faces)]
    write_test_set(tmp_path, [images[9][0], encode(faces[14], quality=60)], ["ann_b", "17", "eve"])
    report, out, err, status = checked(images)
    shared = report["against"]["probe"]
    assert shared["shared"] == [{"record": 9, "other_record": 0}, {"record": 14, "other_record": 1}]
    assert (shared["num_exact"], shared["num_near"]) == (1, 1)
    assert shared["identities"] == {"num_shared": 1, "shared": ["Ann B"]}  # a name that is a number tells nothing
    assert status == 1
    assert "2 images are in probe too, as record 9, there record 0" in err
    assert "warning: 1 identities have a name that probe has too" in out
    data = ["--data_dir", tmp_path / "sets", "--output", tmp_path / "again"]
    assert "against" not in run("faces", *data, "--against", "")
    assert "probe: a verification set of 2 images" in run("probe", *data)
    for against, sentence in [("faces", "names faces itself"), ("nothing", "no set named nothing")]:
        with pytest.raises(SystemExit):
            run("faces", *data, "--against", against)
        assert sentence in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run("faces", *data, "--batch_size", "0")
    assert "--batch_size must be at least 1" in capsys.readouterr().err


def test_all_copies_of_an_image_that_a_test_set_has_are_counted(tmp_path, faces, checked):
    images = [(encode(face), index // 6) for index, face in enumerate(faces)]
    same_pixels = records.decode_image(images[14][0])[..., ::-1]
    images += [
        (cv2.imencode(".png", same_pixels, [cv2.IMWRITE_PNG_COMPRESSION, level])[1].tobytes(), 2) for level in (0, 9)
    ]
    write_test_set(tmp_path, [images[9][0], encode(faces[14], quality=60)], ["eve"])
    report, *_ = checked(images)
    shared = report["against"]["probe"]
    assert [pair["record"] for pair in shared["shared"]] == [9, 14, 24, 25]
    assert (shared["num_exact"], shared["num_near"]) == (1, 3)


def test_exchanged_channels_gray_and_faceless_images_are_noticed(faces, checked):
    skin = np.clip(np.stack([face + np.array([60, 0, -60]) for face in faces]), 0, 255).astype(np.uint8)
    images = [(encode(face[..., ::-1]), index // 6) for index, face in enumerate(skin)]
    images[0] = (encode(np.repeat(faces[0][..., :1], 3, axis=2)), 0)
    images[7] = (encode(np.full((112, 112, 3), 3, np.uint8)), 1)
    images[8] = (encode(np.full((112, 112, 3), 250, np.uint8)), 1)
    report, out, _, status = checked(images)
    assert report["colors"] == {"num_gray": 3, "share_redder_than_blue": 0.0}
    assert "warning: only 0% of the colored faces are redder than blue: red and blue may be exchanged" in out
    assert "`--order bgr` mends" in out
    suspicious = report["suspicious"]
    assert (suspicious["flat"], suspicious["dark"], suspicious["bright"]) == ([7, 8], [7], [8])
    assert status == 0
    assert check._colors(np.zeros(0, [("red_minus_blue", "<f4"), ("decoded", "?")]))["share_redder_than_blue"] is None


def test_damaged_records_of_a_shard_are_named_and_are_no_duplicates(tmp_path, faces, checked, capsys):
    images = [(encode(face), index // 6) for index, face in enumerate(faces)]
    checked(images)
    (shard,) = tmp_path.glob("sets/faces/1.0.0/*array_record*")
    content = bytearray(shard.read_bytes())
    for image, _ in (images[3], images[15]):
        content[bytes(content).index(image[-40:])] ^= 0x5A
    shard.write_bytes(content)
    with pytest.raises(SystemExit):
        run("faces", "--data_dir", tmp_path / "sets", "--output", tmp_path / "report")
    assert "2 records cannot be used, as record 3, which cannot be read from its shard" in capsys.readouterr().err
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["undecodable"].keys() == {"3", "15"}
    assert report["duplicates"]["num_exact"] == report["duplicates"]["num_near"] == 0
    assert report["identities"]["images_per_identity"]["least"] == 5


def test_a_report_folder_that_cannot_be_made_is_told_before_the_first_image(
    tmp_path, faces, checked, capsys, monkeypatch
):
    checked([(encode(face), index // 6) for index, face in enumerate(faces)])
    monkeypatch.setattr(check, "survey", None)  # must not be reached
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit):
        run("faces", "--data_dir", tmp_path / "sets", "--output", tmp_path / "file/report")
    assert f"--output {tmp_path / 'file/report'} cannot be written: " in capsys.readouterr().err
