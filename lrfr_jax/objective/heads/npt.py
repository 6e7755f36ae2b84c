"""NPT: a triplet loss against the nearest class centers, without a softmax."""

import jax
import jax.numpy as jnp

from lrfr_jax.objective.heads import checks
from lrfr_jax.objective.heads.head import Head, Number


def npt(*, radius: Number, delta: Number, num_nearest: int) -> Head:
    r"""The hinge of the own center's distance against those of the nearest others, on a sphere of radius r.

    .. math:: L = 2 r^2 \sum_{j \in \text{top-}k} \max(0, c_j - c_y + \delta), \quad \delta = \Delta / 2 r^2

    The sum is over the k others with the highest cosines. With squared distances d this is
    max(0, d(x, w_y) - d(x, w_j) + Delta). Each rival within delta gives a gradient of the same size, and only the own
    center and k others move.

    Args:
      radius: r, above 0.
      delta: in units of the cosine, 0 or more.
      num_nearest: k, 1 or more.

    Raises:
      ValueError: a number out of range.

    References:
      Khalid et al. 2021, NPT-Loss, arXiv 2103.03503; cerebrai/npt-loss, paper.pdf.
    """
    _check(radius, delta, num_nearest)

    def hinge(own, nearest):
        return 2 * radius**2 * jnp.sum(jax.nn.relu(nearest - own[..., None] + delta), axis=-1)

    return _nearest(hinge, num_nearest)


def npt_released(*, radius: Number, delta: Number, num_nearest: int) -> Head:
    r"""NPT as its code has it: the own entry of the row is set to 0 instead of left out, and the factor is 2 r.

    .. math:: L = 2 r \sum_{c \in \text{top-}k(\{c_j\} \cup \{0\})} \max(0, c - c_y + \delta)

    Where all others are negative the nearest is a phantom with cosine 0, which pushes c_y up to delta at least. At
    r = 1 the factor is that of `npt`. Arguments and errors are those of `npt`.

    Raises:
      ValueError: a number out of range.

    References:
      cerebrai/npt-loss, STrain.py.
    """
    _check(radius, delta, num_nearest)

    def hinge(own, nearest):
        # The k highest of all others and 0 are the k highest of the k highest others and 0.
        with_phantom = jnp.concatenate([nearest, jnp.zeros_like(nearest[..., :1])], axis=-1)
        nearest = jax.lax.top_k(with_phantom, num_nearest)[0]
        return 2 * radius * jnp.sum(jax.nn.relu(nearest - own[..., None] + delta), axis=-1)

    return _nearest(hinge, num_nearest)


def _check(radius: Number, delta: Number, num_nearest: int) -> None:
    checks.above_zero(radius=radius)
    checks.at_least_zero(delta=delta)
    if num_nearest < 1:
        raise ValueError(f"num_nearest={num_nearest} (k) must be at least 1")


def _nearest(hinge, num_nearest: int) -> Head:
    return Head(
        scale=1,
        own=lambda cosines, norms, draws, state: cosines,
        sum="nearest",
        num_nearest=num_nearest,
        hinge=hinge,
    )
