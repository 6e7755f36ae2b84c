"""A run in time: it writes what it should, survives being killed bit for bit, and stops in words."""

import dataclasses
import json
import logging
import os
import pathlib
import signal
import time

import jax
import numpy as np
import pytest

from configs import common, quickstart
from lrfr_jax.checkpoints import checkpoint
from lrfr_jax.data import face_sets, pipeline
from lrfr_jax.errors import UserError
from lrfr_jax.evals import evaluation, report
from lrfr_jax.run import metric_writers, train
from lrfr_jax.trained.model import open_model
from tests.evals import made_up_sets

logging.getLogger("lrfr_jax").setLevel(logging.INFO)
ONE_VIEW = common.augment("none").views


@pytest.fixture
def config(generated_data, resnet6):
    config = quickstart.get_config("policy=maug,batch_size=8,num_epochs=1")  # 48 images: 6 steps
    config.model.update({"backbone": resnet6, "width": 0.0625, "embedding_size": 16, "dropout": 0.2})
    config.update({"log_every_steps": 1, "checkpoint_every_steps": 2, "eval_every_steps": 4, "eval_batch_size": 15})
    config.evals.generated_test.resolutions = (14,)
    if not face_sets.folder_of(generated_data, "searches").exists():
        made_up_sets.write(generated_data, "searches", made_up_sets.identification())
    config.evals.searches = {"protocol": "scface", "split": "half"}
    return config


@pytest.fixture
def start(config, generated_data):
    return lambda workdir, **changes: train.train(
        _changed(config, changes), workdir=workdir, data_dir=pathlib.Path(generated_data)
    )


def _changed(config, changes):
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(changes)
    return config


def final_state(workdir):
    variables, _ = checkpoint.load_backbone(checkpoint.newest(workdir))
    return jax.tree.leaves(variables)


def assert_same_run(one, other):
    assert (one / "metrics.jsonl").read_text() == (other / "metrics.jsonl").read_text()
    for left, right in zip(final_state(one), final_state(other), strict=True):
        np.testing.assert_array_equal(left, right)
    for path in (one / "eval").iterdir():
        assert path.read_text() == (other / "eval" / path.name).read_text()


def interrupt(monkeypatch, after, action, *, source="training_batches"):
    """Lets training get `after` more batches; then `action` happens before the next one."""
    real = getattr(pipeline, source)

    def batches(*args, **kwargs):
        for number, batch in enumerate(real(*args, **kwargs)):
            if number == after:
                action()
            yield batch

    monkeypatch.setattr(pipeline, source, batches)


def test_run_and_every_kind_of_interruption(start, tmp_path, monkeypatch, caplog):
    whole = tmp_path / "whole"
    start(whole)
    lines = metric_writers.read_metrics(whole)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 4, 5, 6, 6]  # the last step is no multiple of 4
    assert {"train/loss", "train/distance", "train/classification_lr", "train/learning_rate"} < set(lines[0])
    wanted = {"generated_test/accuracy", "generated_test/hr_lr_14/accuracy", "generated_test/lr_lr_14/auc"}
    assert wanted | {"searches_even/rank1", "searches_odd/rank1"} < set(lines[4])
    assert sorted(path.name for path in (whole / "checkpoints").iterdir()) == ["4", "6"]
    assert sorted(path.name for path in (whole / "eval").iterdir()) == ["4.json", "6.json"]
    assert json.loads((whole / "config.json").read_text())["head"]["scale"] == 24.0
    assert list(whole.glob("events.*"))
    for step in (4, 6):
        assert "licence: none needed" in (whole / f"checkpoints/{step}/card.md").read_text()
    [history] = checkpoint.load_metadata(whole / "checkpoints/6")["history"]
    assert (history["dataset"], history["num_images"], history["recipe"]["head.margin"]) == ("generated_train", 48, 0.2)

    # Killed like by kill -9: nothing is cleaned up, steps after the last checkpoint are lost. The save in the
    # background is waited for, since its thread outlives this "process"; tests/run/test_kill.py kills real ones.
    # The first steps are from a device cache, the others without: where the images come from may change.
    stopped = tmp_path / "stopped"

    def kill():
        while not (stopped / "checkpoints/4").exists():
            time.sleep(0.01)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        interrupt(patch, 5, kill, source="training_numbers")
        with pytest.raises(KeyboardInterrupt):
            start(stopped, **{"input.cache": "device"})
    assert "device cache: 48 images loaded" in caplog.text
    assert checkpoint.newest(stopped).name == "4"
    assert (stopped / "checkpoints/2/card.md").exists()

    with monkeypatch.context() as patch:
        interrupt(patch, 0, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(SystemExit) as end:
            start(stopped)
    assert end.value.code == 128 + signal.SIGTERM
    assert checkpoint.newest(stopped).name == "5"
    assert (stopped / "checkpoints/5/card.md").exists()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL

    # An evaluation that fails costs nothing but itself.
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "run", lambda *args, **kwargs: (_ for _ in ()).throw(OSError("no space left")))
        with pytest.raises(OSError, match="no space left"):
            start(stopped)
    assert checkpoint.newest(stopped).name == "6"
    assert [line["step"] for line in metric_writers.read_metrics(stopped)] == [1, 2, 3, 4, 4, 5, 6]
    # What was there of these weights stays: another set, measured in between.
    weights = open_model(stopped).weights
    earlier = {"more": json.loads((stopped / "eval/4.json").read_text())["sets"]["searches"]}
    report.write_report(stopped / "eval/6.json", {"step": 6, "checkpoint": "", "weights": weights, "sets": earlier})
    start(stopped)
    assert "kept from earlier evaluations of these weights: the sets more" in caplog.text
    made = json.loads((stopped / "eval/6.json").read_text())
    assert made["sets"].pop("more") == earlier["more"]
    report.write_report(stopped / "eval/6.json", made)
    assert "step 6 was saved and then not evaluated: it is now" in caplog.text
    assert_same_run(whole, stopped)
    for run, step in ((whole, 4), (whole, 6), (stopped, 6)):
        card = json.loads((run / f"checkpoints/{step}/card.json").read_text())
        assert [name for name in card["results"] if name != "more"] == ["generated_test", "searches"]
        assert json.loads((run / f"eval/{step}.json").read_text())["weights"] == card["weights"]

    caplog.clear()
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    start(whole)
    assert "is finished" in caplog.text
    assert before == {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path in before}

    with pytest.raises(UserError, match=r"config\.head\.margin is 0\.2 there, 0\.3 here"):
        start(whole, **{"head.margin": 0.3})


def test_diverged_run_stops_with_step_parts_and_last_good_checkpoint(start, tmp_path):
    settings = {"optimizer.learning_rate": 1e30, "optimizer.clip_norm": 0.0, "optimizer.warmup_epochs": 0.5}
    with pytest.raises(UserError, match=r"step \d: the loss is not finite \(.*classification_hr=.*step [12] in"):
        start(tmp_path, checkpoint_every_steps=1, eval_every_steps=0, **settings)
    assert all(np.isfinite(leaf).all() for leaf in final_state(tmp_path))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"batch_size": 12}, "batch_size=12 cannot be split evenly over 8 devices"),
        ({"eval_batch_size": 0}, "eval_batch_size=0 must be at least 1"),
        ({"input.cache": "gpu"}, "input.cache=gpu is unknown: choose one of none, device"),
        ({"input.dataset": "nosuch"}, "no set named nosuch"),
        ({"input.dataset": "generated_test"}, "is a verification set where a training set is needed"),
        ({"evals.generated_test.protocol": "lfw"}, "protocol='lfw' is no protocol for a verification set"),
        ({"evals.generated_test.resolutions": (140,)}, "140"),
        ({"model.backbone": "resnet19"}, "resnet19"),
        (
            {"loss.distance_weight": 1.0, "augment.views": ONE_VIEW},
            r"of two views, and augment\.views has 1 that are classified \(hr\)",
        ),
        ({"keep_checkpoints": 0}, r"config\.keep_checkpoints=0 must be at least 1"),
        ({"seed": -1}, r"config\.seed=-1 must be from 0"),
        ({"num_epochs": float("nan")}, "num_epochs=nan must be above 0"),
        ({"head.scale": -24.0}, r"scale=-24\.0 must be above 0"),
        ({"loss.distance_weight": -1.0}, r"loss\.distance_weight=-1\.0 must be at least 0"),
        ({"model.width": float("inf")}, "the config does not fit together"),
        ({"init_from": "no/such"}, "no/such is no checkpoint"),
    ],
)
def test_bad_input_is_a_sentence_and_leaves_no_workdir(start, tmp_path, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        start(tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_sigterm_while_the_last_step_is_saved_does_not_harm_it(start, tmp_path, monkeypatch):
    real = checkpoint.close

    def close(manager):
        os.kill(os.getpid(), signal.SIGTERM)
        real(manager)

    monkeypatch.setattr(checkpoint, "close", close)
    start(tmp_path, checkpoint_every_steps=0, eval_every_steps=0, evals={})
    assert checkpoint.newest(tmp_path).name == "6"
    card = tmp_path / "checkpoints/6/card.json"
    first = card.read_text()

    # A kill between the last save and its card is made up for.
    card.unlink()
    start(tmp_path, checkpoint_every_steps=0, eval_every_steps=0, evals={})
    assert card.read_text() == first


def test_damaged_files_of_a_run_are_named(start, tmp_path):
    start(tmp_path, eval_every_steps=0, evals={})
    metrics, config = tmp_path / "metrics.jsonl", tmp_path / "config.json"
    good = metrics.read_text()
    for damaged in ('{"step": 1', "[]", "{}"):
        metrics.write_text(f"{damaged}\n{good}")
        with pytest.raises(UserError, match=r"line 1 of .*metrics\.jsonl is damaged"):
            start(tmp_path, eval_every_steps=0, evals={})
    config.write_text("")
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        start(tmp_path, eval_every_steps=0, evals={})


def test_other_data_under_the_same_name_is_refused(start, tmp_path, monkeypatch):
    def kill():
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        interrupt(patch, 3, kill)
        with pytest.raises(KeyboardInterrupt):
            start(tmp_path)
    real = train.face_sets.open_training_set
    with monkeypatch.context() as patch:
        other = lambda *args: dataclasses.replace(real(*args), digest="sha256:0")  # noqa: E731
        patch.setattr(train.face_sets, "open_training_set", other)
        with pytest.raises(UserError, match=r"generated_train holds other images or labels now: .* sha256:0 here"):
            start(tmp_path)
    fewer = lambda *args: dataclasses.replace(real(*args), num_images=40)  # noqa: E731
    monkeypatch.setattr(train.face_sets, "open_training_set", fewer)
    with pytest.raises(UserError, match=r"saw other data \(data\.num_images is 48 there, 40 here\)"):
        start(tmp_path)


def test_a_run_is_extended_and_looked_at_in_another_way(start, tmp_path, caplog):
    """Its metrics are those of a run that was as long from its beginning, evaluations of its former end aside."""
    constant = {"optimizer.schedule": "constant", "optimizer.warmup_epochs": 0.25, "eval_every_steps": 0, "evals": {}}
    start(tmp_path / "whole", **constant, num_epochs=1.5, log_every_steps=1)
    run = tmp_path / "run"
    start(run, **constant, num_epochs=0.5, log_every_steps=1)
    assert checkpoint.newest(run).name == "3"
    changes = constant | {"num_epochs": 1.5, "keep_checkpoints": 5, "checkpoint_every_steps": 4, "eval_batch_size": 20}
    start(run, **changes)
    assert "continuing after step 3, now with checkpoint_every_steps 2 -> 4, keep_checkpoints" in caplog.text
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["2", "3", "4", "8", "9"]
    whole, extended = (metric_writers.read_metrics(workdir) for workdir in (tmp_path / "whole", run))
    assert [line for line in extended if len(line) > 1] == [line for line in whole if len(line) > 1]
    for left, right in zip(final_state(run), final_state(tmp_path / "whole"), strict=True):
        np.testing.assert_array_equal(left, right)
    kept = json.loads((run / "config.json").read_text())
    assert (kept["num_epochs"], kept["eval_batch_size"]) == (1.5, 20)
    [history] = checkpoint.load_metadata(run / "checkpoints/9")["history"]
    assert history["recipe"]["num_epochs"] == 0.5
    [change] = history["changes"]
    assert change["after_step"] == 3
    assert change["fields"]["num_epochs"] == [0.5, 1.5]
    assert "eval_batch_size" not in change["fields"]  # how to compute
    assert "After step 3: checkpoint_every_steps 2 -> 4" in (run / "checkpoints/9/card.md").read_text()

    with pytest.raises(UserError, match=r"num_epochs ends at step 6, .*checkpoints/9 is already beyond that"):
        start(run, **changes | {"num_epochs": 1.0})
    assert json.loads((run / "config.json").read_text()) == kept
