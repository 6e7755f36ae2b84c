import cv2
import numpy as np
import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.pictures import contact_sheet


def test_faces_stand_in_rows_with_titles_above():
    faces = [np.full((112, 112, 3), (value, 0, 255 - value), np.uint8) for value in (10, 20, 30, 40)]
    sheet = contact_sheet.draw_sheet(faces, ["a", "", "b", "é" * 40], columns=3)
    assert sheet.shape == (2 * 136 + 8, 3 * 120 + 8, 3)
    for place, face in enumerate(faces):
        top, left = 8 + 16 + place // 3 * 136, 8 + place % 3 * 120
        np.testing.assert_array_equal(sheet[top : top + 112, left : left + 112], face)
    titles = [
        sheet[8 + row * 136 : 24 + row * 136, 8 + column * 120 : 120 + column * 120]
        for row in (0, 1)
        for column in (0, 1, 2)
    ]
    assert [bool((title < 128).any()) for title in titles] == [True, False, True, True, False, False]
    assert (sheet[:, -8:] == 255).all()


def test_sample_is_drawn_by_the_seed_without_repetition():
    first = contact_sheet.sample(1000, size=50, seed=3)
    assert first == contact_sheet.sample(1000, size=50, seed=3) == sorted(set(first))
    assert len(first) == 50
    assert first != contact_sheet.sample(1000, size=50, seed=4)
    assert contact_sheet.sample(3, size=50, seed=0) == [0, 1, 2]


def test_png_is_rgb_and_a_folder_that_cannot_be_made_is_a_user_error(tmp_path):
    picture = np.full((5, 6, 3), (250, 0, 9), np.uint8)
    contact_sheet.save_png(tmp_path / "new" / "sheet.png", picture)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "new" / "sheet.png"))[..., ::-1], picture)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["sheet.png"]
    with pytest.raises(UserError, match="cannot be written"):
        contact_sheet.write_whole(tmp_path / "new" / "sheet.png" / "x", b"")


def test_a_failed_write_leaves_nothing(tmp_path):
    (tmp_path / "h.csv").mkdir()  # a folder is in the way of the last step
    with pytest.raises(UserError, match=r"h\.csv cannot be written"):
        contact_sheet.write_whole(tmp_path / "h.csv", b"a,b")
    assert [path.name for path in tmp_path.iterdir()] == ["h.csv"]
