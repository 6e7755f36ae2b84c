"""What a student takes over from a teacher beside features: relations of positions, logits, where it looks."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lrfr_jax.models.layers import at_least_float32
from lrfr_jax.objective import distances
from lrfr_jax.objective.heads import checks
from lrfr_jax.objective.terms import pairwise
from lrfr_jax.objective.terms.pairs import flat
from lrfr_jax.objective.terms.term import Number, Term

Maps = Float[Array, "batch height width channels"]


def cross_relation(*, images_per_identity: int) -> Term:
    r"""F-SKD's relation of positions in two images of an identity, of which either may be the student's.

    .. math::
        L &= \tfrac12 \bigl[d(R_{HH}, R_{HL}) + d(R_{HH}, R_{LH})\bigr] + d(R_{HH}, R_{LL}), \quad
        R_{AB} = \frac{F_A^\top G_B}{\|F_A\| \|G_B\|} \\
        d(R, S) &= \tfrac1B \textstyle\sum_b \bigl(1 - \cos(R_b, S_b)\bigr)

    F_A are the last maps of an image i (channels x positions), G_B those of i', both of the teacher (H) or the student
    (L). Features: (student's maps, teacher's maps, teacher's feature). Only the student gets a gradient.

    i' is the next image of the identity, among its K side by side in the batch, whose teacher features have a cosine
    above 0 with those of i; i itself where there is none [ours]. (The released code draws one from a list, or any
    image of the batch where it has no list.) No map leaves its device as long as each has whole identities.

    Args:
      images_per_identity: K of the batch, 1 or more; with 1, i' is always i.

    Raises:
      ValueError: K is below 1, or (from the value) does not divide the batch.

    References:
      Shin et al. 2023, F-SKD; gist-ailab/feature-similarity-KD.
    """
    checks.above_zero(images_per_identity=images_per_identity)

    def value(features, labels, state):
        student, *teacher = map(at_least_float32, features)
        teacher, embedding = map(jax.lax.stop_gradient, teacher)
        if len(student) % images_per_identity:
            size = images_per_identity
            raise ValueError(f"a batch of {len(student)} is not made of identities with images_per_identity={size}")
        chosen = _partners(embedding, labels[0], images_per_identity)
        low, high = _positions(student), _positions(teacher)
        low_partner, high_partner = _taken(low, chosen), _taken(high, chosen)
        wanted = _relation(high, high_partner)
        crossed = _apart(wanted, _relation(high, low_partner)) + _apart(wanted, _relation(low, high_partner))
        return crossed / 2 + _apart(wanted, _relation(low, low_partner))

    return Term(value, num_features=3)


def hkd(*, temperature: Number) -> Term:
    r"""Distillation of logits: the teacher's softened probabilities against the student's, as a mean over the batch.

    .. math:: T^2\, \mathrm{KL}\bigl(\mathrm{softmax}(t / T) \,\|\, \mathrm{softmax}(s / T)\bigr)

    Features: (student's logits, teacher's logits), of the same identities; only the student's get a gradient.

    Args:
      temperature: T, above 0.

    Raises:
      ValueError: the temperature is not above 0.

    References:
      Hinton et al. 2015, arXiv 1503.02531; gist-ailab/feature-similarity-KD has T = 4.
    """
    checks.above_zero(temperature=temperature)

    def value(features, labels, state):
        student, teacher = (jax.nn.log_softmax(at_least_float32(x) / temperature, axis=-1) for x in features)
        teacher = jax.lax.stop_gradient(teacher)
        return temperature**2 * jnp.mean(jnp.sum(jnp.exp(teacher) * (teacher - student), axis=-1))

    return Term(value)


def attention_transfer() -> Term:
    r"""Where the two look: the energy of each position, of unit length per image, as a mean squared difference.

    .. math:: \tfrac1{BM} \sum_{b,i} (a_{bi} - a'_{bi})^2, \quad a_b = q_b / \|q_b\|, \quad q_{bi} = \sum_c F_{bci}^2

    Features: (student's maps, teacher's maps), with any channels; only the student's get a gradient.

    References:
      Zagoruyko and Komodakis 2017, arXiv 1612.03928, as gist-ailab/feature-similarity-KD has it.
    """

    def value(features, labels, state):
        student, teacher = (
            distances.unit_length(flat(jnp.sum(at_least_float32(maps) ** 2, axis=-1))) for maps in features
        )
        return jnp.mean((student - jax.lax.stop_gradient(teacher)) ** 2)

    return Term(value)


def _partners(embedding, labels, size):
    """Of each image the one-hot number of its partner among the images of its identity: [identities, K, K]."""
    unit = distances.unit_length(embedding).reshape(-1, size, embedding.shape[-1])
    labels = labels.reshape(-1, size)
    cosines = jnp.einsum("pid,pjd->pij", unit, unit, precision=jax.lax.Precision.HIGHEST)
    allowed = (labels[:, :, None] == labels[:, None, :]) & (cosines > 0)
    return jax.nn.one_hot(pairwise.next_one(allowed), size, dtype=embedding.dtype)


def _positions(maps: Maps) -> Float[Array, "batch positions channels"]:
    """Maps of length 1 per image."""
    return distances.unit_length(flat(maps)).reshape(len(maps), -1, maps.shape[-1])


def _taken(maps, chosen):
    # A product with 0 and 1, which stays on the device of an identity; a gather's gradient may not.
    groups = maps.reshape(*chosen.shape[:2], *maps.shape[1:])
    return jnp.einsum("pij,pjmc->pimc", chosen, groups, precision=jax.lax.Precision.HIGHEST).reshape(maps.shape)


def _relation(maps, partners):
    return flat(jnp.einsum("bmc,bnc->bmn", maps, partners, precision=jax.lax.Precision.HIGHEST))


def _apart(x, y):
    return jnp.mean(distances.cosine_distance(x, y))
