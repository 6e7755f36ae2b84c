"""Attention inside a block: which channels of a map count (squeeze and excitation), or also which places (CBAM).

References:
  Hu et al. 2018, Squeeze-and-Excitation Networks, arXiv 1709.01507; in IR-SE networks as in face.evoLVe, backbone/
  model_irse.py.
  Woo et al. 2018, CBAM, arXiv 1807.06521; in an improved residual block as by Shin et al. 2022, Teaching where to look
  (A-SKD), arXiv 2209.14498, and gist-ailab/teaching-where-to-look, backbone.py.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lrfr_jax.models import layers, taps
from lrfr_jax.models.convolution import Conv

TAP = "attention"
REDUCTION = 16  # of channels inside the channel attention
WINDOW = 3  # side of the spatial attention's convolution
# A-SKD leaves these convolutions as PyTorch draws them.
conv = functools.partial(Conv, kernel_init=layers.linear_init)


def _of_channels(
    x: Float[Array, "batch height width channels"], kinds: tuple[str, ...], dtype: str
) -> Float[Array, "batch 1 1 channels"]:
    """The gates of channels before the sigmoid, summed over kinds of pooling; its layers are those of the caller."""
    channels = x.shape[-1]
    hidden = conv(max(1, channels // REDUCTION), 1, 1, dtype=dtype, name="reduce")
    expand = conv(channels, 1, 1, dtype=dtype, name="expand")
    first, *others = [expand(nn.relu(hidden(layers.Pooled(kind, (1, 2))(x)))) for kind in kinds]
    return sum(others, first)


class Attention(nn.Module):
    r"""Multiplies a map by the gate of each channel, and the result by the gate of each place.

    .. math:: y = x\,\sigma(W_2 \max(0, W_1 \bar x) + W_2 \max(0, W_1 \hat x)), \quad
              z = y\,\sigma(K * [\bar y, \hat y])

    with the mean and the maximum over places for channels, over channels for places. Both are shown before the sigmoid,
    as the tap 'attention', [batch, channels] and then [batch, height, width].
    """

    dtype: str

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch height width channels"]:
        of_channels = _of_channels(x, ("mean", "max"), self.dtype)
        taps.show(self, TAP, of_channels[:, 0, 0])
        x = x * jax.lax.logistic(of_channels)
        pooled = jnp.concatenate([layers.Pooled(kind, (3,))(x) for kind in ("mean", "max")], axis=3)
        of_places = conv(1, WINDOW, 1, dtype=self.dtype, name="places")(pooled)
        taps.show(self, TAP, of_places[..., 0])
        return x * jax.lax.logistic(of_places)


class SqueezeAndExcitation(nn.Module):
    r"""Multiplies a map by the gate of each channel.

    .. math:: y = x\,\sigma(W_2 \max(0, W_1 \bar x))

    with the mean over places.
    """

    dtype: str

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch height width channels"]:
        return x * jax.lax.logistic(_of_channels(x, ("mean",), self.dtype))
