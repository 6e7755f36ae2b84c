"""Floating-point operations of a program: counted by hand from its matrix products and convolutions."""

import functools
import math
from collections.abc import Callable, Iterable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.extend import core

from lrfr_jax import image_ops
from lrfr_jax.objective.classifier import Classifier
from lrfr_jax.objective.heads import Head
from lrfr_jax.run import experiment

# The primitives that a network's time is counted by.
PRODUCTS = ("conv_general_dilated", "dot_general")


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
    inner = [_of_jaxpr(jaxpr) for jaxpr in bodies(equation)]
    if equation.primitive.name == "cond":
        return max(inner)
    return sum(inner) * equation.params.get("length", 1)  # of a scan


def has_products(jaxpr: core.Jaxpr) -> bool:
    """Whether a matrix product or a convolution is in a program, at any depth."""
    return _of_jaxpr(jaxpr) > 0


def bodies(equation: core.JaxprEqn) -> list[core.Jaxpr]:
    """Returns the programs inside an equation: of a loop, a conditional, a call."""
    return [jaxpr for value in equation.params.values() for jaxpr in _jaxprs(value)]


def _jaxprs(value: object) -> list[core.Jaxpr]:
    if isinstance(value, core.ClosedJaxpr):
        return [value.jaxpr]
    if isinstance(value, core.Jaxpr):
        return [value]
    return [jaxpr for one in value for jaxpr in _jaxprs(one)] if isinstance(value, tuple | list) else []


def of_forward(backbone: nn.Module) -> int:
    """Operations of a backbone for one image."""
    image = jax.ShapeDtypeStruct((1, image_ops.IMAGE_SIZE, image_ops.IMAGE_SIZE, 3), jnp.float32)
    rng = jax.eval_shape(jax.random.key, 0)
    variables = jax.eval_shape(functools.partial(backbone.init, train=False), rng, image)
    return count(functools.partial(backbone.apply, train=False), variables, image)


def of_head(classifier: Classifier, head: Head, *, embedding_size: int, batch: int, views: int) -> int:
    """Operations of the cosines of all views' features to the class centers that take part, and of both gradients.

    A head of the nearest centers has no gradient by all others.
    """
    rows = min(classifier.shards * classifier.rows_taking_part(batch), classifier.num_identities)
    products = 1 if head.sum == "nearest" else 3
    return products * 2 * views * batch * rows * embedding_size


def of_training(run: experiment.Run, *, embedding_size: int, batch: int, second_batch: int) -> int:
    """Operations of a training step: the network's forward pass and both its gradients, the head, the teacher's pass.

    Parts and terms are left out, as other small things.

    Args:
      run: what `experiment.build_run` made of a config.
      embedding_size: of the student.
      batch: images of a step on all devices.
      second_batch: the same of a second source; 0 without one.
    """
    objective, teacher = run.objective, run.teacher
    sizes = {"first": batch, "second": second_batch}

    def images(views: Iterable[str]) -> int:
        return sum(sizes[run.rules[view].source] for view in views)

    found = 3 * images(objective.student_taps()) * of_forward(run.backbone)
    if run.head is not None:
        how = {"embedding_size": embedding_size, "batch": batch, "views": len(objective.view_weights)}
        found += of_head(run.classifier, run.head, **how)
    if teacher is not None and not teacher.is_kept:
        found += images(teacher.read) * of_forward(teacher.backbone)
    return found
