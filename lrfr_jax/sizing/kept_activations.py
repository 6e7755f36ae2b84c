"""Bytes that a forward pass leaves for its gradient, by shapes alone, as XLA's programs keep them."""

import math
from collections.abc import Callable

import jax
from jax.extend import core

from lrfr_jax.sizing import operations


def count(function: Callable, *arguments: object) -> int:
    """Sums what all matrix products and convolutions read and give, each array once.

    Normalization and activations between them cost no memory: a GPU's compiler fuses them with what comes next and
    computes them again for the gradient. (What differentiation itself lists, with float32 copies of bfloat16 arrays, is
    three times as much.) Of a block under `jax.checkpoint` the inputs count and what its policy keeps, and once, of the
    largest block, what its gradient computes again.

    On an H200 the programs for a step of ResNet50 and IResNet-50 in bfloat16 and of MobileFaceNet in float32 reserved 3
    to 10 % more than a plan with these sums (without `jax.checkpoint`, which has not been compared). The compiler for
    CPUs keeps up to 2.5 times as much.

    Args:
      function, arguments: as to be called; shapes do in place of arrays. Parameters count as what products read.
    """
    return sum(_of_jaxpr(jax.make_jaxpr(function)(*arguments).jaxpr))


def _of_jaxpr(jaxpr: core.Jaxpr) -> tuple[int, int]:
    """(bytes that stay until the gradient, the most that a block under `jax.checkpoint` computes again)."""
    arrays, inside, again = [], 0, 0
    for equation in jaxpr.eqns:
        found = [_of_jaxpr(body) for body in operations.bodies(equation)]
        if equation.primitive.name in operations.PRODUCTS or _is_product_by_hand(equation):
            arrays += [*equation.invars, *equation.outvars]
        elif "policy" in equation.params:  # of jax.checkpoint
            arrays += equation.invars
            saved = sum(_saved(body, equation.params["policy"]) for body in operations.bodies(equation))
            inside += saved
            again = max(again, sum(map(sum, found)) - saved)
        elif found:
            # Of a conditional's branches one is taken, a scan's body as often as it says.
            inside += max(kept for kept, _ in found) * equation.params.get("length", 1)
            again = max(again, *(most for _, most in found))
    # Equal variables are one array; literals are numbers in the program.
    return inside + sum(map(_bytes, {x for x in arrays if not isinstance(x, core.Literal)})), again


def _is_product_by_hand(equation: core.JaxprEqn) -> bool:
    """Whether it is a product or convolution whose gradient is written by hand, which keeps what it reads."""
    by_hand = equation.primitive.name.startswith("custom_vjp_call")
    return by_hand and any(operations.has_products(body) for body in operations.bodies(equation))


def _saved(jaxpr: core.Jaxpr, policy: Callable | None) -> int:
    """Bytes of the results that a policy of `jax.checkpoint` keeps; None keeps nothing."""
    if policy is None:
        return 0
    saved = 0
    for equation in jaxpr.eqns:
        saved += sum(_saved(body, policy) for body in operations.bodies(equation))
        if policy(equation.primitive, *(x.aval for x in equation.invars), **equation.params):
            saved += sum(map(_bytes, equation.outvars))
    return saved


def _bytes(variable: core.Var) -> int:
    return math.prod(variable.aval.shape) * variable.aval.dtype.itemsize
