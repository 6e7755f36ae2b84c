"""Each tensor of a file is accounted for: taken, left aside by name, or the file is refused in one sentence."""

import functools

import jax
import numpy as np
import pytest

from lrfr_jax import models
from lrfr_jax.errors import UserError
from lrfr_jax.models.resnet import BasicBlock, Bottleneck, ResNet
from lrfr_jax.weights import conversion
from lrfr_jax.weights.conversion import convert
from lrfr_jax.weights.layouts import LAYOUTS
from tests.exports import networks
from tests.weights import reference_networks as made


def state_of(forward, columns, **options):
    net = made.SlowNet()
    forward(net, np.zeros((1, 3, 112, columns)), channels=8, size=16, **options)
    return net.state


@pytest.fixture(scope="module")
def mobile():
    return state_of(made.torch_mobilefacenet, 96)


@pytest.fixture(scope="module")
def residual():
    return state_of(made.arcface_iresnet, 112, sizes=(2, 2, 2, 2))


def read(state, layout="pytorch_mobilefacenet", backbone="mobilefacenet", before="", width=None, **convention):
    how = {"source": "x.pt", "layout": layout, "before": before, "backbone": backbone, "width": width}
    return convert(state, **how, convention=convention)


def test_what_is_left_aside_is_named(mobile):
    counters = sorted(name for name in mobile if name.endswith("num_batches_tracked"))
    converted = read({f"net.{name}": array for name, array in mobile.items()} | {"fc.w": np.ones(2)}, before="net.")
    assert converted.ignored == ["fc.w", *(f"net.{name}" for name in counters)]
    jax.tree.map(np.testing.assert_array_equal, converted.variables, read(mobile).variables)


def test_no_value_is_lost(mobile):
    """All that the file has of a kind is in the variables, in some order; what it lacks is zero."""
    converted = read(mobile)
    taken = np.concatenate([x.ravel() for name, x in mobile.items() if name not in converted.ignored])
    held = np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(converted.variables)])
    np.testing.assert_array_equal(np.sort(held), np.sort(np.concatenate([taken, np.zeros(16)])))
    assert {leaf.dtype for leaf in jax.tree.leaves(converted.variables)} == {np.dtype(np.float32)}


def test_the_convention_can_be_told(mobile):
    converted = read(mobile, order="bgr", mean=0.0, scale=1.0)
    assert converted.model["input"] == {"order": "bgr", "mean": 0.0, "scale": 1.0, "columns": 96}
    with pytest.raises(UserError, match=r"1 tensor \(linear7.conv.weight .*7, 6\] instead of float32\[64, 1, 7, 7\]\)"):
        read(mobile, columns=112)
    with pytest.raises(UserError, match="scale above 0"):
        read(mobile, scale=0.0)


def test_differences_are_one_sentence(mobile):
    lacking = [f"blocks.{n}.conv.0.weight" for n in range(12)]
    changed = {name: array for name, array in mobile.items() if name not in lacking} | {
        "blocks.15.conv.0.weight": np.zeros((16, 8, 1, 1), np.float32),
        "conv2.bn.bias": np.zeros(3, np.float32),
        "conv2.bn.weight": np.zeros(64, np.int8),
        "linear1.conv.weight": mobile["linear1.conv.weight"].reshape(16, 1, 8, 8),
    }
    with pytest.raises(UserError) as raised:
        read(changed)
    assert str(raised.value) == (
        "x.pt, read as mobilefacenet in layout pytorch_mobilefacenet, "
        f"lacks 12 tensors ({', '.join(sorted(lacking)[:10])} and 2 more), "
        "has beyond it 1 tensor (blocks.15.conv.0.weight), "
        "has in another shape or type 3 tensors (conv2.bn.bias float32[3] instead of float32[64], "
        "conv2.bn.weight int8[64] instead of float32[64], linear1.conv.weight float32[16, 1, 8, 8] instead of "
        "float32[16, 64]): choose another --backbone or --layout, or get the file again"
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"conv1.conv.weight": None}, r"has conv1.conv.weight of shape \(\): it is damaged"),
        ({"linear1.conv.weight": np.zeros(16, np.float32)}, r"has linear1.conv.weight of shape \(16,\)"),
        ({"conv1.conv.weight": np.zeros((0, 3, 3, 3), np.float32)}, "has conv1.conv.weight of shape"),
        ({"linear7.conv.weight": np.zeros((64, 1, 7, 99), np.float32)}, "columns in 1..112"),
        ({"conv1.conv.weight": np.zeros((16, 3, 3, 3), np.float32)}, "has in another shape"),
    ],
)
def test_damaged_files_are_refused(mobile, change, sentence):
    state = {name: array for name, array in (mobile | change).items() if array is not None}
    with pytest.raises(UserError, match=sentence):
        read(state)


def test_wrong_backbones_are_refused(mobile, residual):
    with pytest.raises(UserError, match=r"--backbone must be mobilefacenet$"):
        read(mobile, backbone="resnet18")
    with pytest.raises(UserError, match=r"x.pt, read as iresnet34 in layout insightface_torch_iresnet, lacks 1"):
        read(residual, layout="insightface_torch_iresnet", backbone="iresnet34")


def test_a_scale_that_ours_lacks_goes_into_the_layer_before(residual):
    """beta + g ((W x + b) - mean) / sigma, so the features are scaled about their bias, in float32's precision."""
    how = {"layout": "insightface_torch_iresnet", "backbone": "iresnet18"}
    plain, pixels = read(residual, **how), networks.images(2)
    jax.tree.map(
        np.testing.assert_array_equal,
        plain.variables,
        read({name: array for name, array in residual.items() if name != "features.weight"}, **how).variables,
    )
    learned = np.linspace(-0.5, 2, 16).astype(np.float32)
    scaled = read(residual | {"features.weight": learned}, **how)
    before, after = (networks.features(one.model, one.variables, pixels) for one in (plain, scaled))
    bias = residual["features.bias"]
    np.testing.assert_allclose(after, bias + learned * (before - bias), rtol=1e-4, atol=1e-5 * np.abs(after).max())
    assert "features.weight" not in scaled.ignored
    with pytest.raises(UserError, match=r"features.weight float32\[3\] instead of float32\[16\]"):
        read(residual | {"features.weight": learned[:3]}, **how)


@pytest.mark.parametrize(
    ("width", "backbone"),
    [(0.05, "resnet10"), (0.701, "resnet10"), (0.33333, "resnet14"), (1.3, "iresnet18"), (0.7, "mobilefacenet")],
)
def test_a_width_gives_all_channel_counts(width, backbone, monkeypatch):
    """Also one that is no 64th, of which the first layer tells too little."""
    for name, block in (("resnet10", BasicBlock), ("resnet14", Bottleneck)):
        short = functools.partial(ResNet, block=block, stage_sizes=(1, 1, 1, 1))
        monkeypatch.setitem(models.BACKBONES, name, short)
    layout = {"iresnet18": "insightface_torch_iresnet", "mobilefacenet": "insightface_torch_mobilefacenet"}
    row = LAYOUTS[layout.get(backbone, "released_lrfr_resnet")]
    model = networks.arguments(backbone) | {"width": width}
    wanted = conversion.shapes_of(model)
    named = {
        name: np.broadcast_to(np.float32(1), conversion._their_shape(wanted[path]))
        for path, name in conversion.names_in(row, wanted).items()
    }
    found = conversion._width(named, row, model | {"width": 99.0})
    assert conversion.shapes_of(model | {"width": found}) == wanted
    assert len(str(found)) <= len(str(width))
