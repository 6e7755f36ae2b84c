"""The classifier: one center per identity, and the cosine of every feature to every center."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lrfr_jax.models import layers

# Floor of a squared length: keeps the value and the gradient finite at zero, far below any length that occurs.
EPSILON = 1e-12


def _unit_rows(x: Float[Array, "rows dim"]) -> Float[Array, "rows dim"]:
    """Scales each row to length 1; a row of zeros stays."""
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), EPSILON))


class Classifier(nn.Module):
    r"""Cosines between features and class centers, in float32 or more; margin and scale are the loss's business.

    .. math:: c_{ij} = \frac{x_i \cdot w_j}{\|x_i\| \|w_j\|}

    Values are in [-1, 1] up to rounding. The centers' lengths have no effect on them.

    Attributes:
      num_identities: of the training set.

    References:
      Wang et al. 2018, arXiv 1801.09414, Sec. 3.1; xavier-uniform centers as in the code of arXiv 2302.05621.
    """

    num_identities: int

    @nn.compact
    def __call__(self, features: Float[Array, "batch dim"]) -> Float[Array, "batch identities"]:
        shape = (self.num_identities, features.shape[-1])
        centers = self.param("class_centers", nn.initializers.xavier_uniform(), shape, jnp.float32)
        features = _unit_rows(layers.at_least_float32(features))
        return jnp.matmul(features, _unit_rows(centers).T, precision=jax.lax.Precision.HIGHEST)
