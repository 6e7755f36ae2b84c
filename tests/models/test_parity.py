"""The released LRFR ResNets: our embeddings of their weights are those that the released code gave in PyTorch.

Every weight is a formula of its place in the state_dict: entry i (num_batches_tracked counts too), flat index j.
"""

import json
import pathlib

import jax
import numpy as np
import pytest

from lrfr_jax.image_ops import normalize
from lrfr_jax.models import create_backbone
from lrfr_jax.weights.conversion import convert
from tests.weights.reference_networks import formula

SHAPES = pathlib.Path(__file__).resolve().parents[3] / "shared" / "golden" / "resnet_formula.json"
KINDS = {"weight": "weight", "bias": "bias", "running_mean": "mean", "running_var": "var"}


@pytest.mark.parametrize("name", ["ResNet18", "ResNet34", "ResNet50"])
def test_released_resnets(reference, name):
    saved, published = reference("resnet_formula"), json.loads(SHAPES.read_text())[name]
    entries = [(*key.rpartition(".")[::2], tuple(shape)) for key, shape in published["state_dict"].items()]
    state = {
        f"{module}.{kind}": formula(entry, KINDS[kind], shape)
        for entry, (module, kind, shape) in enumerate(entries)
        if kind in KINDS
    }
    how = {"layout": "released_lrfr_resnet", "before": "", "backbone": name.lower(), "convention": {}, "width": None}
    converted = convert(state, source="x", **how)
    count = sum(array.size for array in jax.tree.leaves(converted.variables["params"]))
    assert (converted.model["width"], count) == (1, published["parameters"])
    net = create_backbone(**converted.model)
    images = normalize(jax.numpy.asarray(saved["images"]))
    features = jax.jit(lambda v, x: net.apply(v, x, train=False))(converted.variables, images)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    np.testing.assert_allclose(unit, saved[name], atol=1e-4)
