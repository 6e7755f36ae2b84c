"""A workdir belongs to one config."""

import json
import pathlib

import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.run import workdir


def test_claim_writes_once_and_accepts_the_same_config(tmp_path):
    folder, config = tmp_path / "deep" / "run", {"seed": 0, "loss": {"margin": 0.4}}
    workdir.claim(folder, config, is_main_process=True)
    assert json.loads((folder / "config.json").read_text()) == config
    workdir.claim(folder, config, is_main_process=True)
    assert [path.name for path in folder.iterdir()] == ["config.json"]


def test_another_config_is_refused_with_every_field(tmp_path):
    workdir.claim(tmp_path, {"seed": 0, "loss": {"margin": 0.4}}, is_main_process=True)
    with pytest.raises(
        UserError, match=r"config\.loss\.margin is 0\.4 there, 0\.5 here; config\.seed is 0 there, 1 here"
    ):
        workdir.claim(tmp_path, {"seed": 1, "loss": {"margin": 0.5}}, is_main_process=True)
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 0


def test_what_may_change_may_and_the_workdir_then_holds_it(tmp_path):
    def config(shards, chunks, sampled_share):
        classifier = {"shards": shards, "chunks": chunks, "sampled_share": sampled_share}
        reading = {"dataset": "casia", "cache": "device" if chunks > 1 else "none"}
        other = {"batch_parts": shards, "remat": "blocks" if shards > 1 else "none", "eval_batch_size": 8 * shards}
        other |= {"log_every_steps": shards, "num_epochs": shards, "evals": {"lfw": {"resolutions": [shards]}}}
        return {"seed": 0, "classifier": classifier, "input": reading} | other

    workdir.claim(tmp_path, config(1, 1, 0.1), is_main_process=True)
    workdir.claim(tmp_path, config(8, 4, 0.1), is_main_process=True)
    path = tmp_path / "config.json"
    assert json.loads(path.read_text())["classifier"]["shards"] == 1  # until it goes on
    with pytest.raises(UserError, match=r"config \(config\.classifier\.sampled_share is 0\.1 there, 1\.0 here\): use"):
        workdir.claim(tmp_path, config(8, 4, 1.0), is_main_process=True)
    workdir.renew(tmp_path, config(8, 4, 0.1), is_main_process=False)
    assert json.loads(path.read_text())["classifier"]["shards"] == 1
    workdir.renew(tmp_path, config(8, 4, 0.1), is_main_process=True)
    assert json.loads(path.read_text()) == config(8, 4, 0.1)


def test_a_group_that_may_change_is_no_beginning_of_a_name():
    assert workdir.may_change("evals", workdir.WATCHING)
    assert workdir.may_change("evals.lfw.fars", workdir.WATCHING)
    assert not workdir.may_change("evals_of", workdir.WATCHING)


def test_other_processes_write_nothing(tmp_path):
    workdir.claim(tmp_path / "run", {"seed": 0}, is_main_process=False)
    assert not (tmp_path / "run").exists()


def test_differences_name_missing_fields():
    assert workdir.differences("config", {"a": 1}, {"b": 2}) == [
        "config.a is 1 there, None here",
        "config.b is None there, 2 here",
    ]


CHECKPOINTS = pathlib.Path("checkpoints")


def data(**changes):
    facts = {"dataset": "casia", "num_images": 9, "seed": 0, "digest": "sha256:a", "test_sets": {"lfw": "sha256:l"}}
    return facts | changes


def test_the_same_data_is_accepted_in_silence(caplog):
    workdir.check_data(CHECKPOINTS, data(), data())
    workdir.check_data(CHECKPOINTS, data(), data(test_sets={"lfw": "sha256:l", "new": "sha256:n"}))
    assert not caplog.records


def test_other_content_under_the_same_name_is_refused():
    with pytest.raises(
        UserError,
        match=r"checkpoints saw other data \(casia holds other images or labels now: .*sha256:a there, sha256:b here\)",
    ):
        workdir.check_data(CHECKPOINTS, data(), data(digest="sha256:b"))


@pytest.mark.parametrize("found", [data(digest=""), {"dataset": "casia", "num_images": 9, "seed": 0}])
def test_data_of_an_older_version_is_accepted_and_told(found, caplog):
    workdir.check_data(CHECKPOINTS, found, data())
    assert "casia was prepared before sets had digests" in caplog.text
    with pytest.raises(UserError, match=r"data\.num_images is 9 there, 8 here"):
        workdir.check_data(CHECKPOINTS, found, data(num_images=8))


def test_another_test_set_of_the_same_name_is_told(caplog):
    workdir.check_data(CHECKPOINTS, data(), data(test_sets={"lfw": "sha256:m"}))
    assert "lfw holds other images or pairs now" in caplog.text
