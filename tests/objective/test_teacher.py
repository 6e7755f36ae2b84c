"""A teacher in the step: embedded as in evaluation, a constant for the gradient, kept features turned as the view."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import quickstart
from lrfr_jax.machines import sharding
from lrfr_jax.models import taps
from lrfr_jax.objective import train_step, views
from lrfr_jax.objective.classifier import Classifier, margined_logits
from lrfr_jax.objective.heads import HEADS
from lrfr_jax.objective.named_features import Names
from lrfr_jax.objective.parts import PARTS, Part
from lrfr_jax.objective.teacher import Teacher
from lrfr_jax.objective.terms import TERMS, Term
from lrfr_jax.objective.terms.term import NamedTerm
from lrfr_jax.objective.total_loss import Objective
from lrfr_jax.run import experiment

SMALL = {"backbone": "resnet6", "width": 0.0625, "embedding_size": 16}
pytestmark = pytest.mark.usefixtures("resnet6")
LABELS = jnp.arange(8, dtype=jnp.int32) % 5


def config_of():
    config = quickstart.get_config("policy=maug,batch_size=8")
    config.model.update(SMALL)
    config.optimizer.warmup_epochs = 0.0
    return config


@pytest.fixture(scope="module")
def run(resnet6):
    return experiment.build_run(config_of(), num_identities=5, steps_per_epoch=10.0)


@pytest.fixture(scope="module")
def variables(run):
    """Of a teacher with a part and a classifier, on statistics that are not those of a batch."""
    state = jax.jit(run.init)(jax.random.key(7, impl="rbg"))
    stats = jax.tree.map(lambda leaf: leaf + 0.3, state.batch_stats)
    part = Part(PARTS["perceptron"]((4,)), "feature")
    return {
        "backbone": {"params": state.params["backbone"], "batch_stats": stats},
        "parts": {"small": part.init(jax.random.key(1), jax.ShapeDtypeStruct((8, 16), jnp.float32))},
        "classifier": {"class_centers": jax.random.normal(jax.random.key(2), (5, 16))},
    }


@pytest.fixture(scope="module")
def teacher(run):
    classifier, head = Classifier(5, 1, 1, 1), HEADS["cosface"](scale=8.0, margin=0.2)
    names = Names({"small": Part(PARTS["perceptron"]((4,)), "feature")}, classifier, head)
    return Teacher(run.backbone, names, {"hr": ("feature", "stage1", "small", "logits"), "lr": ("feature",)})


def pixels():
    return jnp.asarray(np.random.default_rng(1).uniform(-1, 1, (8, 112, 112, 3)), jnp.float32)


def test_features_are_those_of_evaluation(run, teacher, variables):
    images = {"hr": pixels(), "lr": pixels()[::-1], "unread": pixels()}
    labels = dict.fromkeys(images, LABELS)
    found = jax.jit(functools.partial(teacher.features, parts=1))(variables, images, labels)
    assert set(found) == {("hr", name) for name in teacher.read["hr"]} | {("lr", "feature")}
    of_network, _ = taps.apply(
        run.backbone, variables["backbone"], images["hr"], taps=("feature", "stage1"), train=False
    )
    chex.assert_trees_all_close({name: found["hr", name] for name in of_network}, of_network, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["lr", "feature"], found["hr", "feature"][::-1], rtol=1e-4, atol=1e-4)
    how = {"classifier": teacher.names.classifier, "head": teacher.names.head}
    logits = margined_logits(of_network["feature"], variables["classifier"], LABELS, **how)
    np.testing.assert_allclose(found["hr", "logits"], logits, rtol=1e-4, atol=1e-4)
    assert found["hr", "small"].shape == (8, 4)
    in_parts = jax.jit(functools.partial(teacher.features, parts=2))(variables, images, labels)
    chex.assert_trees_all_close(in_parts, found, rtol=1e-4, atol=1e-4)


def test_a_teacher_is_a_constant(teacher, variables):
    images = {"hr": pixels(), "lr": pixels()}

    def total(variables, images):
        found = teacher.features(variables, images, dict.fromkeys(images, LABELS), parts=1)
        return sum(jnp.sum(value) for value in found.values())

    gradient = jax.jit(jax.grad(total, argnums=(0, 1)))(variables, images)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradient))


def batch(**more):
    images = np.random.default_rng(0).integers(0, 256, (8, 112, 112, 3), np.uint8)
    return {"image": jnp.asarray(images), "label": LABELS} | more


def step_of(run, teacher, *terms, **changes):
    """The run's step with other terms and a teacher: (state, batch, of_teacher) -> (state, metrics)."""
    objective = Objective(run.objective.names, run.objective.view_weights, terms)
    return functools.partial(run.step, objective=objective, teacher=teacher, **changes)


def to_teacher(student, teacher_tap="feature", weight=1.0):
    of = (("student", student, "feature"), ("teacher", "hr", teacher_tap))
    return NamedTerm("mine", TERMS["mse"](), of, weight, "lambda")


def test_a_step_embeds_the_teacher_once_for_each_view_that_it_reads(run, variables):
    """Without a gradient of it: a forward pass more, and nothing of it in the state."""
    calls = []

    def count(call, arguments, keywords, context):
        train = keywords.get("train", arguments[1] if len(arguments) > 1 else None)
        calls.extend([train] if context.module.name is None else [])
        return call(*arguments, **keywords)

    teacher = Teacher(run.backbone.clone(embedding_size=16, dropout=0.0), Names({}, None, None), {"hr": ("feature",)})
    state = jax.jit(run.init)(jax.random.key(0, impl="rbg"))
    of_teacher = {"backbone": variables["backbone"]}
    jax.clear_caches()
    with nn.intercept_methods(count):
        step = jax.jit(step_of(run, teacher, to_teacher("lr")))
        after, metrics = step(state, batch(), of_teacher)
    assert sorted(calls) == [False, True]  # each traced once: the teacher's pass, the student's of both views
    chex.assert_trees_all_equal_shapes(after, state)
    assert float(metrics["mine"]) > 0


def test_kept_features_are_turned_as_the_view_is(run, variables):
    """The same step by features of both orientations as by the network, for coins of each view and of both."""
    state = jax.jit(run.init)(jax.random.key(0, impl="rbg"))
    names, arrays = Names({}, None, None), batch()

    @jax.jit
    def embedded(images):
        return run.backbone.apply(variables["backbone"], images.astype(jnp.float32) / 127.5 - 1, train=False)

    both = jnp.stack([embedded(arrays["image"]), embedded(arrays["image"][:, :, ::-1])], axis=1)
    config = config_of()
    for flip in ("shared", "independent", "none"):
        settings = config.augment.to_dict() | {"flip": flip}
        rules = views.views_of(settings["views"])
        dressing = {
            "make_views": functools.partial(views.make_views, **settings),
            "flips_of": functools.partial(views.flips_of, rules=rules, flip=flip),
        }
        results = []
        for is_kept, given, of_teacher in (
            (True, batch(teacher=both), {}),
            (False, arrays, {"backbone": variables["backbone"]}),
        ):
            teacher = Teacher(run.backbone, names, {"hr": ("feature",)}, is_kept=is_kept)
            step = jax.jit(step_of(run, teacher, to_teacher("lr"), **dressing))
            results.append(step(state, given, of_teacher)[1])
        chex.assert_trees_all_close(*results, rtol=1e-4)
    assert not np.allclose(both[:, 0], both[:, 1], rtol=1e-2)


def test_labels_of_a_second_source_do_not_meet_those_of_the_first(run):
    """Nor need there be as many images of it."""
    seen = []

    def value(features, labels, state):
        seen.extend(labels)
        return jnp.sum(features[0]) * 0

    rules = config_of().augment.views.to_dict()
    rules["lr"] |= {"source": "second", "weight": 0.0}
    dress = functools.partial(views.make_views, **(config_of().augment.to_dict() | {"views": rules}))
    of = tuple(("student", view, "feature") for view in ("hr", "lr"))
    term = NamedTerm("mine", Term(value), of, 1.0, "lambda")
    objective = Objective(run.objective.names, {"hr": 1.0}, (term,))
    changes = {"make_views": dress, "sources": {"hr": "first", "lr": "second"}, "second_labels_from": 5}
    state = jax.eval_shape(run.init, jax.eval_shape(lambda: jax.random.key(0, impl="rbg")))
    second = {"image": jnp.zeros((4, 112, 112, 3), jnp.uint8), "label": jnp.arange(4)}
    dressed, labels = train_step._dressed(
        jax.random.key(0), batch(second=second), 0, dress, changes["sources"], changes["second_labels_from"]
    )
    assert (len(dressed["hr"]), len(dressed["lr"])) == (8, 4)
    np.testing.assert_array_equal(labels["lr"], [5, 6, 7, 8])
    np.testing.assert_array_equal(labels["hr"], LABELS)
    jax.eval_shape(functools.partial(run.step, objective=objective, **changes), state, batch(second=second), {})
    assert [label.shape for label in seen[:2]] == [(8,), (4,)]


def test_a_teacher_on_eight_devices_gives_the_metrics_of_one(run, variables):
    teacher = Teacher(run.backbone, Names({}, None, None), {"hr": ("feature",)})
    state, of_teacher = jax.jit(run.init)(jax.random.key(0, impl="rbg")), {"backbone": variables["backbone"]}
    step = jax.jit(step_of(run, teacher, to_teacher("lr")))
    alone = step(state, batch(), of_teacher)[1]
    mesh = sharding.make_mesh(class_shards=1)
    with jax.set_mesh(mesh):
        placed = jax.device_put((state, of_teacher), sharding.replicated(mesh))
        split = step(placed[0], sharding.to_devices(batch(), mesh), placed[1])[1]
    for name in ("mine", "loss", "grad_norm_mine"):
        np.testing.assert_allclose(split[name], alone[name], rtol=1e-3)
