"""Terms beside a classification, or instead of it: value, weight, gradient and state, and what is embedded for them."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import quickstart
from lrfr_jax.objective import classifier as classifiers
from lrfr_jax.objective import total_loss
from lrfr_jax.objective.classifier import Classifier
from lrfr_jax.objective.heads import HEADS
from lrfr_jax.objective.named_features import Names
from lrfr_jax.objective.parts import PARTS, Part
from lrfr_jax.objective.terms import TERMS
from lrfr_jax.objective.terms.term import NamedTerm
from lrfr_jax.objective.total_loss import Objective
from lrfr_jax.run import experiment
from lrfr_jax.sizing import operations

RANDOM = np.random.default_rng(2)
LABELS = jnp.asarray([0, 1, 2, 1])
CLASSIFIER, HEAD = Classifier(3, 1, 1, 1), HEADS["cosface"](scale=8.0, margin=0.2)


def drawn(*shape):
    return jnp.asarray(RANDOM.normal(size=shape), jnp.float32)


FEATURES = {("hr", "feature"): drawn(4, 6), ("lr", "feature"): drawn(4, 6), ("lr", "stage1"): drawn(4, 2, 2, 3)}
OF_TEACHER = {("hr", "feature"): drawn(4, 5), ("hr", "stage1"): drawn(4, 2, 2, 2), ("hr", "logits"): 8 * drawn(4, 3)}
PARTS_OF = {"to_five": Part(PARTS["perceptron"]((5,)), "feature"), "hint": Part(PARTS["hint"]((2,)), "stage1")}


@pytest.fixture(scope="module")
def params():
    read = {name: jax.ShapeDtypeStruct(FEATURES["lr", part.of].shape, jnp.float32) for name, part in PARTS_OF.items()}
    drawn_parts = {name: part.init(jax.random.key(1), read[name]) for name, part in PARTS_OF.items()}
    return {"classifier": {"class_centers": drawn(3, 6)}, "parts": drawn_parts}


def term(name, key, *of, weight=1.0, unit="lambda", **numbers):
    read = tuple(tuple(one.split(".")) for one in of)
    return NamedTerm(name, TERMS[key](**numbers), read, weight, unit)


TO_TEACHER = term("to_teacher", "cosine", "student.lr.to_five", "teacher.hr.feature", weight=2.0, over="sum")
OF_MAPS = term("of_maps", "mse", "student.lr.hint", "teacher.hr.stage1", weight=0.5)
OF_LOGITS = term("of_logits", "mse", "student.lr.logits", "teacher.hr.logits", weight=0.1)
BETWEEN = term("between", "mse", "student.hr.feature", "student.lr.feature", weight=0.25, unit="gradient_share")


def objective_of(*terms, weights=None, parts=PARTS_OF):
    weights = {"hr": 0.25, "lr": 0.75} if weights is None else weights
    head = {"classifier": CLASSIFIER, "head": HEAD} if weights else {"classifier": None, "head": None}
    return Objective(Names(parts, **head), weights, terms)


def gradient(objective, params, labels=None, terms_state=None, features=FEATURES):
    labels = {"hr": LABELS, "lr": LABELS} if labels is None else labels
    state, rng = {"head": {}, "terms": terms_state or {}}, jax.random.key(0)
    features = {(view, tap): features[view, tap] for view, taps in objective.student_taps().items() for tap in taps}
    return total_loss.total_loss_gradient(features, params, labels, rng, state, OF_TEACHER, objective=objective)


def written_out(features, params, lambdas):
    """The whole loss as one function of everything, without a name."""
    classification, _ = total_loss.classification_loss(
        (features["hr", "feature"], features["lr", "feature"]),
        params["classifier"],
        LABELS,
        jax.random.key(0),
        {},
        classifier=CLASSIFIER,
        head=HEAD,
        view_weights={"hr": 0.25, "lr": 0.75},
    )
    lr, parts = features["lr", "feature"], params["parts"]
    five = lr @ parts["to_five"]["linear1"]["kernel"] + parts["to_five"]["linear1"]["bias"][None]
    teacher = OF_TEACHER["hr", "feature"]
    cosines = jnp.sum(five * teacher, axis=1) / jnp.linalg.norm(five, axis=1) / jnp.linalg.norm(teacher, axis=1)
    maps = PARTS_OF["hint"].apply(parts["hint"], features["lr", "stage1"])
    logits = classifiers.margined_logits(lr, params["classifier"], LABELS, classifier=CLASSIFIER, head=HEAD)
    values = {
        "to_teacher": jnp.mean(1 - cosines),
        "of_maps": jnp.mean((maps - OF_TEACHER["hr", "stage1"]) ** 2),
        "of_logits": jnp.mean((logits - OF_TEACHER["hr", "logits"]) ** 2),
        "between": jnp.mean((features["hr", "feature"] - lr) ** 2),
    }
    return classification + sum(lambdas[name] * value for name, value in values.items()), values


def test_many_terms_with_parts_logits_and_both_units_are_the_sum_written_out(params):
    objective = objective_of(BETWEEN, OF_LOGITS, OF_MAPS, TO_TEACHER)
    (of_features, of_params), metrics, _ = jax.jit(lambda params: gradient(objective, params))(params)
    lambdas = {name: float(metrics[f"{name}_weight"]) for name in ("between", "of_logits", "of_maps", "to_teacher")}
    assert [lambdas[one] for one in ("of_logits", "of_maps", "to_teacher")] == pytest.approx([0.1, 0.5, 2.0])
    by_jax = jax.jit(jax.value_and_grad(written_out, argnums=(0, 1), has_aux=True))
    (loss, values), (features_gradient, params_gradient) = by_jax(FEATURES, params, lambdas)
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)
    for name, value in values.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5)
    chex.assert_trees_all_close(of_features, features_gradient, rtol=1e-4, atol=1e-6)
    chex.assert_trees_all_close(of_params, params_gradient, rtol=1e-4, atol=1e-6)
    # A quarter of the classification's length, as the share says.
    np.testing.assert_allclose(metrics["grad_norm_between"], 0.25 * metrics["grad_norm_classification"], rtol=1e-5)


def test_without_a_classification_the_terms_are_the_loss(params):
    triplets = term("triplets", "contrastive", "student.hr.feature", "student.lr.feature", margin=1.0)
    objective = objective_of(triplets, TO_TEACHER, weights={})
    (of_features, of_params), metrics, state = gradient(objective, {"parts": params["parts"]})
    np.testing.assert_allclose(metrics["loss"], metrics["triplets"] + 2.0 * metrics["to_teacher"], rtol=1e-6)
    assert set(of_params) == {"parts"}
    assert set(of_params["parts"]) == {"to_five"}
    assert set(of_features) == {("hr", "feature"), ("lr", "feature")}
    assert not any(name.startswith(("classification", "accuracy")) or "classification" in name for name in metrics)
    assert state == {"head": {}, "terms": {}}
    assert float(optax.global_norm(of_features)) > 0


def test_a_term_with_a_state_moves_it_first_and_reads_the_new_one(params):
    centers = term("pull", "center_loss", "student.lr.feature", update="wen", rate=0.5, over_dims="sum")
    objective = objective_of(centers)
    state = {"pull": {"centers": jnp.ones((3, 6))}}
    (of_features, _), metrics, after = gradient(objective, params, terms_state=state)
    x, moved = np.asarray(FEATURES["lr", "feature"]), np.ones((3, 6))
    for label in range(3):
        mine = x[np.asarray(LABELS) == label]
        moved[label] -= 0.5 * np.sum(moved[label] - mine, axis=0) / (1 + len(mine))
    np.testing.assert_allclose(after["terms"]["pull"]["centers"], moved, rtol=1e-5)
    away = x - moved[np.asarray(LABELS)]
    np.testing.assert_allclose(metrics["pull"], np.mean(np.sum(away**2, axis=1)) / 2, rtol=1e-5)
    # The center is a constant there: no gradient goes by way of its update.
    (plain, _), _, _ = gradient(objective_of(), params)
    np.testing.assert_allclose(of_features["lr", "feature"] - plain["lr", "feature"], away / 4, rtol=1e-4, atol=1e-6)


def test_labels_of_each_feature_are_those_of_its_view(params):
    both = term("pull", "contrastive", "student.hr.feature", "student.lr.feature", margin=1.0)
    objective = objective_of(both, weights={})
    same = gradient(objective, params)[1]["pull"]
    apart = gradient(objective, params, labels={"hr": LABELS, "lr": LABELS + 3})[1]["pull"]
    assert abs(float(same) - float(apart)) > 0.01


def test_what_does_not_fit_is_told_by_the_name_of_its_term(params):
    wrong = term("mine", "mse", "student.lr.feature", "teacher.hr.feature")
    sentence = (
        r"terms.mine of student.lr.feature and teacher.hr.feature: features of the shapes \[6\] and \[5\] have no"
    )
    with pytest.raises(ValueError, match=sentence):
        gradient(objective_of(wrong), params)
    numbers = {"distance": "l2", "p": 2.0, "reduction": "paper"}
    by_jax = term("mine", "distance", "student.lr.feature", "teacher.hr.feature", **numbers)
    with pytest.raises(ValueError, match=r"terms.mine of student.lr.feature and teacher.hr.feature: "):
        gradient(objective_of(by_jax), params)


# ---- In a whole step.

CENTER = {"term": "center_loss", "of": ("student.hr.feature",), "update": "wen", "rate": 0.5, "over_dims": "sum"}


def run_of(**changes):
    config = quickstart.get_config("policy=maug,batch_size=8")
    config.model.update({"backbone": "resnet6", "width": 0.0625, "embedding_size": 16})
    config.optimizer.warmup_epochs = 0.0
    for field, value in changes.items():
        config[field] = value
    return experiment.build_run(config, num_identities=5, steps_per_epoch=10.0)


def views(**weights):
    config = quickstart.get_config("policy=maug")
    rules = config.augment.views.to_dict()
    for name, weight in weights.items():
        rules[name]["weight"] = weight
    return config.augment.to_dict() | {"views": rules}


def batch():
    images = np.random.default_rng(0).integers(0, 256, (8, 112, 112, 3), np.uint8)
    return {"image": images, "label": np.arange(8, dtype=np.int32) % 5}


def test_a_view_that_nobody_reads_is_not_embedded(resnet6):
    quickstart_loss = quickstart.get_config("policy=none").loss
    alone = run_of(augment=views(hr=0.0, lr=1.0), loss=quickstart_loss)
    assert alone.objective.student_taps() == {"lr": ("feature",)}
    pull = {"pull": CENTER | {"weight": 0.1, "weight_unit": "lambda"}}
    named = run_of(augment=views(hr=0.0, lr=1.0), loss=quickstart_loss, terms=pull)
    assert named.objective.student_taps() == {"hr": ("feature",), "lr": ("feature",)}
    both = run_of()
    of_network = jax.make_jaxpr(lambda v, x: both.backbone.apply(v, x, train=False))(
        jax.eval_shape(lambda: both.backbone.init(jax.random.key(0), jnp.zeros((1, 112, 112, 3)), train=False)),
        jnp.zeros((8, 112, 112, 3)),
    )
    each = str(of_network).count("conv_general_dilated[")
    found = [convolutions(run) for run in (alone, named, both)]
    assert found[1] == found[2] == 2 * found[0]
    assert found[0] >= 3 * each - 1  # forward, by inputs, by kernels; the first needs no gradient of its input


def convolutions(run):
    """Of a step as it is traced; a function that is called twice counts twice."""
    state = jax.eval_shape(run.init, jax.eval_shape(jax.random.key, 0))
    jaxpr = jax.make_jaxpr(run.step)(state, batch(), {}).jaxpr

    def count(jaxpr):
        mine = sum(equation.primitive.name == "conv_general_dilated" for equation in jaxpr.eqns)
        return mine + sum(count(body) for equation in jaxpr.eqns for body in operations.bodies(equation))

    return count(jaxpr)
