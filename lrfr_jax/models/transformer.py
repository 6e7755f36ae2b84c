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
from lrfr_jax.models.products import dense, layer_norm

STAGES = 4  # quarters of the blocks, after each of which there is a tap


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
        # Heads before tokens: each of the two products is then a plain batched one, which exporters know too.
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
        layer = dense(size, use_bias=use_bias, dtype=kind.dtype, kernel_init=kind.kernel_init, name=name)
        return lambda x: checkpoint_name(layer(x), RESULT_NAME)


def _kept(x: Array) -> Array:
    """Makes the compiler store a sum.

    Else XLA may add up all blocks so far anew, masks of dropout included, wherever the sum is read, and so for the
    gradient. What that costs has not been measured in turns yet.
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
