import math

import numpy as np
import pytest

from tests.objective.heads.toy import T0, close, dense_losses, in_double, make

# b = log 30; the head adds its bias, the formula subtracts b.
BIAS = -math.log(30)


@in_double
def test_values_and_gradients():
    losses, _, slopes = dense_losses(make("uniface", scale=8.0), T0, bias=BIAS)
    close(losses, [2.2736524], digits=7)
    close(slopes["cosines"], [[-6.866357, 2.149649, 0.053479]])
    close(slopes["bias"], -0.5829037, digits=7)


@in_double
def test_weight_of_the_negatives():
    close(dense_losses(make("uniface", scale=8.0, negative_weight=0.5), T0, bias=BIAS)[0], [2.1138288], digits=7)
    positive = dense_losses(make("uniface", scale=8.0, negative_weight=0), T0, bias=BIAS)[0]
    close(positive, [1.9540052], digits=7)
    close(dense_losses(make("uniface", scale=8.0), T0, bias=BIAS)[0] - positive, [0.3196471], digits=7)


def test_bias_starts_by_the_number_of_identities():
    head = make("uniface", bias_factor=10.0)
    assert head.bias == "shared"
    np.testing.assert_allclose(head.first_bias(3), BIAS)
    np.testing.assert_allclose(head.first_bias(0.3 * 10575), -math.log(10 * 0.3 * 10575))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"negative_weight": -1}, "negative_weight=-1 must be 0 or more"),
        ({"bias_factor": 0}, "bias_factor=0 must be above 0"),
        ({"scale": 0}, "scale=0 must be above 0"),
    ],
)
def test_refuses(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        make("uniface", **change)
