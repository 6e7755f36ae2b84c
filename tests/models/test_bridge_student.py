"""The tiny student, at its native input size."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from lrfr_jax.models import bridge_student, create_backbone, layers, taps

RGB = {"order": "rgb", "mean": 127.5, "scale": 127.5, "columns": 112}
SMALL = {"width": 0.25, "embedding_size": 16, "dropout": 0.0, "dtype": "float32", "input": RGB}
INPUT = jax.ShapeDtypeStruct((2, 112, 112, 3), jnp.float32)


def shapes_of(net):
    return jax.eval_shape(functools.partial(net.init, train=False), jax.random.key(0), INPUT)


@pytest.mark.parametrize("size", [16, 32, 64, 96, 112])
def test_it_has_as_many_weights_as_published_at_every_size(size):
    full = SMALL | {"width": 1.0, "embedding_size": 128, "input": RGB | {"size": size}}
    net = create_backbone("bridge_student", **full)
    variables = shapes_of(net)
    of_layers = {"/".join(key.key for key in path): leaf.size for path, leaf in jax.tree.leaves_with_path(variables)}
    weights = {name: count for name, count in of_layers.items() if "conv/kernel" in name or "linear" in name}
    assert len(weights) == 8
    assert sum(weights.values()) == 216_032
    asked = functools.partial(taps.apply, net, taps=("stage1", "stage2", "stage3", "feature"), train=False)
    found, _ = jax.eval_shape(asked, variables, INPUT)
    sides = [size, size // 2, size // 4]
    assert [found[f"stage{n}"].shape for n in (1, 2, 3)] == [
        (2, side, side, count) for side, count in zip(sides, (32, 64, 96), strict=True)
    ]
    assert found["feature"].shape == (2, 128)
    assert taps.names_of(net) == ("stage1", "stage2", "stage3", "feature")


def test_images_are_shrunk_as_pillow_does_and_then_converted():
    rng = np.random.default_rng(0)
    pixels = np.kron(rng.integers(60, 190, (2, 28, 28, 3)), np.ones((1, 4, 4, 1))).astype(np.uint8)
    convention = layers.InputConvention(order="bgr", mean=100.0, scale=64.0, columns=112, size=24)
    images = (jnp.asarray(pixels, jnp.float32) - 127.5) / 127.5
    found = layers.to_convention(images, convention)
    small = [np.asarray(Image.fromarray(image).resize((24, 24), Image.Resampling.BICUBIC)) for image in pixels]
    wanted = (np.stack(small)[..., ::-1].astype(np.float64) - 100) / 64
    np.testing.assert_allclose(found, wanted, atol=1.01 / 64)  # Pillow rounds after each of two passes


def test_a_convention_of_before_leaves_the_size():
    assert layers.InputConvention(**RGB).size == 112
    small = create_backbone("bridge_student", **SMALL)
    assert "dot_general" in str(
        jax.make_jaxpr(lambda x: layers.to_convention(x, small.input.__class__(**RGB, size=16)))(INPUT)
    )
    assert not jax.make_jaxpr(lambda x: layers.to_convention(x, small.input))(INPUT).eqns


def test_pooling_is_that_of_the_library():
    x = jax.random.normal(jax.random.key(0), (2, 7, 10, 3))
    wanted = layers.nn.max_pool(x, (2, 2), (2, 2))
    np.testing.assert_array_equal(bridge_student.MaxPoolOfTwo().apply({}, x), wanted)


def test_it_learns_in_every_weight_and_computes_again_to_the_same_numbers():
    settings = SMALL | {"input": RGB | {"size": 16}}
    nets = [create_backbone("bridge_student", **settings, remat=remat) for remat in layers.REMATS]
    images = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (4, 112, 112, 3)), jnp.float32)
    variables = nets[0].init(jax.random.key(0), images, train=False)

    def gradient(net):
        def loss(params):
            feature, updated = net.apply(variables | {"params": params}, images, train=True, mutable=["batch_stats"])
            return jnp.sum(feature * jnp.sin(jnp.arange(feature.size).reshape(feature.shape))), updated

        return jax.jit(jax.grad(loss, has_aux=True))(variables["params"])

    wanted, _ = gradient(nets[0])
    assert all(leaf.any() for leaf in jax.tree.leaves(wanted))
    for net in nets[1:]:
        for found, expected in zip(*map(jax.tree.leaves, (gradient(net)[0], wanted)), strict=True):
            np.testing.assert_allclose(found, expected, atol=2e-4)
