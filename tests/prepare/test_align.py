import argparse
import csv
import json
import tarfile

import cv2
import numpy as np
import pytest

from lrfr_jax.data import records
from lrfr_jax.errors import one_sentence
from lrfr_jax.files import folder_lock
from lrfr_jax.pictures import warp
from lrfr_jax.pictures.landmarks import Face
from lrfr_jax.prepare import align


def run(*flags):
    parser = argparse.ArgumentParser()
    align.add_arguments(parser.add_argument)
    with one_sentence():
        return align.run(parser.parse_args([str(flag) for flag in flags]))


def refused(capsys, output, *flags):
    """Runs a command that must fail; returns its one line. Nothing may be left behind."""
    before = sorted(output.parent.iterdir())
    with pytest.raises(SystemExit) as status:
        run("--output", output, *flags)
    lines = capsys.readouterr().err.strip().splitlines()
    assert status.value.code == 1
    assert len(lines) == 1
    assert sorted(output.parent.iterdir()) == before
    return lines[0]


def photo_of(points, size=200, color=(200, 120, 60)):
    """A photo with a blob at each of five points."""
    photo = np.full((size, size, 3), 20, np.uint8)
    for x, y in points:
        cv2.circle(photo, (round(x), round(y)), 6, color, -1)
    return photo


def encoded(photo, suffix=".png"):
    return cv2.imencode(suffix, photo[..., ::-1] if photo.ndim == 3 else photo)[1].tobytes()


def line(name, points):
    return ",".join([name, *(f"{value:.3f}" for value in np.ravel(points))]) + "\n"


POINTS = warp.TEMPLATE * 0.9 + (40, 30)
OTHER = warp.TEMPLATE * 0.5 + (130, 120)


@pytest.fixture
def source(tmp_path):
    for path, photo in {"set/a/1.png": photo_of(POINTS), "set/b/x.png": photo_of([*POINTS, *OTHER])}.items():
        (tmp_path / "photos" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / path).write_bytes(encoded(photo))
    (tmp_path / "points.csv").write_text(line("a/1.png", POINTS) + line("b/x.png", OTHER) + line("b/x.png", POINTS))
    return tmp_path


def flags(source, *more):
    return ["--source", source / "photos", "--landmarks", source / "points.csv", *more]


def decoded(path):
    return records.decode_image(path.read_bytes()).astype(int)


def at_template(face):
    """Mean color at the template's points."""
    return face[tuple(np.round(warp.TEMPLATE[:, ::-1]).astype(int).T)].mean(0)


def test_faces_stand_at_the_template_in_equal_folders_in_rgb(source):
    summary = run("--output", source / "out", *flags(source, "--format", "png"))
    assert summary.startswith("2 photos: 2 aligned (1 with several faces), 0 cropped and 0 left out")
    assert sorted(str(path.relative_to(source / "out")) for path in source.glob("out/*/*")) == ["a/1.png", "b/x.png"]
    for path in source.glob("out/*/*.png"):
        np.testing.assert_allclose(at_template(decoded(path)), [200, 120, 60], atol=3)
    run("--output", source / "jpeg", "--report", source / "r", *flags(source, "--quality", "100"))
    difference = decoded(source / "jpeg/a/1.jpg") - decoded(source / "out/a/1.png")
    assert np.abs(difference).mean() < 1.5
    assert not list(source.glob(".*"))


def test_a_tar_gives_the_same_and_the_choice_of_face_counts(source):
    with tarfile.open(source / "photos.tar", "w") as tar:
        tar.add(source / "photos/set", "set")
    given = ["--source", source / "photos.tar", "--landmarks", source / "points.csv", "--format", "png"]
    run("--output", source / "largest", *given)
    run("--output", source / "folder", *flags(source, "--format", "png"))
    assert (source / "largest/b/x.png").read_bytes() == (source / "folder/b/x.png").read_bytes()
    run("--output", source / "centre", *given, "--faces", "centre")
    # POINTS are in the middle and large; with OTHER moved to the middle the choices differ.
    (source / "points.csv").write_text(line("b/x.png", POINTS) + line("b/x.png", OTHER - 57) + line("a/1.png", POINTS))
    run("--output", source / "centre2", *given, "--faces", "centre")
    assert (source / "centre/b/x.png").read_bytes() == (source / "largest/b/x.png").read_bytes()
    assert (source / "centre/b/x.png").read_bytes() != (source / "centre2/b/x.png").read_bytes()


def test_policies_for_photos_without_a_face(source, capsys):
    (source / "points.csv").write_text(line("b/x.png", POINTS))
    sentence = refused(capsys, source / "out", *flags(source))
    assert "a/1.png has no line in" in sentence
    run("--output", source / "skip", *flags(source, "--no_face", "skip"))
    assert [path.parent.name for path in source.glob("skip/*/*")] == ["b"]
    run("--output", source / "crop", *flags(source, "--no_face", "crop", "--format", "png"))
    np.testing.assert_array_equal(decoded(source / "crop/a/1.png"), warp.crop_center(photo_of(POINTS)))
    report = json.loads((source / "crop_report/report.json").read_text())
    counts = {kind: number for kind, number in report["counts"].items() if number}
    assert counts == {"aligned": 1, "cropped": 1}
    assert report["cropped"] == ["a/1.png"]


def test_the_report_tells_what_became_of_each_photo(source):
    (source / "photos/set/a/2.jpg").write_bytes(encoded(photo_of(POINTS), ".jpg")[:-300])
    run("--output", source / "out", "--report", source / "r", *flags(source, "--on_error", "skip"))
    rows = list(csv.DictReader((source / "r/images.csv").open()))
    assert [(row["image"], row["outcome"], row["faces"]) for row in rows] == [
        ("a/1.png", "aligned", "1"),
        ("a/2.jpg", "unreadable", "0"),
        ("b/x.png", "aligned", "2"),
    ]
    assert float(rows[0]["residual"]) < 0.01
    report = json.loads((source / "r/report.json").read_text())
    assert report["unreadable"] == {"a/2.jpg": "is truncated: the file ends before the image does"}
    sheet = cv2.imread(str(source / "r/contact_sheet.png"))
    assert sheet.shape[:2] == (112 + 16 + 8 + 8, 12 * 120 + 8)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--detector", "mtcnn"], "give either --landmarks FILE or --detector mtcnn"),
        (["--faces", "highest_score"], "--faces highest_score needs --detector"),
        (["--quality", "0"], "--quality must be in 1..100"),
        (["--min_face", "nan"], "--min_face must be at least 1 pixel"),
        (["--report", "OUT/report"], "must not lie in --output"),
        (["--output", "OUT/../photos/set/aligned"], "must not lie in --source"),
    ],
)
def test_options_that_do_not_fit_are_refused(source, capsys, more, sentence):
    more = [flag.replace("OUT", str(source / "out")) for flag in more]
    assert sentence in refused(capsys, source / "out", *flags(source, *more))


def test_bad_photos_and_names_are_refused(source, capsys):
    (source / "photos/set/a/1.jpg").write_bytes(encoded(photo_of(POINTS), ".jpg"))
    assert "holds both" in refused(capsys, source / "out", *flags(source))
    (source / "photos/set/a/1.jpg").unlink()
    (source / "photos/set/a/0.jpg").write_bytes(b"text")
    (source / "points.csv").write_text("".join(line(name, POINTS) for name in ("a/0.jpg", "a/1.png", "b/x.png")))
    assert "a/0.jpg is not an image in a known format" in refused(capsys, source / "out", *flags(source))
    (source / "photos/set/a/0.jpg").unlink()
    (source / "points.csv").write_text(line("a/1.png", POINTS + 120) + line("b/x.png", POINTS))
    assert "a/1.png has 200x200 pixels, its landmarks reach to x=" in refused(capsys, source / "o", *flags(source))
    (source / "points.csv").write_text(line("c/1.png", POINTS))
    assert "has no line for any photo" in refused(capsys, source / "out", *flags(source))
    (source / "points.csv").write_text(line("a/1.png", np.full((5, 2), 9.0)) + line("b/x.png", POINTS + 200))
    assert "not one of the 2 photos" in refused(capsys, source / "out", *flags(source, "--on_error", "skip"))


FORMS = {
    "parts of its sides, 0 to 1: multiply each x by its width": POINTS / 200,
    "in the order x1..x5,y1..y5: write x1,y1,...,x5,y5": POINTS.T,
    "left and right exchanged: write the eye and the corner of the mouth that are left": POINTS[[1, 0, 2, 4, 3]],
    "with y before x": POINTS[:, ::-1],
    "lie as no face's do": POINTS[[2, 4, 0, 1, 3]],
}


@pytest.mark.parametrize("form", FORMS)
def test_landmarks_of_another_form_are_told_before_the_first_photo(source, capsys, monkeypatch, form):
    (source / "points.csv").write_text(line("a/1.png", FORMS[form]) + line("b/x.png", FORMS[form]))
    monkeypatch.setattr(align, "align_photo", None)  # must not be reached
    sentence = refused(capsys, source / "out", *flags(source))
    assert "points.csv: a/1.png (and 1 more of 2 photos) has landmarks" in sentence
    assert form in sentence


FOUR = np.vstack([POINTS[:3], POINTS[3:].mean(0)])
KINDS = {
    "eyes": POINTS[:2],
    "idiap_xy": FOUR,
    "idiap_yx": FOUR[:, ::-1],
    "mtcnn": POINTS.T,
    "dlib68": np.vstack([np.zeros((30, 2)), POINTS[[2] * 6 + [0] * 6 + [1] * 6 + [3] * 6 + [4] * 14]]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_landmarks_gives_the_same_face(source, kind):
    run("--output", source / "five", *flags(source, "--format", "png"))
    (source / "points.csv").write_text(line("a/1.png", KINDS[kind]) + line("b/x.png", KINDS[kind]))
    run("--output", source / "out", *flags(source, "--format", "png", "--points", kind))
    # The points are the template, moved: any of them find the whole of it, to the thousandths that the file holds.
    assert np.abs(decoded(source / "out/a/1.png") - decoded(source / "five/a/1.png")).max() <= 4


def test_a_list_of_positions_by_file_names_is_found_and_half_of_its_names_may_be_unknown(source):
    text = "# file re_x re_y le_x le_y n_x n_y m_x m_y\n"
    for name in ("1", "x", "130_cam5_3"):
        text += " ".join([name, *(f"{value:.3f}" for value in np.ravel(FOUR))]) + "\n"
    (source / "points.csv").write_text(text)
    summary = run("--output", source / "out", *flags(source, "--points", "idiap_xy"))
    assert summary.startswith("2 photos: 2 aligned (0 with several faces)")


def test_a_file_name_that_two_photos_have_is_no_name(source, capsys):
    (source / "photos/set/b/1.png").write_bytes(encoded(photo_of(POINTS)))
    (source / "points.csv").write_text(line("1", POINTS) + line("x.png", POINTS))
    assert "a/1.png (and 1 more of 3 photos) has no line in" in refused(capsys, source / "out", *flags(source))
    (source / "points.csv").write_text("".join(line(name, POINTS) for name in ("a/1", "b/1", "x.png")))
    assert run("--output", source / "out", *flags(source)).startswith("3 photos: 3 aligned")


def test_photos_without_suffix_are_named_by_all_of_their_name(source):
    for name in ("0001", "0002"):
        (source / "photos/set/b" / name).write_bytes(encoded(photo_of(POINTS)))
    (source / "points.csv").write_text(
        "".join(line(name, POINTS) for name in ("a/1.png", "b/x.png", "b/0001", "b/0002"))
    )
    run("--output", source / "out", *flags(source))
    assert sorted(path.name for path in source.glob("out/b/*")) == ["0001.jpg", "0002.jpg", "x.jpg"]


BAD_LINES = {
    "line 1 has 11 columns, not 5: <identity>/<image>,x1,y1,x2,y2": ("eyes", POINTS),
    "line 1 has 9 columns: say which landmarks they are with --points idiap_xy or idiap_yx": (None, FOUR),
    "has landmarks that seem to be with x and y exchanged: of --points idiap_xy and": ("idiap_xy", FOUR[:, ::-1]),
    "has landmarks that seem to be with the eyes exchanged: write the eye that is left": ("eyes", POINTS[[1, 0]]),
    "has landmarks within 0.0 pixels": ("eyes", POINTS[[0, 0]]),
    "line 1 holds a coordinate that is not finite": ("eyes", POINTS[:2] * (np.inf, 1)),
    "has 200x200 pixels, its landmarks reach to x=": ("eyes", POINTS[:2] + 120),
}


@pytest.mark.parametrize("sentence", BAD_LINES)
def test_bad_landmarks_of_a_kind_have_their_sentence(source, capsys, sentence):
    kind, points = BAD_LINES[sentence]
    (source / "points.csv").write_text(line("a/1.png", points) + line("b/x.png", points))
    assert sentence in refused(capsys, source / "out", *flags(source, *(["--points", kind] if kind else [])))


def test_an_unknown_kind_and_one_for_a_detector_are_refused(source, capsys):
    with pytest.raises(SystemExit):
        run("--output", source / "out", *flags(source, "--points", "three"))
    assert "invalid choice: 'three'" in capsys.readouterr().err
    given = ["--source", source / "photos", "--detector", "mtcnn", "--points", "eyes"]
    assert "--points says what --landmarks holds" in refused(capsys, source / "out", *given)


def test_doubtful_landmarks_are_left_out_counted_and_told_by_the_status(source, capsys, monkeypatch):
    (source / "points.csv").write_text(line("a/1.png", POINTS) + line("b/x.png", POINTS.T))
    with pytest.raises(SystemExit) as status:
        run("--output", source / "out", *flags(source, "--on_error", "skip"))
    assert status.value.code == 3
    assert "1 left out as its landmarks lie as no face's do" in capsys.readouterr().out
    assert [path.parent.name for path in source.glob("out/*/*")] == ["a"]
    report = json.loads((source / "out_report/report.json").read_text())
    assert report["counts"]["implausible"] == 1
    assert "in the order x1..x5,y1..y5" in report["implausible"]["b/x.png"]
    found = [Face(POINTS[:, ::-1] * (1, 1.2), np.array([40.0, 30, 140, 130]), 0.8)]
    monkeypatch.setitem(align.DETECTORS, "mtcnn", lambda min_face: lambda photo: found)
    with pytest.raises(SystemExit) as status:
        run("--output", source / "detected", "--source", source / "photos", "--detector", "mtcnn")
    assert status.value.code == 1
    assert "not one of the 2 photos" in capsys.readouterr().err


def test_small_faces_and_those_at_the_border_are_counted_and_other_files_named(source, capsys):
    (source / "photos/set/a/notes.txt").write_text("-")
    small, cut = warp.TEMPLATE / 10 + 50, POINTS - (65, 0)
    (source / "points.csv").write_text(line("a/1.png", small) + line("b/x.png", cut))
    summary = run("--output", source / "out", *flags(source))
    assert ", 1 with less than 10 px between the eyes, 1 cut by the photo's border (over 10% black)" in summary
    assert ", 1 other file passed over, as " in summary
    rows = list(csv.DictReader((source / "out_report/images.csv").open()))
    assert float(rows[0]["eyes"]) == pytest.approx(3.52, abs=0.01)
    black = (cv2.imread(str(source / "out/b/x.jpg")).max(axis=2) < 10).mean()
    assert float(rows[1]["outside"]) == pytest.approx(black, abs=0.02)
    assert float(rows[0]["outside"]) == 0
    assert json.loads((source / "out_report/report.json").read_text())["other_files"] == [
        f"{source}/photos/set/a/notes.txt"
    ]


def test_photos_without_a_line_are_told_before_the_first_is_aligned(source, capsys, monkeypatch):
    (source / "points.csv").write_text(line("a/1.png", POINTS))
    monkeypatch.setattr(align, "align_photo", None)  # must not be reached
    assert "b/x.png has no line in" in refused(capsys, source / "out", *flags(source))


def test_an_output_that_holds_something_is_refused_and_a_killed_run_leaves_no_trace(source, capsys):
    (source / ".out.incomplete/left").mkdir(parents=True)
    (source / ".out.incomplete/left/over.jpg").write_bytes(b"")
    (source / "out").mkdir()
    run("--output", source / "out", *flags(source))
    assert sorted(path.name for path in source.glob("out/*")) == ["a", "b"]
    assert not list(source.glob(".*"))
    with pytest.raises(SystemExit):
        run("--output", source / "out", *flags(source))
    assert "exists and is not an empty folder" in capsys.readouterr().err


def test_another_process_keeps_its_work(source, capsys):
    unfinished = source / ".out.incomplete"
    (unfinished / "a").mkdir(parents=True)
    with folder_lock.alone_in(unfinished):
        assert "another process is writing" in refused(capsys, source / "out", *flags(source))
        assert (unfinished / "a").exists()


def test_a_detector_is_asked_and_its_score_counts(source, monkeypatch):
    def faces(photo):
        return [Face(POINTS, np.array([40.0, 30, 140, 130]), 0.8), Face(OTHER, np.array([130.0, 120, 180, 170]), 0.9)]

    monkeypatch.setitem(align.DETECTORS, "mtcnn", lambda min_face: faces)
    given = ["--source", source / "photos", "--detector", "mtcnn", "--format", "png"]
    run("--output", source / "best", *given, "--faces", "highest_score")
    run("--output", source / "large", *given)
    np.testing.assert_allclose(at_template(decoded(source / "best/b/x.png")), [200, 120, 60], atol=3)
    assert np.abs(decoded(source / "best/a/1.png") - decoded(source / "large/a/1.png")).mean() > 3
    monkeypatch.setitem(
        align.DETECTORS, "mtcnn", lambda min_face: lambda photo: faces(photo)[: int(photo[48, 151, 0] > 99)]
    )
    with pytest.raises(SystemExit):
        run("--output", source / "none", *given)


def test_a_report_folder_that_cannot_be_made_ends_the_command_before_the_first_photo(source, capsys, monkeypatch):
    (source / "file").write_text("")
    monkeypatch.setattr(align, "align_photo", None)  # must not be reached
    sentence = refused(capsys, source / "out", *flags(source, "--report", source / "file/report"))
    assert f"--report {source / 'file/report'} cannot be written" in sentence


def test_a_report_folder_that_was_there_stays_when_the_command_fails(source, capsys):
    (source / "kept").mkdir()
    (source / "points.csv").write_text(line("b/x.png", POINTS))
    assert "a/1.png has no line in" in refused(capsys, source / "out", *flags(source, "--report", source / "kept"))
