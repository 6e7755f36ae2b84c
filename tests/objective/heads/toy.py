"""The toy that the heads' published code was run on, in float64: three identities, labels 0 unless said."""

import functools

import jax
import numpy as np

from lrfr_jax.objective.heads import HEADS, dense

T0 = (0.6, 0.3, -0.2)

MAGFACE = {
    "scale": 64.0,
    "smallest_norm": 10.0,
    "largest_norm": 110.0,
    "smallest_margin": 0.45,
    "largest_margin": 0.8,
    "norm_weight": 35.0,
}
ADAFACE = {
    "scale": 64.0,
    "margin": 0.4,
    "concentration": 0.333,
    "rate": 0.01,
    "first_mean": 20.0,
    "first_std": 100.0,
    "largest_norm": 100.0,
    "gradient": "exact",
}
RIVAL = {"rival_share": 0.5, "rival_threshold": 0.7}
# Valid numbers for every head, as published where they are.
NUMBERS = {
    "softmax": {"scale": 64.0},
    "linear_softmax": {"bias": True},
    "cosface": {"scale": 64.0, "margin": 0.4},
    "arcface": {"scale": 64.0, "margin": 0.5, "gradient": "exact", "guard": "none"},
    "magface": MAGFACE | {"guard": "easy"},
    "mag_cosface": MAGFACE | {"smallest_margin": 0.35, "norm_weight": 150.0},
    "adaface": ADAFACE,
    "curricularface": {"scale": 64.0, "margin": 0.5, "rate": 0.01},
    "elastic_arcface": {"scale": 64.0, "margin": 0.5, "sigma": 0.05, "plus": "none"},
    "elastic_cosface": {"scale": 64.0, "margin": 0.35, "sigma": 0.05, "plus": "intended"},
    "npt": {"radius": 1.0, "delta": 0.5, "num_nearest": 1},
    "npt_released": {"radius": 1.0, "delta": 0.5, "num_nearest": 1},
    "uniface": {"scale": 64.0, "margin": 0.4, "negative_weight": 1.0, "bias_factor": 10.0},
    "rpcl_cosface": {"scale": 32.0, "margin": 0.2, "guard": "easy", **RIVAL},
    "rpcl_arcface": {"scale": 32.0, "margin": 0.5, "gradient": "exact", "guard": "easy", **RIVAL},
    "rpcl_magface": MAGFACE | {"scale": 32.0, "norm_weight": 20.0, "guard": "easy", **RIVAL},
    "rpcl_cosface_released": {
        "scale": 32.0,
        "margin": 0.2,
        "rival_factor": 0.2,
        "rival_threshold": 0.7,
        "probability_gap": 1e-4,
    },
    "rpcl_arcface_released": {
        "scale": 32.0,
        "margin": 0.5,
        "rival_factor": 0.2,
        "rival_threshold": 0.8,
        "probability_gap": 1e-4,
    },
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
