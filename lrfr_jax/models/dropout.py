"""Dropout and stochastic depth of the transformers, by random numbers that cost little beside their products."""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt32

DROPS = 5  # of a block: behind the attention, in the hidden layer, behind it, and either half for whole images


def draw_seeds(module: nn.Module, depth: int) -> UInt32[Array, "depth drops 2"]:
    """Seeds of all blocks by the rng stream 'dropout', at once: one by one they would double the compiler's time."""
    return jax.random.bits(module.make_rng("dropout"), (depth, DROPS, 2), jnp.uint32)


def random_bits(seed: UInt32[Array, "2"], shape: Sequence[int]) -> UInt32[Array, "*shape"]:
    """Numbers of 32 bits, uniform: a seed's two words, mixed with the place of each element.

    For masks of dropout: a few operations a number, where jax's own generator takes 20 rounds for two (3 against 130 ms
    for the hidden layer of a block, docs/performance.md). A function of seed and place alone, so the same on any number
    of devices.

    References:
      Wellons 2018, Prospecting for hash functions, nullprogram.com/blog/2018/07/31 (lowbias32: its constants).
    """
    steps = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    places = (jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(step) for axis, step in enumerate(steps))
    x = sum(places) * jnp.uint32(0x9E3779B9) + seed[0]  # neighbors far apart, by the golden ratio
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15) ^ seed[1]) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def dropout(
    x: Float[Array, "batch *shape"], share: float, seed: UInt32[Array, "2"] | None, *, by_image: bool = False
) -> Float[Array, "batch *shape"]:
    """Zeroes a share of the values and divides the rest by theirs; without a seed, as in evaluation, it does nothing.

    With `by_image` all values of an image go together (stochastic depth).
    """
    if seed is None or not share:
        return x
    kept = 1 - share
    shape = (x.shape[0],) + (1,) * (x.ndim - 1) if by_image else x.shape
    is_kept = random_bits(seed, shape) < jnp.uint32(kept * 2**32)
    return jnp.where(is_kept, x * (1 / kept), jnp.zeros((), x.dtype))
