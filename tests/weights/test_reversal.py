"""Our weights under others' names: their networks, written by themselves, give our features with them."""

from functools import partial

import jax
import numpy as np
import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.weights.conversion import backbones_of, convert
from lrfr_jax.weights.layouts import LAYOUTS
from lrfr_jax.weights.recognition import recognize
from lrfr_jax.weights.reversal import to_layout
from tests.exports import networks
from tests.weights import reference_networks as made

NETWORKS = [
    ("insightface_torch_iresnet", "iresnet18", made.arcface_iresnet, {"sizes": (2, 2, 2, 2)}),
    ("insightface_torch_mobilefacenet", "mobilefacenet", made.arcface_mobilefacenet, {}),
    ("released_lrfr_resnet", "resnet18", made.lrfr_resnet, {"sizes": (2, 2, 2, 2), "bottleneck": False}),
]


@pytest.mark.parametrize(("layout", "backbone", "forward", "options"), NETWORKS)
@pytest.mark.parametrize("convention", [{}, {"order": "bgr", "scale": 128.0}])
def test_their_networks_give_our_features(layout, backbone, forward, options, convention):
    model = networks.arguments(backbone, **convention)
    variables, pixels = networks.variables_of(model), networks.images(2)
    net = made.SlowNet()
    net.state = to_layout(variables, model=model, layout=layout)
    names = set(net.state)
    found = forward(net, pixels.transpose(0, 3, 1, 2).astype(np.float64), channels=8, size=24, **options)
    networks.assert_same(found, networks.features(model, variables, pixels))
    assert set(net.state) == names  # none made up, none missing
    assert {array.dtype for array in net.state.values()} <= {np.dtype(np.float32), np.dtype(np.int64)}


@pytest.mark.parametrize(
    ("layout", "changes", "sentence"),
    [
        ("insightface_torch_iresnet", {"backbone": "mobilefacenet"}, "holds iresnet18 or .* and no mobilefacenet"),
        ("insightface_torch_mobilefacenet", {"mean": 120.0}, "wants 112 columns and a mean of 127.5, but this"),
        ("insightface_torch_mobilefacenet", {"columns": 96}, "wants 112 columns and a mean of 127.5, but this"),
        ("insightface_torch_mobilefacenet", {"size": 96}, "wants 112 columns and a mean of 127.5, but this"),
    ],
)
def test_what_a_layout_cannot_hold(layout, changes, sentence):
    model = networks.arguments(**{"backbone": "mobilefacenet", **changes})
    with pytest.raises(UserError, match=sentence):
        to_layout(networks.variables_of(model), model=model, layout=layout)


def test_constants_must_be_as_they_are():
    """AdaFace's first shortcut takes every second pixel; one that was trained cannot be that."""
    model = networks.arguments("iresnet18", order="bgr")
    with pytest.raises(UserError, match=r"layout adaface_ir has no stage1/block0/shortcut_[a-z]+/[a-z]+, which"):
        to_layout(networks.variables_of(model), model=model, layout="adaface_ir")


READ_BEFORE = [
    ("adaface_ir", partial(made.adaface_ir, before="model."), {"order": "bgr"}),
    ("cvlface_ir", partial(made.adaface_ir, before="net."), {}),
    ("curricularface_ir", partial(made.evolve_ir, affine=()), {}),
    ("evolve_ir", partial(made.evolve_ir, affine=("scale", "bias")), {}),
    ("magface_iresnet", made.magface_iresnet, {"order": "bgr", "mean": 0.0, "scale": 255.0}),
]


@pytest.mark.parametrize(("layout", "forward", "convention"), READ_BEFORE)
def test_what_was_imported_goes_back(layout, forward, convention):
    """Under their names, in their own network, which is recognized again."""
    net, model = made.SlowNet(epsilon=LAYOUTS[layout].epsilon), networks.arguments("iresnet18", **convention)
    sizes = {"sizes": (2, 2, 2, 2), "channels": 8, "size": 24}
    pixels = np.random.default_rng(1).normal(size=(2, 3, 112, 112))
    expected = forward(net, pixels, **sizes)
    before = LAYOUTS[layout].beginning
    how = {"layout": layout, "before": before, "backbone": "iresnet18", "convention": {}, "width": None}
    converted = convert(net.state, source="x", **how)
    names, net.state = set(net.state), to_layout(converted.variables, model=model, layout=layout)
    assert set(net.state) == names
    assert recognize(net.state, source="x", layout=None) == (layout, before)
    networks.assert_same(forward(net, pixels, **sizes), expected)


@pytest.mark.parametrize("backbone", ["mobilefacenet", "mobilefacenet_scale2"])
def test_which_of_arcface_torchs_mobilefacenets_it_is(backbone):
    """Their names are the same: the stem's depthwise convolution reads one or two channels for each of its own."""
    model, layout = networks.arguments(backbone), "insightface_torch_mobilefacenet"
    variables = networks.variables_of(model)
    tensors = to_layout(variables, model=model, layout=layout)
    assert backbones_of(tensors, layout=layout, before="") == [backbone]
    how = {"layout": layout, "before": "", "backbone": backbone, "convention": {}, "width": None}
    found = convert(tensors, source="x", **how)
    assert found.model == model | {"dropout": 0.0}
    for name in ("stem_depthwise", "stage1", "stage3"):
        ours, theirs = (tree["params"][name] for tree in (variables, found.variables))
        jax.tree.map(np.testing.assert_array_equal, theirs, ours)
