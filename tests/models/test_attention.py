"""CBAM's attention, and the networks that have it in every block."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrfr_jax.models import attention, create_backbone, layers, taps

RGB = {"order": "rgb", "mean": 127.5, "scale": 127.5, "columns": 112}
SMALL = {"width": 0.125, "embedding_size": 16, "dropout": 0.0, "dtype": "float32", "input": RGB}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_attention_is_the_formula_by_loops():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 5, 4, 32))
    first, second = rng.normal(size=(32, 2)), rng.normal(size=(2, 32)) / 2
    window = rng.normal(size=(3, 3, 2, 1))

    def mlp(pooled):
        return np.maximum(pooled @ first, 0) @ second

    channels = mlp(x.mean(axis=(1, 2))) + mlp(x.max(axis=(1, 2)))
    gated = x * sigmoid(channels)[:, None, None]
    pooled = np.pad(np.stack([gated.mean(axis=3), gated.max(axis=3)], axis=3), ((0, 0), (1, 1), (1, 1), (0, 0)))
    places = np.zeros((2, 5, 4))
    for row in range(5):
        for column in range(4):
            patch = pooled[:, row : row + 3, column : column + 3]
            places[:, row, column] = (patch * window[..., 0]).sum(axis=(1, 2, 3))
    wanted = gated * sigmoid(places)[..., None]

    kernels = {"reduce": first[None, None], "expand": second[None, None], "places": window}
    params = {name: {"kernel": jnp.asarray(kernel, jnp.float32)} for name, kernel in kernels.items()}
    module = attention.Attention("float32")
    found, shown = module.apply({"params": params}, jnp.asarray(x, jnp.float32), mutable=[taps.COLLECTION])
    np.testing.assert_allclose(found, wanted, atol=2e-5)
    maps = shown[taps.COLLECTION]["attention_tap"]
    np.testing.assert_allclose(maps[0], channels, atol=2e-5)
    np.testing.assert_allclose(maps[1], places, atol=2e-5)


def test_every_block_shows_two_maps_block_by_block():
    net, images = create_backbone("cbam_iresnet50", **SMALL), jax.ShapeDtypeStruct((2, 112, 112, 3), jnp.float32)
    assert taps.names_of(net) == ("attention", "stage1", "stage2", "stage3", "stage4", "feature")
    variables = jax.eval_shape(functools.partial(net.init, train=False), jax.random.key(0), images)
    asked = functools.partial(taps.apply, net, taps=("attention",), train=False)
    maps = jax.eval_shape(asked, variables, images)[0]["attention"]
    blocks = [(8, 56)] * 3 + [(16, 28)] * 4 + [(32, 14)] * 14 + [(64, 7)] * 3
    assert [one.shape for one in maps] == [
        shape for channels, side in blocks for shape in ((2, channels), (2, side, side))
    ]


@pytest.mark.parametrize("remat", layers.REMATS)
def test_attention_maps_have_gradients(remat):
    """Only of what comes before them, whatever is computed again."""
    net = create_backbone("cbam_iresnet18", **SMALL | {"input": RGB | {"columns": 28}}, remat=remat)
    net = net.clone(stage_sizes=(2,))
    images = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (2, 28, 28, 3)), jnp.float32)
    variables = net.init(jax.random.key(0), images, train=False)

    def loss(params):
        maps = taps.apply(net, variables | {"params": params}, images, taps=("attention",), train=False)[0]["attention"]
        return sum(jnp.sum(one**2) for one in maps)

    gradient = jax.jit(jax.grad(loss))(variables["params"])
    wanted = {"stem_conv": True, "stage1": True, "neck": False}
    assert {name: bool(size_of(gradient[name])) for name in wanted} == wanted
    change = jax.jit(loss)
    steps = [jax.tree.map(lambda p, g, h=h: p + h * g, variables["params"], gradient) for h in (1e-4, -1e-4)]
    slope = sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(gradient))
    np.testing.assert_allclose((change(steps[0]) - change(steps[1])) / 2e-4, slope, rtol=0.05)


def size_of(tree):
    return sum(float(jnp.abs(leaf).sum()) for leaf in jax.tree.leaves(tree))
