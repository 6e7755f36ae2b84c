"""Every classification loss of the compared systems, as one frozen record each: a file a family."""

from lrfr_jax.objective.heads import (
    adaface,
    arcface,
    cosface,
    curricularface,
    elastic,
    magface,
    npt,
    rpcl,
    rpcl_released,
    softmax,
    uniface,
)
from lrfr_jax.objective.heads.dense import arcface_logits, cosface_logits, cross_entropy
from lrfr_jax.objective.heads.head import Head

__all__ = ["HEADS", "Head", "arcface_logits", "cosface_logits", "cross_entropy"]

# name -> function of the config's numbers, all by name -> Head
HEADS = {
    "softmax": softmax.softmax,
    "linear_softmax": softmax.linear_softmax,
    "cosface": cosface.cosface,
    "arcface": arcface.arcface,
    "magface": magface.magface,
    "mag_cosface": magface.mag_cosface,
    "adaface": adaface.adaface,
    "curricularface": curricularface.curricularface,
    "elastic_arcface": elastic.elastic_arcface,
    "elastic_cosface": elastic.elastic_cosface,
    "npt": npt.npt,
    "npt_released": npt.npt_released,
    "uniface": uniface.uniface,
    "rpcl_cosface": rpcl.rpcl_cosface,
    "rpcl_arcface": rpcl.rpcl_arcface,
    "rpcl_magface": rpcl.rpcl_magface,
    "rpcl_cosface_released": rpcl_released.rpcl_cosface_released,
    "rpcl_arcface_released": rpcl_released.rpcl_arcface_released,
}
