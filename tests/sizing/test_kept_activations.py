"""What a forward pass leaves for its gradient: inputs and results of products, each once."""

import jax
import jax.numpy as jnp
import pytest

from lrfr_jax.sizing import kept_activations

FLOAT = 4
X, W = jax.ShapeDtypeStruct((8, 16), jnp.float32), jax.ShapeDtypeStruct((16, 16), jnp.float32)
ARRAY, MATRIX = FLOAT * 8 * 16, FLOAT * 16 * 16


def layer(x, w):
    return jnp.tanh(x @ w)


product_by_hand = jax.custom_vjp(lambda x, w: x @ w)
product_by_hand.defvjp(lambda x, w: (x @ w, (x, w)), lambda saved, g: (g @ saved[1].T, saved[0].T @ g))
doubled_by_hand = jax.custom_vjp(lambda x: 2 * x)
doubled_by_hand.defvjp(lambda x: (2 * x, None), lambda _, g: (2 * g,))


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (layer, 2 * ARRAY + MATRIX),
        # The second layer reads what the first one's tanh gives: kept, unlike the tanh of the end.
        (lambda x, w: layer(layer(x, w), w), 4 * ARRAY + MATRIX),
        # One array that two products read is one array.
        (lambda x, w: x @ w + jnp.flip(x @ w, 0) * (x @ w.T), 4 * ARRAY + 2 * MATRIX),
        (lambda x, w: product_by_hand(x, w) + product_by_hand(x, w.T), 3 * ARRAY + 2 * MATRIX),
        (lambda x, w: jnp.exp(x) * 2, 0),
        (lambda x, w: doubled_by_hand(x), 0),
        (lambda x, w: jax.jit(layer)(x, w), 2 * ARRAY + MATRIX),
        (lambda x, w: jax.lax.scan(lambda x, _: (layer(x, w), None), x, length=5)[0], 5 * (2 * ARRAY + MATRIX)),
        (lambda x, w: jax.lax.cond(x[0, 0] > 0, layer, lambda x, w: layer(layer(x, w), w), x, w), 4 * ARRAY + MATRIX),
    ],
    ids=["layer", "two", "shared", "by hand", "elementwise", "elementwise by hand", "call", "scan", "conditional"],
)
def test_products_read_and_give(function, expected):
    assert kept_activations.count(function, X, W) == expected


def test_a_block_keeps_its_input_and_what_its_policy_names():
    """And once, of the largest block, what is computed again."""

    def block(x, w):
        return layer(layer(x, w), w)

    def net(policy):
        once = jax.checkpoint(block, policy=policy)
        return lambda x, w: once(once(once(x, w), w), w)

    inside = 4 * ARRAY + MATRIX
    inputs = 3 * ARRAY + MATRIX
    for nothing in (None, jax.checkpoint_policies.nothing_saveable):
        assert kept_activations.count(net(nothing), X, W) == inputs + inside
    products = jax.checkpoint_policies.dots_saveable
    assert kept_activations.count(net(products), X, W) == inputs + 6 * ARRAY + inside - 2 * ARRAY
    larger = jax.checkpoint(lambda x, w: layer(block(x, w), w), policy=jax.checkpoint_policies.nothing_saveable)
    small = jax.checkpoint(layer, policy=jax.checkpoint_policies.nothing_saveable)
    assert kept_activations.count(lambda x, w: small(larger(x, w), w), X, W) == 2 * ARRAY + MATRIX + 6 * ARRAY + MATRIX


def test_numbers_count_by_their_type():
    x, w = (jax.ShapeDtypeStruct(shape.shape, jnp.bfloat16) for shape in (X, W))
    assert kept_activations.count(layer, x, w) == (2 * ARRAY + MATRIX) / 2
