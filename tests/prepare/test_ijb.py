import cv2
import numpy as np
import pytest

from lrfr_jax.data import face_sets, records, synthetic
from lrfr_jax.errors import UserError
from lrfr_jax.pictures import warp
from lrfr_jax.prepare import ijb
from lrfr_jax.prepare.__main__ import main
from lrfr_jax.prepare.lists import ijb_lists
from tests.prepare import layouts

# template, media and person of each image; template numbers have gaps and are not in order
_IMAGES = [(40, 1, 3), (40, 1, 3), (40, 2, 3), (7, 5, 3), (12, 6, 4), (12, 7, 4), (90, 8, 4), (91, 9, 5), (3, 4, 6)]
_PAIRS = [(40, 7, 1), (7, 91, 0), (12, 90, 1), (40, 90, 0), (3, 12, 0)]
_SEARCHES = {"gallery_G1": [(40, 3), (12, 4)], "gallery_G2": [(3, 6)], "probe_mixed": [(90, 4), (7, 3), (91, 5)]}
_COUNTS = {"images": 9, "templates": 6, "genuine pairs": 2, "impostor pairs": 3}
_COUNTS |= {"gallery templates": 3, "probe templates": 3}
_LINE = "1.jpg 1 2 3 4 5 6 7 8 9 10 0.5"


def _photo(k):
    """A generated face turned, enlarged and put into a larger photo; returns its JPEG and its landmarks."""
    angle, scale = 0.1 * (k - 4), 1.2 + 0.05 * k
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * scale
    shift = np.array([30.0 + k, 40.0])
    matrix = np.concatenate([turn, shift[:, None]], 1)
    face = synthetic.render_face(_IMAGES[k][2], k, seed=0)
    photo = cv2.warpAffine(face, matrix, (240, 260), flags=cv2.INTER_CUBIC)
    return cv2.imencode(".jpg", photo[..., ::-1])[1].tobytes(), warp.TEMPLATE @ turn.T + shift


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setitem(ijb.COUNTS, "ijbc", _COUNTS)
    files, points, places = {}, [], []
    for k, (template, media, _) in enumerate(_IMAGES):
        files[f"loose_crop/{k + 1}.jpg"], landmarks = _photo(k)
        points.append(f"{k + 1}.jpg {' '.join(f'{x:.3f}' for x in landmarks.ravel())} {0.9 - 0.1 * k:.3f}\n")
        places.append(f"{k + 1}.jpg {template} {media}\n")
    files["meta/ijbc_name_5pts_score.txt"] = "".join(points).encode()
    files["meta/ijbc_face_tid_mid.txt"] = "".join(places).encode()
    files["meta/ijbc_template_pair_label.txt"] = "".join(f"{a} {b} {same}\n" for a, b, same in _PAIRS).encode()
    for part, templates in _SEARCHES.items():
        lines = [f"{subject},{template},img/{k}.jpg\n" for k, (template, subject) in enumerate(templates * 2)]
        files[f"meta/ijbc_1N_{part}.csv"] = "".join(["SUBJECT_ID,TEMPLATE_ID,FILENAME\n", *lines]).encode()
    layouts.write(tmp_path / "IJBC", files)
    return tmp_path / "IJBC"


def _make(tmp_path, source, *flags):
    shared = ["--source", str(source), "--edition", "ijbc", "--name", "ijbc", "--data_dir", str(tmp_path / "sets")]
    main(["ijb", *shared, *flags])
    return face_sets.open_test_set(str(tmp_path / "sets"), "ijbc")


def _refused(capsys, tmp_path, source, *flags):
    with pytest.raises(SystemExit) as status:
        _make(tmp_path, source, *flags)
    assert status.value.code == 1
    assert not list(tmp_path.glob("sets/ijbc/*"))
    return capsys.readouterr().err


def test_the_protocol_is_that_of_the_lists_and_the_faces_are_aligned(tmp_path, source, capsys):
    opened = _make(tmp_path, source)
    assert capsys.readouterr().out.startswith("9 images, 6 templates, 5 pairs, 3 probe templates, complete")
    protocol = opened.protocol
    number = {template: place for place, template in enumerate((3, 7, 12, 40, 90, 91))}
    assert protocol.templates.tolist() == [number[template] for template, _, _ in _IMAGES]
    assert protocol.media.tolist() == [media for _, media, _ in _IMAGES]
    np.testing.assert_allclose(protocol.faceness, 0.9 - 0.1 * np.arange(9), rtol=1e-6)
    assert protocol.pairs.tolist() == [[number[a], number[b]] for a, b, _ in _PAIRS]
    assert protocol.is_same.tolist() == [True, False, True, False, False]
    searches = {name: np.stack(part, 1).tolist() for name, part in protocol.galleries.items()}
    assert searches == {"G1": [[number[12], 4], [number[40], 3]], "G2": [[number[3], 6]]}
    assert protocol.probe_templates.tolist() == [number[7], number[90], number[91]]
    assert protocol.probe_subjects.tolist() == [3, 4, 5]
    assert not opened.is_partial
    for k, record in enumerate(opened.source):
        wanted = synthetic.render_face(_IMAGES[k][2], k, seed=0).astype(float)
        assert np.abs(records.decode_image(record["image"])[8:-8, 8:-8] - wanted[8:-8, 8:-8]).mean() < 6


def test_missing_and_bad_images_end_the_command_or_drop_what_needs_them(tmp_path, source, capsys):
    (source / "loose_crop/8.jpg").unlink()  # all of template 91
    assert "names 8.jpg, which the source does not hold" in _refused(capsys, tmp_path, source)
    (source / "loose_crop/1.jpg").write_bytes(b"\xff\xd8\xff")  # one of template 40
    opened = _make(tmp_path, source, "--allow_partial")
    assert "7 images, 5 templates, 4 pairs, 2 probe templates, 2 left out, partial" in capsys.readouterr().out
    protocol = opened.protocol
    assert opened.is_partial
    assert protocol.templates.tolist() == [3, 3, 1, 2, 2, 4, 0]
    assert protocol.media.tolist() == [1, 2, 5, 6, 7, 8, 4]
    np.testing.assert_allclose(protocol.faceness, [0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.1], rtol=1e-6)
    assert protocol.pairs.tolist() == [[3, 1], [2, 4], [3, 4], [0, 2]]
    assert protocol.is_same.tolist() == [True, True, False, False]
    assert protocol.probe_subjects.tolist() == [3, 4]


def test_counts_that_are_not_official_are_told(tmp_path, source, capsys, monkeypatch):
    monkeypatch.setitem(ijb.COUNTS, "ijbc", _COUNTS | {"impostor pairs": 15_638_932})
    assert "has 3 impostor pairs (official: 15638932)" in _refused(capsys, tmp_path, source)
    (source / "meta/ijbc_1N_probe_mixed.csv").write_text("TEMPLATE_ID,SUBJECT_ID\n90,4\n7,3\n1234,5\n")
    monkeypatch.setitem(ijb.COUNTS, "ijbc", _COUNTS)
    assert "name templates that have no image" in _refused(capsys, tmp_path, source)
    (source / "meta/ijbc_1N_probe_mixed.csv").write_text("TEMPLATE_ID,SUBJECT_ID\n1234,5\n")
    assert "no pair, no probe or no gallery is left" in _refused(capsys, tmp_path, source, "--allow_partial")


@pytest.mark.parametrize(
    ("points", "places", "sentence"),
    [
        ("", "", r"has 0 lines"),
        (_LINE, "2.jpg 1 1", r"line 1 of .*score.txt names 1.jpg, that of .*tid_mid.txt names 2.jpg"),
        (f"{_LINE}\n", "1.jpg 1 1\n2.jpg 1 1", r"line 2 of .* names None, that of .* names 2.jpg"),
        (_LINE[:-4], "1.jpg 1 1", r"score.txt line 1 must have a name and 11 numbers, it has 11 fields"),
        (f"\n{_LINE} 1", "1.jpg 1 1", r"score.txt line 2 must have a name and 11 numbers, it has 13 fields"),
        (_LINE.replace("3", "x"), "1.jpg 1 1", r"is no list of 11 numbers a line"),
        (_LINE.replace("3", "nan"), "1.jpg 1 1", r"1.jpg must have five finite landmarks"),
        (_LINE.replace("0.5", "-1"), "1.jpg 1 1", r"1.jpg must have five finite landmarks .* score from 0 on"),
        ("1.jpg" + " 5" * 11, "1.jpg 1 1", r"1.jpg must have five finite landmarks that differ"),
        (_LINE, "1.jpg 1 1.5", r"is no list of 2 numbers a line"),
        (_LINE, "1.jpg 1 99999999999999999999", r"is no list of 2 numbers a line"),
    ],
)
def test_a_bad_list_of_images_is_named(tmp_path, points, places, sentence):
    (tmp_path / "ijbc_name_5pts_score.txt").write_text(points)
    (tmp_path / "ijbc_face_tid_mid.txt").write_text(places)
    with pytest.raises(UserError, match=sentence):
        ijb_lists.read_images(str(tmp_path), "ijbc")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("1 2 2\n", "label of 0 or 1"),
        ("1 2\n", "1 lines of 2 numbers"),
        ("1 2 1\n1 2\n", "is no list"),
        ("", "0 lines"),
    ],
)
def test_a_bad_list_of_pairs_is_named(tmp_path, text, sentence):
    (tmp_path / "ijbb_template_pair_label.txt").write_text(text)
    with pytest.raises(UserError, match=sentence):
        ijb_lists.read_pairs(str(tmp_path), "ijbb")
    with pytest.raises(UserError, match="is no list of 3 numbers"):
        ijb_lists.read_pairs(str(tmp_path), "ijbc")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "must begin with the names of its columns"),
        ("A,B\n1,2\n", "must begin with the names of its columns"),
        ("TEMPLATE_ID,SUBJECT_ID\n", "names no template"),
        ("template_id, subject_id\n1,2\n1,x\n", "line 3 has no whole numbers"),
        ("TEMPLATE_ID,SUBJECT_ID\n1\n", "line 2 has no whole numbers"),
        ("TEMPLATE_ID,SUBJECT_ID\n1,2\n\n1,3\n", "line 4 gives template 1 a second subject, 3"),
    ],
)
def test_a_bad_list_of_subjects_is_named(tmp_path, text, sentence):
    (tmp_path / "ijbb_1N_gallery_S1.csv").write_text(text)
    with pytest.raises(UserError, match=sentence):
        ijb_lists.read_subjects(str(tmp_path), "ijbb", "gallery_S1")


def test_the_templates_of_an_edition_are_its_galleries_and_probes():
    for counts in ijb.COUNTS.values():
        assert counts["templates"] == counts["gallery templates"] + counts["probe templates"]
