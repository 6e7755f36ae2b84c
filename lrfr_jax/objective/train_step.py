"""One training step: dress, embed, judge, learn. Everything here is pure."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from lrfr_jax.models import taps as backbone_taps
from lrfr_jax.objective import classifier as classifiers
from lrfr_jax.objective import parts as objective_parts
from lrfr_jax.objective.embedding import embed_views
from lrfr_jax.objective.named_features import Names
from lrfr_jax.objective.teacher import Teacher
from lrfr_jax.objective.terms.term import NamedTerm
from lrfr_jax.objective.total_loss import Objective, total_loss_gradient

# What each of the step's random draws is folded with; a new purpose takes the next number.
AUGMENTATION, DROPOUT, CLASS_SAMPLE = 0, 1, 2
# What the first parameters of the parts are drawn with, so that those of backbone and classifier are as without parts.
PARTS = 3


class TrainState(flax.struct.PyTreeNode):
    """All that a step changes.

    `params` has the entries 'backbone' and, as far as there are any, 'classifier' and 'parts'; `head` and `terms`, what
    the head and the terms remember of earlier steps, are empty for most. `average` is {} or the running mean of the
    backbone's variables, {'params', 'batch_stats'}, which is then what is evaluated and used.
    """

    step: PyTree  # an int32 scalar; jax also rebuilds the state with shapes or shardings in place of arrays
    params: PyTree
    batch_stats: PyTree
    opt_state: PyTree
    head: PyTree = flax.struct.field(default_factory=dict)
    terms: PyTree = flax.struct.field(default_factory=dict)
    average: PyTree = flax.struct.field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<TrainState of {len(jax.tree.leaves(self))} arrays>"


def init_state(
    rng: PRNGKeyArray,
    *,
    image_shape: tuple[int, int, int],
    backbone: nn.Module,
    names: Names,
    terms: tuple[NamedTerm, ...],
    num_identities: int,
    optimizer: optax.GradientTransformation,
    is_averaged: bool = False,
) -> TrainState:
    """Draws fresh parameters for images of `image_shape` (height, width, channels).

    Args:
      names: the classifier, its head and the parts.
      terms: of the loss; those that remember something begin with their first state.
      num_identities: of all sets that batches are drawn from.
      is_averaged: whether the state has an `average`, which begins with these parameters.
    """
    backbone_rng, classifier_rng = jax.random.split(rng)
    images = jnp.zeros((1, *image_shape))
    features, variables = backbone.init_with_output(backbone_rng, images, train=False)
    params, head_state = {"backbone": variables["params"]}, {}
    parts, shapes = _init_parts(jax.random.fold_in(rng, PARTS), backbone, variables, images, names)
    if names.classifier is not None:
        dim = shapes.get(names.classified, features).shape[-1]
        centers = classifiers.init_class_centers(classifier_rng, names.classifier, dim)
        bias = classifiers.init_bias(names.head, names.classifier)
        params["classifier"] = {"class_centers": centers, **bias}
        head_state = {name: jnp.asarray(value, jnp.float32) for name, value in names.head.first_state.items()}
    if parts:
        params["parts"] = parts
    of_terms = {}
    for term in terms:
        if term.term.first_state is not None:
            _, _, tap = term.of[0]
            dim = shapes.get(tap, features).shape[-1]
            of_terms[term.name] = term.term.first_state(num_identities, dim)
    stats = variables.get("batch_stats", {})  # a network without BatchNorm has none
    average = jax.tree.map(jnp.array, {"params": params["backbone"], "batch_stats": stats}) if is_averaged else {}
    return TrainState(jnp.zeros((), jnp.int32), params, stats, optimizer.init(params), head_state, of_terms, average)


def _init_parts(rng, backbone, variables, images, names):
    """({name: parameters}, {name: shape of its value}) of the parts."""
    if not names.parts:
        return {}, {}
    taps = tuple(dict.fromkeys(names.source(name) for name in names.parts))
    read = jax.eval_shape(lambda: backbone_taps.apply(backbone, variables, images, taps=taps, train=False)[0])
    params: dict[str, PyTree] = {}

    def shape_of(name):
        if name not in names.parts:
            return read[name]
        part = names.parts[name]
        below = shape_of(part.of)
        if name not in params:
            objective_parts.check_reads(name, part, below)
            params[name] = part.init(jax.random.fold_in(rng, sorted(names.parts).index(name)), below)
        return jax.eval_shape(part.apply, params[name], below)

    return params, {name: shape_of(name) for name in names.parts}


def train_step(
    state: TrainState,
    batch: Mapping[str, Any],
    of_teacher: Mapping[str, PyTree],
    *,
    seed: int,
    make_views: Callable,
    flips_of: Callable,
    sources: Mapping[str, str],
    second_labels_from: int,
    batch_norm: str,
    parts: int,
    is_frozen: Callable,
    objective: Objective,
    teacher: Teacher | None,
    backbone: nn.Module,
    optimizer: optax.GradientTransformation,
    weight_average: float | int = 0,
) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
    """Dresses the images, takes the gradient of the objective and updates the state.

    Randomness is a function of (seed, step), so a resumed run draws what the uninterrupted one would have drawn.

    Args:
      batch: 'image' uint8 [batch, height, width, channels] and 'label' int32 [batch]; with a second source the same of
        it under 'second'; with teacher features that were kept 'teacher' [batch, 2, dim], of image and mirrored image.
      of_teacher: the variables of `Teacher.features`; {} without a teacher, or where its features were kept.
      make_views: (rng, images, step, second) -> {name: view}; policy and rounding bound.
      flips_of: (rng, batch size, second_size) -> {view: which images are mirrored, or None}, as `make_views` does it.
      sources: {view: 'first' or 'second'}.
      second_labels_from: what is added to the labels of the second source, whose identities are others.
      batch_norm, parts: see `embedding.embed_views`.
      is_frozen: parameters -> tree of bools: which of them stay as they are.
      objective: what is minimized.
      teacher: what is read of it, if there is one.
      weight_average: see `averaged`; for a state that has an `average`.

    Returns:
      (new state, metrics: the loss, its parts, `grad_norm`, the global norm of the gradient before clipping and decay).
    """
    rng = jax.random.fold_in(jax.random.key(seed), state.step)
    of_views = jax.random.fold_in(rng, AUGMENTATION)
    views, labels = _dressed(of_views, batch, state.step, make_views, sources, second_labels_from)
    known: Mapping[tuple[str, str], PyTree] = {}
    if teacher is not None and teacher.is_kept:
        known = _kept_features(batch, of_views, flips_of, teacher)
    elif teacher is not None:
        known = teacher.features(of_teacher, views, labels, parts=parts)
    dropout_rng = jax.random.fold_in(rng, DROPOUT)

    def embed(params):
        settings = {"backbone": backbone, "batch_norm": batch_norm, "parts": parts}
        return embed_views(params, state.batch_stats, views, dropout_rng, taps=objective.student_taps(), **settings)

    features, pull_back, batch_stats = jax.vjp(embed, state.params["backbone"], has_aux=True)
    above = {name: value for name, value in state.params.items() if name != "backbone"}
    sample_rng, remembered = jax.random.fold_in(rng, CLASS_SAMPLE), {"head": state.head, "terms": state.terms}
    (features_gradient, above_gradient), metrics, remembered = total_loss_gradient(
        features, above, labels, sample_rng, remembered, known, objective=objective
    )
    (backbone_gradient,) = pull_back(features_gradient)
    gradient = {"backbone": backbone_gradient} | _complete(above, above_gradient)
    # What is frozen counts neither for the norm nor for clipping, and the compiler leaves out what nobody needs.
    gradient = jax.tree.map(lambda g, stays: jnp.zeros_like(g) if stays else g, gradient, is_frozen(state.params))
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    metrics["grad_norm"] = optax.global_norm(gradient)
    params = optax.apply_updates(state.params, updates)
    average = averaged(state.average, params["backbone"], batch_stats, step=state.step, decay=weight_average)
    return TrainState(state.step + 1, params, batch_stats, opt_state, **remembered, average=average), metrics


def averaged(average: PyTree, params: PyTree, batch_stats: PyTree, *, step: PyTree, decay: float | int) -> PyTree:
    r"""The running mean of a network's variables after a step, or {} where none is kept.

    .. math:: \bar w \leftarrow d_t \bar w + (1 - d_t) w, \quad d_t = \min(d, (1 + t) / (10 + t))

    In the first steps it forgets faster, lest it keep what the run began with.

    Args:
      average: of the steps before, {'params', 'batch_stats'}; or {}.
      params, batch_stats: after the step.
      step: t, steps before this one.
      decay: d, in (0, 1).

    References:
      Polyak and Juditsky 1992; d_t as TensorFlow's ExponentialMovingAverage has it.
    """
    if not average:
        return average
    kept = jnp.minimum(decay, (1 + step) / (10 + step))
    new = {"params": params, "batch_stats": batch_stats}
    return jax.tree.map(lambda mean, now: now + kept * (mean - now), average, new)


def _dressed(rng, batch, step, make_views, sources, second_labels_from):
    """({view: pixels}, {view: labels}), the labels of both sources apart from each other."""
    second = batch.get("second")
    views = make_views(rng, batch["image"], step=step, second=None if second is None else second["image"])
    labels = {"first": batch["label"]}
    if second is not None:
        labels["second"] = second["label"] + second_labels_from
    return views, {view: labels[source] for view, source in sources.items()}


def _kept_features(batch: PyTree, of_views: PRNGKeyArray, flips_of: Callable, teacher: Teacher) -> PyTree:
    """The one feature that is read of a teacher, as its view has the image: of an image, or of the mirrored one."""
    (view,) = teacher.read
    second_size = len(batch["second"]["image"]) if "second" in batch else None
    is_mirrored = flips_of(of_views, len(batch["image"]), second_size=second_size)[view]
    whole, mirrored = batch["teacher"][:, 0], batch["teacher"][:, 1]
    found = whole if is_mirrored is None else jnp.where(is_mirrored[:, None], mirrored, whole)
    return {(view, backbone_taps.FEATURE): found}


def _complete(params: PyTree, gradient: PyTree) -> PyTree:
    """The gradient with zeros for the parameters that nothing read."""
    if not isinstance(params, dict):
        return gradient
    return {
        name: _complete(value, gradient[name]) if name in gradient else jax.tree.map(jnp.zeros_like, value)
        for name, value in params.items()
    }
