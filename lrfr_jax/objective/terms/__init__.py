"""What a loss adds to the classification: terms of named features, as one frozen record each; a file a family."""

from lrfr_jax.objective.terms import pairs
from lrfr_jax.objective.terms.term import Term

__all__ = ["TERMS", "Term"]

# name -> function of the config's numbers, all by name -> Term
TERMS = {
    "distance": pairs.distance,
    "mse": pairs.mse,
    "squared_distance": pairs.squared_distance,
    "cosine": pairs.cosine,
}
