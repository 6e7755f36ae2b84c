"""Floating-point operations of a program: counted by hand from its matrix products and convolutions."""

import math
from collections.abc import Callable

import jax
from jax.extend import core


def count(function: Callable, *arguments: object) -> int:
    r"""Counts the operations of all matrix products and convolutions, a multiplication and an addition each.

    .. math:: 2 \cdot (\text{elements of the result}) \cdot (\text{products summed up for each of them})

    What comes beside them (normalization, activations, the loss) is some percent of a network's operations and left
    out, as is usual for a model's FLOPs. The function is traced, not run.

    Args:
      function, arguments: as to be called; shapes do in place of arrays.
    """
    return _of_jaxpr(jax.make_jaxpr(function)(*arguments).jaxpr)


def _of_jaxpr(jaxpr: core.Jaxpr) -> int:
    return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation: core.JaxprEqn) -> int:
    shapes = [getattr(variable.aval, "shape", ()) for variable in equation.invars]
    elements = math.prod(equation.outvars[0].aval.shape) if equation.outvars else 0
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        return 2 * elements * math.prod(shapes[0][axis] for axis in contracted)
    if equation.primitive.name == "conv_general_dilated":
        # The kernel's input channels are those of one group already.
        _, inputs, *window = (shapes[1][axis] for axis in equation.params["dimension_numbers"].rhs_spec)
        return 2 * elements * inputs * math.prod(window)
    inner = [_of_jaxpr(jaxpr) for value in equation.params.values() for jaxpr in _jaxprs(value)]
    if equation.primitive.name == "cond":
        return max(inner)
    return sum(inner) * equation.params.get("length", 1)  # of a scan


def _jaxprs(value: object) -> list[core.Jaxpr]:
    if isinstance(value, core.ClosedJaxpr):
        return [value.jaxpr]
    if isinstance(value, core.Jaxpr):
        return [value]
    return [jaxpr for one in value for jaxpr in _jaxprs(one)] if isinstance(value, tuple | list) else []
