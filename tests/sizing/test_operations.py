"""Operations counted by hand, against arithmetic and against the published size of a network."""

import functools

import jax
import jax.numpy as jnp
import pytest

from configs import common
from lrfr_jax import models
from lrfr_jax.objective.classifier import Classifier
from lrfr_jax.objective.heads import HEADS
from lrfr_jax.sizing import operations


def test_products_convolutions_loops_and_branches():
    matrix, cube = jnp.ones((3, 5)), jnp.ones((2, 5, 7))
    assert operations.count(jnp.matmul, matrix, jnp.ones((5, 7))) == 2 * 3 * 5 * 7
    assert operations.count(lambda x: jnp.einsum("ac,bcd->abd", matrix, x), cube) == 2 * 3 * 2 * 5 * 7
    image, kernel = jnp.ones((2, 8, 8, 6)), jnp.ones((3, 3, 2, 9))

    def conv(x):
        dimensions = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, kernel, (2, 2), "SAME", dimension_numbers=dimensions, feature_group_count=3
        )

    assert operations.count(conv, image) == 2 * (2 * 4 * 4 * 9) * (3 * 3 * 2)
    square = jnp.ones((4, 4))
    assert (
        operations.count(lambda x: jax.lax.scan(lambda c, _: (c @ square, None), x, None, 5)[0], square) == 5 * 2 * 64
    )
    either = lambda x: jax.lax.cond(x.sum() > 0, lambda: x @ square, lambda: x @ square @ square)  # noqa: E731
    assert operations.count(jax.jit(either), square) == 2 * 2 * 64


def test_the_head_counts_the_centers_that_take_part():
    cosface = HEADS["cosface"](scale=64.0, margin=0.4)
    count = functools.partial(operations.of_head, head=cosface, embedding_size=512, batch=128, views=2)
    assert count(Classifier(20_000, 8, 1, 1)) == 3 * 2 * 256 * 20_000 * 512
    assert count(Classifier(20_000, 8, 1, 0.1)) == 3 * 2 * 256 * 2_000 * 512
    npt = HEADS["npt"](radius=1.0, delta=0.5, num_nearest=1)
    assert count(Classifier(20_000, 8, 1, 1), head=npt) == 2 * 256 * 20_000 * 512  # no gradient by all centers
    # A sample has room for all labels of the batch in each shard, so a small share is none.
    assert count(Classifier(20_000, 8, 1, 0.01)) == 3 * 2 * 256 * 8 * 128 * 512


# Multiplications and additions of one 112x112 image, in units of 1e9: twice the figure in InsightFace's model table.
@pytest.mark.parametrize(("backbone", "expected"), [("iresnet50", 2 * 6.3), ("iresnet100", 2 * 12.1)])
def test_published_networks(backbone, expected):
    network = models.create_backbone(
        backbone, width=1.0, embedding_size=512, dropout=0.0, dtype="float32", input=common.model_input().to_dict()
    )
    found = operations.of_forward(network)
    assert found / 1e9 == pytest.approx(expected, rel=0.03)
