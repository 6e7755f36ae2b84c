"""Parts of configs that are not one set, two classified views and a head: a teacher, terms alone, a second set."""

import functools

import jax
import pytest

from configs import quickstart
from lrfr_jax.benchmark import parts, reading
from lrfr_jax.benchmark.setting import make_setting
from lrfr_jax.checkpoints import checkpoint
from lrfr_jax.errors import UserError
from lrfr_jax.run import experiment
from lrfr_jax.sizing import operations

NO_WEIGHT, OF_LR = {"weight": 0.0}, {"weight": 1.0}


def config_of(resnet6, **views):
    config = quickstart.get_config("policy=aug,batch_size=8")
    config.model.update({"backbone": resnet6, "width": 0.0625, "embedding_size": 16})
    rules = config.augment.views.to_dict()
    for name, rule in views.items():
        rules[name] |= rule
    config.augment.views = rules
    config.loss.distance_weight = 0.0
    config.input.prefetch_images = 16
    return config


def term(key, *of, **numbers):
    return {"mine": {"term": key, "of": of, "weight": 1.0, "weight_unit": "lambda"} | numbers}


@pytest.fixture(scope="module")
def teacher(resnet6, tmp_path_factory):
    config = config_of(resnet6)
    run = experiment.build_run(config, 5, 10.0)
    state = jax.jit(run.init)(jax.random.key(0, impl="rbg"))
    variables = {"params": state.params["backbone"], "batch_stats": state.batch_stats}
    model = {key: value for key, value in config.model.to_dict().items() if key != "batch_norm"}
    folder = tmp_path_factory.mktemp("teacher") / "net"
    checkpoint.save_backbone(folder, variables, {"step": 0, "model": model, "degradation_rounding": "uint8"})
    return str(folder)


@pytest.fixture
def taught(resnet6, teacher):
    config = config_of(resnet6, hr=NO_WEIGHT, lr=OF_LR)
    config.terms = term("mse", "student.lr.feature", "teacher.hr.feature")
    config.teacher.checkpoint = teacher
    return config


setting_of = functools.partial(make_setting, num_identities=5, data_dir="")


def test_a_step_with_a_teacher_runs_and_costs_its_forward_pass(taught):
    setting = setting_of(taught)
    assert set(setting.of_teacher) == {"backbone"}
    made = parts.train_step(setting)
    made.run()
    taught.teacher.cache = "records"
    kept = setting_of(taught)
    assert (kept.of_teacher, kept.batch["teacher"].shape) == ({}, (8, 2, 16))
    count = operations.of_training(kept.run, embedding_size=16, batch=8, second_batch=0)
    assert made.operations - count == 8 * operations.of_forward(kept.run.backbone)


@pytest.mark.parametrize("cache", ["none", "device"])
def test_training_on_records_with_kept_features(taught, cache):
    taught.teacher.cache, taught.input.cache = "records", cache
    reading.training(setting_of(taught)).run()


def test_terms_alone_on_two_sets(resnet6):
    config = config_of(resnet6, hr=NO_WEIGHT, lr=NO_WEIGHT | {"source": "second"})
    config.head = {"name": "none"}
    config.terms = term("contrastive", "student.hr.feature", "student.lr.feature", margin=1.0)
    config.input.second.update({"dataset": "native", "batch_size": 16})
    setting = setting_of(config)
    assert setting.batch["second"]["image"].shape == (16, 112, 112, 3)
    made = parts.train_step(setting)
    made.run()
    assert made.operations == 3 * 24 * operations.of_forward(setting.run.backbone)
    parts.degradation(setting).run()
    with pytest.raises(UserError, match=r"the part 'head' needs a classification, and head.name='none' has none"):
        parts.head(setting)
