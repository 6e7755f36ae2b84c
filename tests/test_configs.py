"""Every config loads, has the same fields, and resolves to a run; the recipes' numbers are the paper's."""

import functools
import importlib
import pathlib
import re

import pytest

from configs import common, quickstart
from lrfr_jax.errors import UserError
from lrfr_jax.objective import heads
from lrfr_jax.run import experiment, objectives

FOLDER = pathlib.Path(common.__file__).parent
SYSTEMS = sorted(f"systems.{path.stem}" for path in FOLDER.glob("systems/*.py") if path.stem != "__init__")
CONFIGS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in ("__init__", "common")) + SYSTEMS


def load(name, arg=None):
    return importlib.import_module(f"configs.{name}").get_config(arg)


def fields(config):
    return {key for key, _ in config.items()} | {
        f"{group}.{key}" for group in ("input", "augment", "model", "loss", "optimizer") for key in config[group]
    }


@pytest.mark.parametrize("name", CONFIGS)
def test_docstring_holds_the_command(name):
    text = importlib.import_module(f"configs.{name}").__doc__
    assert f"python -m lrfr_jax.main --config configs/{name.replace('.', '/')}.py" in text


@pytest.mark.parametrize("name", SYSTEMS)
def test_docstring_of_a_system_says_what_is_published_and_what_is_ours(name):
    text = importlib.import_module(f"configs.{name}").__doc__
    paragraphs = re.findall(r"^(Arguments|Hardware|Published|Source)\b", text, re.MULTILINE)
    assert paragraphs == ["Arguments", "Hardware", "Published", "Source"]
    assert "ours" in text.lower()
    with pytest.raises(ValueError, match="is not one of") as raised:
        load(name, "nosuch=1")
    for argument in re.findall(r"(\w+)=", str(raised.value).partition("is not one of")[2]):
        assert argument in text


@pytest.mark.parametrize("head", common.HEADS)
def test_quickstart_changes_numbers_that_the_head_has(head):
    config = load("quickstart", f"head={head}")
    assert config.head.to_dict().keys() == common.head(head).to_dict().keys()
    assert list(quickstart.SMALL_HEADS) == list(common.HEADS)
    assert load("quickstart").head.to_dict() == {"name": "cosface", "scale": 24.0, "margin": 0.2}
    assert config.optimizer.learning_rate == (0.3 if head.startswith("npt") else 0.05)


def test_views_of_students_are_those_of_the_sources():
    """At 112 px: Massoli's sides, A-SKD's one size, F-SKD's four of which one is the image itself."""
    wanted = {
        "massoli": ((8, 16, 32, 64), 0.1, "bilinear"),
        "askd56": ((56,), 1.0, "askd_released"),
        "askd28": ((28,), 1.0, "askd_released"),
        "askd14": ((14,), 1.0, "askd_released"),
        "fskd": ((14, 28, 56, 112), 1.0, "opencv"),
    }
    for policy, rule in wanted.items():
        views = load("quickstart", f"policy={policy}").augment.views
        assert (views.lr.sizes, views.lr.share, views.lr.operator) == rule
        assert len(set(views.lr.ratios)) == 1
        assert (views.hr.weight, views.lr.weight, views.hr.sizes) == (0.0, 1.0, ())
        assert load("quickstart", f"policy={policy}").loss.distance_weight == 0


def test_numbers_of_the_systems():
    magface = load("systems.magface")
    assert (magface.model.backbone, magface.batch_size, magface.num_epochs) == ("iresnet50", 512, 25.0)
    assert (magface.model.input.order, magface.model.input.mean, magface.model.input.scale) == ("bgr", 0.0, 255.0)
    assert load("systems.magface", "head=mag_cosface").head.norm_weight == 150.0
    adaface = load("systems.adaface")
    assert (adaface.optimizer.weight_decay, adaface.optimizer.weight_decay_on) == (5e-4, "no_norm_bias")
    assert adaface.augment.crop.probability == adaface.augment.light.probability == 0.2
    assert load("systems.elasticface", "head=elastic_cosface,plus=intended").head.sigma == 0.02
    assert load("systems.elasticface").head.sigma == 0.05
    resnet, mobile = load("systems.npt"), load("systems.npt", "backbone=mobilefacenet,dataset=ms1m")
    assert (resnet.head.num_nearest, resnet.optimizer.weight_decay, resnet.batch_size) == (1, 1e-4, 64)
    assert (mobile.head.num_nearest, mobile.model.embedding_size, mobile.batch_size) == (6, 256, 512)
    assert (mobile.optimizer.nesterov, resnet.optimizer.nesterov) == (True, False)
    assert load("systems.rpcl").init_from == ""
    assert load("systems.rpcl", "head=rpcl_magface,stage=tinyface").init_from == "runs/rpcl_magface/checkpoints/153320"
    assert load("systems.btm_stm", "policy=st_m1").loss.distance_weight == 1.0
    assert load("systems.btm_stm").loss.distance_weight == 0.0
    assert load("systems.cosface").to_json() == load("casia_r34", "policy=none").to_json()
    assert load("systems.uniface").optimizer.clip_norm == 10.0
    assert load("systems.curricularface").model.backbone == "iresnet100"
    assert (load("systems.arcface").batch_size, load("systems.arcface").head.gradient) == (1024, "straight_through")


@pytest.mark.parametrize("name", CONFIGS)
def test_same_fields_everywhere(name):
    assert fields(load(name)) == fields(load("quickstart"))


@pytest.mark.parametrize("name", heads.HEADS)
def test_every_head_takes_its_published_numbers(name):
    numbers = common.head(name).to_dict()
    assert numbers.pop("name") == name
    assert isinstance(heads.HEADS[name](**numbers), heads.Head)


def test_heads_are_those_that_exist():
    assert list(common.HEADS) == list(heads.HEADS)
    with pytest.raises(ValueError, match="unknown head 'sphereface': choose one of softmax, "):
        common.head("sphereface")


@pytest.mark.parametrize("policy", common.POLICIES)
def test_every_policy_resolves_to_a_run(policy):
    config = load("quickstart", f"policy={policy},batch_size=16")
    assert experiment.build_run(config, num_identities=5, steps_per_epoch=10.0).backbone is not None


def test_paper_numbers():
    config = load("casia_r34")
    assert (config.model.backbone, config.batch_size, config.num_epochs) == ("resnet34", 256, 28.0)
    assert tuple(config.augment.views.lr.sizes) == (7, 14, 20)
    assert tuple(config.augment.views.lr.ratios) == (1.0, 1.0, 2.0)
    assert (config.head.scale, config.head.margin, config.loss.distance_weight) == (48.0, 0.4, 1.0)
    assert (config.loss.distance, config.loss.p, config.loss.reduction) == ("logexp", 1.0, "paper")
    assert tuple(config.optimizer.milestone_epochs) == (16.0, 24.0)
    assert (config.optimizer.learning_rate, config.optimizer.weight_decay) == (0.1, 5e-4)
    large = load("ms1m_r50")
    assert (large.model.backbone, large.num_epochs, large.optimizer.learning_rate) == ("resnet50", 16.0, 0.01)
    assert tuple(large.optimizer.milestone_epochs) == (8.0, 12.0)
    assert load("casia_r34", "policy=none").loss.distance_weight == 0.0


@pytest.mark.parametrize("arg", ["policy=nosuch", "polcy=maug", "batch_size=many", "maug"])
def test_bad_config_argument_is_a_sentence(arg):
    with pytest.raises(ValueError, match=r"policy|batch_size|config argument"):
        load("quickstart", arg)


@pytest.mark.parametrize(
    ("group", "field", "value"),
    [
        ("model", "backbone", "resnet35"),
        ("model", "batch_norm", "group"),
        ("model", "dtype", "float8"),
        ("head", "name", "cosine"),
        ("loss", "distance", "l3"),
        ("loss", "reduction", "sum"),
        ("loss", "p", 2.5e-1),
        ("augment", "rounding", "int8"),
        ("augment", "flip", "vertical"),
        ("augment.views.lr", "ratios", (1.0,)),
        ("augment.crop", "areas", (0.5, 0.25)),
        ("optimizer", "schedule", "linear"),
        ("optimizer", "weight_decay_on", "some"),
        ("optimizer", "milestone_epochs", (1.0,)),
    ],
)
def test_wrong_value_is_found_before_training(group, field, value):
    config = load("quickstart", "batch_size=8")
    functools.reduce(getattr, group.split("."), config)[field] = value
    with pytest.raises(UserError, match=str(value).split(",")[0].strip("(").replace(".", r"\.")):
        experiment.build_run(config, num_identities=5, steps_per_epoch=10.0)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": "cosfase"}, r"head\.name='cosfase' is unknown: choose one of softmax, "),
        (
            {"name": "arcface"},
            r"arcface. has the fields scale, margin, gradient, guard, not scale, margin: .*:head=arcface, or",
        ),
        ({"margin": float("nan")}, r"head\.margin=nan must be finite"),
        ({"scale": float("inf")}, r"head\.scale=inf must be finite"),
    ],
)
def test_head_fields(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        objectives.head_of({"name": "cosface", "scale": 64.0, "margin": 0.4} | changes)


def test_a_set_of_one_identity_is_refused():
    with pytest.raises(UserError, match=r"config\.input\.dataset=\w+ has one identity, and nothing to tell apart"):
        experiment.build_run(load("quickstart", "batch_size=8"), num_identities=1, steps_per_epoch=10.0)


@pytest.mark.parametrize(("dtype", "precision"), [("float32", "HIGHEST"), ("bfloat16", "HIGH")])
def test_class_centers_are_multiplied_as_precisely_as_the_body_deserves(dtype, precision):
    config = load("quickstart", "batch_size=8")
    config.model.dtype = dtype
    classifier = experiment.build_run(config, num_identities=5, steps_per_epoch=10.0).classifier
    assert classifier.precision.name == precision


def test_parts_need_images_that_do_not_meet():
    config = load("quickstart", "batch_size=8")
    config.batch_parts = 2
    with pytest.raises(UserError, match=r"batch_parts=2 needs model\.batch_norm='frozen'"):
        experiment.build_run(config, num_identities=5, steps_per_epoch=10.0)
    config.model.batch_norm = "frozen"
    experiment.build_run(config, num_identities=5, steps_per_epoch=10.0)


def test_typo_in_a_group_is_found():
    config = load("quickstart", "batch_size=8")
    with config.unlocked():
        config.head.marginn = 0.4
    with pytest.raises(UserError, match="marginn"):
        experiment.build_run(config, num_identities=5, steps_per_epoch=10.0)
