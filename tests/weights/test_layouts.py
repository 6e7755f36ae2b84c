"""Every layout: whole narrow networks under their makers' names give, read into ours, what slow numpy forwards give."""

import pathlib
from functools import partial

import jax
import numpy as np
import pytest

from lrfr_jax import image_ops, models, pretrained
from lrfr_jax.checkpoints import checkpoint
from lrfr_jax.weights.conversion import convert
from lrfr_jax.weights.layouts import LAYOUTS
from lrfr_jax.weights.recognition import recognize
from tests.weights import reference_networks as made

WEIGHTS = pathlib.Path(__file__).resolve().parents[3] / "shared" / "data" / "weights"
SIZES = {"iresnet18": (2, 2, 2, 2), "se_iresnet18": (2, 2, 2, 2), "resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}
EPSILONS = {"insightface_mxnet_mobilefacenet": 1e-3, "insightface_mxnet_iresnet": 2e-5, "magface_iresnet": 2e-5}
# Layout, backbone, what stands before the names; order, scale and columns of the input; the forward of the makers.
NETWORKS = [
    ("insightface_mxnet_mobilefacenet", "mobilefacenet", "", "rgb", 128.0, 112, made.mxnet_mobilefacenet),
    ("pytorch_mobilefacenet", "mobilefacenet", "", "rgb", 128.0, 96, made.torch_mobilefacenet),
    ("insightface_torch_iresnet", "iresnet18", "", "rgb", 127.5, 112, made.arcface_iresnet),
    ("insightface_torch_mobilefacenet", "mobilefacenet", "", "rgb", 127.5, 112, made.arcface_mobilefacenet),
    ("adaface_ir", "iresnet18", "model.", "bgr", 127.5, 112, partial(made.adaface_ir, before="model.")),
    ("cvlface_ir", "iresnet18", "model.net.", "rgb", 127.5, 112, partial(made.adaface_ir, before="model.net.")),
    ("magface_iresnet", "iresnet18", "features.module.", "bgr", 255.0, 112, made.magface_iresnet),
    ("curricularface_ir", "iresnet18", "", "rgb", 127.5, 112, partial(made.evolve_ir, affine=())),
    ("evolve_ir", "iresnet18", "", "rgb", 127.5, 112, partial(made.evolve_ir, affine=("scale", "bias"))),
    ("evolve_ir", "se_iresnet18", "", "rgb", 127.5, 112, partial(made.evolve_ir, affine=("scale", "bias"), is_se=True)),
    ("adaface_ir", "se_iresnet18", "model.", "bgr", 127.5, 112, partial(made.adaface_ir, before="model.", is_se=True)),
    ("insightface_mxnet_iresnet", "iresnet18", "", "rgb", 128.0, 112, made.mxnet_iresnet),
    ("released_lrfr_resnet", "resnet18", "", "rgb", 127.5, 112, partial(made.lrfr_resnet, bottleneck=False)),
    ("released_lrfr_resnet", "resnet50", "", "rgb", 127.5, 112, partial(made.lrfr_resnet, bottleneck=True)),
]


def features(model, variables, images):
    net = models.create_backbone(**model)
    return jax.jit(lambda v, x: net.apply(v, x, train=False))(variables, image_ops.normalize(jax.numpy.asarray(images)))


def assert_close(ours, theirs):
    lengths = np.linalg.norm(theirs, axis=1)
    np.testing.assert_allclose(np.linalg.norm(ours - theirs, axis=1) / lengths, 0, atol=1e-4)


@pytest.mark.parametrize(("layout", "backbone", "before", "order", "scale", "columns", "forward"), NETWORKS)
def test_narrow_networks(layout, backbone, before, order, scale, columns, forward):
    images = np.random.default_rng(0).integers(0, 256, (2, 112, 112, 3)).astype(np.uint8)
    x, mean = images[..., ::-1] if order == "bgr" else images, 0.0 if layout == "magface_iresnet" else 127.5
    x = (x[:, :, (112 - columns) // 2 :][:, :, :columns].transpose(0, 3, 1, 2) - mean) / scale
    net = made.SlowNet(made.MXNET if "mxnet" in layout else made.TORCH, EPSILONS.get(layout, 1e-5))
    sizes = {"sizes": SIZES[backbone]} if backbone in SIZES else {}
    expected = forward(net, x, channels=8, size=24, **sizes)
    assert recognize(net.state, source="x", layout=None) == (layout, before)
    how = {"layout": layout, "before": before, "backbone": backbone, "convention": {}, "width": None}
    converted = convert(net.state, source="x", **how)
    assert converted.model == {
        **{"backbone": backbone, "width": 0.125, "embedding_size": 24, "dropout": 0.0, "dtype": "float32"},
        "input": {"order": order, "mean": mean, "scale": scale, "columns": columns},
    }
    assert_close(features(converted.model, converted.variables, images), expected)


@pytest.mark.parametrize(("layout", "epsilon"), [("magface_iresnet", 2e-5), ("insightface_torch_iresnet", 1e-5)])
def test_another_epsilon_goes_into_the_variances(layout, epsilon):
    """Too little to show in features of variances near 1."""
    net, forward = made.SlowNet(), {"magface_iresnet": made.magface_iresnet}.get(layout, made.arcface_iresnet)
    before = LAYOUTS[layout].beginning
    forward(net, np.zeros((1, 3, 112, 112)), channels=8, size=24, sizes=(2, 2, 2, 2), before=before)
    how = {"layout": layout, "before": before, "backbone": "iresnet18", "convention": {}, "width": None}
    statistics = convert(net.state, source="x", **how).variables["batch_stats"]
    for ours, theirs in ((statistics["stem_bn"], "bn1"), (statistics["neck"]["bn2"], "features")):
        expected = net.state[f"{before}{theirs}.running_var"].astype(np.float64) + (epsilon - 1e-5)
        np.testing.assert_allclose(ours["var"], expected, rtol=1e-7)


def test_real_y1(reference, tmp_path):
    """InsightFace's weights, from both files, give the embeddings that MXNet's graph gave of 16 faces."""
    saved = reference("mobilefacenet_y1")
    read = []
    for name in ("insightface_mobilefacenet_y1-0000.params", "insightface_mobilefacenet_y1.npz"):
        if not (WEIGHTS / name).exists():
            pytest.skip(f"the weights {name} are not public and not on this machine")
        out = tmp_path / name
        pretrained.main(["--source", str(WEIGHTS / name), "--backbone", "mobilefacenet", "--out", str(out)])
        read.append(checkpoint.load_backbone(out))
    (variables, metadata), (others, _) = read
    jax.tree.map(np.testing.assert_array_equal, variables, others)
    assert_close(features(metadata["model"], variables, saved["images"]), saved["embeddings"])
