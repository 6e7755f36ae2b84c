"""Checkpoints: what was saved comes back; a broken one is set aside; nothing foreign is read."""

import types

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrfr_jax.checkpoints import checkpoint, newest_state
from lrfr_jax.errors import UserError
from lrfr_jax.machines import sharding
from lrfr_jax.objective.classifier import Classifier, pad_class_centers


def items(value):
    full = jnp.full((64, 32), value, jnp.float32)
    return {"params": {"kernel": full}, "batch_stats": {"mean": full[0]}}, {"classifier": full, "step": jnp.asarray(3)}


METADATA = {"model": {"width": 0.5, "input": {}}, "degradation_rounding": "uint8"}


def save(folder, *steps, metadata=METADATA):
    manager = checkpoint.create_manager(folder, keep=2)
    for step in steps:
        backbone, training = items(float(step))
        checkpoint.save(manager, step, backbone=backbone, training=training, metadata={"step": step} | metadata)
    manager.close()


def restore(folder, check=lambda metadata: None):
    manager = checkpoint.create_manager(folder, keep=2)
    mesh = sharding.make_mesh(class_shards=1)
    backbone, training = jax.device_put(items(0.0), sharding.replicated(mesh))
    restored = newest_state.restore(manager, backbone=backbone, training=training, check=check)
    manager.close()
    return restored


def test_round_trip_newest_kept_and_resharded(tmp_path):
    save(tmp_path, 10, 20, 30)
    assert checkpoint.newest(tmp_path).name == "30"
    assert not (tmp_path / "checkpoints" / "10").exists()
    step, backbone, training = restore(tmp_path)
    assert step == 30
    np.testing.assert_array_equal(backbone["params"]["kernel"], np.full((64, 32), 30.0, np.float32))
    assert training["step"] == 3
    assert len(training["classifier"].sharding.device_set) == 8


@pytest.mark.parametrize(("before", "after"), [((1, 1), (4, 2)), ((4, 2), (8, 1)), ((8, 1), (1, 1))])
def test_class_centers_continue_on_another_number_of_shards(tmp_path, before, after):
    """13 identities take 13 or 16 rows; the momentum lies like the centers."""
    centers = jax.random.normal(jax.random.key(0), (13, 4))

    def placed(shards, chunks, values):
        mesh = sharding.make_mesh(class_shards=shards)
        padded = pad_class_centers(values, Classifier(13, shards, chunks, 1))
        state = {"classifier": {"class_centers": padded}, "opt_state": {"trace": {"class_centers": -padded}}}
        return jax.device_put(state, sharding.of_state(mesh, state))

    metadata = METADATA | {"step": 1, "data": {"num_identities": 13}}
    manager = checkpoint.create_manager(tmp_path, keep=2)
    checkpoint.save(manager, 1, backbone=items(1.0)[0], training=placed(*before, centers), metadata=metadata)
    wanted = placed(*after, jnp.zeros_like(centers))
    _, _, found = newest_state.restore(manager, backbone=items(0.0)[0], training=wanted, check=lambda metadata: None)
    manager.close()
    chex.assert_trees_all_equal(found, placed(*after, centers))
    assert jax.tree.map(lambda leaf: leaf.sharding, found) == jax.tree.map(lambda leaf: leaf.sharding, wanted)
    np.testing.assert_array_equal(checkpoint.load_class_centers(checkpoint.newest(tmp_path)), centers)


def test_fresh_folder(tmp_path):
    assert restore(tmp_path) is None
    with pytest.raises(UserError, match="holds no checkpoint"):
        checkpoint.newest(tmp_path)


def test_what_a_kill_cut_off_while_saving_is_removed(tmp_path):
    save(tmp_path, 10)
    half = tmp_path / "checkpoints" / "20.orbax-checkpoint-tmp"
    (half / "backbone.orbax-checkpoint-tmp").mkdir(parents=True)
    (half / "backbone.orbax-checkpoint-tmp" / "d").write_bytes(b"half")
    save(tmp_path, 30)
    assert sorted(path.name for path in half.parent.iterdir()) == ["10", "30"]


def cut_off(folder):
    """Halves every file that holds arrays."""
    for path in folder.rglob("*"):
        if path.is_file() and "d" in path.parent.name:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_cut_off_checkpoint_is_set_aside_and_the_one_before_used(tmp_path, caplog):
    save(tmp_path, 10, 20)
    cut_off(tmp_path / "checkpoints" / "20" / "training")
    assert restore(tmp_path)[0] == 10
    assert "checkpoint 20 cannot be read" in caplog.text
    assert (tmp_path / newest_state.UNREADABLE_FOLDER / "20").is_dir()
    save(tmp_path, 20)  # the step can be saved again
    assert restore(tmp_path)[0] == 20
    cut_off(tmp_path / "checkpoints" / "20" / "training")
    assert restore(tmp_path)[0] == 10
    assert (tmp_path / newest_state.UNREADABLE_FOLDER / "20_2").is_dir()


def as_one_of_two(monkeypatch):
    facade = types.SimpleNamespace(**vars(jax) | {"process_count": lambda: 2})  # orbax is not to know
    monkeypatch.setattr(checkpoint, "jax", facade)


def with_another_process(monkeypatch, unreadable, tries):
    """Stands in for a second process, which sees the same steps and cannot read one of them so many times."""
    asked = []

    def texts_of_all(text):
        asked.append(text)
        if len(asked) == 1 or text or asked.count("") > tries:
            return [text, text]
        return [text, f"no right to read {unreadable}"]

    monkeypatch.setattr(newest_state.processes, "texts_of_all", texts_of_all)
    monkeypatch.setattr(newest_state, "PAUSE_SECONDS", 0.0)


def test_several_processes_fall_back_together_to_the_newest_that_all_can_read(tmp_path, monkeypatch, caplog):
    save(tmp_path, 10, 20)
    with_another_process(monkeypatch, 20, tries=newest_state.TRIES)
    step, backbone, _ = restore(tmp_path)
    assert step == 10
    np.testing.assert_array_equal(backbone["batch_stats"]["mean"], np.full(32, 10.0, np.float32))
    assert "checkpoint 20 cannot be read (process 1: no right to read 20): it is set aside as" in caplog.text
    assert (tmp_path / newest_state.UNREADABLE_FOLDER / "20").is_dir()
    assert checkpoint.steps_of(tmp_path) == [10]


def test_what_one_process_cannot_read_for_a_moment_is_not_moved(tmp_path, monkeypatch, caplog):
    save(tmp_path, 10, 20)
    with_another_process(monkeypatch, 20, tries=1)
    assert restore(tmp_path)[0] == 20
    assert "checkpoint 20 is not read by all (process 1: no right to read 20): once more" in caplog.text
    assert checkpoint.steps_of(tmp_path) == [10, 20]


def test_processes_that_can_read_none_together_leave_all(tmp_path, monkeypatch):
    save(tmp_path, 10, 20)
    with_another_process(monkeypatch, "any", tries=99)
    with pytest.raises(UserError, match=r"none of the checkpoints \[20, 10\] .*\(process 1: no right to read any\)"):
        restore(tmp_path)
    assert checkpoint.steps_of(tmp_path) == [10, 20]


def test_a_step_that_cannot_be_written_is_a_sentence(tmp_path, monkeypatch):
    manager = checkpoint.create_manager(tmp_path, keep=2)
    backbone, training = items(1.0)

    def full(*args, **kwargs):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        for name in ("save", "wait_until_finished", "close"):
            patch.setattr(manager, name, full)
        sentence = "checkpoint cannot be written into .*/checkpoints \\(No space left on device\\): make room"
        with pytest.raises(UserError, match=sentence):
            checkpoint.save(manager, 1, backbone=backbone, training=training, metadata=METADATA)
        with pytest.raises(UserError, match=sentence):
            checkpoint.wait(manager)
        with pytest.raises(UserError, match=sentence):
            checkpoint.close(manager)
        as_one_of_two(patch)
        with pytest.raises(OSError, match="No space"):  # the other one may be what went wrong
            checkpoint.wait(manager)
    manager.close()


def test_all_cut_off(tmp_path):
    save(tmp_path, 10)
    cut_off(tmp_path / "checkpoints" / "10")
    for _ in range(2):  # and not from the beginning when it is tried again
        with pytest.raises(UserError, match=r"none of the checkpoints \[10\] .* can be read \(.+\): copy them again"):
            restore(tmp_path)
    assert checkpoint.newest(tmp_path).name == "10"


def test_foreign_checkpoint_is_refused_and_left_alone(tmp_path):
    save(tmp_path, 10)

    def check(metadata):
        assert metadata["model"] == METADATA["model"]
        raise UserError("other data")

    with pytest.raises(UserError, match="other data"):
        restore(tmp_path, check)
    assert restore(tmp_path)[0] == 10


def test_load_backbone(tmp_path):
    save(tmp_path, 10)
    variables, metadata = checkpoint.load_backbone(checkpoint.newest(tmp_path))
    assert metadata == {"step": 10} | METADATA
    np.testing.assert_array_equal(variables["batch_stats"]["mean"], np.full(32, 10.0, np.float32))
    with pytest.raises(UserError, match="is no checkpoint"):
        checkpoint.load_backbone(tmp_path)
    cut_off(tmp_path / "checkpoints" / "10" / "backbone")
    with pytest.raises(UserError, match="cannot be read"):
        checkpoint.load_backbone(checkpoint.newest(tmp_path))


def test_checkpoint_without_or_with_cut_off_metadata(tmp_path):
    save(tmp_path, 10, metadata={"degradation_rounding": "uint8"})
    with pytest.raises(UserError, match="lacks model: "):
        checkpoint.load_backbone(checkpoint.newest(tmp_path))
    save(tmp_path, 20, metadata=METADATA | {"model": {"width": 0.5}})
    with pytest.raises(UserError, match=r"does not say how its network wants images \(model.input\)"):
        checkpoint.load_backbone(checkpoint.newest(tmp_path))
    (checkpoint.newest(tmp_path) / "metadata" / "metadata").write_text('{"step": 20, "mod')
    with pytest.raises(UserError, match="cannot be read"):
        checkpoint.load_backbone(checkpoint.newest(tmp_path))


def test_the_input_size_of_before_there_was_a_choice_does_not_count_for_a_digest():
    variables, description = items(1.0)[0], {"backbone": "resnet18", "input": {"order": "rgb", "scale": 127.5}}

    def digest(**more):
        return checkpoint.model_digest(variables, description | {"input": description["input"] | more})

    assert digest(size=112) == checkpoint.model_digest(variables, description) == digest()
    assert len({digest(), digest(size=32), digest(size=56), digest(scale=128.0)}) == 4
    assert digest() != checkpoint.model_digest(items(2.0)[0], description)


def test_a_part_of_the_training_is_read_alone(tmp_path):
    save(tmp_path, 10)
    newest = checkpoint.newest(tmp_path)
    np.testing.assert_array_equal(checkpoint.load_training(newest, "classifier"), np.full((64, 32), 10.0))
    assert checkpoint.load_training(newest, "parts") is None
    metadata = {"step": 0, "model": {"input": {}}, "degradation_rounding": "uint8"}
    checkpoint.save_backbone(tmp_path / "alone", items(0.0)[0], metadata)
    assert checkpoint.load_training(tmp_path / "alone", "classifier") is None
    for file in (newest / "training").rglob("*"):
        if file.is_file() and "metadata" not in file.name.lower():
            file.write_bytes(b"")
    with pytest.raises(UserError, match=r"the classifier of .*10 cannot be read \(.*\): copy it again"):
        checkpoint.load_training(newest, "classifier")
