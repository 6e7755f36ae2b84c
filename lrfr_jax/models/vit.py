"""Face Transformer: a plain vision transformer for faces, of overlapping or adjoining patches.

References:
  Zhong and Deng 2021, Face Transformer for Recognition, arXiv 2103.14803; layout and numbers of zhongyy's code.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from lrfr_jax.errors import UserError
from lrfr_jax.image_ops import IMAGE_SIZE
from lrfr_jax.models import dropout, layers, products, transformer

DIM, HEAD, MLP_RATIO, STRIDE = 512, 64, 4, 8


class Tokens(nn.Module):
    """A learned first token, which belongs to no patch, and a learned position added to each; both of N(0, 1)."""

    @nn.compact
    def __call__(self, x: Float[Array, "batch patches dim"]) -> Float[Array, "batch tokens dim"]:
        _, patches, dim = x.shape
        first = self.param("first", nn.initializers.normal(1.0), (1, 1, dim)).astype(x.dtype)
        position = self.param("position", nn.initializers.normal(1.0), (1, patches + 1, dim)).astype(x.dtype)
        return jnp.concatenate([jnp.broadcast_to(first, (x.shape[0], 1, dim)), x], axis=1) + position


class FaceTransformer(nn.Module):
    """Patches -> linear -> first token and position -> blocks -> LayerNorm of the first token, the raw feature.

    There is no BatchNorm and no projection: the feature is as long as a token. The attention's logits are divided by
    the square root of the token's length, not of the head's, as in the released code. The published weights want raw
    pixels: `input` with order 'rgb', mean 0 and scale 1.

    Attributes:
      patch: side of a patch; their stride is 8.
      width: multiplies the token's length of 512; heads stay 64 long.
      embedding_size: that length.
      dropout: share zeroed behind the positions, attention and both linear layers of a block, 0.1 as published.
      dtype: of the body, 'float32' or 'bfloat16'; parameters and the last LayerNorm are float32.
      input: how the weights want their images.
      remat: what the gradient computes again, a key of `layers.REMATS`.
      depth: number of blocks, a multiple of 4.
    """

    patch: int
    width: float
    embedding_size: int
    dropout: float
    dtype: str
    input: layers.InputConvention
    remat: str
    depth: int = 20

    @nn.compact
    def __call__(self, images: Float[Array, "batch height width 3"], train: bool) -> Float[Array, "batch dim"]:
        dim = token_length(self.width, DIM, HEAD)
        x = layers.to_convention(images, self.input)
        x = products.PatchEmbed(dim, self.patch, STRIDE, self.dtype, name="patches")(x)
        seeds = dropout.draw_seeds(self, self.depth + 1) if train and self.dropout else None
        x = dropout.dropout(Tokens(name="tokens")(x), self.dropout, None if seeds is None else seeds[0, 0])
        kind = transformer.BlockKind(
            heads=dim // HEAD,
            scale=dim**-0.5,
            hidden=MLP_RATIO * dim,
            activation=products.Gelu,
            dropout=self.dropout,
            kernel_init=layers.linear_init,
            dtype=self.dtype,
        )
        own = None if seeds is None else seeds[1:]
        only_first = {"extra": 1, "queries": 1}
        x = transformer.run_blocks(self, x, None, own, kind=kind, depth=self.depth, drop_path=0.0, **only_first)
        x = products.layer_norm("float32", name="norm")(layers.at_least_float32(x))
        return x.reshape(x.shape[0], dim)

    def check(self) -> None:
        """Raises `UserError` for a width, an input or a length of the feature that it cannot have."""
        dim = token_length(self.width, DIM, HEAD)
        check_columns(self.input)
        if self.embedding_size != dim:
            raise UserError(
                f"model.embedding_size={self.embedding_size} of a Face Transformer of width {self.width:g}, whose "
                f"feature is a token of {dim} numbers: set it to {dim}"
            )


def check_columns(convention: layers.InputConvention) -> None:
    """Raises `UserError` for images that are not whole: a transformer has a position for each patch of these."""
    for field in ("columns", "size"):
        if getattr(convention, field) != IMAGE_SIZE:
            raise UserError(f"model.input.{field}={getattr(convention, field)} of a transformer must be {IMAGE_SIZE}")


def token_length(width: float, dim: int, head: int) -> int:
    """Returns width times the token's length; `UserError` if that is no whole number of heads."""
    length = width * dim
    if length < head or length % head:
        raise UserError(
            f"model.width={width:g} makes tokens of {length:g} numbers, which do not divide into heads of {head}: "
            f"set it to a multiple of {head / dim:g}"
        )
    return int(length)
