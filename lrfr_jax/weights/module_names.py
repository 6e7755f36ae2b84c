"""What others call the modules of our backbones, and their tensors: literal tables, for the rows of `layouts.LAYOUTS`.

References:
  InsightFace: recognition/arcface_torch/backbones/iresnet.py, and the symbol file of its MXNet network y1; AdaFace and
  CVLface of mk-minchul: class Backbone; backbone/model_irse.py of face.evoLVe and of CurricularFace; models/iresnet.py
  of MagFace; MobileFaceNet_Pytorch of xiaoccer; the code released with arXiv 2302.05621;
  vit_face.py and vits_face.py of zhongyy's Face-Transformer; models/vit and models/vit_kprpe of CVLface.
"""


def mobilefacenet_block(stage: int, block: int, number: int) -> str:
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
MXNET_IRESNET_LEAVES = {
    "kernel": "arg:{}_weight",
    "slope": "arg:{}_gamma",
    "scale": "arg:{}_gamma",
    "bias": "arg:{}_beta",
    "mean": "aux:{}_moving_mean",
    "var": "aux:{}_moving_var",
}
MXNET_IRESNET = {
    "stem_conv": "conv0",
    "stem_bn": "bn0",
    "stem_prelu": "relu0",
    **{name: name for name in ("bn1", "conv1", "bn2", "conv2", "bn3")},
    "prelu": "relu1",
    "shortcut_conv": "conv1sc",
    "shortcut_bn": "sc",
    "neck/bn1": "bn1",
}
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
    "attention/reduce": "res_layer.se_block.fc1",  # of IR-SE networks, as the next
    "attention/expand": "res_layer.se_block.fc2",
    "neck/bn1": "output_layer.0",
    "neck/linear": "output_layer.3",
    "neck/bn2": "output_layer.4",
}
# Their blocks have no BatchNorm between the first convolution and the PReLU.
EVOLVE_IR = ADAFACE_IR | {"prelu": "res_layer.2", "conv2": "res_layer.3", "bn3": "res_layer.4"}
EVOLVE_IR |= {"attention/reduce": "res_layer.5.fc1", "attention/expand": "res_layer.5.fc2"}
del EVOLVE_IR["bn2"]
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
FACE_TRANSFORMER = {
    "patches": "patch_to_embedding",
    "norm1": "0.fn.norm",
    "qkv": "0.fn.fn.to_qkv",
    "out": "0.fn.fn.to_out.0",
    "norm2": "1.fn.norm",
    "mlp1": "1.fn.fn.net.0",
    "mlp2": "1.fn.fn.net.3",
    "norm": "mlp_head.0",
}
CVLFACE_VIT = {
    "patches": "patch_embed.proj",
    "bias": "keypoint_linear",
    "norm1": "norm1",
    "qkv": "attn.qkv",
    "out": "attn.proj",
    "norm2": "norm2",
    "mlp1": "mlp.fc1",
    "mlp2": "mlp.fc2",
    "norm": "norm",
    "neck/linear1": "feature.0",
    "neck/bn1": "feature.1",
    "neck/linear2": "feature.2",
    "neck/bn2": "feature.3",
}
