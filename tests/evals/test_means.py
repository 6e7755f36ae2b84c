"""Means as a card keeps them: exact, of one set for each fusion."""

import dataclasses

import numpy as np
import pytest

from lrfr_jax.evals import means
from lrfr_jax.evals.means import Mean


def mean(resolution, fusion="sum", set="lfw", value=0.1):
    vector = np.full(4, value, np.float32)
    return Mean.of(vector, resolution=resolution, fusion=fusion, set=set, digest="", images=10)


def test_a_vector_survives_its_json():
    vector = (np.random.default_rng(0).normal(size=128) / 20).astype(np.float32)
    made = Mean.of(vector, resolution=14, fusion="none", set="a", digest="b", images=3)
    np.testing.assert_array_equal(means.from_plain(dataclasses.asdict(made)).vector, vector)


@pytest.mark.parametrize("change", [{"resolution": 0}, {"values": "1 1"}, {"values": "1 x"}, {"values": "nan"}])
def test_what_no_mean_is_is_told(change):
    with pytest.raises(ValueError, match=r"mean embedding|could not convert"):
        means.from_plain(dataclasses.asdict(mean(14)) | change)


def test_sizes_of_one_set_add_up_and_another_set_takes_their_place():
    held = means.merge([mean(112), mean(20)], [mean(112, value=0.2), mean(7)])
    assert [(one.resolution, one.values.split()[0][:3]) for one in held] == [(20, "0.1"), (112, "0.2"), (7, "0.1")]
    other = means.merge([*held, mean(14, fusion="none")], [mean(14, set="own")])
    assert [(one.fusion, one.set, one.resolution) for one in other] == [("none", "lfw", 14), ("sum", "own", 14)]
    assert {fusion: list(found) for fusion, found in means.by_fusion(other).items()} == {"none": [14], "sum": [14]}
