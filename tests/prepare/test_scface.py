import json
import tarfile

import numpy as np
import pytest

from lrfr_jax.data import face_sets
from lrfr_jax.prepare import scface
from lrfr_jax.prepare.__main__ import main
from tests.prepare import layouts


def _layout(persons):
    """Every picture of each person has its own color: (person, 10 * camera, 10 * distance)."""
    files = {}
    for person in persons:
        files[f"mugshot_frontal_cropped_all/{person:03d}_frontal.JPG"] = layouts.flat(person, 0, 0)
        files[f"mugshot_rotation_all/{person:03d}_L1.jpg"] = layouts.flat(person, 255, 255)
        for distance in (1, 2, 3):
            for camera in (1, 2, 3, 4, 5, 6, 7):
                path = f"surveillance_cameras_distance_{distance}/cam_{camera}/{person:03d}_cam{camera}_{distance}.jpg"
                files[path] = layouts.flat(person, 10 * camera, 10 * distance)
    return files


def _command(tmp_path, *flags, name="scface"):
    shared = ["--source", str(tmp_path / "source"), "--data_dir", str(tmp_path / "sets"), "--name", name]
    return ["scface", *shared, *flags]


def _refused(capsys, command):
    with pytest.raises(SystemExit) as status:
        main(command)
    assert status.value.code == 1
    return capsys.readouterr().err


def test_the_whole_set_and_the_training_set_of_a_row(tmp_path, capsys):
    layouts.write(tmp_path / "source", _layout(range(1, 131)))
    main(_command(tmp_path, "--num_splits", "3", "--seed", "5"))
    assert capsys.readouterr().out.startswith("130 gallery images, 1950 probes, 130 identities, complete")
    opened = face_sets.open_test_set(str(tmp_path / "sets"), "scface")
    protocol = opened.protocol
    assert not opened.is_partial
    assert protocol.groups == ("d1", "d2", "d3")
    colors = np.array([layouts.color(record["image"]) for record in opened.source])
    everyone = np.arange(1, 131)
    np.testing.assert_array_equal(protocol.gallery_labels, everyone)
    np.testing.assert_array_equal(colors[protocol.gallery], np.stack([everyone, 0 * everyone, 0 * everyone], 1))
    wanted = [
        (person, 10 * camera, 10 * distance) for person in everyone for camera in range(1, 6) for distance in (1, 2, 3)
    ]
    np.testing.assert_array_equal(colors[protocol.probes], wanted)
    np.testing.assert_array_equal(protocol.probe_labels, np.array(wanted)[:, 0])
    np.testing.assert_array_equal(protocol.probe_groups, np.array(wanted)[:, 2] // 10 - 1)

    assert {name: rows.shape for name, rows in protocol.splits.items()} == {
        "random_80": (3, 80),
        "idiap_dev": (1, 44),
        "idiap_eval": (1, 43),
    }
    assert protocol.splits["idiap_dev"][0].tolist() == list(range(44, 88))
    assert protocol.splits["idiap_eval"][0].tolist() == list(range(88, 131))
    lists = json.loads((opened.path / "splits.json").read_text())
    assert [row["test"] for row in lists["random_80"]] == protocol.splits["random_80"].tolist()
    assert lists["idiap_eval"][0]["training"] == list(range(1, 44))

    training = ["--part", "training", "--row", "2", "--num_splits", "3", "--seed", "5"]
    main(_command(tmp_path, *training, name="row2"))
    assert capsys.readouterr().out.startswith("800 images of 50 identities, complete")
    training_set = face_sets.open_training_set(str(tmp_path / "sets"), "row2")
    source = training_set.source
    assert training_set.licence.startswith("research, by a signed release agreement")
    persons = np.array([layouts.color(record["image"])[0] for record in source])
    chosen = lists["random_80"][2]["training"]
    assert sorted({*chosen, *lists["random_80"][2]["test"]}) == everyone.tolist()
    np.testing.assert_array_equal(persons, np.repeat(chosen, 16))
    np.testing.assert_array_equal([record["label"] for record in source], np.repeat(np.arange(50), 16))
    main(_command(tmp_path, *training, name="row2"))
    assert "is complete already" in capsys.readouterr().out
    assert "was prepared with row=2, not row=1" in _refused(
        capsys, _command(tmp_path, *training[:3], "1", *training[4:], name="row2")
    )


def test_a_row_depends_on_seed_and_number_only():
    rows = scface.draw_rows(num_splits=4, seed=0)
    np.testing.assert_array_equal(scface.draw_rows(num_splits=2, seed=0), rows[:2])
    assert all(len(set(row)) == 80 and min(row) >= 1 and max(row) <= 130 for row in rows.tolist())
    assert len({tuple(row) for row in [*rows.tolist(), *scface.draw_rows(num_splits=4, seed=1).tolist()]}) == 8


def test_photos_published_twice_are_one_and_others_end_the_command(tmp_path, capsys):
    files = _layout([7])
    copies = {f"surveillance_cameras_all/007_cam{c}_1.jpg": layouts.flat(7, 10 * c, 10) for c in range(1, 6)}
    mugshot = {"mugshot_frontal_original_all/007_frontal.jpg": layouts.flat(99, 0, 0)}
    layouts.write(tmp_path / "source", files | copies | mugshot)
    error = _refused(capsys, _command(tmp_path, "--allow_partial"))
    assert "mugshot_frontal_cropped_all/007_frontal.JPG and mugshot_frontal_original_all/007_frontal.jpg" in error
    assert "choose one with --mugshots" in error
    for choice, person in (("original", 99), ("cropped", 7)):
        main(_command(tmp_path, "--allow_partial", "--mugshots", choice, name=choice))
        opened = face_sets.open_test_set(str(tmp_path / "sets"), choice)
        assert layouts.color(opened.source[int(opened.protocol.gallery[0])]["image"]) == (person, 0, 0)
        assert opened.is_partial
        assert len(opened.protocol.probes) == 15
    layouts.write(tmp_path / "source", {"surveillance_cameras_all/007_cam1_1.jpg": layouts.flat(1, 1, 1)})
    error = _refused(capsys, _command(tmp_path, "--allow_partial", "--mugshots", "cropped"))
    assert "two different pictures" in error
    assert "leave one of them" in error


def test_a_tar_gives_the_same_set(tmp_path):
    layouts.write(tmp_path / "source", _layout([3, 80]))
    with tarfile.open(tmp_path / "source.tar", "w") as tar:
        tar.add(tmp_path / "source", arcname="SCface_database")
    main(_command(tmp_path, "--allow_partial", name="folder"))
    command = _command(tmp_path, "--allow_partial", name="tar")
    command[command.index(str(tmp_path / "source"))] = str(tmp_path / "source.tar")
    main(command)
    stored = []
    for name in ("folder", "tar"):
        opened = face_sets.open_test_set(str(tmp_path / "sets"), name)
        stored.append([[record["image"] for record in opened.source], opened.protocol.probe_labels.tolist()])
    assert stored[0] == stored[1]


def test_counts_and_sizes_that_are_not_official_have_their_sentences(tmp_path, capsys):
    layouts.write(tmp_path / "source", _layout([1, 2]))
    error = _refused(capsys, _command(tmp_path))
    assert "has 2 frontal mugshots (official: 130), 30 surveillance photos of cameras 1 to 5 (official: 1950)" in error
    assert not list(tmp_path.glob("sets/scface/*"))
    small = {"surveillance_cameras_distance_1/cam_1/001_cam1_1.jpg": layouts.face(1, 1, size=(60, 75))}
    layouts.write(tmp_path / "source", small)
    for name, flags, num_probes in (("aligned", [], 29), ("resized", ["--resize"], 30)):
        main(_command(tmp_path, "--allow_partial", *flags, name=name))
        assert len(face_sets.open_test_set(str(tmp_path / "sets"), name).protocol.probes) == num_probes
    skipped = (tmp_path / "sets/aligned/1.0.0/skipped.txt").read_text().splitlines()
    assert len(skipped) == 1
    assert "001_cam1_1.jpg is 60x75, not 112x112: align the faces with" in skipped[0]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--part", "training"], "--row belongs to --part training, which needs it"),
        (["--row", "0"], "--row belongs to --part training"),
        (["--part", "training", "--row", "10"], "--row must be from 0 to 9 (--num_splits), it is 10"),
        (["--num_splits", "0"], "--num_splits must be at least 1"),
        (["--seed", "-1"], "--seed at least 0"),
    ],
)
def test_bad_options_have_their_sentences(tmp_path, capsys, flags, sentence):
    assert sentence in _refused(capsys, _command(tmp_path, *flags))


def test_a_missing_source_has_its_sentence(tmp_path, capsys):
    assert "source does not exist" in _refused(capsys, _command(tmp_path))
