"""The classifier: one center per identity, and a head's loss of features over all of them.

The centers may be split over devices, compared with chunk by chunk, and sampled; none of it changes the formula.
"""

import dataclasses
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from lrfr_jax.models import layers
from lrfr_jax.objective import streaming
from lrfr_jax.objective.heads import Head, cross_entropy

# What the head's draws are folded with; the sample is drawn with the key itself.
DRAW = 1


@dataclasses.dataclass(frozen=True)
class Classifier:
    """How the class centers are worked through.

    Attributes:
      num_identities: of the training set.
      shards: devices that the centers are split over; the length of the mesh's axis `model`.
      chunks: parts of each shard that are compared with one after the other. With more than one the cosines of a batch
        to all identities never exist at once; they are computed twice, for the value and for the gradient.
      sampled_share: share of each shard's centers that a step sees, above 0 and at most 1: those of the batch's labels
        and as many others, drawn anew in each step, as make up the share.
      precision: of the products with the class centers, see `layers.PRODUCT_PRECISIONS`.

    Raises:
      ValueError: a value out of range.

    References:
      An et al. 2022, Killing Two Birds with One Stone (PartialFC), arXiv 2203.15565.
    """

    num_identities: int
    shards: int
    chunks: int
    sampled_share: float | int
    precision: jax.lax.Precision = jax.lax.Precision.HIGHEST

    def __post_init__(self) -> None:
        for name in ("num_identities", "shards", "chunks"):
            if getattr(self, name) < 1:
                raise ValueError(f"classifier.{name}={getattr(self, name)} must be at least 1")
        if not 0 < self.sampled_share <= 1:
            raise ValueError(f"classifier.sampled_share={self.sampled_share} must be above 0 and at most 1")

    @property
    def rows(self) -> int:
        """Rows of the array of centers: the identities, and zeros up to a multiple of shards x chunks."""
        multiple = self.shards * self.chunks
        return -(-self.num_identities // multiple) * multiple

    def rows_taking_part(self, batch: int) -> int:
        """Rows of a shard that a step of `batch` images sees; a sample has room for all labels and fills the chunks."""
        rows = self.rows // self.shards
        if self.sampled_share == 1:
            return rows
        wanted = max(round(self.sampled_share * rows), min(batch, rows))
        return -(-wanted // self.chunks) * self.chunks


def init_class_centers(rng: PRNGKeyArray, classifier: Classifier, dim: int) -> Float[Array, "rows dim"]:
    """Draws centers xavier-uniformly, as the code of arXiv 2302.05621; the rows that belong to no identity are 0."""
    centers = nn.initializers.xavier_uniform()(rng, (classifier.num_identities, dim), jnp.float32)
    return pad_class_centers(centers, classifier)


def pad_class_centers(centers: Float[Array, "identities dim"], classifier: Classifier) -> Float[Array, "rows dim"]:
    """Appends the rows that belong to no identity."""
    return jnp.pad(centers, ((0, classifier.rows - classifier.num_identities), (0, 0)))


def init_bias(head: Head, classifier: Classifier) -> dict[str, Float[Array, "..."]]:
    """The first `class_bias` of a head that has one: a number for each row of centers, or one for all; else {}."""
    if head.bias == "none":
        return {}
    shape = () if head.bias == "shared" else (classifier.rows,)
    taking_part = round(classifier.sampled_share * classifier.num_identities)
    return {"class_bias": jnp.full(shape, head.first_bias(taking_part), jnp.float32)}


def classification(
    features: Float[Array, "views batch dim"],
    params: Mapping[str, Float[Array, "..."]],
    labels: Int[Array, " batch"],
    rng: PRNGKeyArray,
    state: Mapping[str, Float[Array, ""]],
    *,
    classifier: Classifier,
    head: Head,
) -> tuple[Float[Array, "views batch"], Bool[Array, "views batch"], dict[str, Float[Array, ""]]]:
    r"""The head's loss of each feature, by its cosines to all class centers.

    .. math:: -z_y + \log\bigl(e^{z_y} + \textstyle\sum_{j \ne y} e^{s c_j}\bigr), \quad
        c_j = \frac{x \cdot w_j}{\|x\| \|w_j\|}, \quad z_y = \mathrm{own}(c_y)

    for a softmax; `Head` has the other sums. The own center is read first, so a head knows its cosine before it meets
    any other; the chunks add up the others alone. Float32 or more throughout. Every shard works on a copy of the
    features; what travels between shards is the own centers, some numbers per feature, and the features' gradient (with
    'nearest' also the k centers of each feature).

    Args:
      features: of the views, of any length; the views share labels and, if the centers are sampled, the sample.
      params: `class_centers` [rows, dim] of any length, and the `class_bias` of a head that has one.
      labels: the identity y of each feature. One that does not exist gives NaN.
      rng: draws the sample, and what the head draws; not used where there is neither.
      state: the head's, of the step before.
      classifier: how the centers are worked through.
      head: what is made of the cosines.

    Returns:
      (losses, whether no other center that takes part is as near as the label's, before any margin, the head's next
      state). The state is updated first, from all features of the step, and has no gradient.

    Raises:
      ValueError: the head does not go with the layout of the centers.
    """
    _check(head, classifier, labels)
    views, batch, dim = features.shape
    # An image's views side by side: so the features of a split batch stay where they are.
    flat = layers.at_least_float32(jnp.moveaxis(features, 0, 1).reshape(-1, dim))
    norms = jnp.sqrt(jnp.maximum(jnp.sum(flat * flat, axis=-1), streaming.EPSILON))
    if head.normalize == "rows":
        flat = flat / norms[:, None]
    centers, bias = _of_shards(params, head, classifier)
    own = jax.lax.stop_gradient(_own_cosines(flat, centers, bias, labels, head))
    state = dict(head.update(state, own, jax.lax.stop_gradient(norms)) if head.update else state)
    draws = head.draw(jax.random.fold_in(rng, DRAW), own.shape) if head.draw else None
    about = {"norms": norms, "draws": draws, "state": state}
    layout = {"rng": rng, "classifier": classifier, "head": head}
    losses, is_nearest = _judged(flat, centers, bias, own, labels, about, **layout)
    if head.norm_term is not None:
        losses = losses + head.norm_term(norms)
    losses, is_nearest = losses.reshape(batch, views).T, is_nearest.reshape(batch, views).T
    # It would be the loss of a cosine of 0 for a label that does not exist; NaN cannot be overlooked.
    exists = (labels >= 0) & (labels < classifier.num_identities)
    return jnp.where(exists[None], losses, jnp.nan), is_nearest, state


def margined_logits(
    features: Float[Array, "batch dim"],
    params: Mapping[str, Float[Array, "..."]],
    labels: Int[Array, " batch"],
    *,
    classifier: Classifier,
    head: Head,
) -> Float[Array, "batch identities"]:
    """The logits of all identities at once, the label's with its margin, for terms that compare them with a teacher's.

    Raises:
      ValueError: the centers are split, in chunks or sampled, or the head has no logits that depend on nothing else.
    """
    if (classifier.shards, classifier.chunks, classifier.sampled_share) != (1, 1, 1):
        raise ValueError(
            f"logits of all identities need classifier.shards={classifier.shards}, chunks={classifier.chunks} and "
            f"sampled_share={classifier.sampled_share} to be 1"
        )
    plain = (head.sum, head.draw, head.others, head.logits_of_all) == ("softmax", None, None, None)
    if not plain or head.first_state or head.normalize not in ("rows", "none"):
        raise ValueError("this head has no logits for a term to compare: take softmax, cosface, arcface or magface")
    flat = layers.at_least_float32(features)
    norms = jnp.sqrt(jnp.maximum(jnp.sum(flat * flat, axis=-1), streaming.EPSILON))
    centers = params["class_centers"][: classifier.num_identities]
    if head.normalize == "rows":
        flat, centers = flat / norms[:, None], _unit(centers)
    cosines = jnp.einsum("nd,cd->nc", flat, centers, precision=classifier.precision)
    bias = params["class_bias"][: classifier.num_identities] if "class_bias" in params else jnp.zeros(())
    is_own = jax.nn.one_hot(labels, classifier.num_identities, dtype=bool)
    own = head.own(jnp.sum(jnp.where(is_own, cosines, 0), axis=-1), norms, None, {})
    return jnp.where(is_own, own[:, None], head.scale * cosines) + jnp.broadcast_to(bias, cosines.shape)


def _check(head: Head, classifier: Classifier, labels: Int[Array, " batch"]) -> None:
    shards, chunks, share = classifier.shards, classifier.chunks, classifier.sampled_share
    if head.logits_of_all is not None and (shards, chunks, share) != (1, 1, 1):
        raise ValueError(
            f"this head needs the cosines to all identities at once: classifier.shards={shards}, chunks={chunks} and "
            f"sampled_share={share} must be 1"
        )
    others = min(classifier.num_identities, shards * classifier.rows_taking_part(len(labels))) - 1
    if head.num_nearest > others:
        raise ValueError(f"num_nearest={head.num_nearest} (k) exceeds the {others} other identities that take part")


def _of_shards(params, head, classifier):
    """(centers [shards, rows, dim], bias [shards, rows] or None)."""
    centers = params["class_centers"]
    if isinstance(head.normalize, int):
        centers = _unit(centers.reshape(len(centers), head.normalize, -1)).reshape(centers.shape)
    centers = streaming.spread(centers.reshape(classifier.shards, -1, centers.shape[-1]), "model", None, None)
    if "class_bias" not in params:
        return centers, None
    return centers, jnp.broadcast_to(params["class_bias"], (classifier.rows,)).reshape(classifier.shards, -1)


def _judged(features, centers, bias, own, labels, about, *, rng, classifier, head):
    """(losses without the norm term, whether the own center is the nearest)."""
    of_each = jnp.repeat(labels, len(features) // len(labels))
    if head.logits_of_all is not None:
        return _by_whole_rows(features, centers[0], of_each, head, classifier)
    ids = jnp.arange(classifier.rows).reshape(classifier.shards, -1)
    part, part_of_bias = centers, bias
    if classifier.sampled_share < 1:
        chosen = _sampled_rows(rng, labels, classifier)
        taken = jax.vmap(lambda rows, which: rows[which])
        part, ids = taken(centers, chosen), jnp.take_along_axis(ids, chosen, 1)
        part_of_bias = None if bias is None else taken(bias, chosen)
    copies = jnp.broadcast_to(features, (classifier.shards, *features.shape))
    copies = streaming.spread(copies, "model", "data", None)
    settings = {"ids": ids, "labels": of_each, "head": head, "num_identities": classifier.num_identities}
    settings |= {"chunks": classifier.chunks, "precision": classifier.precision}
    if head.sum == "nearest":
        who = streaming.nearest_identities(copies, part, **settings)
        nearest = jnp.sum(features[:, None] * _unit(_rows_of(centers, who)), axis=-1)
        own = _own_cosines(features, centers, bias, labels, head)
        return head.hinge(own, nearest), own > nearest[:, 0]
    bar = head.bar(own, **about) if head.bar else None
    found = streaming.add_up(copies, part, part_of_bias, own, bar=bar, state=about["state"], **settings)
    return _loss(found, about, head), found.own > found.highest


def _loss(found, about, head):
    own = head.own(found.own, **about)
    if head.sum == "sigmoid":
        return jax.nn.softplus(-own) + head.negative_weight * found.total
    total = found.total
    if head.sum == "rival":
        total = jnp.logaddexp(total, head.scale * head.rival(found.highest))
    return jax.nn.softplus(total - own)


def _by_whole_rows(features, centers, labels, head, classifier):
    cosines = jnp.einsum("nd,cd->nc", features, _unit(centers), precision=classifier.precision)
    return cross_entropy(head.logits_of_all(cosines, labels), labels), jnp.argmax(cosines, axis=-1) == labels


def _own_cosines(features, centers, bias, labels, head):
    """The cosine of each feature to its own center, with the bias in units of cosines."""
    own = _rows_of(centers, labels)
    own = _unit(own) if head.normalize == "rows" else own
    views = len(features) // len(labels)
    cosines = jnp.sum(features * jnp.repeat(own, views, axis=0), axis=-1)
    if bias is None:
        return cosines
    return cosines + jnp.repeat(_rows_of(bias[..., None], labels)[:, 0], views) / head.scale


def _rows_of(centers: Float[Array, "shards rows dim"], ids: Int[Array, "*features"]) -> Float[Array, "*features dim"]:
    """Gathers centers by identity: each shard gives its own ones, and zeros; one that does not exist is zero."""
    rows = centers.shape[1]
    local = ids.ravel()[None] - jnp.arange(len(centers))[:, None] * rows
    local = jnp.where(local < 0, rows, local)  # a negative index would count from the end
    found = jax.vmap(lambda part, which: part.at[which].get(mode="fill", fill_value=0))(centers, local)
    return jnp.sum(found, axis=0).reshape(*ids.shape, centers.shape[-1])


def _unit(x: Float[Array, "*rows dim"]) -> Float[Array, "*rows dim"]:
    """Scales each row to length 1; a row of zeros stays."""
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), streaming.EPSILON))


def _sampled_rows(rng: PRNGKeyArray, labels: Int[Array, " batch"], classifier: Classifier) -> Int[Array, "shards rows"]:
    """Draws the rows of each shard that take part: those of its labels first, then any that belong to an identity."""
    rows = classifier.rows // classifier.shards
    first = jnp.arange(classifier.shards)[:, None] * rows
    order = jax.random.uniform(rng, (classifier.shards, rows))
    order = jnp.where(first + jnp.arange(rows)[None] < classifier.num_identities, order, -1)
    local = labels[None] - first
    # What lies outside of the shard is dropped; a negative index would count from the end.
    local = jnp.where(local < 0, rows, local)
    order = jax.vmap(lambda line, mine: line.at[mine].set(2, mode="drop"))(order, local)
    # Sorted, because XLA gathers the rows of all devices for a top_k.
    return jnp.argsort(order, axis=1, descending=True)[:, : classifier.rows_taking_part(len(labels))]
