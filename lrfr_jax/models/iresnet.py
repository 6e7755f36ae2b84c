"""IResNet18/34/50/100, the backbones of InsightFace's arcface_torch: pre-normalized blocks, PReLU, no max-pool.

With attention in every block they are the CBAM-IResNets of A-SKD, or IR-SE networks.

References:
  Duta et al. 2020, arXiv 2004.04989; Deng et al. 2019, arXiv 1801.07698, Sec. 3.1; layout of InsightFace arcface_torch.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
from jaxtyping import Array, Float

from lrfr_jax.models import layers, taps
from lrfr_jax.models.attention import Attention, SqueezeAndExcitation
from lrfr_jax.models.convolution import Conv

CONV_INITIAL_STDDEV = 0.1  # as arcface_torch draws every convolution
conv = functools.partial(Conv, kernel_init=nn.initializers.normal(CONV_INITIAL_STDDEV))


class IBasicBlock(nn.Module):
    """x + bn(conv3x3(prelu(bn(conv3x3(bn(x)))))), the stride in the second convolution; nothing follows the sum.

    `attention` is made with a type and applied before the sum.
    """

    channels: int
    stride: int
    dtype: str
    attention: Callable[..., nn.Module] | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"], train: bool) -> Float[Array, "batch h w c"]:
        norm = functools.partial(layers.batch_norm, train, dtype=self.dtype)
        y = norm(name="bn1")(x)
        y = conv(self.channels, 3, 1, dtype=self.dtype, name="conv1")(y)
        y = layers.PReLU(self.dtype, name="prelu")(norm(name="bn2")(y))
        y = conv(self.channels, 3, self.stride, dtype=self.dtype, name="conv2")(y)
        y = norm(name="bn3")(y)
        y = self.attention(self.dtype, name="attention")(y) if self.attention else y
        if self.stride != 1 or x.shape[-1] != self.channels:
            x = conv(self.channels, 1, self.stride, dtype=self.dtype, name="shortcut_conv")(x)
            x = norm(name="shortcut_bn")(x)
        return x + y


CBAMBlock = functools.partial(IBasicBlock, attention=Attention)
SEBlock = functools.partial(IBasicBlock, attention=SqueezeAndExcitation)


class IResNet(nn.Module):
    """conv3x3 -> BatchNorm -> PReLU -> four stages of stride 2 -> neck; the returned feature is not normalized.

    Attributes:
      stage_sizes: blocks of each stage.
      width: multiplies every channel count.
      embedding_size: length of the feature.
      dropout: share of the last feature map that is zeroed in training, in [0, 1).
      dtype: of the body, 'float32' or 'bfloat16'; parameters, statistics and neck are float32.
      input: how the weights want their images.
      remat: what the gradient computes again, a key of `layers.REMATS`.
      block: `IBasicBlock`, `CBAMBlock` or `SEBlock`.
    """

    stage_sizes: tuple[int, ...]
    width: float
    embedding_size: int
    dropout: float
    dtype: str
    input: layers.InputConvention
    remat: str
    block: Callable[..., nn.Module] = IBasicBlock

    @nn.compact
    def __call__(self, images: Float[Array, "batch height width 3"], train: bool) -> Float[Array, "batch dim"]:
        x = layers.to_convention(images, self.input)
        channels = [layers.scaled_channels(count, self.width) for count in layers.STAGE_CHANNELS]
        x = conv(channels[0], 3, 1, dtype=self.dtype, name="stem_conv")(x)
        x = layers.batch_norm(train, dtype=self.dtype, name="stem_bn")(x)
        x = layers.PReLU(self.dtype, name="stem_prelu")(x)
        for number, size in enumerate(self.stage_sizes):
            settings = {"dtype": self.dtype, "remat": self.remat, "name": f"stage{number + 1}"}
            x = layers.Stage(self.block, size, channels[number], 2, **settings)(x, train)
            taps.show(self, f"stage{number + 1}", x)
        neck = layers.Neck(self.embedding_size, self.dropout, learn_scale=False, name="neck")
        return neck(x, train)
