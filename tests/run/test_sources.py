"""Runs on batches of identities and on two sets: killed and continued, and what their checkpoints say of the data."""

import contextlib
import pathlib
import shutil
import time

import jax
import numpy as np
import pytest

from configs import quickstart
from lrfr_jax.checkpoints import checkpoint
from lrfr_jax.data import face_sets
from lrfr_jax.errors import UserError
from lrfr_jax.machines import sharding
from lrfr_jax.run import former_names, sources, train, workdir

IDENTITIES = {"order": "identities", "images_per_identity": 2}
SECOND = {"dataset": "native_train", "batch_size": 16, "order": "identities", "images_per_identity": 4}


@pytest.fixture(scope="module")
def data_dir(generated_data, tmp_path_factory):
    """Two sets of the same faces under two names, of which the second is as `prepare` wrote it before."""
    folder = tmp_path_factory.mktemp("sets")
    for name in ("generated_train", "native_train"):
        shutil.copytree(pathlib.Path(generated_data) / "generated_train", folder / name)
    (folder / "native_train/1.0.0/labels.npy").unlink()
    return folder


def config_of(resnet6, **changes):
    config = quickstart.get_config("policy=none,batch_size=8,num_epochs=1")  # 48 images: 6 steps
    config.model.update({"backbone": resnet6, "width": 0.0625, "embedding_size": 16, "dropout": 0.2})
    config.update({"log_every_steps": 1, "checkpoint_every_steps": 2, "eval_every_steps": 0})
    config.evals = {}
    config.input.update(IDENTITIES)
    config.input.second.update(SECOND)
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="module")
def start(resnet6, data_dir):
    return lambda folder, **changes: train.train(config_of(resnet6, **changes), workdir=folder, data_dir=data_dir)


@contextlib.contextmanager
def noted(before=lambda number: None):
    """Collects the batches of a run, each before it is sent; `before` is called with its number in the run."""
    real, batches = sharding.to_devices, []

    def noting(batch, mesh):
        before(len(batches))
        batches.append(batch)
        return real(batch, mesh)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharding, "to_devices", noting)
        yield batches


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
    """The folder of an uninterrupted run, and its batches."""
    folder = tmp_path_factory.mktemp("whole")
    with noted() as batches:
        start(folder)
    return folder, batches


def test_a_killed_run_goes_on_with_the_batches_of_both_sets(start, whole, tmp_path):
    """The first steps from a device cache, the others without; what was in each batch is compared image by image."""

    def kill(number):
        while number == 4 and not (tmp_path / "checkpoints/4").exists():
            time.sleep(0.01)
        if number == 4:
            raise KeyboardInterrupt

    with noted(kill) as cached, pytest.raises(KeyboardInterrupt):
        start(tmp_path, **{"input.cache": "device"})
    with noted() as rest:
        start(tmp_path)
    folder, batches = whole
    assert (tmp_path / "metrics.jsonl").read_text() == (folder / "metrics.jsonl").read_text()
    assert cached[0].keys() == {"record", "second"}
    assert (len(batches), len(rest)) == (6, 2)
    jax.tree.map(np.testing.assert_array_equal, batches[4:], rest)
    for batch, images in ((batches[0], 2), (batches[0]["second"], 4)):
        groups = batch["label"].reshape(4, images)
        assert (groups == groups[:, :1]).all()


def test_checkpoints_say_the_order_and_the_second_set_and_another_one_is_refused(start, whole, data_dir):
    newest = checkpoint.newest(whole[0])
    metadata = checkpoint.load_metadata(newest)
    digest = face_sets.digest_of(str(data_dir), "native_train")
    of_set = {"num_images": 48, "num_identities": 6, "digest": digest}
    assert metadata["data"]["second"] == SECOND | of_set
    assert (metadata["data"]["order"], metadata["data"]["images_per_identity"]) == ("identities", 2)
    [history] = metadata["history"]
    assert history["second"] == {"dataset": "native_train", "licence": history["licence"]} | of_set
    card = (newest / "card.md").read_text()
    assert f"Beside it native_train: 48 images of 6 identities, digest {digest}; licence: none needed" in card
    for field, value, was in (
        ("input.order", "shuffled", "identities"),
        ("input.images_per_identity", 4, 2),
        ("input.second.batch_size", 8, 16),
    ):
        changes = {field: value} | ({"input.images_per_identity": 1} if value == "shuffled" else {})
        with pytest.raises(UserError, match=rf"config\.{field} is {was} there, {value} here"):
            start(whole[0], **changes)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"input.images_per_identity": 3}, r"config\.input\.images_per_identity=3 does not divide the batch of 8"),
        ({"input.images_per_identity": 1}, r"puts 8 identities into the batch of 8 images, and the set has 6"),
        ({"input.order": "sorted"}, r"config\.input\.order='sorted' is unknown: choose one of shuffled, identities"),
        ({"input.order": "shuffled"}, r"images_per_identity=2 needs config\.input\.order=identities"),
        ({"input.second.batch_size": 12}, r"--config\.input\.second\.batch_size=12 cannot be split evenly over 8 dev"),
        ({"input.second.batch_size": 0}, r"--config\.input\.second\.batch_size=0 cannot be split .*: set it to 8"),
        ({"input.second.images_per_identity": 5}, r"input\.second\.images_per_identity=5 does not divide the batch"),
        ({"input.second.dataset": "nosuch"}, "no set named nosuch"),
        ({"input.second.dataset": ""}, r"second\.batch_size=16 has no set to be of: .* or set the field to 0"),
    ],
)
def test_bad_input_is_a_sentence_and_leaves_no_workdir(start, tmp_path, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        start(tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_a_second_set_must_be_there_whole_for_one_field_of_it():
    for field, value in (("order", "identities"), ("images_per_identity", 2)):
        config = quickstart.get_config("policy=none")
        config.input.second[field] = value
        with pytest.raises(UserError, match=rf"config\.input\.second\.{field}={value} has no set to be of"):
            sources.check_second(config)


def facts(**changes):
    return (
        {"dataset": "casia", "digest": "sha256:a", "test_sets": {}, "second": {}}
        | {
            "order": "shuffled",
            "images_per_identity": 1,
        }
        | changes
    )


NATIVE = {"dataset": "tinyface", "digest": "sha256:t", "batch_size": 8}


def test_the_second_set_is_compared_as_the_first():
    place = pathlib.Path("checkpoints")
    before_orders = {"dataset": "casia", "digest": "sha256:a", "test_sets": {}}
    workdir.check_data(place, before_orders, facts())
    workdir.check_data(place, facts(second=NATIVE), facts(second=NATIVE))
    for found, now, sentence in (
        (before_orders, facts(order="identities"), r"data\.order is shuffled there, identities here"),
        (before_orders, facts(second=NATIVE), r"data\.second\.dataset is None there, tinyface here"),
        (facts(second=NATIVE), facts(), r"data\.second\.dataset is tinyface there, None here"),
        (facts(second=NATIVE), facts(second=NATIVE | {"batch_size": 4}), r"data\.second\.batch_size is 8 there, 4"),
        (
            facts(second=NATIVE),
            facts(second=NATIVE | {"digest": "sha256:u"}),
            r"tinyface holds other images or labels now: its digest is sha256:t there, sha256:u here",
        ),
    ):
        with pytest.raises(UserError, match=sentence):
            workdir.check_data(place, found, now)


def test_a_second_set_without_a_digest_is_told(caplog):
    place = pathlib.Path("checkpoints")
    workdir.check_data(place, facts(second=NATIVE | {"digest": ""}), facts(second=NATIVE))
    assert "tinyface was prepared before sets had digests" in caplog.text
    assert "casia" not in caplog.text


def test_what_configs_of_before_leave_out_is_what_none_means():
    later = {f"second.{field}": value for field, value in sources.NONE.items()}
    later |= {"order": "shuffled", "images_per_identity": 1}
    assert {f"input.{field}": value for field, value in later.items()}.items() <= former_names.LATER.items()
    assert quickstart.get_config("policy=none").input.second.to_dict() == sources.NONE
