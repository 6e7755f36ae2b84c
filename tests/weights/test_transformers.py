"""Narrow transformers under their makers' names give, read into ours, what slow numpy forwards give."""

import functools

import jax
import numpy as np
import pytest

from lrfr_jax import image_ops, models, pretrained
from lrfr_jax.checkpoints import checkpoint
from lrfr_jax.errors import UserError
from lrfr_jax.models import kprpe
from lrfr_jax.models.kprpe import KeypointTransformer
from lrfr_jax.models.vit import FaceTransformer
from lrfr_jax.weights.conversion import convert
from lrfr_jax.weights.recognition import recognize
from tests.weights import torch_writer
from tests.weights import transformer_networks as made

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 112, 112, 3)).astype(np.uint8)
PIXELS = IMAGES.transpose(0, 3, 1, 2).astype(np.float64)
SMALL = {"dim": 64, "depth": 4}


@pytest.fixture(autouse=True)
def four_blocks(monkeypatch):
    for name, patch in (("vit_p8s8", 8), ("vit_p12s8", 12)):
        monkeypatch.setitem(models.BACKBONES, name, functools.partial(FaceTransformer, patch=patch, depth=4))
    small = functools.partial(KeypointTransformer, depth=4, head=64, mlp_ratio=5)
    monkeypatch.setitem(models.BACKBONES, "vit_kprpe_small", small)


def features(converted, **how):
    net = models.create_backbone(**converted.model)
    images = image_ops.normalize(jax.numpy.asarray(IMAGES))
    return jax.jit(functools.partial(net.apply, train=False))(converted.variables, images, **how)


def read(state, backbone):
    layout, before = recognize(state, source="x", layout=None)
    how = {"layout": layout, "before": before, "backbone": backbone, "convention": {}, "width": None}
    return convert(state, source="x", **how), layout


def assert_close(ours, theirs):
    lengths = np.linalg.norm(theirs, axis=1)
    np.testing.assert_allclose(np.linalg.norm(ours - theirs, axis=1) / lengths, 0, atol=1e-5)


@pytest.mark.parametrize("patch", [8, 12])
def test_face_transformers(patch, tmp_path):
    """Through the command, from a file as PyTorch writes it; nothing says which of the two it is but the patches."""
    weights = made.Weights()
    expected = made.face_transformer(weights, PIXELS, dim=128, depth=4, patch=patch)  # two heads: not the scale of one
    path = tmp_path / "Backbone_VIT.pth"
    path.write_bytes(
        torch_writer.write_zip({name: torch_writer.Tensor(array) for name, array in weights.state.items()})
    )
    pretrained.main(["--source", str(path), "--out", str(tmp_path / "out")])
    variables, metadata = checkpoint.load_backbone(tmp_path / "out")
    assert metadata["model"] == {
        **{"backbone": f"vit_p{patch}s8", "width": 0.25, "embedding_size": 128, "dropout": 0.0, "dtype": "float32"},
        "input": {"order": "rgb", "mean": 0.0, "scale": 1.0, "columns": 112},
    }
    converted, layout = read(weights.state, f"vit_p{patch}s8")
    assert layout == f"face_transformer_p{patch}s8"
    assert converted.ignored == ["loss.weight"]
    jax.tree.map(np.testing.assert_array_equal, converted.variables, variables)
    assert_close(features(converted), expected)


def test_a_face_transformer_of_other_patches_is_refused():
    weights = made.Weights()
    made.face_transformer(weights, PIXELS[:1], patch=8, **SMALL)
    how = {"layout": "face_transformer_p12s8", "before": "", "convention": {}, "width": None}
    with pytest.raises(UserError, match=r"patch_to_embedding.weight float32\[64, 192\] instead of float32\[64, 432\]"):
        convert(weights.state, source="x", backbone="vit_p12s8", **how)


def test_kprpe_with_tables_and_the_plain_network():
    """With the template's keypoints and others; without tables it is the plain network, whatever the keypoints."""
    pixels, network = (PIXELS - 127.5) / 127.5, functools.partial(made.vit, size=24, **SMALL)
    plain, learned = made.Weights("net."), made.Weights("model.net.")
    template, others = kprpe.template()[0].astype(np.float64), np.linspace(0.1, 0.9, 10).reshape(5, 2)
    expected = {"plain": network(plain, pixels), "template": network(learned, pixels, keypoints=template)}
    expected["others"] = network(learned, pixels, keypoints=others)
    given = {"keypoints": jax.numpy.asarray(np.tile(others, (2, 1, 1)), "float32")}
    without, layout = read(plain.state, "vit_kprpe_small")
    assert layout == "cvlface_vit"
    assert_close(features(without), expected["plain"])
    assert_close(features(without, **given), expected["plain"])
    converted, layout = read(learned.state, "vit_kprpe_small")
    assert layout == "cvlface_vit_kprpe"
    assert converted.model["embedding_size"] == 24
    assert converted.model["input"] == {"order": "rgb", "mean": 127.5, "scale": 127.5, "columns": 112}
    assert_close(features(converted), expected["template"])
    assert_close(features(converted, **given), expected["others"])
    assert np.abs(expected["others"] - expected["template"]).max() > 1e-3
