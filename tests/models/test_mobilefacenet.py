"""MobileFaceNet: its size is the published one, images are taken as the weights want them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrfr_jax import image_ops
from lrfr_jax.models import create_backbone, layers, mobilefacenet

Y1 = {"order": "rgb", "mean": 127.5, "scale": 128.0, "columns": 112}
ARGUMENTS = {"width": 1.0, "embedding_size": 128, "dropout": 0.0, "dtype": "float32", "input": Y1}


def parameters_of(**changes):
    net = create_backbone("mobilefacenet", **ARGUMENTS | changes)
    images = jax.ShapeDtypeStruct((1, 112, 112, 3), jnp.float32)
    shapes = jax.eval_shape(lambda x: net.init(jax.random.key(0), x, train=False), images)["params"]
    return shapes, sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes))


def by_hand(embedding_size, last_map):
    total, before = 27 * 64 + 9 * 64 + 2 * 3 * 64, 64
    for hidden, channels, size, _ in mobilefacenet.STAGES:
        for _ in range(size):
            total += before * hidden + 9 * hidden + 2 * 3 * hidden + hidden * channels + 2 * channels
            before = channels
    neck = last_map * 512 + 2 * 512 + 512 * embedding_size + embedding_size + 2 * embedding_size
    return total + before * 512 + 3 * 512 + neck


@pytest.mark.parametrize(("size", "columns", "last_map"), [(128, 112, 49), (512, 112, 49), (128, 96, 42)])
def test_parameters_are_those_of_the_published_network(size, columns, last_map):
    shapes, count = parameters_of(embedding_size=size, input=Y1 | {"columns": columns})
    assert count == by_hand(size, last_map)
    assert shapes["neck"]["weights"].shape == (7, last_map // 7, 1, 512)
    assert [len(shapes[f"stage{n}"]) for n in range(1, 6)] == [5, 1, 6, 1, 2]


def test_bottlenecks_add_their_input_where_shapes_allow_it():
    x = jnp.ones((1, 4, 4, 8))
    for channels, stride, adds in ((8, 1, True), (8, 2, False), (16, 1, False)):
        net = mobilefacenet.InvertedBottleneck(16, channels, stride, "float32")
        variables = jax.tree.map(jnp.zeros_like, net.init(jax.random.key(0), x, train=False))
        result = net.apply(variables, x, train=False)
        assert result.shape == (1, 4 // stride, 4 // stride, channels)
        np.testing.assert_array_equal(result, 1.0 if adds else 0.0)


def test_images_are_converted_to_what_the_weights_want():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 112, 112, 3)).astype(np.uint8)
    images = image_ops.normalize(jnp.asarray(pixels))
    convention = layers.InputConvention(order="bgr", mean=100.0, scale=64.0, columns=96)
    expected = (pixels[:, :, 8:104, ::-1].astype(np.float64) - 100) / 64
    np.testing.assert_allclose(layers.to_convention(images, convention), expected, atol=1e-6)
    house = layers.InputConvention("rgb", 127.5, 127.5, 112)
    np.testing.assert_array_equal(layers.to_convention(images, house), images)
    with pytest.raises(ValueError, match="columns=112 of images that are 96 wide"):
        layers.to_convention(images[:, :, :96], house)
