"""What may change when a run continues: the config that a checkpoint had, and whether the new one fits its past."""

import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.run import continuation, experiment

OPTIMIZER = {"schedule": "steps", "learning_rate": 0.1, "warmup_epochs": 0.5, "decay_factor": 0.1, "frozen": []}
OPTIMIZER |= {"momentum": 0.9, "weight_decay": 5e-4, "weight_decay_on": "all", "clip_norm": 5.0}
OPTIMIZER |= {"classifier_rate_factor": 1.0, "milestone_epochs": [2]}
CONFIG = {
    "seed": 0,
    "num_epochs": 3.0,
    "log_every_steps": 20,
    "input": {"cache": "none"},
    "optimizer": OPTIMIZER,
    "evals": {"lfw": {"protocol": "insightface", "resolutions": [14]}},
}


def changed(**fields):
    optimizer = {name.removeprefix("optimizer_"): value for name, value in fields.items() if "optimizer_" in name}
    others = {name: value for name, value in fields.items() if "optimizer_" not in name}
    return CONFIG | others | {"optimizer": OPTIMIZER | optimizer}


def metadata(config=CONFIG, changes=()):
    recipe = {name: value for name, value in config.items() if name not in ("evals", "optimizer", "input")}
    recipe |= {f"optimizer.{name}": value for name, value in config["optimizer"].items()} | {"input.cache": "none"}
    entry = {"kind": "training", "recipe": recipe} | ({"changes": list(changes)} if changes else {})
    return {"history": [{"kind": "import"}, entry], "evals": config["evals"]}


def test_what_changed_is_told_step_by_step_and_how_to_compute_is_not():
    before = continuation.config_at(metadata())
    assert continuation.changes(before, CONFIG) == {}
    longer = changed(num_epochs=4.0, input={"cache": "device"})
    fields = continuation.changes(before, longer)
    assert fields == {"num_epochs": [3.0, 4.0]}
    assert continuation.as_text(fields) == "num_epochs 3.0 -> 4.0"
    history = continuation.with_changes(metadata()["history"], 30, fields)
    assert history[1]["changes"] == [{"after_step": 30, "fields": {"num_epochs": [3.0, 4.0]}}]
    assert history[1]["recipe"]["num_epochs"] == 3.0  # what the run began with

    # The next time only what is new is told, also where nobody wrote the config before a kill.
    of_then = continuation.config_at({"history": history, "evals": CONFIG["evals"]})
    assert continuation.changes(of_then, longer) == {}
    other = changed(num_epochs=4.0, evals={"cfp": {"protocol": "insightface"}})
    fields = continuation.changes(of_then, other)
    assert fields["evals.cfp.protocol"] == [None, "insightface"]
    assert fields["evals.lfw.resolutions"] == [[14], None]
    assert len(continuation.with_changes(history, 40, fields)[1]["changes"]) == 2


def test_a_checkpoint_that_says_nothing_is_not_compared():
    for unknown in ({}, {"history": []}, {"history": [{"kind": "import"}]}):
        assert continuation.config_at(unknown) == {}
    assert continuation.changes({}, CONFIG) == {}
    assert continuation.with_changes([], 3, {}) == []


def check(step, before=CONFIG, **fields):
    config = {name: before[name] for name in before} | fields
    optimizer = dict(before["optimizer"]) | fields.pop("optimizer", {})
    optimizer["milestone_epochs"] = tuple(optimizer["milestone_epochs"])
    schedule = experiment.schedule_of(optimizer, num_epochs=config["num_epochs"], steps_per_epoch=10.0)
    length = {"step": step, "num_steps": round(config["num_epochs"] * 10), "steps_per_epoch": 10.0}
    then = continuation.config_at(metadata(before))
    continuation.check(then, schedule=schedule, place="W/checkpoints/30", **length)


def test_a_run_whose_rates_so_far_stay_may_be_extended_or_end_sooner():
    check(30)
    check(30, num_epochs=5.0)
    check(30, num_epochs=5.0, optimizer={"milestone_epochs": [2, 4]})
    check(15, num_epochs=2.5)
    constant = changed(optimizer_schedule="constant", optimizer_milestone_epochs=[], optimizer_decay_factor=1.0)
    check(30, constant, num_epochs=9.0)
    check(4, changed(optimizer_schedule="cosine", optimizer_milestone_epochs=[], optimizer_decay_factor=1.0))


def test_a_run_that_is_beyond_the_new_end_is_refused_with_what_is_possible():
    with pytest.raises(UserError, match=r"num_epochs ends at step 21.*set it to 3\.0, as it was, or to at least 3;"):
        check(30, num_epochs=2.1)


def test_other_rates_for_steps_taken_are_refused_with_a_way_out():
    way_out = r"--config\.init_from=W/checkpoints/30 trains on from its weights"
    with pytest.raises(UserError, match=rf"milestone_epochs=\[2\]: .*'steps' would have given other .*{way_out}"):
        check(30, optimizer={"milestone_epochs": [1]})
    cosine = changed(optimizer_schedule="cosine", optimizer_milestone_epochs=[], optimizer_decay_factor=1.0)
    with pytest.raises(UserError, match=r"trained with num_epochs=3\.0 .* the schedule 'cosine' would have given"):
        check(30, cosine, num_epochs=4.0)
    check(5, cosine, num_epochs=4.0)  # the rise at the beginning is the same
