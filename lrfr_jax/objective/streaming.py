"""What the cosines between features and all other class centers add up to, chunk by chunk, with its own gradient.

Arrays of cosines are [shards, rows, features]: sums over rows run along whole vectors that way. Every function works on
all shards side by side; only `_over_shards` brings them together.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int, Num

from lrfr_jax.objective.heads import Head

# Floor of a squared length: keeps the value and the gradient finite at zero, far below any length that occurs.
EPSILON = 1e-12
# Stands for no cosine at all: below every product, and still finite when multiplied by a scale.
LOWEST = -1e30


class Others(NamedTuple):
    """What is known of a feature's other identities.

    `own` is the cosine to the own center, handed through so that its gradient takes the same way. `total` is, by
    `Head.sum`, the logarithm of the sum of exponentials ('softmax', 'rival': without the rival) or the sum of
    log(1 + e^z) ('sigmoid'). `highest` is the nearest other's cosine, with a gradient for 'rival' alone. With a bias,
    cosines are c_j + b_j / s.
    """

    own: Float[Array, " features"]
    total: Float[Array, " features"]
    highest: Float[Array, " features"]


class _Register(NamedTuple):
    """What was added up so far: the highest cosine and its identity, and a sum relative to the highest summand."""

    highest: Any
    who: Any
    peak: Any
    total: Any


def spread(x: Num[Array, "shards *rest"], *axes: str | None) -> Num[Array, "shards *rest"]:
    """Lays an array out over the axes of the mesh that is set (`jax.set_mesh`), if one is."""
    if jax.sharding.get_abstract_mesh().empty:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*axes))


def add_up(
    features: Float[Array, "shards features dim"],
    centers: Float[Array, "shards rows dim"],
    bias: Float[Array, "shards rows"] | None,
    own: Float[Array, " features"],
    *,
    ids: Int[Array, "shards rows"],
    labels: Int[Array, " features"],
    bar: Float[Array, " features"] | None,
    state: Mapping[str, Float[Array, ""]],
    head: Head,
    num_identities: int,
    chunks: int,
    precision: jax.lax.Precision,
) -> Others:
    """Compares features with all centers but their own.

    Gradients flow to features, centers and bias; those of the own cosines reach features and centers through the same
    products as all others, which is why `own`, a number by now, has none.

    Args:
      features: a copy for each shard; unit vectors, unless the head does not normalize.
      centers: of any length; those of one shard after the other.
      bias: of each center, or None.
      own: cosine to the own center, with its bias.
      ids: whose center each row is; from `num_identities` on: nobody's.
      labels: identity of each feature.
      bar, state: what `head.others` needs.
      head: what is added up.
      num_identities: of the training set.
      chunks: parts of each shard that are compared with one after the other. With more than one the cosines are
        computed twice, for the value and for the gradient; with one they are kept.
      precision: of the products.
    """
    settings = {"head": head, "num_identities": num_identities, "chunks": chunks, "precision": precision}
    forward, backward = functools.partial(_forward, **settings), functools.partial(_backward, **settings)
    read = jax.custom_vjp(lambda *arguments: forward(*arguments)[0])
    read.defvjp(forward, backward)
    return read(features, centers, bias, own, (ids, labels, bar, dict(state)))


def nearest_identities(
    features: Float[Array, "shards features dim"],
    centers: Float[Array, "shards rows dim"],
    *,
    ids: Int[Array, "shards rows"],
    labels: Int[Array, " features"],
    head: Head,
    num_identities: int,
    chunks: int,
    precision: jax.lax.Precision,
) -> Int[Array, "features k"]:
    """Finds the k other identities with the highest cosines, in falling order, without a gradient; see `add_up`."""
    features, centers = jax.lax.stop_gradient((features, centers))
    empty = jnp.full((*features.shape[:-1], head.num_nearest), LOWEST, features.dtype)

    def add(found, part):
        centers, bias, ids = part
        cosines = _cosines(*_products(features, centers, head, precision), bias, head)
        cosines = jnp.where(_is_other(ids, labels, num_identities), cosines, LOWEST)
        for _ in range(head.num_nearest):
            best, who = _best(cosines, ids)
            found = tuple(
                jnp.concatenate([old, new[..., None]], axis=-1) for old, new in zip(found, (best, who), strict=True)
            )
            cosines = jnp.where(ids[..., None] == who[:, None], LOWEST, cosines)
        return _highest(found, head.num_nearest)

    found = empty, jnp.full(empty.shape, -1, ids.dtype)
    found = _loop(add, found, (centers, None, ids), chunks)
    # The k of each shard side by side: [features, shards * k].
    flat = tuple(jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1) for x in found)
    return _highest(flat, head.num_nearest)[1]


def _highest(found, k):
    # Sorted, because XLA gathers the rows of all devices for a top_k.
    values, who = jax.lax.sort((-found[0], found[1]), dimension=-1, num_keys=1)
    return -values[..., :k], who[..., :k]


def _forward(features, centers, bias, own, given, *, head, num_identities, chunks, precision):
    ids, labels, bar, state = given
    empty = jnp.full(features.shape[:-1], LOWEST, features.dtype)
    register = _Register(empty, jnp.full(empty.shape, -1, ids.dtype), empty, jnp.zeros_like(empty))
    kept = None

    def add(register, part):
        centers, bias, ids = part
        kept = _products(features, centers, head, precision)
        is_other = _is_other(ids, labels, num_identities)
        return _added(register, _cosines(*kept, bias, head), is_other, ids, bar, state, head), kept

    if chunks == 1:
        register, kept = add(register, (centers, bias, ids))
    else:
        register = _loop(lambda *arguments: add(*arguments)[0], register, (centers, bias, ids), chunks)
    total, highest, who = _over_shards(register, head)
    return Others(own, total, highest), (features, centers, bias, given, total, who, kept)


def _backward(residuals, gradient, *, head, num_identities, chunks, precision):
    features, centers, bias, (ids, labels, bar, state), total, who, kept = residuals

    def take(features_gradient, part, kept=None):
        centers, bias, ids = part
        products, inverse = kept or _products(features, centers, head, precision)
        cosines = _cosines(products, inverse, bias, head)
        slopes = _slopes(cosines, _on_rows(total), _on_rows(gradient.total), bar, state, head)
        slopes = jnp.where(_is_other(ids, labels, num_identities), slopes, 0)
        slopes = jnp.where(ids[..., None] == _on_rows(labels), _on_rows(gradient.own), slopes)
        if head.sum == "rival":
            slopes = jnp.where(ids[..., None] == _on_rows(who), _on_rows(gradient.highest), slopes)
        bias_gradient = None if bias is None else jnp.sum(slopes, axis=2) / head.scale
        # Behind a barrier, as the compiler would compute the exponentials anew for each of the three sums.
        by_products = jax.lax.optimization_barrier(slopes if inverse is None else slopes * inverse[..., None])
        features_gradient += _product(by_products, centers, 1, 1, precision)
        centers_gradient = _product(by_products, features, 2, 1, precision)
        if inverse is not None:
            lengthwise = jnp.sum(by_products * products, axis=2) * inverse**2
            centers_gradient -= centers * lengthwise[..., None]
        return features_gradient, (centers_gradient, bias_gradient)

    part = centers, bias, ids
    if chunks == 1:
        features_gradient, by_part = take(jnp.zeros_like(features), part, kept)
    else:
        features_gradient, by_part = jax.lax.scan(take, jnp.zeros_like(features), _in_chunks(part, chunks))
        by_part = jax.tree.map(_together, by_part)
    return features_gradient, *by_part, None, None


def _product(x, y, axis_of_x, axis_of_y, precision):
    """Sums over an axis of each, shard by shard."""
    return jax.lax.dot_general(x, y, (((axis_of_x,), (axis_of_y,)), ((0,), (0,))), precision=precision)


def _products(features, centers, head, precision):
    """[shards, rows, features], and 1 / length of each center if it is divided by it."""
    products = spread(_product(centers, features, 2, 2, precision), "model", None, "data")
    if head.normalize != "rows":
        return products, None
    return products, jax.lax.rsqrt(jnp.maximum(jnp.sum(centers * centers, axis=-1), EPSILON))


def _cosines(products, inverse, bias, head):
    # The lengths are factors of the products: normalized centers are never written down.
    cosines = products if inverse is None else products * inverse[..., None]
    return cosines if bias is None else cosines + bias[..., None] / head.scale


def _on_rows(x: Num[Array, " features"]) -> Num[Array, "1 1 features"]:
    return x[None, None]


def _is_other(ids, labels, num_identities):
    return (ids[..., None] != _on_rows(labels)) & (ids[..., None] < num_identities)


def _best(cosines, ids):
    """The highest cosine of each shard, and the lowest of the identities that have it."""
    best = jnp.max(cosines, axis=1)
    who = jnp.where(cosines == best[:, None], ids[..., None], jnp.iinfo(ids.dtype).max)
    return best, jnp.min(who, axis=1)


def _added(register, cosines, is_other, ids, bar, state, head):
    """The register after the rows of one chunk of every shard."""
    scale, others = head.scale, jnp.where(is_other, cosines, LOWEST)
    if head.sum == "rival":
        best, who = _best(others, ids)
        rest = jnp.where(ids[..., None] == who[:, None], LOWEST, others)
        rest = jnp.sum(jnp.exp(scale * (rest - best[:, None])), axis=1)
        return _with_rival(register, _Register(best, who, best, rest), scale)
    highest = jnp.maximum(register.highest, jnp.max(others, axis=1))
    if head.sum == "sigmoid":
        total = register.total + jnp.sum(jax.nn.softplus(scale * others), axis=1)
        return register._replace(highest=highest, total=total)
    peak = highest
    if head.others is not None:
        others = jnp.where(is_other, head.others(cosines, _on_rows(bar), state), LOWEST)
        peak = jnp.maximum(register.peak, jnp.max(others, axis=1))
    terms = jnp.sum(jnp.exp(scale * (others - peak[:, None])), axis=1)
    return _Register(highest, register.who, peak, register.total * jnp.exp(scale * (register.peak - peak)) + terms)


def _with_rival(one, other, scale):
    """Two registers as one: the lower of the two nearest joins the rest."""
    highest = jnp.maximum(one.highest, other.highest)
    who = jnp.where(one.highest >= other.highest, one.who, other.who)
    loser = jnp.exp(scale * (jnp.minimum(one.highest, other.highest) - highest))
    rest = sum(register.total * jnp.exp(scale * (register.highest - highest)) for register in (one, other))
    return _Register(highest, who, highest, rest + loser)


def _over_shards(register, head):
    """(total as `Others` has it, highest cosine, whose it is), of all shards."""
    highest = jnp.max(register.highest, axis=0)
    if head.sum == "sigmoid":
        return jnp.sum(register.total, axis=0), highest, None
    peak = jnp.max(register.peak, axis=0)
    total = jnp.sum(register.total * jnp.exp(head.scale * (register.peak - peak[None])), axis=0)
    who = None
    if head.sum == "rival":
        who = jnp.min(
            jnp.where(register.highest == highest[None], register.who, jnp.iinfo(register.who.dtype).max), axis=0
        )
        losers = jnp.exp(head.scale * (register.highest - highest[None]))
        total += jnp.sum(jnp.where(register.who == who[None], 0, losers), axis=0)
    # Without any others the sum may be 0, and far below every logit it is.
    return head.scale * peak + jnp.log(jnp.maximum(total, jnp.finfo(total.dtype).tiny)), highest, who


def _slopes(cosines, total, gradient, bar, state, head):
    """The gradient of the loss by each cosine, through the total."""
    if head.sum == "sigmoid":
        return head.scale * gradient * jax.nn.sigmoid(head.scale * cosines)
    if head.others is None:
        return head.scale * gradient * jnp.exp(head.scale * cosines - total)
    raised, slope = jax.jvp(lambda c: head.others(c, _on_rows(bar), state), (cosines,), (jnp.ones_like(cosines),))
    return head.scale * gradient * slope * jnp.exp(head.scale * raised - total)


def _in_chunks(arrays, chunks):
    return jax.tree.map(lambda x: jnp.moveaxis(x.reshape(len(x), chunks, -1, *x.shape[2:]), 1, 0), arrays)


def _together(x):
    """[chunks, shards, rows, ...] -> [shards, chunks * rows, ...]."""
    return jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1, *x.shape[3:])


def _loop(add, found, arrays, chunks):
    if chunks == 1:
        return add(found, arrays)
    return jax.lax.scan(lambda found, part: (add(found, part), None), found, _in_chunks(arrays, chunks))[0]
