"""What may be folded and what may not; that it gives the same numbers shows in `test_onnx_file`."""

import numpy as np

from lrfr_jax.exports.folding import folded
from lrfr_jax.exports.layer_graph import IMAGES, Node

ONES = np.ones(2)
SETTINGS = {"stride": 1, "padding": 1, "groups": 1}


def convolve(name, source):
    return Node("convolve", name, (source,), {"kernel": np.ones((2, 2, 3, 3)), "bias": np.zeros(2)}, SETTINGS)


def scale(name, source, *, by=3.0, shift=0.0):
    return Node("scale", name, (source,), {"scale": by * ONES, "shift": shift * ONES}, {})


def add(name, *sources):
    return Node("add", name, sources, {}, {})


def names(nodes):
    return [node.name for node in nodes]


def test_a_result_that_others_need_stays():
    alone = [convolve("a", IMAGES), scale("b", "a"), add("c", "b", IMAGES)]
    assert names(folded(alone)) == ["b", "c"]
    shared = [convolve("a", IMAGES), scale("b", "a"), add("c", "b", "a")]
    assert names(folded(shared)) == ["a", "b", "c"]


def test_a_shift_does_not_reach_into_the_border():
    plain, shifted = ([scale("a", IMAGES, shift=shift), convolve("b", "a")] for shift in (0.0, 1.0))
    [merged] = folded(plain)
    np.testing.assert_array_equal(merged.arrays["kernel"], 3 * np.ones((2, 2, 3, 3)))
    assert names(folded(shifted)) == ["a", "b"]


def test_a_row_of_scales_goes_into_one_convolution():
    [merged] = folded([convolve("a", IMAGES), scale("b", "a", by=2.0, shift=1.0), scale("c", "b", by=5.0, shift=1.0)])
    assert merged.name == "c"
    np.testing.assert_array_equal(merged.arrays["kernel"], 10 * np.ones((2, 2, 3, 3)))
    np.testing.assert_array_equal(merged.arrays["bias"], 6 * ONES)
