"""The classifier: one center per identity, and the cross-entropy of features over all of them.

The centers may be split over devices, compared with chunk by chunk, and sampled; none of it changes the formula.
"""

import dataclasses
import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float, Int, Num, PRNGKeyArray

from lrfr_jax.models import layers

# Floor of a squared length: keeps the value and the gradient finite at zero, far below any length that occurs.
EPSILON = 1e-12
# Floor of the sum over the other identities, which is 1 or more unless there are none.
SUM_FLOOR = 1e-30


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


def _unit(x: Float[Array, "*rows dim"]) -> Float[Array, "*rows dim"]:
    """Scales each row to length 1; a row of zeros stays."""
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), EPSILON))


def _spread(x: Num[Array, "shards *rest"], *axes: str | None) -> Num[Array, "shards *rest"]:
    """Lays an array out over the axes of the mesh that is set (`jax.set_mesh`), if one is."""
    if jax.sharding.get_abstract_mesh().empty:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*axes))


def cross_entropy(
    features: Float[Array, "views batch dim"],
    class_centers: Float[Array, "rows dim"],
    labels: Int[Array, " batch"],
    rng: PRNGKeyArray,
    *,
    classifier: Classifier,
    scale: float | int,
    target_logit: Callable,
) -> tuple[Float[Array, "views batch"], Bool[Array, "views batch"]]:
    r"""The negative log-probability of each label among the identities, by cosines with a margin.

    .. math:: -z_y + \log\bigl(e^{z_y} + \textstyle\sum_{j \ne y} e^{s c_j}\bigr), \quad
        c_j = \frac{x \cdot w_j}{\|x\| \|w_j\|}, \quad z_y = t(c_y)

    The margin changes the label's logit alone, so it is applied to one number per feature, after all chunks. Float32 or
    more throughout. Every shard works on a copy of the features; what travels between shards is one sum, one maximum
    and one cosine per feature, and the features' gradient.

    Args:
      features: of the views, of any length; the views share labels and, if the centers are sampled, the sample.
      class_centers: of any length.
      labels: the identity y of each feature. One that does not exist gives NaN.
      rng: draws the sample; not used where all centers take part.
      classifier: how the centers are worked through.
      scale: s.
      target_logit: t, a cosine's logit for its own identity: a value of `margins.MARGINS` at its scale and margin.

    Returns:
      (losses, whether no other center that takes part is as near as the label's, before any margin).

    References:
      Wang et al. 2018, CosFace, arXiv 1801.09414, Eq. 4.
    """
    shards, chunks, dim = classifier.shards, classifier.chunks, features.shape[-1]
    centers = _spread(class_centers.reshape(shards, -1, dim), "model", None, None)
    ids = jnp.arange(classifier.rows).reshape(shards, -1)
    if classifier.sampled_share < 1:
        chosen = _sampled_rows(rng, labels, classifier)
        centers, ids = jax.vmap(lambda rows, which: rows[which])(centers, chosen), jnp.take_along_axis(ids, chosen, 1)
    features = _unit(layers.at_least_float32(features))
    features = _spread(jnp.broadcast_to(features, (shards, *features.shape)), "model", None, "data", None)
    empty = jnp.zeros(features.shape[:-1], features.dtype)
    settings = {"num_identities": classifier.num_identities, "scale": scale, "precision": classifier.precision}
    compare = functools.partial(_compare, labels=labels, **settings)
    # (highest cosine to another identity, of which -1 is the lowest; sum over those; cosine to the own one)
    state = empty - 1, empty, empty
    if chunks == 1:
        state = compare(state, features, centers, ids)
    else:
        state = _chunk_by_chunk(compare, state, features, centers, ids, chunks)
    highest, total, target = state
    nearest = highest.max(axis=0)
    total = jnp.sum(total * jnp.exp(scale * (highest - nearest[None])), axis=0)
    others = scale * nearest + jnp.log(jnp.maximum(total, SUM_FLOOR))
    target = target.sum(axis=0)
    # It would be the loss of a cosine of 0 for a label that does not exist; NaN cannot be overlooked.
    exists = (labels >= 0) & (labels < classifier.num_identities)
    return jnp.where(exists[None], jax.nn.softplus(others - target_logit(target)), jnp.nan), target > nearest


def _compare(state, features, centers, ids, *, labels, num_identities, scale, precision):
    """Adds the identities of one chunk of every shard to what is known of the features."""
    highest, total, target = state
    # The compiler for CPUs scales and transposes the centers in one slow kernel. In jax 0.12 a barrier parts the two,
    # which makes the whole head up to a third faster; in 0.10 it changes nothing.
    unit_centers = jax.lax.optimization_barrier(_unit(centers))
    products = jnp.einsum("svbd,scd->svbc", features, unit_centers, precision=precision)
    cosines = _spread(products, "model", None, "data", None)
    is_own = labels[None, :, None] == ids[:, None, :]
    is_other = (~is_own & (ids < num_identities)[:, None, :])[:, None]
    own = jnp.sum(jnp.where(is_own[:, None], cosines, 0), axis=-1)
    # The shift of an exponent has no gradient: it cancels.
    fixed = jax.lax.stop_gradient(cosines)
    risen = jnp.maximum(highest, jnp.max(fixed, axis=-1, initial=-1, where=is_other))
    terms = jnp.where(is_other, jnp.exp(scale * (cosines - risen[..., None])), 0)
    return risen, total * jnp.exp(scale * (highest - risen)) + jnp.sum(terms, axis=-1), target + own


def _chunk_by_chunk(compare, state, features, centers, ids, chunks):
    # Checkpointed: the gradient computes a chunk's cosines again instead of keeping those of all chunks.
    compare = jax.checkpoint(compare, prevent_cse=False)
    parts = tuple(jnp.moveaxis(x.reshape(len(x), chunks, -1, *x.shape[2:]), 1, 0) for x in (centers, ids))
    return jax.lax.scan(lambda state, part: (compare(state, features, *part), None), state, parts)[0]


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
