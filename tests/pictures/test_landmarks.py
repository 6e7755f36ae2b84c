import gzip

import numpy as np
import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.pictures import landmarks

LINE = "a/1.jpg,10,20,30,20,20,30,12,40,28,40"


def face(left, top, right, bottom, score=1.0):
    box = np.array([left, top, right, bottom], float)
    return landmarks.Face(np.concatenate([np.tile(box[:2], (4, 1)), [box[2:]]]), box, score)


def test_lines_become_faces_with_the_extent_as_box(tmp_path):
    text = f"{LINE}\n\n./b/2.png,1,2,3,4,5,6,7,8,9,10\n" + LINE.replace("10", "11") + "\n"
    (tmp_path / "plain.csv").write_text(text.replace(",", " , "))
    (tmp_path / "packed.csv.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "marked.csv").write_text(text, encoding="utf-8-sig")
    for name in ("plain.csv", "packed.csv.gz", "marked.csv"):
        faces = landmarks.read_landmarks(str(tmp_path / name))
        assert [(key, len(found)) for key, found in faces.items()] == [("a/1.jpg", 2), ("b/2.png", 1)]
        np.testing.assert_array_equal(faces["a/1.jpg"][0].landmarks, [[10, 20], [30, 20], [20, 30], [12, 40], [28, 40]])
        np.testing.assert_array_equal(faces["a/1.jpg"][0].box, [10, 20, 30, 40])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (f"{LINE}\n{LINE},0.9\n", "line 2 has 12 columns, not 11"),
        ("image,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5\n", "line 1 must hold 10 numbers after the image, without a header"),
        (f"{LINE}\n{LINE[:-2]}nan\n", "line 2 holds a coordinate that is not finite"),
        ("\n", "is empty"),
        ("\x00\xff", "cannot be read as CSV"),
    ],
)
def test_bad_files_have_their_sentence(tmp_path, content, sentence):
    path = tmp_path / "bad.csv"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=sentence):
        landmarks.read_landmarks(str(path))
    with pytest.raises(UserError, match="cannot be read"):
        landmarks.read_landmarks(str(tmp_path / "absent.csv"))


def test_a_cut_gzip_is_refused(tmp_path):
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(LINE.encode() * 50)[:-12])
    with pytest.raises(UserError, match="cannot be read as CSV"):
        landmarks.read_landmarks(str(tmp_path / "cut.csv.gz"))


def test_each_choice_takes_another_face():
    faces = [face(90, 90, 110, 110, 0.9), face(0, 0, 80, 90, 0.8), face(150, 150, 160, 170, 0.99)]
    taken = {choice: landmarks.choose_face(faces, choice=choice, height=200, width=200) for choice in landmarks.CHOICES}
    assert taken == {"largest": faces[1], "centre": faces[0], "highest_score": faces[2]}
    # The middle is that of the photo's own width and height.
    assert landmarks.choose_face(faces, choice="centre", height=310, width=310) is faces[2]


@pytest.mark.parametrize("box", [(-1, 5, 9, 9), (5, 5, 101, 9), (5, -0.5, 9, 9), (5, 5, 9, 51)])
def test_landmarks_outside_the_photo_are_refused(box):
    landmarks.check_inside(face(0, 0, 100, 50), height=50, width=100)
    with pytest.raises(ValueError, match="has 100x50 pixels, its landmarks reach to"):
        landmarks.check_inside(face(*box), height=50, width=100)
