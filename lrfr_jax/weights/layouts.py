"""How foreign files name the tensors of our backbones: literal tables, and a row of `LAYOUTS` for each family of files.

References:
  InsightFace: recognition/arcface_torch/backbones/iresnet.py, and the symbol file of its MXNet network y1; AdaFace and
  CVLface of mk-minchul: class Backbone; MobileFaceNet_Pytorch of xiaoccer; the code released with arXiv 2302.05621.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lrfr_jax.models.layers import BATCH_NORM_EPSILON

# A leaf of ours, without 'params' or 'batch_stats': ('stage1', 'block0', 'bn1', 'mean').
Path = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Layout:
    """The names of one family of files, and what its networks do otherwise than ours.

    Attributes:
      backbones: which of ours it can be.
      markers: names that stand together in its files only.
      before: regular expression of what stands before all names of a file that is recognized without being told.
      block: (stage from 1, block in it from 0, block in the network from 0) -> what its modules' names begin with.
      modules: their name of each of our modules; of those in a block what follows after its beginning.
      leaves: their name of a tensor, {} being its module.
      exceptions: names that do not follow from the module.
      constants: tensors that ours have and theirs do not, made from their shape.
      ignored: regular expression of names that have no counterpart here and need none.
      ones: names of tensors that must be 1 everywhere, as ours have none.
      input: order, mean and scale of `layers.InputConvention`; the columns follow from the shapes.
      epsilon: of BatchNorm.
      last_epsilon: of the one that gives the feature.
    """

    backbones: tuple[str, ...]
    markers: tuple[str, ...]
    block: Callable[[int, int, int], str]
    modules: Mapping[str, str]
    leaves: Mapping[str, str]
    input: Mapping[str, Any]
    before: str = r"(.+\.)?"
    exceptions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    constants: Mapping[str, Callable[[tuple[int, ...]], np.ndarray]] = dataclasses.field(default_factory=dict)
    ignored: str = r".*\.num_batches_tracked"
    ones: tuple[str, ...] = ()
    epsilon: float = BATCH_NORM_EPSILON
    last_epsilon: float = BATCH_NORM_EPSILON

    def name_of(self, path: Path, *, number: int) -> str:
        """Returns their name of one of our leaves; `number` counts its block over the whole network, from 0."""
        joined = "/".join(path)
        if joined in self.exceptions:
            return self.exceptions[joined]
        place = re.fullmatch(r"stage(\d+)/block(\d+)/(.+)", "/".join(path[:-1]))
        if not place:
            return self.leaves[path[-1]].format(self.modules["/".join(path[:-1])])
        beginning = self.block(int(place[1]), int(place[2]), number)
        return self.leaves[path[-1]].format(beginning + self.modules[place[3]])


def _identity(shape: tuple[int, ...]) -> np.ndarray:
    return np.eye(shape[-1]).reshape(shape)


def _one_less_epsilon(shape: tuple[int, ...]) -> np.ndarray:
    return np.full(shape, 1 - BATCH_NORM_EPSILON)


def _mobilefacenet_block(stage: int, block: int, number: int) -> str:
    """What changes the shape is a module by itself, the others of a stage are in one behind it."""
    place, inside = {1: (2, False), 2: (4, False), 3: (5, True), 4: (6, False), 5: (7, True)}[stage]
    if stage == 1 and block:
        place, inside, block = 3, True, block - 1
    return f"layers.{place}.layers.{block}." if inside else f"layers.{place}."


TORCH_LEAVES = {
    "kernel": "{}.weight",
    "weights": "{}.weight",
    "slope": "{}.weight",
    "scale": "{}.weight",
    "bias": "{}.bias",
    "mean": "{}.running_mean",
    "var": "{}.running_var",
}
MXNET_LEAVES = {
    "kernel": "arg:{}_conv2d_weight",
    "weights": "arg:{}_conv2d_weight",
    "slope": "arg:{}_relu_gamma",
    "scale": "arg:{}_batchnorm_gamma",
    "bias": "arg:{}_batchnorm_beta",
    "mean": "aux:{}_batchnorm_moving_mean",
    "var": "aux:{}_batchnorm_moving_var",
}
# (x - mean) / scale of pixels 0..255.
RGB_128 = {"order": "rgb", "mean": 127.5, "scale": 128.0}
RGB = {"order": "rgb", "mean": 127.5, "scale": 127.5}
BGR = RGB | {"order": "bgr"}

MXNET_BLOCKS = (
    *("dconv_23", "res_3_block0", "res_3_block1", "res_3_block2", "res_3_block3", "dconv_34"),
    *("res_4_block0", "res_4_block1", "res_4_block2", "res_4_block3", "res_4_block4", "res_4_block5"),
    *("dconv_45", "res_5_block0", "res_5_block1"),
)
MXNET_MOBILEFACENET = {
    **dict.fromkeys(("stem_conv", "stem_bn", "stem_prelu"), "conv_1"),
    **dict.fromkeys(("stem_depthwise", "stem_depthwise_bn", "stem_depthwise_prelu"), "conv_2_dw"),
    **dict.fromkeys(("expand", "expand_bn", "expand_prelu"), "conv_sep"),
    **dict.fromkeys(("depthwise", "depthwise_bn", "depthwise_prelu"), "conv_dw"),
    **dict.fromkeys(("project", "project_bn"), "conv_proj"),
    **dict.fromkeys(("last_conv", "last_bn", "last_prelu"), "conv_6sep"),
    **dict.fromkeys(("neck", "neck/bn1"), "conv_6dw7_7"),
}
MXNET_LAST = {
    "neck/linear/kernel": "arg:fc1_weight",
    "neck/linear/bias": "arg:pre_fc1_bias",
    "neck/bn2/bias": "arg:fc1_beta",
    "neck/bn2/mean": "aux:fc1_moving_mean",
    "neck/bn2/var": "aux:fc1_moving_var",
}
TORCH_MOBILEFACENET = {
    "stem_conv": "conv1.conv",
    "stem_bn": "conv1.bn",
    "stem_prelu": "conv1.prelu",
    "stem_depthwise": "dw_conv1.conv",
    "stem_depthwise_bn": "dw_conv1.bn",
    "stem_depthwise_prelu": "dw_conv1.prelu",
    "expand": "0",
    "expand_bn": "1",
    "expand_prelu": "2",
    "depthwise": "3",
    "depthwise_bn": "4",
    "depthwise_prelu": "5",
    "project": "6",
    "project_bn": "7",
    "last_conv": "conv2.conv",
    "last_bn": "conv2.bn",
    "last_prelu": "conv2.prelu",
    "neck": "linear7.conv",
    "neck/bn1": "linear7.bn",
    "neck/linear": "linear1.conv",
    "neck/bn2": "linear1.bn",
}
ARCFACE_TORCH = {
    "stem_conv": "conv1",
    "stem_bn": "bn1",
    "stem_prelu": "prelu",
    **{name: name for name in ("bn1", "conv1", "bn2", "prelu", "conv2", "bn3")},
    "shortcut_conv": "downsample.0",
    "shortcut_bn": "downsample.1",
    "neck/bn1": "bn2",
    "neck/linear": "fc",
    "neck/bn2": "features",
}
# With scale=1. With the default of 2 its hidden layers stay as narrow, and their convolutions take two channels each.
ARCFACE_TORCH_MOBILEFACENET = {
    "stem_conv": "layers.0.layers.0",
    "stem_bn": "layers.0.layers.1",
    "stem_prelu": "layers.0.layers.2",
    "stem_depthwise": "layers.1.layers.0",
    "stem_depthwise_bn": "layers.1.layers.1",
    "stem_depthwise_prelu": "layers.1.layers.2",
    "expand": "layers.0.layers.0",
    "expand_bn": "layers.0.layers.1",
    "expand_prelu": "layers.0.layers.2",
    "depthwise": "layers.1.layers.0",
    "depthwise_bn": "layers.1.layers.1",
    "depthwise_prelu": "layers.1.layers.2",
    "project": "layers.2.layers.0",
    "project_bn": "layers.2.layers.1",
    "last_conv": "conv_sep.layers.0",
    "last_bn": "conv_sep.layers.1",
    "last_prelu": "conv_sep.layers.2",
    "neck": "features.layers.0.layers.0",
    "neck/bn1": "features.layers.0.layers.1",
    "neck/linear": "features.layers.2",
    "neck/bn2": "features.layers.3",
}
ADAFACE_IR = {
    "stem_conv": "input_layer.0",
    "stem_bn": "input_layer.1",
    "stem_prelu": "input_layer.2",
    "bn1": "res_layer.0",
    "conv1": "res_layer.1",
    "bn2": "res_layer.2",
    "prelu": "res_layer.3",
    "conv2": "res_layer.4",
    "bn3": "res_layer.5",
    "shortcut_conv": "shortcut_layer.0",
    "shortcut_bn": "shortcut_layer.1",
    "neck/bn1": "output_layer.0",
    "neck/linear": "output_layer.3",
    "neck/bn2": "output_layer.4",
}
LRFR_RESNET = {
    "stem_conv": "conv1",
    "stem_bn": "bn1",
    **{name: name for name in ("conv1", "bn1", "conv2", "bn2", "conv3", "bn3")},
    "shortcut_conv": "downsample.0",
    "shortcut_bn": "downsample.1",
    "neck/bn1": "output_layer.0",
    "neck/linear": "output_layer.3",
    "neck/bn2": "output_layer.4",
}
# Their first shortcut takes every second pixel and has no weights (a max-pool of size 1 and stride 2); ours is a
# convolution and a BatchNorm, which these make the same thing in evaluation, and in training as long as BatchNorm is
# frozen. Their last BatchNorm has neither scale nor bias.
IR_CONSTANTS = {
    "stage1/block0/shortcut_conv/kernel": _identity,
    "stage1/block0/shortcut_bn/scale": np.ones,
    "stage1/block0/shortcut_bn/bias": np.zeros,
    "stage1/block0/shortcut_bn/mean": np.zeros,
    "stage1/block0/shortcut_bn/var": _one_less_epsilon,
    "neck/bn2/bias": np.zeros,
}
IRESNETS = ("iresnet18", "iresnet34", "iresnet50", "iresnet100")
_adaface_ir = {
    "backbones": IRESNETS,
    "markers": ("input_layer.0.weight", "body.0.res_layer.1.weight", "output_layer.3.weight"),
    "block": lambda stage, block, number: f"body.{number}.",
    "modules": ADAFACE_IR,
    "leaves": TORCH_LEAVES,
    "constants": IR_CONSTANTS,
}

LAYOUTS = {
    "insightface_mxnet_mobilefacenet": Layout(
        backbones=("mobilefacenet",),
        markers=("arg:conv_1_conv2d_weight", "arg:conv_6dw7_7_conv2d_weight"),
        block=lambda stage, block, number: f"{MXNET_BLOCKS[number]}_",
        modules=MXNET_MOBILEFACENET,
        leaves=MXNET_LEAVES,
        exceptions=MXNET_LAST,
        # `fix_gamma`: MXNet takes ones, whatever the file holds.
        constants={"neck/bn2/scale": np.ones},
        ignored=r"arg:fc1_gamma|arg:fc7_weight",
        input=RGB_128,
        epsilon=1e-3,
        last_epsilon=2e-5,
    ),
    "pytorch_mobilefacenet": Layout(
        backbones=("mobilefacenet",),
        markers=("dw_conv1.conv.weight", "blocks.0.conv.0.weight", "linear7.conv.weight"),
        block=lambda stage, block, number: f"blocks.{number}.conv.",
        modules=TORCH_MOBILEFACENET,
        leaves=TORCH_LEAVES,
        constants={"neck/linear/bias": np.zeros},
        input=RGB_128,
    ),
    "insightface_torch_iresnet": Layout(
        backbones=IRESNETS,
        markers=("conv1.weight", "fc.weight", "features.running_mean"),
        block=lambda stage, block, number: f"layer{stage}.{block}.",
        modules=ARCFACE_TORCH,
        leaves=TORCH_LEAVES,
        ones=("features.weight",),
        input=RGB,
    ),
    "insightface_torch_mobilefacenet": Layout(
        backbones=("mobilefacenet",),
        markers=("layers.0.layers.0.weight", "conv_sep.layers.0.weight", "features.layers.2.weight"),
        block=_mobilefacenet_block,
        modules=ARCFACE_TORCH_MOBILEFACENET,
        leaves=TORCH_LEAVES,
        constants={"neck/linear/bias": np.zeros},
        input=RGB,
    ),
    # AdaFace's own checkpoints want BGR. CVLface trains its networks on RGB and says of others in their `model.yaml`
    # (color_space) that they want BGR. Only what stands before the names tells the two apart.
    "adaface_ir": Layout(**_adaface_ir, before=r"(.+\.)?model\.", input=BGR),
    "cvlface_ir": Layout(**_adaface_ir, before=r"(.+\.)?net\.", input=RGB),
    "released_lrfr_resnet": Layout(
        backbones=("resnet18", "resnet34", "resnet50", "resnet101"),
        markers=("conv1.weight", "layer1.0.conv1.weight", "output_layer.3.weight"),
        block=lambda stage, block, number: f"layer{stage}.{block}.",
        modules=LRFR_RESNET,
        leaves=TORCH_LEAVES,
        input=RGB,
    ),
}
