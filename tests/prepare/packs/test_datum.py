import numpy as np
import pytest

from lrfr_jax.data import records
from lrfr_jax.prepare.packs import datum
from tests.prepare import lmdb_writer


def test_an_image_file_is_given_as_it_is():
    assert datum.parse(lmdb_writer.datum(b"\xff\xd8\xff", 300, encoded=1)) == (b"\xff\xd8\xff", 300)


def test_raw_pixels_are_planes_of_blue_green_and_red():
    image = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)
    found = datum.parse(lmdb_writer.datum(lmdb_writer.planes(image), 7, encoded=0))
    np.testing.assert_array_equal(records.decode_image(found.image), image)
    gray = datum.parse(lmdb_writer.datum(image[..., 0].tobytes(), 7, shape=(1, 112, 112)))
    np.testing.assert_array_equal(records.decode_image(gray.image), image[..., :1].repeat(3, axis=2))


def test_fields_may_come_in_any_order_with_others_between():
    content = b"\x38\x01" + b"\x65\0\0\0\0" + b"\x61" + bytes(8) + b"\x28\x05" + b"\x6a\x02xy" + b"\x22\x01a"
    assert datum.parse(content) == (b"a", 5)
    assert datum.parse(lmdb_writer.datum(b"a", -1, encoded=1)).label == -1


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\x22\x05ab", "is a damaged Datum"),
        (b"\x08" + b"\xff" * 11, "is a damaged Datum"),
        (b"\x08", "is a damaged Datum"),
        (b"\x20\x05", "is a damaged Datum"),  # data that are a number
        (b"\x0b", "is a damaged Datum"),  # a type of groups
        (lmdb_writer.datum(b"a", None, encoded=1), "is a Datum without a label"),
        (lmdb_writer.datum(b"", 1), "is a Datum without data"),
        (lmdb_writer.datum(b"", 1) + b"\x35\0\0\0\0", "is a Datum of floats, not of an image"),
        (lmdb_writer.datum(b"abc", 1), "is a Datum of 3 bytes that says 3x112x112"),
        (lmdb_writer.datum(bytes(8), 1, shape=(2, 2, 2)), "is a Datum of 8 bytes that says 2x2x2"),
    ],
)
def test_what_is_no_image_with_a_label_is_told(content, sentence):
    with pytest.raises(ValueError, match=sentence):
        datum.parse(content)
