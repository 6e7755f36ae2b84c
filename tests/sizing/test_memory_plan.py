"""Estimates of memory against what the compiler reserves, up to sizes that no test could allocate."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from configs import finetune_lfw_pubfig, ms1m_r50, quickstart
from lrfr_jax.checkpoints import checkpoint
from lrfr_jax.machines import sharding
from lrfr_jax.objective.classifier import Classifier, classification, init_bias
from lrfr_jax.objective.heads import HEADS
from lrfr_jax.run import experiment
from lrfr_jax.sizing import memory_plan, operations

BATCH, DIM = 1024, 512


COSFACE = HEADS["cosface"](scale=64.0, margin=0.4)
# One for each way to add up.
EACH_SUM = {
    "softmax": COSFACE,
    "rival": HEADS["rpcl_cosface"](scale=32.0, margin=0.2, guard="easy", rival_share=0.5, rival_threshold=0.7),
    "sigmoid": HEADS["uniface"](scale=64.0, margin=0.4, negative_weight=1.0, bias_factor=10.0),
    "nearest": HEADS["npt"](radius=1.0, delta=0.5, num_nearest=1),
}


def reserved(classifier, head=COSFACE):
    """Temporary bytes of the compiled gradient on one of eight devices."""
    mesh = sharding.make_mesh(classifier.shards)
    over_views = NamedSharding(mesh, PartitionSpec(None, ("data", "model")))
    split = NamedSharding(mesh, PartitionSpec("model"))

    bias = jax.eval_shape(lambda: init_bias(head, classifier))

    def value(features, params, labels, rng):
        return jnp.mean(classification(features, params, labels, rng, {}, classifier=classifier, head=head)[0])

    shapes = (
        jax.ShapeDtypeStruct((2, BATCH, DIM), jnp.float32, sharding=over_views),
        {"class_centers": jax.ShapeDtypeStruct((classifier.rows, DIM), jnp.float32, sharding=split), **bias},
        jax.ShapeDtypeStruct((BATCH,), jnp.int32, sharding=sharding.over_batch(mesh)),
        jax.eval_shape(jax.random.key, 0),
    )
    places = {"class_centers": split} | dict.fromkeys(bias, sharding.replicated(mesh))
    with jax.set_mesh(mesh):
        program = jax.jit(jax.grad(value, argnums=(0, 1)), out_shardings=(over_views, places)).lower(*shapes).compile()
    return program.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("chunks", [1, 4, 16])
@pytest.mark.parametrize("num_identities", [85_742, 2_000_000, 10_000_000])
def test_head(num_identities, chunks):
    classifier = Classifier(num_identities, 8, chunks, 1)
    expected = memory_plan.head_bytes(classifier, COSFACE, batch=BATCH, images=2 * BATCH, dim=DIM)
    assert reserved(classifier) == pytest.approx(expected, rel=0.1, abs=3e7)


@pytest.mark.parametrize("chunks", [1, 4])
@pytest.mark.parametrize("name", list(EACH_SUM))
def test_every_way_to_add_up(name, chunks):
    classifier, head = Classifier(2_000_000, 8, chunks, 1), EACH_SUM[name]
    assert head.sum == name
    expected = memory_plan.head_bytes(classifier, head, batch=BATCH, images=2 * BATCH, dim=DIM)
    assert reserved(classifier, head) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("chunks", [1, 16])
def test_a_sample_takes_its_share(chunks):
    whole, sample = (Classifier(2_000_000, 8, chunks, share) for share in (1, 0.1))
    found = reserved(sample)
    assert found < (0.2 if chunks == 1 else 0.5) * reserved(whole)  # with chunks little is held of the whole either
    as_planned = memory_plan.head_bytes(sample, COSFACE, batch=BATCH, images=2 * BATCH, dim=DIM)
    # The draw itself, a number for each center, is not in the formula.
    assert as_planned < found < as_planned + 128 * whole.rows / 8


def test_a_sample_holds_all_labels_of_the_batch():
    sample = Classifier(40_000, 8, 1, 0.01)  # 50 centers of a shard's 5,000, but the batch may have 1,024 of them
    as_planned = memory_plan.head_bytes(sample, COSFACE, batch=BATCH, images=2 * BATCH, dim=DIM)
    assert as_planned == pytest.approx(reserved(sample), rel=0.25)


def test_a_whole_step(resnet6):
    config = quickstart.get_config("policy=maug,batch_size=64")
    config.model.update({"backbone": resnet6, "width": 0.25})
    memory = memory_plan.of_config(config, num_identities=100, num_images=1000, devices=8)
    mesh = sharding.make_mesh(class_shards=1)
    images = jax.ShapeDtypeStruct((64, 112, 112, 3), np.uint8, sharding=sharding.over_batch(mesh))
    labels = jax.ShapeDtypeStruct((64,), np.int32, sharding=sharding.over_batch(mesh))
    with jax.set_mesh(mesh):
        run = experiment.build_run(config, 100, 10.0)
        state = jax.eval_shape(run.init, jax.eval_shape(jax.random.key, 0))
        program = (
            jax.jit(run.step, out_shardings=sharding.replicated(mesh))
            .lower(state, {"image": images, "label": labels}, {})
            .compile()
        )
    found = program.memory_analysis()
    # Parameters and momentum are arguments, two thirds of the three.
    network = 2 * (memory.backbone + memory.class_centers) / 3
    assert found.argument_size_in_bytes == pytest.approx(network, rel=0.1, abs=8 * 112 * 112 * 3 * 2)
    planned = memory.total - network
    assert planned < found.temp_size_in_bytes < 2.5 * planned  # a CPU's program; a GPU's below


def test_adamw_keeps_a_mean_more_and_a_view_less_costs_less():
    config = quickstart.get_config("policy=maug")
    of = functools.partial(memory_plan.of_config, num_identities=100, num_images=1000, devices=8)
    sgd = of(config)
    config.optimizer.algorithm = "adamw"
    adamw = of(config)
    assert adamw.class_centers == 4 / 3 * sgd.class_centers
    parameters = (adamw.backbone - sgd.backbone) / 4
    assert 0 < parameters < sgd.backbone / 12
    mixed, drawn = (of(quickstart.get_config(f"policy={policy}")) for policy in ("bt_m", "st_m2"))
    assert (2 * mixed.activations, drawn.activations) == (sgd.activations, sgd.activations)


@pytest.mark.parametrize(
    ("config", "num_identities", "reserved"),
    [
        (ms1m_r50.get_config(), 85_742, 22.78e9),
        (ms1m_r50.get_config("backbone=iresnet50"), 85_742, 15.33e9),
        (finetune_lfw_pubfig.get_config(), 1400, 3.58e9),
    ],
    ids=["resnet50", "iresnet50", "mobilefacenet"],
)
def test_a_step_as_the_compiler_for_an_h200_reserved_it(config, num_identities, reserved):
    """Temporary memory of the compiled step by `benchmark` on one NVIDIA H200, jax 0.11.2.

    Then the head held a normalized copy of the class centers, which it does no more.
    """
    reserved -= 4 * 512 * num_identities
    memory = memory_plan.of_config(config, num_identities=num_identities, num_images=1, devices=1)
    planned = memory.total - 2 * (memory.backbone + memory.class_centers) / 3
    assert reserved == pytest.approx(planned, rel=0.1)


def test_parts_shards_and_types_lower_what_they_should():
    config = quickstart.get_config("policy=maug,batch_size=64")
    config.model.batch_norm = "frozen"
    planned = functools.partial(memory_plan.of_config, num_identities=1000, num_images=5000, devices=4)
    before = planned(config)
    config.batch_parts = 4
    assert planned(config).activations == pytest.approx(before.activations / 4)
    config.classifier.shards = 4
    assert planned(config).class_centers == pytest.approx(before.class_centers / 4)
    kept = []
    for config.remat in ("none", "elementwise", "blocks"):
        kept.append(planned(config).activations)
    assert kept[2] < 0.8 * kept[1]
    assert kept[1] < 0.9 * kept[0]
    config.remat = "none"
    config.model.dtype = "bfloat16"
    assert planned(config).activations < 0.8 * before.activations / 4
    assert planned(config).backbone == before.backbone
    assert before.cache == 0
    config.input.cache = "device"
    assert planned(config).cache == 5000 * (112 * 112 * 3 + 4)
    assert planned(config).total - planned(config).cache < 0.8 * before.total


# ---- What a teacher, a view that nobody reads, and a second set take.


@pytest.fixture(scope="module")
def teacher(resnet6, tmp_path_factory):
    """(folder of a checkpoint, bytes of its weights)."""
    run = experiment.build_run(small(resnet6), 5, 10.0)
    state = jax.jit(run.init)(jax.random.key(0, impl="rbg"))
    variables = {"params": state.params["backbone"], "batch_stats": state.batch_stats}
    model = {key: value for key, value in small(resnet6).model.to_dict().items() if key != "batch_norm"}
    metadata = {"step": 0, "model": model, "degradation_rounding": "uint8", "data": {"num_identities": 5}}
    recipe = {"head.name": "softmax", "head.scale": 64.0}
    metadata["history"] = [{"kind": "training", "recipe": recipe}]
    folder = tmp_path_factory.mktemp("teacher") / "net"
    checkpoint.save_backbone(folder, variables, metadata)
    return str(folder), sum(leaf.nbytes for leaf in jax.tree.leaves(variables))


def small(resnet6, **views):
    config = quickstart.get_config("policy=aug,batch_size=16")
    config.model.update({"backbone": resnet6, "width": 0.125, "embedding_size": 16})
    if views:
        rules = config.augment.views.to_dict()
        for name, rule in views.items():
            rules[name] |= rule
        config.augment.views = rules
        config.loss.distance_weight = 0.0
    return config


def to_teacher(tap):
    of = (f"student.lr.{tap}", f"teacher.hr.{tap}")
    return {"mine": {"term": "mse", "of": of, "weight": 1.0, "weight_unit": "lambda"}}


planned = functools.partial(memory_plan.of_config, num_identities=5, num_images=1000, devices=1)


def counted(config, second=0):
    run = experiment.build_run(config, 5, 10.0)
    return run, operations.of_training(run, embedding_size=16, batch=16, second_batch=second)


def test_a_teacher_takes_its_weights_and_a_forward_pass(resnet6, teacher):
    two, one = small(resnet6), small(resnet6, hr={"weight": 0.0}, lr={"weight": 1.0})
    run, of_two = counted(two)
    each = operations.of_forward(run.backbone)
    _, of_one = counted(one)
    head = 3 * 2 * 16 * 5 * 16
    assert (of_two, of_one) == (2 * (3 * 16 * each + head), 3 * 16 * each + head)
    assert planned(one).activations == planned(two).activations / 2
    assert planned(one).cosines == planned(two).cosines / 2
    one.terms, one.teacher.checkpoint = to_teacher("feature"), teacher[0]
    found = planned(one)
    assert (found.teacher, found.activations, found.cache) == (teacher[1], planned(two).activations / 2, 0)
    assert counted(one)[1] == of_one + 16 * each
    one.terms = to_teacher("logits")
    assert planned(one).teacher == teacher[1] + 4 * 5 * 16


def test_features_that_are_kept_take_memory_in_a_cache_alone(resnet6, teacher):
    config = small(resnet6, hr={"weight": 0.0}, lr={"weight": 1.0})
    before, plain = planned(config), counted(config)[1]
    config.terms = to_teacher("feature")
    config.teacher.update({"checkpoint": teacher[0], "cache": "records"})
    assert planned(config) == before
    assert counted(config)[1] == plain
    config.input.cache = "device"
    assert planned(config).cache == 1000 * (112 * 112 * 3 + 4 + 2 * 16 * 4)


def test_without_a_head_there_are_no_centers(resnet6):
    config = small(resnet6, hr={"weight": 0.0}, lr={"weight": 0.0})
    both = ("student.hr.feature", "student.lr.feature")
    config.head, config.terms = {"name": "none"}, {"mine": to_teacher("feature")["mine"] | {"of": both}}
    found = planned(config)
    assert (found.class_centers, found.cosines) == (0, 0)
    assert found.activations == planned(small(resnet6)).activations
    run, count = counted(config)
    assert count == 3 * 2 * 16 * operations.of_forward(run.backbone)


def test_a_second_set_counts_by_its_own_batch(resnet6):
    config = small(resnet6, hr={"weight": 1.0}, lr={"weight": 0.0, "source": "second"})
    config.input.second.update({"dataset": "native", "batch_size": 4})
    alone = planned(config)
    config.terms = {"mine": {"term": "contrastive", "of": ("student.hr.feature", "student.lr.feature"), "margin": 1.0}}
    config.terms.mine.update({"weight": 1.0, "weight_unit": "lambda"})
    assert planned(config).activations == pytest.approx(alone.activations * 20 / 16)
    assert planned(config).images == 20 * 112 * 112 * 3 * 5
    run, count = counted(config, second=4)
    assert count == 3 * 20 * operations.of_forward(run.backbone) + 3 * 2 * 16 * 5 * 16
