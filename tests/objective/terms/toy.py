"""Terms on arrays in float64, as their published codes were run, and batches of P identities x K images."""

import jax
import jax.numpy as jnp
import numpy as np

from lrfr_jax.objective.terms import TERMS
from tests.objective.heads.toy import close, in_double

__all__ = ["angles", "batch_of", "close", "in_double", "slopes", "value_and_slopes", "value_of"]

# Numbers of every term, at which nothing is switched off.
NUMBERS = {
    "distance": {"distance": "logexp", "p": 1.0, "reduction": "paper"},
    "mse": {},
    "squared_distance": {},
    "cosine": {"over": "sum"},
}


def make(name, **changes):
    """The term of that name, with the numbers above, some of them changed."""
    return TERMS[name](**NUMBERS[name] | changes)


def _arrays(features):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), tuple(features), is_leaf=lambda x: isinstance(x, list))


def value_and_slopes(term, *features, labels=None, state=None):
    """(value, its gradient with respect to each feature); the same labels, 0 if none, for all features."""
    features = _arrays(features)
    if labels is None:
        labels = [0] * len(jax.tree.leaves(features)[0])
    labels = labels if isinstance(labels, tuple) else (labels,) * len(features)
    labels = tuple(jnp.asarray(each, jnp.int32) for each in labels)
    return jax.value_and_grad(lambda given: term.value(given, labels, state or {}))(features)


def value_of(term, *features, **more):
    return value_and_slopes(term, *features, **more)[0]


def slopes(term, *features, **more):
    return value_and_slopes(term, *features, **more)[1]


def angles(*degrees):
    """Unit vectors of the plane, as a list."""
    radians = np.deg2rad(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).tolist()


def batch_of(seed, *, identities=6, images=3, views=2, dim=5, dtype=np.float64):
    """(features of the views, labels) of a P x K batch, ordered by identities."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(rng.permutation(50)[:identities], images)
    centers = rng.normal(size=(50, dim))
    features = tuple((centers[labels] + rng.normal(size=(len(labels), dim)) * 0.8).astype(dtype) for _ in range(views))
    return features, labels.astype(np.int32)
