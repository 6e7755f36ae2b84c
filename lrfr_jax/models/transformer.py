"""What the transformers share: patches, attention, the block of both halves, stochastic depth, the stages of blocks."""

import dataclasses
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, UInt32

from lrfr_jax.models import layers, taps
from lrfr_jax.models.convolution import RESULT_NAME
from lrfr_jax.models.dropout import DROPS, dropout

LAYER_NORM_EPSILON = 1e-5  # PyTorch's default, in the published weights of all of them.
STAGES = 4  # quarters of the blocks, after each of which there is a tap


class PatchEmbed(nn.Module):
    """Square patches, each through one linear layer: a convolution with bias, as a product over the patches' pixels.

    Attributes:
      dim: length of a token.
      patch: side of a patch in pixels.
      stride: pixels from patch to patch, which divide the image's sides; zeros above and left of the image make up for
        patches that are larger.
      dtype: of the product.
      kernel_init: of its weights [patch, patch, 3, dim].
    """

    dim: int
    patch: int
    stride: int
    dtype: str
    kernel_init: Callable = layers.linear_init

    @property
    def padding(self) -> int:
        """Rows of zeros above the image, and columns left of it."""
        return self.patch - self.stride

    @nn.compact
    def __call__(self, images: Float[Array, "batch height width 3"]) -> Float[Array, "batch tokens dim"]:
        kernel = self.param("kernel", self.kernel_init, (self.patch, self.patch, 3, self.dim))
        bias = self.param("bias", nn.initializers.zeros, (self.dim,))
        rows, columns = (side // self.stride for side in images.shape[1:3])
        pad = (self.padding, 0)
        x = jnp.pad(images.astype(self.dtype), ((0, 0), pad, pad, (0, 0)))
        x = _windows(x, rows, patch=self.patch, stride=self.stride, axis=1)
        x = _windows(x, columns, patch=self.patch, stride=self.stride, axis=3)
        x = x.transpose(0, 1, 3, 2, 4, 5).reshape(images.shape[0], rows * columns, -1)
        tokens = x @ kernel.reshape(-1, self.dim).astype(self.dtype)
        return tokens + bias.astype(self.dtype)[None, None]


def _windows(x: Array, count: int, *, patch: int, stride: int, axis: int) -> Array:
    """Replaces an axis by `count` windows of `patch` entries, `stride` from one to the next."""
    if patch == stride:
        return x.reshape(*x.shape[:axis], count, patch, *x.shape[axis + 1 :])
    starts = jnp.arange(count)[:, None] * stride + jnp.arange(patch)[None]
    return jnp.take(x, starts, axis=axis)


@jax.custom_vjp
def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    r"""The exact GELU; its gradient keeps x alone.

    .. math:: y = x\,\Phi(x) = \tfrac12 x\,(1 + \mathrm{erf}(x / \sqrt 2)), \quad y' = \Phi(x) + x\,\varphi(x)

    References:
      Hendrycks and Gimpel 2016, arXiv 1606.08415.
    """
    return x * _normal_share(x)


def _normal_share(x: Array) -> Array:
    return 0.5 + 0.5 * jax.lax.erf(x * 0.5**0.5)


def _gelu_backward(x: Array, gradient: Array) -> tuple[Array]:
    density = jnp.exp(-0.5 * x * x) * (2 * jnp.pi) ** -0.5
    return (gradient * (_normal_share(x) + x * density),)


gelu.defvjp(lambda x: (gelu(x), x), _gelu_backward)


class Gelu(nn.Module):
    """`gelu`, as a layer."""

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return gelu(x)


class Relu6(nn.Module):
    """x, at least 0 and at most 6."""

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.clip(x, 0, 6)


class Attention(nn.Module):
    r"""Softmax attention, each head in its own part of the channels, from the product that holds Q, K and V in a row.

    .. math:: \mathrm{softmax}(s\,Q K^\top + B)\,V

    Attributes:
      heads: into which the channels are divided.
      scale: s.
    """

    heads: int
    scale: float

    @nn.compact
    def __call__(
        self,
        qkv: Float[Array, "batch tokens three_dims"],
        bias: Float[Array, "images heads tokens tokens"] | None = None,
        *,
        queries: int,
    ) -> Float[Array, "batch queries dim"]:
        """Returns what the first `queries` tokens gather from all."""
        batch, tokens, _ = qkv.shape
        # Heads before tokens: on a CPU the products of jax.nn's and flax's attention take longer (docs/performance.md).
        q, k, v = qkv.reshape(batch, tokens, 3, self.heads, -1).transpose(2, 0, 3, 1, 4)
        wide = jnp.promote_types(qkv.dtype, jnp.float32)
        queries_of = q[:, :, :queries] * self.scale
        logits = jnp.einsum("bhqd,bhkd->bhqk", queries_of, k, preferred_element_type=wide)
        logits = logits if bias is None else logits + bias[:, :, :queries]
        shares = nn.softmax(logits).astype(v.dtype)
        gathered = jnp.einsum("bhqk,bhkd->bhqd", shares, v)
        return gathered.transpose(0, 2, 1, 3).reshape(batch, queries, -1)


@dataclasses.dataclass(frozen=True)
class BlockKind:
    """What the blocks of a network have in common.

    Attributes:
      heads: of the attention.
      scale: of its logits.
      hidden: length of the hidden layer between the two linear ones.
      activation: of the hidden layer, a module.
      dropout: share zeroed behind the attention, in the hidden layer and behind it, in training.
      kernel_init: of all linear layers.
      dtype: of the computation; sums along the blocks have it too.
      bias: makes the module that turns the network's `context` into what is added to the logits; None adds nothing.
    """

    heads: int
    scale: float
    hidden: int
    activation: Callable[[], nn.Module]
    dropout: float
    kernel_init: Callable
    dtype: str
    bias: Callable[..., nn.Module] | None = None


class Block(nn.Module):
    r"""x + Attention(LN x), then x + MLP(LN x); either may be left out for an image (stochastic depth).

    Attributes:
      kind: of the network.
      drop_path: share of images for which a half is left out in training.
    """

    kind: BlockKind
    drop_path: float

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch tokens dim"],
        context: Float[Array, "batch *shape"] | None,
        seeds: UInt32[Array, "*drops 2"] | None,
        queries: int,
    ) -> Float[Array, "batch queries dim"]:
        """Returns the first `queries` tokens; the last block of a network may need one only.

        `seeds` are `DROPS` for `dropout`, or None in evaluation.
        """
        kind, dim = self.kind, x.shape[-1]
        bias = kind.bias(name="bias")(context) if kind.bias else None
        first, second, third, *whole = [None] * DROPS if seeds is None else seeds
        y = layer_norm(kind.dtype, name="norm1")(x)
        y = self._linear(3 * dim, "qkv", use_bias=False)(y)
        y = checkpoint_name(Attention(kind.heads, kind.scale, name="attention")(y, bias, queries=queries), RESULT_NAME)
        y = dropout(self._linear(dim, "out")(y), kind.dropout, first)
        x = _kept(x[:, :queries] + dropout(y, self.drop_path, whole[0], by_image=True))
        y = layer_norm(kind.dtype, name="norm2")(x)
        y = dropout(kind.activation()(self._linear(kind.hidden, "mlp1")(y)), kind.dropout, second)
        y = dropout(self._linear(dim, "mlp2")(y), kind.dropout, third)
        return _kept(x + dropout(y, self.drop_path, whole[1], by_image=True))

    def _linear(self, size: int, name: str, *, use_bias: bool = True) -> Callable[[Array], Array]:
        kind = self.kind
        dense = nn.Dense(size, use_bias=use_bias, dtype=kind.dtype, kernel_init=kind.kernel_init, name=name)
        return lambda x: checkpoint_name(dense(x), RESULT_NAME)


def layer_norm(dtype: str, *, name: str) -> nn.LayerNorm:
    """LayerNorm over the last axis, with statistics in at least float32."""
    return nn.LayerNorm(epsilon=LAYER_NORM_EPSILON, dtype=dtype, use_fast_variance=False, name=name)


def _kept(x: Array) -> Array:
    """Makes the compiler store a sum.

    Else XLA adds up all blocks so far anew, masks of dropout included, wherever the sum is read, and so for the
    gradient: time that grows with the square of the depth.
    """
    return jax.lax.optimization_barrier(x)


class Quarter(nn.Module):
    """A stage: `size` blocks one after the other.

    Attributes:
      kind: of the blocks.
      drop_paths: of each of them.
      remat: what the gradient computes again, a key of `layers.REMATS`.
    """

    kind: BlockKind
    drop_paths: tuple[float, ...]
    remat: str

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch tokens dim"],
        context: Float[Array, "batch *shape"] | None,
        seeds: UInt32[Array, "*drops 2"] | None,
        queries: int,
    ) -> Float[Array, "batch queries dim"]:
        """Only the first `queries` tokens leave the last block; `seeds` are `DROPS` for each, or None."""
        for number, drop_path in enumerate(self.drop_paths):
            block = Block(self.kind, drop_path, name=f"block{number}")
            some = queries if number == len(self.drop_paths) - 1 else x.shape[1]
            own = None if seeds is None else seeds[number]
            if self.remat == "none":
                x = block(x, context, own, some)
            else:

                def again(block, x, context, own, some=some):
                    return block(x, context, own, some)

                x = nn.remat(again, policy=layers.REMATS[self.remat])(block, x, context, own)
        return x


def run_blocks(
    module: nn.Module,
    x: Float[Array, "batch tokens dim"],
    context: Float[Array, "batch *shape"] | None,
    seeds: UInt32[Array, "depth drops 2"] | None,
    *,
    kind: BlockKind,
    depth: int,
    drop_path: float,
    extra: int,
    queries: int,
) -> Float[Array, "batch queries dim"]:
    """The blocks of a network in four stages, with a tap of the feature map after each.

    Args:
      module: the network, whose stages they become; `remat` is read from it.
      x: tokens, the `extra` ones that are no place of the image first.
      context: what `BlockKind.bias` takes.
      seeds: for `dropout`, of each block; None in evaluation.
      kind: of the blocks.
      depth: their number, a multiple of `STAGES`.
      drop_path: of the last block; it rises from 0 with the block's number.
      extra: see `x`.
      queries: tokens that the network goes on with; all are computed only where a tap is asked for.
    """
    side = math.isqrt(x.shape[1] - extra)
    shares = [drop_path * number / max(depth - 1, 1) for number in range(depth)]
    size = depth // STAGES
    is_tapped = module.is_mutable_collection(taps.COLLECTION)
    for number in range(STAGES):
        own = slice(number * size, (number + 1) * size)
        some = queries if number == STAGES - 1 and not is_tapped else x.shape[1]
        stage = Quarter(kind, tuple(shares[own]), module.remat, name=f"stage{number + 1}")
        x = stage(x, context, None if seeds is None else seeds[own], some)
        if is_tapped:
            taps.show(module, f"stage{number + 1}", x[:, extra:].reshape(x.shape[0], side, side, -1))
    return x[:, :queries]
