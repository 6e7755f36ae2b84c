"""What the terms of a whole batch share: its embeddings on every device, and who is nearest or next to whom."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num

from lrfr_jax.models.layers import at_least_float32
from lrfr_jax.objective import streaming
from lrfr_jax.objective.terms.term import Features, Labels

Embeddings = Float[Array, "batch dim"]
Matrix = Float[Array, "anchors others"]


def everywhere(x: Num[Array, "batch *rest"]) -> Num[Array, "batch *rest"]:
    """Brings a batch that is split over devices to each of them whole; for embeddings and labels, never for maps."""
    return streaming.spread(x)


def embeddings(features: Features) -> tuple[Float[Array, "..."], ...]:
    """The embeddings of the whole batch, each of them on every device, in float32 or more."""
    return tuple(everywhere(at_least_float32(feature)) for feature in features)


def pooled(features: Features, labels: Labels) -> tuple[Float[Array, "images dim"], Int[Array, " images"]]:
    """All embeddings as one batch, whatever view they are of, and their labels; on every device."""
    return jnp.concatenate(embeddings(features)), jnp.concatenate([everywhere(each) for each in labels])


def same_identity(labels: Int[Array, " batch"]) -> Bool[Array, "batch batch"]:
    """Which two images are of one identity; each is of its own."""
    return labels[:, None] == labels[None, :]


def squared_distances(x: Float[Array, "anchors dim"], y: Float[Array, "others dim"]) -> Matrix:
    r"""The squared distance of each to each, by one product; not below 0, and off by rounding where it is close to it.

    .. math:: \|x_i\|^2 + \|y_j\|^2 - 2 x_i \cdot y_j
    """
    products = jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)
    of_x, of_y = jnp.sum(x * x, axis=-1), jnp.sum(y * y, axis=-1)
    return jnp.maximum(of_x[:, None] + of_y[None, :] - 2 * products, 0)


def squared_distance(x: Embeddings, y: Embeddings) -> Float[Array, " batch"]:
    """The squared distance of each pair, by differences: 0 where the two are equal, with a gradient of 0."""
    return jnp.sum((x - y) ** 2, axis=-1)


def root(squared: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The square root, whose gradient is 0 where it is 0."""
    is_zero = squared <= 0
    return jnp.where(is_zero, 0, jnp.sqrt(jnp.where(is_zero, 1, squared)))


def nearest(
    measured: Matrix, allowed: Bool[Array, "anchors others"]
) -> tuple[Int[Array, " anchors"], Bool[Array, " anchors"]]:
    """(the nearest other that is allowed, whether there is any) of each anchor; among equals the first."""
    return jnp.argmin(jnp.where(allowed, measured, jnp.inf), axis=1), jnp.any(allowed, axis=1)


def farthest(
    measured: Matrix, allowed: Bool[Array, "anchors others"]
) -> tuple[Int[Array, " anchors"], Bool[Array, " anchors"]]:
    """(the farthest other that is allowed, whether there is any) of each anchor; among equals the first."""
    return nearest(-measured, allowed)


def next_one(allowed: Bool[Array, "*groups size size"]) -> Int[Array, "*groups size"]:
    """Of each row the next index that is allowed, after the last one from 0 on; itself where there is no other."""
    rows, columns = (jax.lax.broadcasted_iota(jnp.int32, allowed.shape, allowed.ndim - axis) for axis in (2, 1))
    size = allowed.shape[-1]
    steps = (columns - rows - 1) % size
    return jnp.argmin(jnp.where(allowed | (rows == columns), steps, size), axis=-1)
