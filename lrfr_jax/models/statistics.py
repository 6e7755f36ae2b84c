"""BatchNorm's running statistics by the resolution of faces: measured on batches, kept beside those of the weights.

An adapted backbone has, beside 'params' and 'batch_stats', the collection 'adapted': {'14': batch_stats at 14 px, ...}.
What knows nothing of it reads the weights as they came, at full resolution.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lrfr_jax.models.layers import BATCH_NORM_MOMENTUM

ADAPTED = "adapted"


def sizes_of(variables: Any) -> tuple[int, ...]:
    """The resolutions at which a backbone has statistics of its own, descending; none if it was not adapted."""
    held = variables.get(ADAPTED, ()) if isinstance(variables, Mapping) else ()  # an exported program has none
    return tuple(sorted(map(int, held), reverse=True))


def at_resolution(variables: Any, resolution: int | None) -> Any:
    """What a backbone is applied with: parameters and the statistics of one of `sizes_of`, or its own for None."""
    if not sizes_of(variables):
        return variables
    own = {name: value for name, value in variables.items() if name != ADAPTED}
    return own if resolution is None else own | {"batch_stats": variables[ADAPTED][str(resolution)]}


def measure(
    backbone: nn.Module, variables: Mapping[str, Any], batches: Iterable[Float[Array, "batch height width 3"]]
) -> Any:
    r"""Running statistics of a backbone for other images than it was trained on.

    Every layer normalizes a batch by that batch's own statistics, as in training, and of all batches the mean and the
    variance of the values are taken, as if they were one:

    .. math:: m = \frac{1}{B} \sum_b m_b, \quad v = \frac{1}{B} \sum_b (v_b + m_b^2) - m^2

    Args:
      backbone: without dropout.
      variables: 'params' and 'batch_stats'; the statistics have no influence.
      batches: of normalized images, all of one size.

    Returns:
      New 'batch_stats'.

    Raises:
      ValueError: no batch.

    References:
      Li et al. 2016, Revisiting batch normalization for practical domain adaptation (AdaBN), arXiv 1603.04779; Wu and
      Johnson 2021, Rethinking "Batch" in BatchNorm, arXiv 2105.07576, section 3.
    """
    zeros = jax.tree.map(jnp.zeros_like, variables["batch_stats"])

    @jax.jit
    def of_batch(params: Any, images: Float[Array, "batch height width 3"]) -> Any:
        _, updated = backbone.apply(
            {"params": params, "batch_stats": zeros}, images, train=True, mutable=["batch_stats"]
        )
        # From zero, an update leaves the batch's statistics times what a new value weighs.
        return jax.tree.map(lambda value: value / (1 - BATCH_NORM_MOMENTUM), updated["batch_stats"])

    count, sums = 0, None
    for images in batches:
        found = _moments(of_batch(variables["params"], images))
        sums = found if sums is None else jax.tree.map(jnp.add, sums, found)
        count += 1
    if not count:
        raise ValueError("statistics need at least one batch of images")
    return _statistics(jax.tree.map(lambda total: total / count, sums))


def _moments(tree: Any) -> Any:
    """Of each layer the mean, and in place of the variance the mean square."""
    if "mean" in tree:
        return {"mean": tree["mean"], "var": tree["var"] + tree["mean"] ** 2}
    return {name: _moments(part) for name, part in tree.items()}


def _statistics(tree: Any) -> Any:
    """The reverse of `_moments`."""
    if "mean" in tree:
        return {"mean": tree["mean"], "var": jnp.maximum(tree["var"] - tree["mean"] ** 2, 0)}
    return {name: _statistics(part) for name, part in tree.items()}
