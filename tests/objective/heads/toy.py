"""The toy that the heads' published code was run on, in float64: three identities, labels 0 unless said."""

import functools

import jax
import numpy as np

from configs import common
from lrfr_jax.objective.heads import HEADS, dense

T0 = (0.6, 0.3, -0.2)

# The numbers of every head as published, in two places such that they reach what the toys do not.
NUMBERS = common.HEADS | {
    "cosface": {"scale": 64.0, "margin": 0.4},
    "elastic_cosface": common.HEADS["elastic_cosface"] | {"plus": "intended"},
}


def make(name, **changes):
    """The head of that name, with the numbers above, some of them changed."""
    return HEADS[name](**NUMBERS[name] | changes)


def in_double(test):
    @functools.wraps(test)
    def wrapped(*args, **kwargs):
        with jax.enable_x64(True):
            return test(*args, **kwargs)

    return wrapped


def dense_losses(head, cosines, *, norms=None, labels=None, state=None, draws=None, bias=None):
    """Returns (losses, next state, gradients of their sum: {'cosines', 'norms', 'bias'}, those that were given)."""
    cosines = np.atleast_2d(np.asarray(cosines))
    labels = np.zeros(cosines.shape[-2], np.int32) if labels is None else np.asarray(labels, np.int32)
    inputs = {"cosines": cosines, "norms": norms, "bias": bias}
    inputs = {name: np.asarray(value, cosines.dtype) for name, value in inputs.items() if value is not None}
    state = dict(head.first_state if state is None else state)
    return _compiled(head)(inputs, labels, None if draws is None else np.asarray(draws), state)


def _dense(head, inputs, labels, draws, state):
    def total(inputs):
        losses, after = dense.classification(
            head, inputs["cosines"], labels, inputs.get("norms"), state, draws, inputs.get("bias")
        )
        return losses.sum(), (losses, after)

    slopes, (losses, after) = jax.grad(total, has_aux=True)(inputs)
    return losses, after, slopes


_COMPILED = {}


def _compiled(head):
    """The head is kept beside its function, so that no other one gets its id."""
    if id(head) not in _COMPILED:
        _COMPILED[id(head)] = head, jax.jit(functools.partial(_dense, head))
    return _COMPILED[id(head)][1]


def close(actual, expected, digits=6):
    """To the digits that the expected numbers are given with."""
    np.testing.assert_allclose(actual, expected, rtol=0, atol=0.51 * 10**-digits)
