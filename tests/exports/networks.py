"""Narrow networks of every family, with weights and statistics unlike those that they start from."""

import functools

import jax
import numpy as np

from lrfr_jax import models

# By how much sums of blocks make the last map larger than its biases, which are to matter.
GROWTH = {
    "mobilefacenet": 5000,
    "mobilefacenet_scale2": 5000,
    "iresnet18": 100,
    "cbam_iresnet18": 10,
    "bridge_student": 1,
    "resnet18": 20,
    "resnet14": 20,
    "resnet10": 20,
}
PLAIN = {"order": "rgb", "mean": 127.5, "scale": 127.5, "columns": 112}


def arguments(backbone, *, embedding_size=24, **convention):
    settings = {"width": 0.125, "embedding_size": embedding_size, "dropout": 0.1, "dtype": "float32"}
    return {"backbone": backbone, **settings, "input": PLAIN | convention}


def variables_of(model):
    """Kernels as large as their fan-in asks for, scales and variances near 1, slopes near 0.25, all others near 0."""
    net = models.create_backbone(**model)
    images = jax.ShapeDtypeStruct((1, 112, 112, 3), np.float32)
    shapes = jax.eval_shape(functools.partial(net.init, train=False), jax.random.key(0), images)
    draw = np.random.default_rng(0)

    def leaf(path, shape):
        name, values = path[-1].key, draw.normal(size=shape.shape)
        if name in ("kernel", "weights"):
            shrink = GROWTH[model["backbone"]] if path[-2].key == "linear" else 1
            return (values * np.sqrt(2 / np.prod(shape.shape[:-1])) / shrink).astype(np.float32)
        center = 1.0 if name in ("scale", "var") else 0.25 if name == "slope" else 0.0
        return (center + 0.1 * np.tanh(values)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(leaf, shapes)


def features(model, variables, images):
    """Of normalized RGB images."""
    net = models.create_backbone(**model)
    return np.asarray(jax.jit(functools.partial(net.apply, train=False))(variables, images))


def images(count):
    return np.random.default_rng(1).uniform(-1, 1, (count, 112, 112, 3)).astype(np.float32)


def assert_same(ours, theirs):
    lengths = np.linalg.norm(theirs, axis=1)
    assert np.ptp(theirs / lengths[:, None], axis=0).max() > 1e-3  # the images differ
    np.testing.assert_allclose(np.linalg.norm(ours - theirs, axis=1) / lengths, 0, atol=1e-5)
