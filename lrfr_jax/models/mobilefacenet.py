"""MobileFaceNet: inverted bottlenecks of depthwise convolutions for 112-pixel faces, 1 M parameters at width 1.

References:
  Chen et al. 2018, MobileFaceNets, arXiv 1804.07573, Table 1; layout of InsightFace's "y1" network. With `scale`:
  recognition/arcface_torch/backbones/mobilefacenet.py of InsightFace.
"""

import functools

import flax.linen as nn
from jaxtyping import Array, Float

from lrfr_jax.models import layers, taps
from lrfr_jax.models.convolution import Conv
from lrfr_jax.models.depthwise import DepthwiseConv

STEM_CHANNELS, LAST_CHANNELS = 64, 512
# Hidden channels, output channels, blocks and stride of each stage.
STAGES = ((128, 64, 5, 2), (256, 128, 1, 2), (256, 128, 6, 1), (512, 128, 1, 2), (256, 128, 2, 1))
# Taps by the stage that they follow, 0 the stem: the last map of each size, as in networks of four stages.
TAPS = {0: "stage1", 1: "stage2", 3: "stage3", 5: "stage4"}
conv = functools.partial(Conv, kernel_init=nn.initializers.variance_scaling(2, "fan_out", "normal"))


class InvertedBottleneck(nn.Module):
    """conv1x1 -> depthwise conv3x3 with the stride -> linear conv1x1, added to an input of the same shape."""

    hidden_channels: int
    channels: int
    stride: int
    dtype: str

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"], train: bool) -> Float[Array, "batch h w c"]:
        norm = functools.partial(layers.batch_norm, train, dtype=self.dtype)
        y = conv(self.hidden_channels, 1, 1, dtype=self.dtype, name="expand")(x)
        y = layers.PReLU(self.dtype, name="expand_prelu")(norm(name="expand_bn")(y))
        y = DepthwiseConv(3, self.stride, self.dtype, name="depthwise")(y)
        y = layers.PReLU(self.dtype, name="depthwise_prelu")(norm(name="depthwise_bn")(y))
        y = conv(self.channels, 1, 1, dtype=self.dtype, name="project")(y)
        y = norm(name="project_bn")(y)
        return y + x if x.shape == y.shape else y


class MobileFaceNet(nn.Module):
    """Stem of stride 2 -> inverted bottlenecks -> one weight per position and channel -> linear -> BatchNorm.

    The global depthwise convolution takes the whole last map, 7x7 of 112x112 images and 7x6 of 112x96 ones. The
    returned feature is not normalized.

    Attributes:
      width: multiplies every channel count.
      embedding_size: length of the feature, 128 in the published networks.
      dropout: share of the pooled vector that is zeroed in training, in [0, 1).
      dtype: of the body, 'float32' or 'bfloat16'; parameters, statistics and neck are float32.
      input: how the weights want their images.
      remat: what the gradient computes again, a key of `layers.REMATS`.
      scale: multiplies the channels between the bottlenecks, and not those inside them; the stem's depthwise
        convolution then reads as many channels for each of its own.
    """

    width: float
    embedding_size: int
    dropout: float
    dtype: str
    input: layers.InputConvention
    remat: str
    scale: int = 1

    @nn.compact
    def __call__(self, images: Float[Array, "batch height width 3"], train: bool) -> Float[Array, "batch dim"]:
        scaled = functools.partial(layers.scaled_channels, width=self.width)
        norm = functools.partial(layers.batch_norm, train, dtype=self.dtype)
        x = layers.to_convention(images, self.input)
        x = conv(self.scale * scaled(STEM_CHANNELS), 3, 2, dtype=self.dtype, name="stem_conv")(x)
        x = layers.PReLU(self.dtype, name="stem_prelu")(norm(name="stem_bn")(x))
        x = DepthwiseConv(3, 1, self.dtype, self.scale, name="stem_depthwise")(x)
        x = layers.PReLU(self.dtype, name="stem_depthwise_prelu")(norm(name="stem_depthwise_bn")(x))
        taps.show(self, TAPS[0], x)
        for number, (hidden, channels, size, stride) in enumerate(STAGES):
            block = functools.partial(InvertedBottleneck, scaled(hidden))
            settings = {"dtype": self.dtype, "remat": self.remat, "name": f"stage{number + 1}"}
            x = layers.Stage(block, size, self.scale * scaled(channels), stride, **settings)(x, train)
            if number + 1 in TAPS:
                taps.show(self, TAPS[number + 1], x)
        x = conv(scaled(LAST_CHANNELS), 1, 1, dtype=self.dtype, name="last_conv")(x)
        x = layers.PReLU(self.dtype, name="last_prelu")(norm(name="last_bn")(x))
        neck = GlobalDepthwiseNeck(self.embedding_size, self.dropout, name="neck")
        return neck(x, train)


class WeightedSum(nn.Module):
    """The sum over all positions, each with a weight of its own for each channel: [batch, channels]."""

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch channels"]:
        shape = (*x.shape[1:3], 1, x.shape[3])
        weights = self.param("weights", nn.initializers.variance_scaling(2, "fan_in", "normal"), shape)
        return (x * weights[None, :, :, 0]).sum(axis=(1, 2))


class GlobalDepthwiseNeck(nn.Module):
    """A weighted sum over all positions of each channel -> BatchNorm -> dropout -> linear -> BatchNorm."""

    embedding_size: int
    dropout: float

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"], train: bool) -> Float[Array, "batch dim"]:
        linear = layers.last_linear(self.embedding_size, x.dtype.name)
        pool = WeightedSum()
        nn.share_scope(self, pool)  # its weights are the neck's
        x = pool(layers.at_least_float32(x))
        x = layers.batch_norm(train, dtype=x.dtype.name, name="bn1")(x)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return layers.batch_norm(train, dtype=x.dtype.name, name="bn2")(linear(x))
