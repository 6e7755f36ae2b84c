import numpy as np
import pytest

from lrfr_jax.prepare.packs.recordio_file import RecordIOError
from lrfr_jax.prepare.packs.recordio_header import NO_LABEL, check_ranges, first_identity_key

_BIG = 2**24


def _rounded(*numbers):
    return [float(np.float32(number)) for number in numbers]


@pytest.mark.parametrize(
    ("first", "count"),
    [
        (2, 1),
        (101, 7),
        (_BIG - 1, 3),
        (_BIG, 4),
        (_BIG + 1, 4),
        (2 * _BIG + 3, 1),
        (4 * _BIG + 5, 9),
        (5, 0),
        (_BIG + 2, 0),
    ],
)
def test_the_first_identity_is_found_behind_rounded_labels(first, count):
    num_keys = first + count
    labels = _rounded(first, num_keys)
    assert first_identity_key(*labels, num_keys, lambda key: first <= key < num_keys) == first


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ((float("nan"), 12.0), "announce no images"),
        ((10.0, float("inf")), "announce no images"),
        ((10.5, 12.0), "announce no images"),
        ((-3.0, 12.0), "announce no images"),
        ((1.0, 12.0), "announce no images"),
        ((13.0, 12.0), "announces images at keys 1 to 12, the file has keys up to 11"),
        ((12.0, 0.0), "announce no images"),
        ((12.0, 3.0), "announces images up to the last key, 11, whose record holds none"),
        ((10.0, 13.0), "announces keys 0 to 12, the file has 12 of them"),
        ((3e38, 3e38), "the file has 12 of them"),
    ],
)
def test_a_header_that_lies_is_refused(labels, sentence):
    with pytest.raises(RecordIOError, match=sentence):
        first_identity_key(*_rounded(*labels), 12, lambda key: True)


@pytest.mark.parametrize("classes", [1, 4, 11, 12, 900])
def test_a_header_may_count_images_and_classes(classes):
    assert first_identity_key(12.0, float(classes), 12, lambda key: False) == 12
    num_keys = 2 * _BIG + 3
    assert first_identity_key(*_rounded(num_keys, classes), num_keys, lambda key: False) == num_keys


def test_a_header_may_not_announce_an_identity_as_an_image():
    with pytest.raises(RecordIOError, match="announces identities from key 10 on, key 9 is one, too"):
        first_identity_key(10.0, 12.0, 12, lambda key: key >= 9)


def test_a_rounded_header_without_identities_where_it_says_is_refused():
    with pytest.raises(RecordIOError, match="announces identities from about key 16777220 on, there are none"):
        first_identity_key(*_rounded(_BIG + 3, _BIG + 90), _BIG + 90, lambda key: key > _BIG + 80)


def _ranges(*bounds):
    return np.array(bounds, np.float32).reshape(-1, 2)


_LABELS = np.array([NO_LABEL, 4, 4, 4, 2, 9, NO_LABEL, 9], np.int32)  # by key; key 0 is the header


@pytest.mark.parametrize(
    ("ranges", "wrong"),
    [
        ([(1, 4), (4, 5), (5, 8)], None),
        ([(5, 8), (1, 4)], None),
        ([(1, 4), (4, 4)], None),
        ([(1, 4), (0, 3)], (1, "names images 0.0 to 3.0, the file has keys 1 to 7")),
        ([(1, 4), (5, 9)], (1, "names images 5.0 to 9.0")),
        ([(4, 1)], (0, "names images 4.0 to 1.0")),
        ([(1, 2.5)], (0, "names images 1.0 to 2.5")),
        ([(float("nan"), 4)], (0, "names images nan")),
        ([(3, 5)], (0, "names images of several identities, with labels 2 and 4")),
        ([(5, 8), (1, 4), (3, 4)], (2, "names images that another identity names too")),
    ],
)
def test_ranges_agree_with_the_labels(ranges, wrong):
    found = check_ranges(_ranges(*ranges), _LABELS)
    assert (found is None) == (wrong is None)
    if wrong:
        assert found[0] == wrong[0]
        assert found[1].startswith(wrong[1])


def test_ranges_beyond_float32_are_compared_as_far_as_they_are_certain():
    labels = np.full(_BIG + 200, 7, np.int32)
    labels[_BIG + 101 :] = 8  # the bound 2^24 + 101 is no float32
    ranges = _ranges((1, _BIG + 101), (_BIG + 101, _BIG + 200))
    assert check_ranges(ranges, labels) is None
    labels[_BIG + 95 : _BIG + 99] = 8
    assert check_ranges(ranges, labels) == (0, "names images of several identities, with labels 7 and 8")
