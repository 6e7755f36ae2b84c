"""ResNet18/34/50/101 as released with LRFR: post-activation blocks on a 112-pixel stem, a flattening neck.

References:
  He et al. 2016, arXiv 1512.03385; the stem and the neck are those of the code released with arXiv 2302.05621.
"""

import functools

import flax.linen as nn
from jaxtyping import Array, Float

from lrfr_jax.models import layers, taps
from lrfr_jax.models.convolution import Conv

BOTTLENECK_EXPANSION = 4
# He et al. 2015, as released: normal with variance 2 / (kernel^2 * output channels).
kaiming_fan_out = nn.initializers.variance_scaling(2, "fan_out", "normal")
conv = functools.partial(Conv, kernel_init=kaiming_fan_out)


def shortcut(
    x: Float[Array, "batch height width channels"], channels: int, stride: int, *, train: bool, dtype: str
) -> Float[Array, "batch h w c"]:
    """The input itself, or a 1x1 convolution of it with BatchNorm where the block changes its shape."""
    if stride == 1 and x.shape[-1] == channels:
        return x
    x = conv(channels, 1, stride, dtype=dtype, name="shortcut_conv")(x)
    return layers.batch_norm(train, dtype=dtype, name="shortcut_bn")(x)


class BasicBlock(nn.Module):
    """relu(x + bn(conv3x3(relu(bn(conv3x3(x)))))), the stride in the first convolution."""

    channels: int
    stride: int
    dtype: str

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"], train: bool) -> Float[Array, "batch h w c"]:
        norm = functools.partial(layers.batch_norm, train, dtype=self.dtype)
        y = conv(self.channels, 3, self.stride, dtype=self.dtype, name="conv1")(x)
        y = nn.relu(norm(name="bn1")(y))
        y = conv(self.channels, 3, 1, dtype=self.dtype, name="conv2")(y)
        y = norm(name="bn2")(y)
        return nn.relu(y + shortcut(x, self.channels, self.stride, train=train, dtype=self.dtype))


class Bottleneck(nn.Module):
    """1x1 -> 3x3 (with the stride) -> 1x1 to four times the channels, BatchNorm after each, added to the shortcut."""

    channels: int
    stride: int
    dtype: str

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"], train: bool) -> Float[Array, "batch h w c"]:
        norm = functools.partial(layers.batch_norm, train, dtype=self.dtype)
        expanded = BOTTLENECK_EXPANSION * self.channels
        y = conv(self.channels, 1, 1, dtype=self.dtype, name="conv1")(x)
        y = nn.relu(norm(name="bn1")(y))
        y = conv(self.channels, 3, self.stride, dtype=self.dtype, name="conv2")(y)
        y = nn.relu(norm(name="bn2")(y))
        y = conv(expanded, 1, 1, dtype=self.dtype, name="conv3")(y)
        y = norm(name="bn3")(y)
        return nn.relu(y + shortcut(x, expanded, self.stride, train=train, dtype=self.dtype))


class ResNet(nn.Module):
    """conv3x3 -> BatchNorm -> ReLU -> max-pool -> four stages -> neck; the returned feature is not normalized.

    Attributes:
      block: `BasicBlock` or `Bottleneck`.
      stage_sizes: blocks of each stage.
      width: multiplies every channel count.
      embedding_size: length of the feature.
      dropout: share of the last feature map that is zeroed in training, in [0, 1).
      dtype: of the body, 'float32' or 'bfloat16'; parameters, statistics and neck are float32.
      input: how the weights want their images.
      remat: what the gradient computes again, a key of `layers.REMATS`.
    """

    block: type[nn.Module]
    stage_sizes: tuple[int, ...]
    width: float
    embedding_size: int
    dropout: float
    dtype: str
    input: layers.InputConvention
    remat: str

    @nn.compact
    def __call__(self, images: Float[Array, "batch height width 3"], train: bool) -> Float[Array, "batch dim"]:
        x = layers.to_convention(images, self.input)
        channels = [layers.scaled_channels(count, self.width) for count in layers.STAGE_CHANNELS]
        x = conv(channels[0], 3, 1, dtype=self.dtype, name="stem_conv")(x)
        x = nn.relu(layers.batch_norm(train, dtype=self.dtype, name="stem_bn")(x))
        x = layers.MaxPoolOfRelu()(x)
        for number, size in enumerate(self.stage_sizes):
            stride = 1 if number == 0 else 2
            settings = {"dtype": self.dtype, "remat": self.remat, "name": f"stage{number + 1}"}
            x = layers.Stage(self.block, size, channels[number], stride, **settings)(x, train)
            taps.show(self, f"stage{number + 1}", x)
        neck = layers.Neck(self.embedding_size, self.dropout, learn_scale=True, name="neck")
        return neck(x, train)
