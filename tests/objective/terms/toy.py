"""Terms on arrays in float64, as their published codes were run, and batches of P identities x K images."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from lrfr_jax.objective.terms import TERMS
from tests.objective.heads.toy import close, in_double

__all__ = ["angles", "batch_of", "close", "compiled", "in_double", "slopes", "value_and_slopes", "value_of"]

# Numbers of every term, at which nothing is switched off.
NUMBERS = {
    "distance": {"distance": "logexp", "p": 1.0, "reduction": "paper"},
    "mse": {},
    "squared_distance": {},
    "cosine": {"over": "sum"},
    "octuplet": {"metric": "euclidean", "margin": 0.5},
    "datl": {"bandwidth": 0.5, "iterations": 10, "margin": 0.5, "memory": 0},
    "daql": {"bandwidth": 0.5, "iterations": 10, "margin": 0.5, "second_margin": 0.25, "memory": 0},
    "ddl": {
        "images_per_identity": 2,
        "bandwidth": 0.1,
        "num_bins": 1000,
        "positive_weight": 0.1,
        "negative_weight": 0.02,
        "order_weight": 0.5,
        "negatives": "released",
    },
    "coupled_triplet": {"margin": 0.2},
    "contrastive": {"margin": 1.0},
    "center_loss": {"update": "wen", "rate": 0.5, "over_dims": "sum"},
    "cross_relation": {"images_per_identity": 2},
    "hkd": {"temperature": 4.0},
    "attention_transfer": {},
}


@functools.cache
def make(name, **changes):
    """The term of that name, with the numbers above, some of them changed."""
    return TERMS[name](**NUMBERS[name] | changes)


@functools.partial(jax.jit, static_argnames="term")
def compiled(term, features, labels, state):
    """(value, its gradient with respect to each feature)."""
    return jax.value_and_grad(lambda given: term.value(given, labels, state))(features)


def _arrays(features):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), tuple(features), is_leaf=lambda x: isinstance(x, list))


def value_and_slopes(term, *features, labels=None, state=None):
    """(value, its gradient with respect to each feature); the same labels, 0 if none, for all features."""
    features = _arrays(features)
    if labels is None:
        labels = [0] * len(jax.tree.leaves(features)[0])
    labels = labels if isinstance(labels, tuple) else (labels,) * len(features)
    labels = tuple(jnp.asarray(each, jnp.int32) for each in labels)
    return compiled(term, features, labels, jax.tree.map(jnp.asarray, state or {}))


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
