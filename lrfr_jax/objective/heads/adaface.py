"""AdaFace: the feature's length, beside those of the last batches, decides how the margin acts."""

import jax
import jax.numpy as jnp

from lrfr_jax.objective.heads import angles, checks
from lrfr_jax.objective.heads.head import Head, Number

# The released code's one epsilon: of lengths, cosines and angles, and added to the standard deviation.
EPSILON = 1e-3


def adaface(
    *,
    scale: Number,
    margin: Number,
    concentration: Number,
    rate: Number,
    first_mean: Number,
    first_std: Number,
    largest_norm: Number,
    gradient: str,
) -> Head:
    r"""A margin that is angular for short features and additive for long ones.

    .. math::
        n &= \mathrm{clip}(a, \epsilon, n_{max}), \quad
        \mu \leftarrow r\,\mathrm{mean}(n) + (1 - r)\,\mu, \quad
        \sigma \leftarrow r\,\mathrm{std}(n) + (1 - r)\,\sigma \\
        \hat z &= \mathrm{clip}\Bigl(h\,\frac{n - \mu}{\sigma + \epsilon}, -1, 1\Bigr), \quad
        z_y = s\,\bigl(\cos(\theta_y - m \hat z) - m - m \hat z\bigr), \quad z_j = s\,c_j

    The angle is kept in [epsilon, pi - epsilon], own cosines in +-(1 - epsilon). The released code clips the cosines to
    the other centers as well; they stay as they are here, since none of them gets there. The length never gets a
    gradient. z = 0 is CosFace, z = -1 is ArcFace.

    The values do not depend on `gradient`: 'exact' differentiates through the angle (mk-minchul/AdaFace) and has none
    where something was clipped; 'straight_through' gives s everywhere (CVLface).

    The statistics are those of all features of the step, of all views; the standard deviation is the unbiased one.

    Args:
      scale: s, above 0.
      margin: m.
      concentration: h, above 0.
      rate: r, the share of the new batch in the statistics, above 0 and at most 1.
      first_mean, first_std: mu and sigma before the first step; sigma is 0 or more.
      largest_norm: n_max; lengths above count as this.
      gradient: 'exact' or 'straight_through'.

    Raises:
      ValueError: a number out of range, an unknown `gradient`, or (in `update`) a single feature, which has no spread.

    References:
      Kim et al. 2022, AdaFace, arXiv 2204.00964; mk-minchul/AdaFace, head.py; mk-minchul/CVLface.
    """
    checks.above_zero(scale=scale, concentration=concentration)
    checks.at_most_one(rate=rate)
    checks.at_least_zero(first_std=first_std)
    checks.one_of("gradient", gradient, angles.GRADIENTS)
    if not largest_norm > EPSILON:
        raise ValueError(f"largest_norm={largest_norm} must be above {EPSILON}, the smallest length that counts")

    def lengths(norms):
        return jnp.clip(jax.lax.stop_gradient(norms), EPSILON, largest_norm)

    def update(state, cosines, norms):
        if norms.size < 2:
            raise ValueError("adaface needs at least two features a step: the length of one has no spread")
        seen = {"mean": jnp.mean(lengths(norms)), "std": jnp.std(lengths(norms), ddof=1)}
        return {name: rate * value + (1 - rate) * state[name] for name, value in seen.items()}

    def own(cosines, norms, draws, state):
        spread = (lengths(norms) - state["mean"]) / (state["std"] + EPSILON)
        shift = margin * jnp.clip(concentration * spread, -1, 1)
        angle = jnp.arccos(jnp.clip(cosines, EPSILON - 1, 1 - EPSILON)) - shift
        values = jnp.cos(jnp.clip(angle, EPSILON, jnp.pi - EPSILON)) - (margin + shift)
        return scale * (angles.straight_through(values, cosines) if gradient == "straight_through" else values)

    return Head(
        scale=scale,
        own=own,
        first_state={"mean": first_mean, "std": first_std},
        update=update,
    )
