"""The tiny student of bridge distillation: six convolutions on faces of their native low resolution.

References:
  Ge et al. 2020, Efficient low-resolution face recognition via bridge distillation, IEEE Transactions on Image
  Processing: a student of 0.21 M parameters for each size. Its layers are a choice of this project that has so many.
"""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from lrfr_jax.models import layers, taps
from lrfr_jax.models.convolution import Conv

# Channels of the stages; each has two convolutions, and a pooling between one and the next.
CHANNELS = (32, 64, 96)
conv = functools.partial(Conv, kernel_init=nn.initializers.variance_scaling(2, "fan_out", "normal"))


class MaxPoolOfTwo(nn.Module):
    """2x2 maximum at stride 2; a last odd row or column falls away."""

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch half_h half_w channels"]:
        x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
        x = jnp.maximum(x[:, ::2], x[:, 1::2])
        return jnp.maximum(x[:, :, ::2], x[:, :, 1::2])


class ConvolutionBlock(nn.Module):
    """prelu(bn(conv3x3(x)))."""

    channels: int
    stride: int
    dtype: str

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"], train: bool) -> Float[Array, "batch h w c"]:
        x = conv(self.channels, 3, self.stride, dtype=self.dtype, name="conv")(x)
        return layers.PReLU(self.dtype, name="prelu")(layers.batch_norm(train, dtype=self.dtype, name="bn")(x))


class BridgeStudent(nn.Module):
    """Three stages of two convolutions with poolings between them -> global average -> linear.

    With an embedding of 128 it has 216,032 weights in convolutions and the linear layer, at any size of the input. The
    taps are the maps behind each stage, before the pooling; the returned feature is not normalized.

    Attributes:
      width: multiplies every channel count.
      embedding_size: length of the feature, 128 in the paper.
      dropout: share of the pooled vector that is zeroed in training, in [0, 1).
      dtype: of the body, 'float32' or 'bfloat16'; parameters, statistics and what follows the average are float32.
      input: how the weights want their images; its `size` is the student's native one.
      remat: what the gradient computes again, a key of `layers.REMATS`.
    """

    width: float
    embedding_size: int
    dropout: float
    dtype: str
    input: layers.InputConvention
    remat: str

    @nn.compact
    def __call__(self, images: Float[Array, "batch height width 3"], train: bool) -> Float[Array, "batch dim"]:
        x = layers.to_convention(images, self.input)
        for number, count in enumerate(CHANNELS):
            x = MaxPoolOfTwo()(x) if number else x
            settings = {"dtype": self.dtype, "remat": self.remat, "name": f"stage{number + 1}"}
            channels = layers.scaled_channels(count, self.width)
            x = layers.Stage(ConvolutionBlock, 2, channels, 1, **settings)(x, train)
            taps.show(self, f"stage{number + 1}", x)
        linear = layers.last_linear(self.embedding_size, x.dtype.name)
        x = layers.Pooled("mean", (1, 2))(layers.at_least_float32(x))
        x = x.reshape(x.shape[0], -1)
        return linear(nn.Dropout(self.dropout, deterministic=not train)(x))
