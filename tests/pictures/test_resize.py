import io

import numpy as np
import pytest
from PIL import Image

from lrfr_jax import image_ops
from lrfr_jax.pictures import photos, resize
from tests.prepare import layouts


@pytest.mark.parametrize("size", [(1, 1), (20, 24), (60, 112), (112, 60), (37, 500), (500, 37), (301, 400), (113, 111)])
def test_it_equals_pillow_to_the_last_bit(size):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    # Pillow 13 may begin with the columns; two calls fix the order in every version.
    wide = Image.fromarray(pixels).resize((112, size[1]), Image.BICUBIC)
    np.testing.assert_array_equal(resize.to_face_size(pixels), np.asarray(wide.resize((112, 112), Image.BICUBIC)))


def test_of_many_sizes_few_matrices_are_kept():
    for size in range(1, 41):
        resize.to_face_size(np.zeros((size, size, 3), np.uint8))
    assert resize._operator.cache_info().currsize == 32


def test_it_is_the_kernel_that_training_degrades_with():
    size = 20
    small = np.random.default_rng(0).integers(80, 170, (size, size, 3), np.uint8)  # overshoot stays within 0..255
    _, up = image_ops.resampling_operators((size,), image_size=112)
    unrounded = np.einsum("vh,hwc,uw->vuc", up[0], small.astype(np.float32), up[0], optimize=True)
    assert np.abs(unrounded - resize.to_face_size(small)).max() < 1.5  # two roundings


def test_aligned_bytes_stay_and_others_become_png():
    aligned, small = layouts.face(0, 0), layouts.face(0, 0, size=(20, 24))
    for allowed in (False, True):
        assert resize.to_record(aligned, resize=allowed, order="rgb") is aligned
    stored = resize.to_record(small, resize=True, order="rgb")
    assert stored.startswith(b"\x89PNG")
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(stored))), _enlarged(small))
    with pytest.raises(ValueError, match=r"is 20x24, not 112x112: align the faces with .*align`, or .* --resize"):
        resize.to_record(small, resize=False, order="rgb")


def _enlarged(encoded: bytes) -> np.ndarray:
    return resize.to_face_size(photos.decode_photo(encoded))


def test_colors_keep_their_order():
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[..., 0] = 200
    assert _enlarged(resize.encode_png(pixels))[0, 0].tolist() == [200, 0, 0]


def test_bad_pictures_are_refused_before_a_pixel_is_decoded():
    start = bytearray(resize.encode_png(np.zeros((4, 4, 3), np.uint8)))
    start[16:24] = (30_000).to_bytes(4, "big") * 2
    with pytest.raises(ValueError, match=r"is 30000x30000, its pixels must number from 1 to"):
        photos.decode_photo(bytes(start))
    with pytest.raises(ValueError, match="is truncated"):
        photos.decode_photo(layouts.face(0, 0, size=(20, 24))[:-30])
    with pytest.raises(ValueError, match="is not an image in a known format"):
        resize.to_record(b"GIF90a", resize=True, order="rgb")
    start[16:24] = (4).to_bytes(4, "big") * 2
    start[45] ^= 255
    with pytest.raises(ValueError, match="cannot be decoded"):
        photos.decode_photo(bytes(start))
