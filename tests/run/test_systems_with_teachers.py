"""The systems that learn from a teacher: a step of each config, with networks of one layer in place of its own."""

import importlib
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import common, generated_systems
from lrfr_jax import models
from lrfr_jax.run import experiment, teachers
from tests.one_layer import MAKE_THEIR_TEACHER, OneLayer, write_metadata

IDENTITIES = 8
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (16, 112, 112, 3), np.uint8)
LABELS = np.repeat(np.arange(4), 4).astype(np.int32)
BATCH = {"image": IMAGES, "label": LABELS}
# A face as it is, in the place of a small one.
AS_IT_IS = {"hr": common.view(weight=0.0), "lr": common.view(weight=1.0)}


@pytest.fixture(autouse=True)
def one_layer(monkeypatch):
    monkeypatch.setattr(models, "BACKBONES", dict.fromkeys(models.BACKBONES, OneLayer))


@pytest.fixture
def taught(tmp_path):
    """Returns (config, run, its first state, its teacher's variables) of a config, which `change` may change before."""

    def build(name, arg="", change=lambda config: None):
        get_config = importlib.import_module(f"configs.{name}").get_config
        config = get_config(f"{arg},batch_size=16")
        if config.teacher.checkpoint:
            made_by = get_config(MAKE_THEIR_TEACHER[name]) if name in MAKE_THEIR_TEACHER else config
            config.teacher.checkpoint = write_metadata(tmp_path / "teacher", made_by, num_identities=IDENTITIES)
        config.optimizer.warmup_epochs = 0.0  # else the first step would change nothing
        change(config)
        run = experiment.build_run(config, num_identities=IDENTITIES, steps_per_epoch=100.0)
        state = run.init(jax.random.key(0))
        of_teacher = {} if run.teacher is None else teachers.abstract_variables(run.teacher)
        keys = iter(jax.random.split(jax.random.key(1), 99))
        of_teacher = jax.tree.map(lambda leaf: jnp.abs(jax.random.normal(next(keys), leaf.shape)), of_teacher)
        return config, run, state, of_teacher

    return build


def as_teacher(state):
    return {"backbone": {"params": state.params["backbone"], "batch_stats": state.batch_stats}}


def step(run, state, of_teacher):
    after, metrics = jax.jit(run.step)(state, BATCH, of_teacher)
    assert np.isfinite(metrics["loss"])
    return after, metrics


def same(one, other):
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, one, other)))


@pytest.mark.parametrize(
    ("name", "arg", "terms"),
    [
        ("systems.massoli", "share=curriculum", {"mimic": 0.1}),
        ("systems.askd", "size=14", {"attention": 5.0}),
        ("systems.tcn", "", {"triplet": 1.0, "transfer": 1.0}),
    ],
)
def test_a_student_that_is_its_teacher_differs_on_small_faces_alone(name, arg, terms, taught):
    """Massoli's second term, A-SKD's and TCN's transfer are 0 at the start for faces as they are."""
    _, run, state, _ = taught(name, arg, lambda config: setattr(config.augment, "views", AS_IT_IS))
    after, metrics = step(run, state, as_teacher(state))
    for term, weight in terms.items():
        assert metrics[f"{term}_weight"] == np.float32(weight)
        if term != "triplet":
            np.testing.assert_allclose(metrics[term], 0, atol=1e-5)
    assert same(after.params["classifier"], state.params["classifier"]) == (name == "systems.tcn")


@pytest.mark.parametrize(
    ("name", "arg", "term"),
    [
        ("systems.massoli", "share=fixed", "mimic"),
        ("systems.tcn", "", "transfer"),
        ("systems.fskd", "", "maps"),
        ("systems.bridge_kd", "step=2", "mimic"),
    ],
)
def test_a_step_of_each(name, arg, term, taught):
    config, run, state, of_teacher = taught(name, arg)
    after, metrics = step(run, state, of_teacher)
    assert metrics[term] > 0
    weighed = sum(config.terms[name].weight * metrics[name] for name in config.terms)
    (view,) = run.objective.view_weights
    np.testing.assert_allclose(metrics["loss"], metrics[f"classification_{view}"] + weighed, rtol=1e-5)
    assert not same(after.params["backbone"], state.params["backbone"])


def test_numbers_of_the_systems():
    def load(name, arg=None):
        return importlib.import_module(f"configs.systems.{name}").get_config(arg)

    fskd, teacher = load("fskd"), load("fskd", "stage=teacher")
    assert {name: entry.weight for name, entry in fskd.terms.items()} == {"maps": 20.0, "relation": 4.0, "logits": 1.0}
    assert (fskd.head.margin, teacher.head.margin, fskd.head.scale, fskd.terms.logits.temperature) == (0.2, 0.4, 32, 4)
    assert fskd.input.images_per_identity == fskd.terms.relation.images_per_identity == 2
    assert fskd.augment.views.lr.operator == "opencv"
    askd = load("askd", "size=56")
    assert (askd.terms.attention.weight, askd.augment.views.lr.sizes, askd.head.guard) == (5.0, (56,), "fallback")
    assert (askd.batch_size, askd.num_epochs, askd.optimizer.nesterov) == (128, 20.0, True)
    massoli = load("massoli", "share=curriculum")
    assert massoli.augment.views.lr.share.to_dict() == {"first": 0.1, "increment": 0.1, "every_images": 35_000}
    assert (massoli.init_from, massoli.augment.gray.probability) == (massoli.teacher.checkpoint, 0.2)
    assert common.POLICIES["massoli"]["lr"]["share"] == 0.1  # not changed by the above
    tcn = load("tcn")
    assert (tcn.init_from, tcn.class_centers, tcn.optimizer.frozen) == (
        *(tcn.teacher.checkpoint, "checkpoint", ("classifier",)),
    )
    bridge = load("bridge_kd", "step=2,size=32")
    assert (bridge.model.input.size, bridge.model.embedding_size, bridge.optimizer.learning_rate) == (32, 128, 0.05)
    for step_of, images in ((load("askd", "stage=teacher"), askd), (teacher, fskd), (load("bridge_kd"), bridge)):
        last = math.ceil(step_of.num_epochs * 490_623 / step_of.batch_size)
        assert images.teacher.checkpoint.endswith(f"/checkpoints/{last}")


@pytest.mark.parametrize(
    ("name", "arg", "sentence"),
    [
        ("massoli", "share=none", "share=none is unknown: choose fixed or curriculum"),
        ("askd", "stage=both", "stage=both is unknown: choose student or teacher"),
        ("fskd", "stage=both", "stage=both is unknown: choose student or teacher"),
        ("tcn", "stage=both", "stage=both is unknown: choose student or teacher"),
        ("bridge_kd", "step=3", "step=3 is unknown: choose 1 or 2"),
        ("bridge_kd", "step=2,size=17", "size=17 is unknown: choose one of 16, 32, 64, 96"),
    ],
)
def test_arguments_that_mean_nothing(name, arg, sentence):
    with pytest.raises(ValueError, match=sentence):
        importlib.import_module(f"configs.systems.{name}").get_config(arg)


def test_bridge_1_leaves_the_large_network_bit_for_bit(taught):
    _, run, state, _ = taught("systems.bridge_kd", "step=1")
    after, metrics = step(run, state, {})
    assert same(after.params["backbone"], state.params["backbone"])
    assert same(after.batch_stats, state.batch_stats)
    for name in ("adaptation", "decoder"):
        assert not same(after.params["parts"][name], state.params["parts"][name])
    assert state.params["classifier"]["class_centers"].shape == (IDENTITIES, 128)
    assert metrics["mimic"] > 0


@pytest.mark.parametrize("system", generated_systems.SYSTEMS)
def test_small_systems_have_what_their_own_configs_have(system):
    module, argument, *_ = generated_systems.SYSTEMS[system]
    config = generated_systems.get_config(f"system={system}")
    assert (config.input.dataset, config.batch_size) == ("generated_train", 16)
    if module is None:
        return
    own = module.get_config(argument)
    assert config.terms.keys() == own.terms.keys()
    assert {name: entry.of for name, entry in config.terms.items()} == {
        name: entry.of for name, entry in own.terms.items()
    }
    assert config.augment.views.keys() == own.augment.views.keys()
    assert (config.head.name, config.input.order) == (own.head.name, own.input.order)
    assert bool(config.teacher.checkpoint) == bool(own.teacher.checkpoint)
    assert set(config.parts) == set(own.parts)
