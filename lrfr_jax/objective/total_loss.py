"""The loss of a step: the classification of some views and terms of named features, weighed against each other."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from lrfr_jax.errors import reason_of
from lrfr_jax.objective import classifier as classifiers
from lrfr_jax.objective.classifier import Classifier
from lrfr_jax.objective.embedding import Features
from lrfr_jax.objective.heads import Head
from lrfr_jax.objective.named_features import Names
from lrfr_jax.objective.terms.term import NamedTerm

# Reached only where the two views are embedded alike to the last digits, and so have no distance to weigh.
GRADIENT_FLOOR = 1e-20
STUDENT = "student"


@dataclasses.dataclass(frozen=True, eq=False)
class Objective:
    r"""What a run minimizes.

    .. math:: L = \textstyle\sum_v w_v L_{cls}(f_v) + \sum_t \lambda_t L_t

    Attributes:
      names: what can be read of the student.
      view_weights: {view: w} of the views that are classified; none without a classifier.
      terms: what is added, in this order.
    """

    names: Names
    view_weights: Mapping[str, float | int]
    terms: tuple[NamedTerm, ...]

    def read_of(self, who: str) -> dict[str, tuple[str, ...]]:
        """The names that the loss reads of the student or the teacher: {view: taps, parts or logits}."""
        read: dict[str, list[str]] = {view: [self.names.classified] for view in self.view_weights if who == STUDENT}
        for term in self.terms:
            for owner, view, tap in term.of:
                if owner == who:
                    read.setdefault(view, []).append(tap)
        return {view: tuple(dict.fromkeys(taps)) for view, taps in sorted(read.items())}

    def student_taps(self) -> dict[str, tuple[str, ...]]:
        """The taps of the backbone behind what is read of the student."""
        read = self.read_of(STUDENT).items()
        return {view: tuple(dict.fromkeys(self.names.source(tap) for tap in taps)) for view, taps in read}


def classification_loss(
    features: tuple[Float[Array, "batch dim"], ...],
    params: PyTree,
    labels: Int[Array, " batch"],
    rng: PRNGKeyArray,
    state: PyTree,
    *,
    classifier: Classifier,
    head: Head,
    view_weights: Mapping[str, float | int],
) -> tuple[Float[Array, ""], tuple[dict[str, Float[Array, ""]], PyTree]]:
    r"""The weighted sum of the views' classification losses, each the mean over the batch.

    .. math:: \textstyle\sum_v w_v L_{cls}(f_v)

    The paper has 1/2 for the high- and 1/2 for the low-resolution view, its baseline the former alone.

    Args:
      features: raw features of each view.
      params, labels, rng, state, classifier, head: see `classifier.classification`.
      view_weights: {name of a view: w}, in the order of the features.

    Returns:
      (loss, (its parts and the share of images whose own class center is the nearest of those that take part, before
      any margin; the head's next state)).

    References:
      Ling et al. 2022, arXiv 2302.05621, Eq. 7.
    """
    per_image, is_nearest, state = classifiers.classification(
        jnp.stack(features), params, labels, rng, state, classifier=classifier, head=head
    )
    parts = {}
    for name, loss, nearest in zip(view_weights, per_image, is_nearest, strict=True):
        parts |= {f"classification_{name}": jnp.mean(loss), f"accuracy_{name}": jnp.mean(nearest)}
    return _weighted_mean(per_image, tuple(view_weights.values())), (parts, state)


def _weighted_mean(per_image: Float[Array, "views batch"], weights: tuple[float | int, ...]) -> Float[Array, ""]:
    total = sum(weights)
    if set(weights) == {total / len(weights)}:
        # One mean over all views, as Eq. 7's halves have always been: the same numbers to the last bit.
        return jnp.mean(per_image) if total == 1 else total * jnp.mean(per_image)
    return sum(weight * jnp.mean(loss) for weight, loss in zip(weights, per_image, strict=True))


def total_loss_gradient(
    features: Features,
    params: Mapping[str, PyTree],
    labels: Mapping[str, Int[Array, " batch"]],
    rng: PRNGKeyArray,
    state: Mapping[str, PyTree],
    of_teacher: Features,
    *,
    objective: Objective,
) -> tuple[tuple[dict[tuple[str, str], PyTree], dict[str, PyTree]], dict[str, Float[Array, ""]], dict[str, PyTree]]:
    r"""The gradient of the whole loss with respect to features and parameters above them, and the loss's parts.

    .. math:: L = \lambda\, d(f_{HR}, f_{LR}) + \tfrac12 L_{cls}(f_{HR}) + \tfrac12 L_{cls}(f_{LR})

    is the paper's; `Objective` says what others are.

    Everything below the features is linear in this gradient, so the terms are weighed against each other here, where
    it costs nothing: with the unit 'gradient_share' lambda is chosen anew in each step, as a number, such that the
    term's gradient has `weight` times the length of the classification's, both over all features that the loss reads.

    Args:
      features: {(view, tap): value} of the student's backbone, what `Objective.student_taps` names.
      params: 'classifier' and 'parts', as far as there are any.
      labels: {view: identity of each image}.
      rng, state: of the classification, see `classifier.classification`; of the state also 'terms', {name: state}.
      of_teacher: {(view, name): value}, constants.
      objective: what is minimized.

    Returns:
      ((gradient of the features, of the parameters), metrics: `loss`, the parts of the classification, and for each
      term its value by its name, `<name>_weight` (lambda), `grad_norm_classification` and `grad_norm_<name>` (lambda
      times the term's); the next state).

    References:
      Ling et al. 2022, arXiv 2302.05621, Eq. 7.
    """
    loss, metrics, gradient, params_gradient = jnp.zeros(()), {}, {}, {}
    head_state = state["head"]
    if objective.view_weights:
        loss, (metrics, head_state), gradient, params_gradient = _classify(
            features, params, labels, rng, head_state, objective
        )
    of_classification = gradient
    metrics, term_states = {"loss": loss} | metrics, {}
    for term in objective.terms:
        value, of_features, of_params, term_state = _evaluated(
            term, features, params, labels, state["terms"].get(term.name), of_teacher, objective.names
        )
        if objective.view_weights:
            metrics["grad_norm_classification"] = norm = optax.global_norm(of_classification)
        term_norm = optax.global_norm(of_features)
        weight = jnp.asarray(term.weight, term_norm.dtype)
        if term.weight_unit == "gradient_share":
            weight = weight * norm / jnp.maximum(term_norm, GRADIENT_FLOOR)
        metrics |= {term.name: value, f"{term.name}_weight": weight, f"grad_norm_{term.name}": weight * term_norm}
        gradient = _added(gradient, of_features, weight)
        params_gradient = _added(params_gradient, of_params, weight)
        loss = loss + weight * value
        if term_state is not None:
            term_states[term.name] = term_state
    state = {"head": head_state, "terms": term_states}
    return (gradient, params_gradient), metrics | {"loss": loss}, state


def _classify(features, params, labels, rng, state, objective):
    """(loss, (its parts, the head's next state), its gradient by features, by parameters)."""
    names, views = objective.names, tuple(objective.view_weights)
    read = {(view, names.source(names.classified)): None for view in views}
    used = {"classifier": params["classifier"]} | names.used_params(names.classified, params)

    def classify(read, used):
        of_views = tuple(names.value(view, names.classified, read, used, labels) for view in views)
        how = {"classifier": names.classifier, "head": names.head, "view_weights": objective.view_weights}
        return classification_loss(of_views, used["classifier"], labels[views[0]], rng, state, **how)

    classify = jax.value_and_grad(classify, argnums=(0, 1), has_aux=True)
    (loss, aux), (gradient, params_gradient) = classify({name: features[name] for name in read}, used)
    return loss, aux, gradient, params_gradient


def _evaluate(term, features, params, labels, state, of_teacher, names):
    """(value, its gradient by features, by parameters, the term's next state or None)."""
    mine = [(view, tap) for who, view, tap in term.of if who == STUDENT]
    read = {(view, names.source(tap)): features[view, names.source(tap)] for view, tap in mine}
    used: dict[str, Any] = {}
    for _, tap in mine:
        found = names.used_params(tap, params)
        parts = used.get("parts", {}) | found.get("parts", {})
        used |= found | ({"parts": parts} if parts else {})
    of_labels = tuple(labels[view] for _, view, _ in term.of)

    def values(read, used):
        return tuple(
            names.value(view, tap, read, used, labels) if who == STUDENT else of_teacher[view, tap]
            for who, view, tap in term.of
        )

    if term.term.update is not None:
        state = term.term.update(state, jax.lax.stop_gradient(values(read, used)), of_labels)

    def evaluate(read, used):
        return term.term.value(values(read, used), of_labels, state)

    value, (gradient, params_gradient) = jax.value_and_grad(evaluate, argnums=(0, 1))(read, used)
    return value, gradient, params_gradient, state


def _evaluated(term, *how):
    """What `_evaluate` returns, or an error that says whose it is: shapes that do not fit are told by jax alone."""
    try:
        return _evaluate(term, *how)
    except (ValueError, TypeError) as error:
        of = " and ".join(map(".".join, term.of))
        raise ValueError(f"terms.{term.name} of {of}: {reason_of(error)}") from error


def _added(gradient: PyTree, more: PyTree, weight: Float[Array, ""]) -> PyTree:
    """gradient + weight * more, where either may lack what the other has."""
    if not isinstance(more, dict):
        return jax.tree.map(lambda a, b: a + weight * b, gradient, more)
    return gradient | {
        name: _added(gradient[name], value, weight) if name in gradient else jax.tree.map(lambda x: weight * x, value)
        for name, value in more.items()
    }
