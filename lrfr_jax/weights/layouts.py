"""How foreign files name the tensors of our backbones, and what their networks do otherwise: a row for each family.

References:
  inference/gen_feat.py of MagFace, dataset/datasets.py and config.py of CurricularFace, train.py and config.py of
  face.evoLVe: how these feed their networks; for the others see `module_names`.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lrfr_jax.models.layers import BATCH_NORM_EPSILON
from lrfr_jax.weights import module_names as names

# A leaf of ours, without 'params' or 'batch_stats': ('stage1', 'block0', 'bn1', 'mean').
Path = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Layout:
    """The names of one family of files, and what its networks do otherwise than ours.

    Attributes:
      backbones: which of ours it can be.
      markers: names that stand together in its files only.
      before: regular expression of what stands before all names of a file that is recognized without being told.
      beginning: what we write before all names.
      lacks: names of which none stands beside the markers.
      block: (stage from 1, block in it from 0, block in the network from 0) -> what its modules' names begin with.
      modules: their name of each of our modules; of those in a block what follows after its beginning.
      leaves: their name of a tensor, {} being its module.
      exceptions: names that do not follow from the module.
      constants: tensors that ours have and theirs do not, made from their shape; by their path, or their path in any
        block.
      ignored: regular expression of names that have no counterpart here and need none.
      last_scale: their name of the last BatchNorm's scale where ours has none: the layer before it takes it up.
      patch_axes: of the rows of a linear layer of patches, its 'channel', 'row' and 'column' in their order; () where
        it is a convolution.
      last_axes: lengths of last axes by which files of the same names are told apart.
      unpacked: (the network's tensors) -> the same, where theirs hold several blocks of ours in one.
      learns_last_scale: whether that is learned; where it is not, it is 1 in every file.
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
    beginning: str = ""
    lacks: tuple[str, ...] = ()
    exceptions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    constants: Mapping[str, Callable[[tuple[int, ...]], np.ndarray]] = dataclasses.field(default_factory=dict)
    ignored: str = r".*\.num_batches_tracked"
    last_scale: str = ""
    learns_last_scale: bool = False
    patch_axes: tuple[str, ...] = ()
    last_axes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    unpacked: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]] = dict
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

    def constant_of(self, path: Path) -> Callable[[tuple[int, ...]], np.ndarray] | None:
        """Returns what makes a leaf of ours that their files lack, of its shape; None for all others."""
        joined = "/".join(path)
        return self.constants.get(joined) or self.constants.get(re.sub(r"^stage\d+/block\d+/", "", joined))


def _identity(shape: tuple[int, ...]) -> np.ndarray:
    return np.eye(shape[-1]).reshape(shape)


def _one_less_epsilon(shape: tuple[int, ...]) -> np.ndarray:
    return np.full(shape, 1 - BATCH_NORM_EPSILON, np.float32)


# (x - mean) / scale of pixels 0..255.
BGR_OF_255 = {"order": "bgr", "mean": 0.0, "scale": 255.0}
RGB_128 = {"order": "rgb", "mean": 127.5, "scale": 128.0}
RGB = {"order": "rgb", "mean": 127.5, "scale": 127.5}
BGR = RGB | {"order": "bgr"}
RAW = {"order": "rgb", "mean": 0.0, "scale": 1.0}

# Their first shortcut takes every second pixel and has no weights (a max-pool of size 1 and stride 2); ours is a
# convolution and a BatchNorm, which these make the same thing in evaluation, and in training as long as BatchNorm is
# frozen.
SHORTCUT_CONSTANTS = {
    "stage1/block0/shortcut_conv/kernel": _identity,
    "stage1/block0/shortcut_bn/scale": np.ones,
    "stage1/block0/shortcut_bn/bias": np.zeros,
    "stage1/block0/shortcut_bn/mean": np.zeros,
    "stage1/block0/shortcut_bn/var": _one_less_epsilon,
}
# The last BatchNorm of most has neither scale nor bias.
IR_CONSTANTS = SHORTCUT_CONSTANTS | {"neck/bn2/bias": np.zeros}
# A BatchNorm that does nothing, for blocks without one there; the key is that of a module in any block.
INNER_CONSTANTS = {"bn2/scale": np.ones, "bn2/bias": np.zeros, "bn2/mean": np.zeros, "bn2/var": _one_less_epsilon}
IRESNETS = ("iresnet18", "iresnet34", "iresnet50", "iresnet100")
SE_IRESNETS = ("se_iresnet18", "se_iresnet50", "se_iresnet100")
_ir = {
    "backbones": (*IRESNETS, *SE_IRESNETS),
    "block": lambda stage, block, number: f"body.{number}.",
    "leaves": names.TORCH_LEAVES,
}
_ir_markers = ("input_layer.0.weight", "body.0.res_layer.1.weight", "output_layer.3.weight")
_adaface_ir = {
    **_ir,
    "markers": (*_ir_markers, "body.0.res_layer.5.running_mean"),
    "modules": names.ADAFACE_IR,
    "constants": IR_CONSTANTS,
}
_evolve_ir = {**_ir, "modules": names.EVOLVE_IR, "input": RGB}
_evolve_markers = (*_ir_markers, "body.0.res_layer.4.running_mean")
_iresnet = {
    "backbones": IRESNETS,
    "markers": ("conv1.weight", "fc.weight", "features.running_mean"),
    "block": lambda stage, block, number: f"layer{stage}.{block}.",
    "modules": names.ARCFACE_TORCH,
    "leaves": names.TORCH_LEAVES,
    "last_scale": "features.weight",
}

_face_transformer = {
    "markers": ("cls_token", "pos_embedding", "transformer.layers.0.0.fn.fn.to_qkv.weight", "mlp_head.0.weight"),
    "block": lambda stage, block, number: f"transformer.layers.{number}.",
    "modules": names.FACE_TRANSFORMER,
    "leaves": names.TORCH_LEAVES,
    "exceptions": {"tokens/first": "cls_token", "tokens/position": "pos_embedding"},
    "ignored": r"loss\..*",  # the class centers
    "input": RAW,
}
_cvlface_vit = {
    "backbones": ("vit_kprpe_small", "vit_kprpe_base"),
    "before": r"(.+\.)?net\.",
    "markers": ("patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "feature.0.weight"),
    "block": lambda stage, block, number: f"blocks.{number}.",
    "modules": names.CVLFACE_VIT,
    "leaves": names.TORCH_LEAVES,
    "exceptions": {"tokens/position": "pos_embed"},
    "ignored": r".*\.num_batches_tracked|mask_token",
    "input": RGB,
}


def _keypoint_tables(named: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The one linear layer of the keypoints, cut into those of the blocks."""
    blocks = len({name for name in named if re.fullmatch(r"blocks\.\d+\.attn\.qkv\.weight", name)})
    parts = {}
    for leaf in ("weight", "bias"):
        whole = named.get(f"keypoint_linear.{leaf}")
        if whole is not None and np.ndim(whole) and len(whole) % max(blocks, 1) == 0:
            cut = np.split(whole, blocks)
            parts |= {f"blocks.{number}.keypoint_linear.{leaf}": part for number, part in enumerate(cut)}
    return {name: array for name, array in named.items() if not name.startswith("keypoint_linear.")} | parts


LAYOUTS = {
    "insightface_mxnet_mobilefacenet": Layout(
        backbones=("mobilefacenet",),
        markers=("arg:conv_1_conv2d_weight", "arg:conv_6dw7_7_conv2d_weight"),
        block=lambda stage, block, number: f"{names.MXNET_BLOCKS[number]}_",
        modules=names.MXNET_MOBILEFACENET,
        leaves=names.MXNET_LEAVES,
        exceptions=names.MXNET_LAST,
        # `fix_gamma`: MXNet takes ones, whatever the file holds.
        constants={"neck/bn2/scale": np.ones},
        ignored=r"arg:fc1_gamma|arg:fc7_weight",
        input=RGB_128,
        epsilon=1e-3,
        last_epsilon=2e-5,
    ),
    "insightface_mxnet_iresnet": Layout(
        backbones=IRESNETS,
        markers=("arg:conv0_weight", "arg:stage1_unit1_conv1sc_weight", "arg:pre_fc1_weight"),
        block=lambda stage, block, number: f"stage{stage}_unit{block + 1}_",
        modules=names.MXNET_IRESNET,
        leaves=names.MXNET_IRESNET_LEAVES,
        exceptions=names.MXNET_LAST | {"neck/linear/kernel": "arg:pre_fc1_weight"},
        ignored=r"arg:fc1_gamma|arg:fc7_weight",  # as above
        input=RGB_128,
        epsilon=2e-5,
        last_epsilon=2e-5,
    ),
    "pytorch_mobilefacenet": Layout(
        backbones=("mobilefacenet",),
        markers=("dw_conv1.conv.weight", "blocks.0.conv.0.weight", "linear7.conv.weight"),
        block=lambda stage, block, number: f"blocks.{number}.conv.",
        modules=names.TORCH_MOBILEFACENET,
        leaves=names.TORCH_LEAVES,
        constants={"neck/linear/bias": np.zeros},
        input=RGB_128,
    ),
    # MagFace's module of the network is called features, and its last BatchNorm is left free to learn a scale.
    "insightface_torch_iresnet": Layout(**_iresnet, before=r"((?!features\.)[^.]+\.)*", input=RGB),
    "magface_iresnet": Layout(
        **_iresnet,
        before=r"([^.]+\.)*features\.(module\.)?",
        beginning="features.module.",
        learns_last_scale=True,
        input=BGR_OF_255,
        epsilon=2e-5,
        last_epsilon=2e-5,
    ),
    "insightface_torch_mobilefacenet": Layout(
        backbones=("mobilefacenet", "mobilefacenet_scale2"),
        markers=("layers.0.layers.0.weight", "conv_sep.layers.0.weight", "features.layers.2.weight"),
        block=names.mobilefacenet_block,
        modules=names.ARCFACE_TORCH_MOBILEFACENET,
        leaves=names.TORCH_LEAVES,
        constants={"neck/linear/bias": np.zeros},
        input=RGB,
    ),
    # AdaFace's own checkpoints want BGR. CVLface trains its networks on RGB and says of others in their `model.yaml`
    # (color_space) that they want BGR. Only what stands before the names tells the two apart.
    "adaface_ir": Layout(**_adaface_ir, before=r"(.+\.)?model\.", beginning="model.", input=BGR),
    "cvlface_ir": Layout(**_adaface_ir, before=r"(.+\.)?net\.", beginning="net.", input=RGB),
    # CurricularFace's last BatchNorm has neither scale nor bias, face.evoLVe's has both.
    "curricularface_ir": Layout(
        **_evolve_ir,
        markers=_evolve_markers,
        lacks=("output_layer.4.weight",),
        constants=IR_CONSTANTS | INNER_CONSTANTS,
    ),
    "evolve_ir": Layout(
        **_evolve_ir,
        markers=(*_evolve_markers, "output_layer.4.weight"),
        constants=SHORTCUT_CONSTANTS | INNER_CONSTANTS,
        last_scale="output_layer.4.weight",
        learns_last_scale=True,
    ),
    "released_lrfr_resnet": Layout(
        backbones=("resnet18", "resnet34", "resnet50", "resnet101"),
        markers=("conv1.weight", "layer1.0.conv1.weight", "output_layer.3.weight"),
        block=lambda stage, block, number: f"layer{stage}.{block}.",
        modules=names.LRFR_RESNET,
        leaves=names.TORCH_LEAVES,
        input=RGB,
    ),
    # Of the same names; the patches' pixels tell them apart.
    "face_transformer_p8s8": Layout(
        **_face_transformer,
        backbones=("vit_p8s8",),
        patch_axes=("row", "column", "channel"),
        last_axes={"patch_to_embedding.weight": 192},
    ),
    "face_transformer_p12s8": Layout(
        **_face_transformer,
        backbones=("vit_p12s8",),
        patch_axes=("channel", "row", "column"),
        last_axes={"patch_to_embedding.weight": 432},
    ),
    # The plain network, which is that of KP-RPE with tables of zeros.
    "cvlface_vit": Layout(
        **_cvlface_vit,
        lacks=("keypoint_linear.weight",),
        constants={"bias/kernel": np.zeros, "bias/bias": np.zeros},
    ),
    "cvlface_vit_kprpe": Layout(
        **_cvlface_vit | {"markers": (*_cvlface_vit["markers"], "keypoint_linear.weight")},
        unpacked=_keypoint_tables,
    ),
}
