"""Parts of a transformer's block beside other forms of them, in turns: attention, dropout, a linear layer's gradient.

python benchmarks/transformers.py [--batch_size 16] [--turns 9]

The sizes are those of ViT-P8S8 in float32: 197 tokens of 512 numbers, 8 heads, a hidden layer of 2,048.
"""

import argparse
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lrfr_jax.benchmark import timing
from lrfr_jax.models import dropout, products, transformer

TOKENS, DIM, HEADS, HIDDEN = 197, 512, 8, 2048
SCALE, RATE = DIM**-0.5, 0.1


def split(qkv: jax.Array) -> list[jax.Array]:
    """[batch, tokens, 3 dims], as one product gives them -> queries, keys, values [batch, tokens, heads, of a head]."""
    return [x.reshape(*x.shape[:2], HEADS, -1) for x in jnp.split(qkv, 3, axis=-1)]


def ours(qkv: jax.Array) -> jax.Array:
    """The form that the transformers have."""
    return transformer.Attention(HEADS, SCALE).apply({}, qkv, queries=TOKENS)


def tokens_first(qkv: jax.Array) -> jax.Array:
    """Two products with the tokens before the heads."""
    q, k, v = split(qkv)
    shares = nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q * SCALE, k))
    return jnp.einsum("bhqk,bkhd->bqhd", shares, v).reshape(*qkv.shape[:2], DIM)


def of_flax(qkv: jax.Array) -> jax.Array:
    """flax's, which divides by the root of a head's length itself."""
    q, k, v = split(qkv)
    return nn.dot_product_attention(q * (SCALE * (DIM // HEADS) ** 0.5), k, v).reshape(*qkv.shape[:2], DIM)


def of_jax(qkv: jax.Array) -> jax.Array:
    """jax.nn's."""
    return jax.nn.dot_product_attention(*split(qkv), scale=SCALE).reshape(*qkv.shape[:2], DIM)


def compiled(function: Callable, *arguments: jax.Array) -> Callable[[], object]:
    """A call that ends when the result is there."""
    program = jax.jit(function)
    return lambda: jax.block_until_ready(program(*arguments))


def gradient(function: Callable) -> Callable:
    """(arguments, gradient of the result) -> gradients of the arguments."""
    return lambda *arguments: jax.vjp(function, *arguments[:-1])[1](arguments[-1])


def main() -> None:
    """Prints a line for each comparison: median, least and most in milliseconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--turns", type=int, default=9)
    options = parser.parse_args()
    random = np.random.default_rng(0)

    def normal(*shape: int) -> jax.Array:
        return jnp.asarray(random.normal(size=shape), jnp.float32)

    x, g = normal(options.batch_size, TOKENS, DIM), normal(options.batch_size, TOKENS, DIM)
    qkv = normal(options.batch_size, TOKENS, 3 * DIM)
    hidden, kernel = normal(options.batch_size, TOKENS, HIDDEN), normal(DIM, HIDDEN)
    seed, key = jax.random.bits(jax.random.key(1), (2,), jnp.uint32), jax.random.key(1)
    forms = {"ours": ours, "tokens first": tokens_first, "flax": of_flax, "jax.nn": of_jax}
    for name, form in forms.items():
        np.testing.assert_allclose(form(qkv), ours(qkv), rtol=1e-3, atol=1e-4, err_msg=name)
    compared = {
        "attention": {name: compiled(form, qkv) for name, form in forms.items()},
        "attention's gradient": {name: compiled(gradient(form), qkv, g) for name, form in forms.items()},
        "dropout": {
            "ours": compiled(lambda x: dropout.dropout(x, RATE, seed), hidden),
            "jax": compiled(
                lambda x: jnp.where(jax.random.bernoulli(key, 1 - RATE, x.shape), x / (1 - RATE), 0), hidden
            ),
        },
        "linear layer's gradient": {
            "ours": compiled(gradient(products.product), x, kernel, hidden),
            "derived": compiled(gradient(jnp.matmul), x, kernel, hidden),
        },
    }
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, milliseconds: median (least-most)")
    for title, calls in compared.items():
        found = timing.take_turns(calls, turns=options.turns, seconds=0.3)
        told = (
            f"{name} {1e3 * one.median:.1f} ({1e3 * min(one.seconds):.1f}-{1e3 * max(one.seconds):.1f})"
            for name, one in found.items()
        )
        print(f"{title}: {', '.join(told)}")


if __name__ == "__main__":
    main()
