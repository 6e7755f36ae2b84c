"""What a loss adds to the classification: terms of named features, as one frozen record each; a file a family."""

from lrfr_jax.objective.terms import center_loss, ddl, dense_centers, octuplet, pairs, relation, triplet
from lrfr_jax.objective.terms.term import Term

__all__ = ["TERMS", "Term"]

# name -> function of the config's numbers, all by name -> Term
TERMS = {
    "distance": pairs.distance,
    "mse": pairs.mse,
    "squared_distance": pairs.squared_distance,
    "cosine": pairs.cosine,
    "octuplet": octuplet.octuplet,
    "datl": dense_centers.datl,
    "daql": dense_centers.daql,
    "ddl": ddl.ddl,
    "coupled_triplet": triplet.coupled_triplet,
    "contrastive": triplet.contrastive,
    "center_loss": center_loss.center_loss,
    "cross_relation": relation.cross_relation,
    "hkd": relation.hkd,
    "attention_transfer": relation.attention_transfer,
}
