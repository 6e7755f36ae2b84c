"""Configs that were recorded by names of before are those of today."""

import json

import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from configs import casia_r34, quickstart
from lrfr_jax.errors import UserError
from lrfr_jax.run import continuation, former_names, objectives, workdir

LATER = (
    "augment.crop.",
    "augment.gray.",
    "augment.light.",
    "augment.low_resolution.",
    "augment.views.",
    "input.images_per_identity",
    "input.order",
    "input.second.",
    "optimizer.algorithm",
)
LATER += ("model.input.size", "optimizer.betas", "optimizer.epsilon", "optimizer.nesterov")
LATER += ("optimizer.weight_decay_by_prefix", "optimizer.decay_towards", "optimizer.weight_average")


def today(policy="maug", module=quickstart):
    return flatten_dict(json.loads(module.get_config(f"policy={policy}").to_json()), sep=".")


def then(fields, sizes=(7, 14, 20), ratios=(1.0, 1.0, 2.0)):
    """The same config as it was recorded before views had rules and heads were records."""
    kept = {name: value for name, value in fields.items() if not name.startswith((*LATER, "head."))}
    head = {"loss.margin_type": "cosface", "loss.scale": fields["head.scale"], "loss.margin": fields["head.margin"]}
    return kept | {"augment.sizes": list(sizes), "augment.ratios": list(ratios)} | head


@pytest.mark.parametrize("module", [quickstart, casia_r34])
def test_a_config_of_before_is_that_of_today(module):
    assert "augment.rounding" in then(today(module=module))
    assert former_names.current(then(today(module=module))) == today(module=module)
    assert former_names.current(then(today("none", module), (), ())) == today("none", module)


@pytest.mark.parametrize(
    ("margin_type", "head"),
    [
        ("softmax", {"name": "softmax", "scale": 64.0}),
        ("cosface", {"name": "cosface", "scale": 64.0, "margin": 0.5}),
        ("arcface", {"name": "arcface", "scale": 64.0, "margin": 0.5, "gradient": "exact", "guard": "none"}),
        (
            "arcface_straight_through",
            {"name": "arcface", "scale": 64.0, "margin": 0.5, "gradient": "straight_through", "guard": "none"},
        ),
    ],
)
def test_former_heads(margin_type, head):
    margin = 0.5 if "margin" in head else 0.0
    former = then(today()) | {"loss.margin_type": margin_type, "loss.scale": 64.0, "loss.margin": margin}
    found = former_names.current(former)
    assert {name.removeprefix("head."): found[name] for name in found if name.startswith("head.")} == head
    assert not {"loss.margin_type", "loss.scale", "loss.margin"} & found.keys()
    objectives.head_of(head)


def test_views_of_before_had_one_operator_and_one_source():
    later = (".operator", ".source", "gray.probability")
    before = {name: value for name, value in today("st_m2").items() if not name.endswith(later)}
    assert len(before) < len(today("st_m2")) - 4
    assert former_names.current(before) == today("st_m2")


def test_a_config_of_today_stays_as_it_is_and_none_stays_none():
    changed = today() | {"augment.light.strength": 0.25, "augment.views.lr.share": 0.5}
    assert former_names.current(changed) == changed
    assert former_names.current({}) == {}


def test_what_was_recorded_is_not_changed():
    recorded = then(today())
    former_names.current(recorded)
    assert recorded == then(today())


def test_a_run_of_before_continues(tmp_path):
    config = unflatten_dict(today(), sep=".")
    workdir.claim(tmp_path, unflatten_dict(then(today()), sep="."), is_main_process=True)
    workdir.claim(tmp_path, config, is_main_process=True)
    config["augment"]["views"]["lr"]["sizes"] = [7, 14, 28]
    with pytest.raises(
        UserError, match=r"config\.augment\.views\.lr\.sizes is \[7, 14, 20\] there, \[7, 14, 28\] here"
    ):
        workdir.claim(tmp_path, config, is_main_process=True)


def test_the_history_of_a_run_of_before_tells_no_change():
    recipe = {name: value for name, value in then(today()).items() if not name.startswith("evals.")}
    evals = unflatten_dict(today(), sep=".")["evals"]
    before = continuation.config_at({"history": [{"kind": "training", "recipe": recipe}], "evals": evals})
    assert continuation.changes(before, unflatten_dict(today(), sep=".")) == {}
    longer = today() | {"num_epochs": 9.0}
    assert continuation.changes(before, unflatten_dict(longer, sep=".")) == {"num_epochs": [3.5, 9.0]}
