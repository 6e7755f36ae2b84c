"""A file's layout shows in its names; where it does not, or is none of ours, the error says what to do."""

import numpy as np
import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.weights.layouts import LAYOUTS
from lrfr_jax.weights.recognition import listed, recognize

IR, ONE = LAYOUTS["adaface_ir"].markers, np.ones(1, np.float32)
IRESNET = LAYOUTS["magface_iresnet"].markers


def at(before, names=IR):
    return [before + name for name in names]


@pytest.mark.parametrize(
    ("names", "layout", "expected"),
    [
        (LAYOUTS["insightface_mxnet_mobilefacenet"].markers, None, ("insightface_mxnet_mobilefacenet", "")),
        (at("module.", LAYOUTS["released_lrfr_resnet"].markers), None, ("released_lrfr_resnet", "module.")),
        (
            ["state_dict_softmax_fc.weight", *at("state_dict_backbone.", LAYOUTS["insightface_torch_iresnet"].markers)],
            None,
            ("insightface_torch_iresnet", "state_dict_backbone."),
        ),
        (["head.kernel", *at("model.")], None, ("adaface_ir", "model.")),
        (at("net."), None, ("cvlface_ir", "net.")),
        (at("model.net."), None, ("cvlface_ir", "model.net.")),
        (IR, "adaface_ir", ("adaface_ir", "")),
        (at("net."), "adaface_ir", ("adaface_ir", "net.")),
        (at("features.module.", IRESNET), None, ("magface_iresnet", "features.module.")),
        (at("module.features.", IRESNET), None, ("magface_iresnet", "module.features.")),
        (at("features.", IRESNET), None, ("magface_iresnet", "features.")),
        (at("module._orig_mod.", IRESNET), None, ("insightface_torch_iresnet", "module._orig_mod.")),
        (IRESNET, "magface_iresnet", ("magface_iresnet", "")),
        (at("ema-1.backbone.", IRESNET), None, ("insightface_torch_iresnet", "ema-1.backbone.")),
        (LAYOUTS["curricularface_ir"].markers, None, ("curricularface_ir", "")),
        (at("module.", LAYOUTS["evolve_ir"].markers), None, ("evolve_ir", "module.")),
        # Ends like a marker, where the others are not.
        (["neck.input_layer.0.weight", *at("model.")], None, ("adaface_ir", "model.")),
    ],
)
def test_recognizes(names, layout, expected):
    assert recognize(dict.fromkeys(names, ONE), source="x.pt", layout=layout) == expected


@pytest.mark.parametrize(
    ("names", "layout", "sentence"),
    [
        (["a.weight", "b"], None, r"^x.pt is not of layout insightface_mxnet.* or cvlface_\w+: it holds a.weight, b$"),
        (at("net."), "released_lrfr_resnet", "^x.pt is not of layout released_lrfr_resnet, but of adaface_ir or cvl"),
        (["a"], "released_lrfr_resnet", "^x.pt is not of layout released_lrfr_resnet: it holds a$"),
        (LAYOUTS["evolve_ir"].markers, "cvlface_ir", "is not of layout cvlface_ir, but of evolve_ir$"),
        (IR, None, "can be of layout adaface_ir or cvlface_ir, which want other colors or pixel values: choose"),
        (at("a.net.") + at("b.net."), None, "holds networks at 'a.net.' and 'b.net.': keep only one of them"),
    ],
)
def test_what_it_cannot_be_is_said(names, layout, sentence):
    with pytest.raises(UserError, match=sentence):
        recognize(dict.fromkeys(names, ONE), source="x.pt", layout=layout)


def test_a_learned_scale_is_not_arcfaces():
    """Without MagFace's names before them a file can be either's: to take the wrong one would be silent."""
    tensors = dict.fromkeys(IRESNET, ONE) | {"features.weight": ONE}
    assert recognize(tensors, source="x.pt", layout=None) == ("insightface_torch_iresnet", "")
    tensors["features.weight"] = np.full(1, 1.0000001, np.float32)
    with pytest.raises(UserError, match="can be of layout insightface_torch_iresnet or magface_iresnet, which want"):
        recognize(tensors, source="x.pt", layout=None)
    for layout in ("insightface_torch_iresnet", "magface_iresnet"):
        assert recognize(tensors, source="x.pt", layout=layout) == (layout, "")


def test_lists_are_cut():
    assert listed([]) == ""
    assert listed([f"t{n}" for n in range(10)]) == "t0, t1, t2, t3, t4, t5, t6, t7, t8, t9"
    assert listed([f"t{n}" for n in range(12)]).endswith("t8, t9 and 2 more")
