"""Any picture becomes one aligned face, or has a reason why not."""

import cv2
import numpy as np
import pytest

from lrfr_jax.data import records
from lrfr_jax.errors import UserError
from lrfr_jax.pictures import faces, resize, sources, warp
from lrfr_jax.pictures.landmarks import Face

FACE = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)
WIDE = np.random.default_rng(1).integers(0, 256, (90, 200, 3), np.uint8)
UNUSABLE = [
    ("nothing.jpg", None, "does not exist"),
    ("text.png", b"<html>", "is not an image in a known format"),
    ("cut.jpg", records.encode_image(FACE, quality=90)[:-100], "is truncated"),
    ("wide.png", resize.encode_png(WIDE), "is 200x90, not 112x112: align cuts"),
]


def test_files_folders_and_arrays_give_the_same_face(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b.png").write_bytes(resize.encode_png(FACE))
    images = sources.find_images(str(tmp_path)).images
    pictures = [FACE, tmp_path / "a/b.png", str(tmp_path / "a/b.png"), images["a/b.png"]]
    source = faces.Faces(pictures, make_face=faces.as_it_is)
    for record in source:
        np.testing.assert_array_equal(records.decode_image(record["image"]), FACE)
    assert len(source) == 4
    assert [source.name(place) for place in range(4)] == ["image 0", *[str(tmp_path / "a/b.png")] * 3]
    source.require_all()


@pytest.mark.parametrize(("name", "content", "reason"), UNUSABLE)
def test_unusable_files_have_a_reason_and_become_black(tmp_path, name, content, reason):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    source = faces.Faces([FACE, tmp_path / name], make_face=faces.as_it_is)
    assert not records.decode_image(source[1]["image"]).any()
    assert source.problems[1].startswith(reason)
    assert 0 not in source.problems
    with pytest.raises(UserError, match=f"^{tmp_path}/{name} {reason}"):
        source.require_all()


def test_a_look_tells_all_that_is_known_without_decoding(tmp_path, monkeypatch):
    pictures = [FACE, WIDE, FACE.astype(np.float32), FACE[..., 0], None, 3, b"a.png", tmp_path / "good.png"]
    (tmp_path / "good.png").write_bytes(resize.encode_png(FACE))
    for name, content, _ in UNUSABLE:
        pictures.append(str(tmp_path / name))
        if content is not None:
            (tmp_path / name).write_bytes(content)
    source = faces.Faces(pictures, make_face=faces.as_it_is)
    monkeypatch.setattr(cv2, "imdecode", lambda *args: pytest.fail("a picture was decoded"))
    source.look()
    reasons = ["is 200x90, not 112x112", "is an array of float32", "is an array of uint8 (112, 112), not"]
    reasons += [f"is of type {kind}, not a path or an array" for kind in ("NoneType", "int", "bytes")]
    expected = dict(zip([1, 2, 3, 4, 5, 6, 8, 9, 10, 11], reasons + [reason for *_, reason in UNUSABLE], strict=True))
    assert source.problems.keys() == expected.keys()
    for place, reason in expected.items():
        assert source.problems[place].startswith(reason)
        assert not records.decode_image(source[place]["image"]).any()
    with pytest.raises(UserError, match=r"^image 1 is 200x90.*; 9 more of 12 pictures cannot be used either$"):
        source.require_all()
    any_size = faces.Faces(pictures[:3], make_face=faces.resized)
    any_size.look()
    assert any_size.problems.keys() == {2}
    assert len(source.only([0, 7])) == 2
    np.testing.assert_array_equal(records.decode_image(source.only([0, 1])[0]["image"]), FACE)


def test_a_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    (tmp_path / "large.png").write_bytes(resize.encode_png(FACE))
    monkeypatch.setattr(sources, "MAX_IMAGE_BYTES", 100)
    with pytest.raises(ValueError, match="more than the 100 that an image may have"):
        faces.to_pixels(tmp_path / "large.png")


@pytest.mark.parametrize("array", [FACE.astype(np.float32), FACE[..., 0], FACE[..., :2], FACE[:0]])
def test_other_arrays_are_refused(array):
    with pytest.raises(ValueError, match=r"is an array of .*, not of uint8 \(height, width, 3\) in RGB"):
        faces.to_pixels(array)


def test_resized_is_pillows_bicubic_and_leaves_a_face_alone():
    face, size = faces.resized(WIDE)
    np.testing.assert_array_equal(face, resize.to_face_size(WIDE))
    assert size == 90
    assert faces.resized(FACE)[0] is FACE


def test_aligned_takes_the_largest_face():
    points = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]])
    small, large = points * 20 + [90, 35], points * 40  # the small one is in the middle
    found = [Face(p, np.concatenate([p.min(0), p.max(0)]), 1.0) for p in (small, large)]
    face, _ = faces.aligned_by(lambda photo: found)(WIDE)
    np.testing.assert_array_equal(face, warp.warp_face(WIDE, large)[0])
    with pytest.raises(ValueError, match="shows no face that the detector finds"):
        faces.aligned_by(lambda photo: [])(WIDE)


@pytest.mark.parametrize("size", [7, 56, 112, 300])
def test_an_aligned_face_knows_its_size_in_the_photo(size):
    points = warp.TEMPLATE * size / 112 @ np.array([[0.6, 0.8], [-0.8, 0.6]])  # turned
    face = Face(points, np.concatenate([points.min(0), points.max(0)]), 1.0)
    source = faces.Faces([WIDE], make_face=faces.aligned_by(lambda photo: [face]))
    source[0]
    assert source.sizes == {0: size}


def test_cmyk_is_shown_as_rgb(tmp_path):
    from PIL import Image

    red = np.zeros((112, 112, 3), np.uint8)
    red[..., 0] = 230
    Image.fromarray(red).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    assert np.abs(faces.to_pixels(tmp_path / "cmyk.jpg").astype(int) - red).max() < 12
    assert cv2.imread(str(tmp_path / "cmyk.jpg")) is not None


@pytest.mark.parametrize("make_face", [faces.as_it_is, faces.resized])
def test_a_picture_of_one_color_shows_no_face(make_face):
    """Any two of them would be taken for one person: a covered lens, a frame of a video that is not there yet."""
    noisy = np.random.default_rng(0).integers(100, 104, (112, 112, 3), np.uint8)
    colored = np.full((112, 112, 3), (200, 30, 90), np.uint8)
    source = faces.Faces([noisy, colored, FACE], make_face=make_face)
    for place in range(3):
        source[place]
    assert source.problems == dict.fromkeys((0, 1), "shows one color alone, no face")
