"""KP-RPE: a vision transformer whose attention knows where the parts of the face are, from five keypoints.

References:
  Kim et al. 2024, KeyPoint Relative Position Encoding for Face Recognition, CVPR, arXiv 2403.14852; layout and numbers
  of CVLface's vit_kprpe. Wu et al. 2021, iRPE, arXiv 2107.14222, Eq. 18 and 24 (the buckets: 'product').
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from lrfr_jax.image_ops import FIVE_POINTS, IMAGE_SIZE
from lrfr_jax.models import dropout, layers, transformer
from lrfr_jax.models.vit import check_columns, token_length

DIM, PATCH = 512, 8
# Offsets that have a bucket of their own, and those that share the last one on their side: 2 and 3, 4 and above.
NEAR, MIDDLE, SIDE = 1, 3, 7
BATCH_NORM_EPSILON = 2e-5  # as published
linear_init = nn.initializers.normal(0.02)  # theirs is cut off at +-2, a hundred deviations away


def buckets(side: int) -> Int[np.ndarray, "tokens tokens"]:
    r"""Which of 49 relative positions each pair of tokens of a square map has.

    .. math:: b(n, m) = 7\,(w(r_n - r_m) + 3) + w(c_n - c_m) + 3

    with w(d) = d for \|d\| <= 1, +-2 for 2 and 3, and +-3 beyond, r and c being rows and columns.
    """
    rows, columns = np.divmod(np.arange(side**2), side)
    ids = [_bucket_of_offset(place[:, None] - place[None]) for place in (rows, columns)]
    return ids[0] * SIDE + ids[1]


def _bucket_of_offset(offset: np.ndarray) -> np.ndarray:
    size = np.abs(offset)
    size = np.where(size <= NEAR, size, np.where(size <= MIDDLE, NEAR + 1, NEAR + 2))
    return np.sign(offset) * size + SIDE // 2


def offsets(keypoints: Float[Array, "images 5 2"], side: int) -> Float[Array, "images tokens 10"]:
    """From each keypoint to the center of each patch, (x, y), in shares of the image's side."""
    centers = (jnp.arange(side) + 0.5) / side
    x, y = jnp.tile(centers, side), jnp.repeat(centers, side)
    grid = jnp.stack([x, y], axis=-1)[None, :, None]
    return (grid - keypoints[:, None]).reshape(keypoints.shape[0], side**2, -1)


def template() -> Float[np.ndarray, "1 5 2"]:
    """The keypoints of an aligned face, in shares of the image's side."""
    return np.asarray(FIVE_POINTS, np.float32)[None] / IMAGE_SIZE


class KeypointBias(nn.Module):
    """What is added to a block's logits: of each head a number for each relative position, linear in the `offsets`.

    Attributes:
      heads: of the attention.
      side: of the map of tokens.
    """

    heads: int
    side: int

    @nn.compact
    def __call__(self, keypoints: Float[Array, "images 5 2"] | None) -> Float[Array, "images heads tokens tokens"]:
        points = template() if keypoints is None else keypoints
        size = SIDE**2 * self.heads
        kernel = self.param("kernel", nn.initializers.zeros, (2 * points.shape[1], size))
        shift = self.param("bias", nn.initializers.zeros, (size,))
        table = offsets(jnp.asarray(points), self.side) @ kernel + shift[None, None]
        table = table.reshape(points.shape[0], self.side**2, self.heads, SIDE**2).transpose(0, 2, 1, 3)
        # A product with ones and zeros: on a CPU looking the numbers up takes ten times as long, more with a gradient.
        place = jax.nn.one_hot(buckets(self.side), SIDE**2, axis=1)
        return jnp.einsum("bhnk,nkm->bhnm", table, place, precision=jax.lax.Precision.HIGHEST)


class Position(nn.Module):
    """A learned position added to each token."""

    @nn.compact
    def __call__(self, x: Float[Array, "batch tokens dim"]) -> Float[Array, "batch tokens dim"]:
        position = self.param("position", linear_init, (1, *x.shape[1:]))
        return x + position.astype(x.dtype)


class TokensNeck(nn.Module):
    """All tokens in a row -> linear -> BatchNorm -> linear -> BatchNorm, in float32: the raw feature."""

    embedding_size: int

    @nn.compact
    def __call__(self, x: Float[Array, "batch tokens dim"], train: bool) -> Float[Array, "batch embedding"]:
        x, precision = layers.at_least_float32(x), layers.PRODUCT_PRECISIONS.get(x.dtype.name)
        dense = functools.partial(nn.Dense, use_bias=False, kernel_init=linear_init, precision=precision)
        norm = functools.partial(
            layers.BatchNorm,
            use_running_average=not train,
            momentum=layers.BATCH_NORM_MOMENTUM,
            epsilon=BATCH_NORM_EPSILON,
        )
        y = norm(name="bn1")(dense(x.shape[-1], name="linear1")(x.reshape(x.shape[0], -1)))
        return norm(name="bn2")(dense(self.embedding_size, name="linear2")(y))


class KeypointTransformer(nn.Module):
    """Patches -> linear -> position -> blocks with `KeypointBias` -> LayerNorm -> `TokensNeck`.

    With tables of zeros, as at the start, it is the plain vision transformer of CVLface.

    Attributes:
      head: length of an attention head.
      mlp_ratio: length of the hidden layer over that of a token.
      depth: number of blocks, a multiple of 4.
      width: multiplies the token's length of 512.
      embedding_size: length of the feature.
      dropout: share zeroed behind the positions, attention and both linear layers of a block; 0 as published.
      dtype: of the body, 'float32' or 'bfloat16'; parameters, statistics, logits and neck are float32.
      input: how the weights want their images.
      remat: what the gradient computes again, a key of `layers.REMATS`.
      drop_path: share of images for which half of the last block is left out in training; it rises from 0.
    """

    head: int
    mlp_ratio: int
    depth: int
    width: float
    embedding_size: int
    dropout: float
    dtype: str
    input: layers.InputConvention
    remat: str
    drop_path: float = 0.1

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "batch height width 3"],
        train: bool,
        keypoints: Float[Array, "batch 5 2"] | None = None,
    ) -> Float[Array, "batch dim"]:
        """Embeds images; `keypoints` are in shares of the image's side, None those of the template."""
        dim, side = token_length(self.width, DIM, self.head), IMAGE_SIZE // PATCH
        x = layers.to_convention(images, self.input)
        init = {"kernel_init": linear_init}
        x = transformer.PatchEmbed(dim, PATCH, PATCH, self.dtype, **init, name="patches")(x)
        is_random = train and (self.dropout or self.drop_path)
        seeds = dropout.draw_seeds(self, self.depth + 1) if is_random else None
        x = dropout.dropout(Position(name="tokens")(x), self.dropout, None if seeds is None else seeds[0, 0])
        kind = transformer.BlockKind(
            heads=dim // self.head,
            scale=self.head**-0.5,
            hidden=self.mlp_ratio * dim,
            activation=transformer.Relu6,
            dropout=self.dropout,
            dtype=self.dtype,
            bias=functools.partial(KeypointBias, dim // self.head, side),
            **init,
        )
        how = {"kind": kind, "depth": self.depth, "drop_path": self.drop_path, "extra": 0, "queries": side**2}
        x = transformer.run_blocks(self, x, keypoints, None if seeds is None else seeds[1:], **how)
        x = transformer.layer_norm("float32", name="norm")(layers.at_least_float32(x))
        return TokensNeck(self.embedding_size, name="neck")(x, train)

    def check(self) -> None:
        """Raises `UserError` for a width or columns that it cannot have."""
        token_length(self.width, DIM, self.head)
        check_columns(self.input)
