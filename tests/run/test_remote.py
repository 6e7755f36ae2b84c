"""A run in an object store: its files, checkpoints and evaluations, on real servers of gs:// and s3://."""

import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrfr_jax import evaluate, models
from lrfr_jax.analysis import compare
from lrfr_jax.checkpoints import checkpoint, newest_state, staged
from lrfr_jax.errors import UserError
from lrfr_jax.files import paths
from lrfr_jax.machines import sharding
from lrfr_jax.run import metric_writers, warm_start, workdir
from lrfr_jax.trained.model import open_model
from tests.evals import made_up_sets
from tests.run.test_metric_writers import events_of

METADATA = {"model": {"backbone": "tiny", "input": {}}, "degradation_rounding": "uint8"}


def items(value):
    full = jnp.full((64, 32), value, jnp.float32)
    return {"params": {"kernel": full}, "batch_stats": {"mean": full[0]}}, {"classifier": full, "step": jnp.asarray(3)}


def save(folder, *steps):
    manager = checkpoint.create_manager(folder, keep=2)
    for step in steps:
        backbone, training = items(float(step))
        checkpoint.save(manager, step, backbone=backbone, training=training, metadata={"step": step} | METADATA)
    manager.close()


def restore(folder):
    manager = checkpoint.create_manager(folder, keep=2)
    backbone, training = jax.device_put(items(0.0), sharding.replicated(sharding.make_mesh(class_shards=1)))
    restored = newest_state.restore(manager, backbone=backbone, training=training, check=lambda metadata: None)
    manager.close()
    return restored


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def cut_off(folder):
    """Empties every file that holds arrays."""
    for name in ("ocdbt.process_0/d", "d"):
        for path in list((folder / name).iterdir()) if (folder / name).exists() else ():
            path.write_bytes(b"")


def test_config_is_written_once_and_kept(bucket):
    folder = paths.of(f"{bucket}/claimed")
    workdir.claim(folder, {"seed": 0}, is_main_process=False)
    assert not folder.exists()
    for _ in range(2):
        workdir.claim(folder, {"seed": 0}, is_main_process=True)
    assert json.loads((folder / "config.json").read_text()) == {"seed": 0}
    with pytest.raises(UserError, match=rf"{folder} holds a run with another config \(config.seed is 0 there, 1 here"):
        workdir.claim(folder, {"seed": 1}, is_main_process=True)


def test_metrics_and_events_are_there_after_flush_and_go_on_after_a_restart(bucket, tmp_path):
    folder = paths.of(f"{bucket}/metrics")
    for start, steps in ((0, (1, 2, 3)), (2, (3, 4))):
        writer, side = metric_writers.create_writers(folder, start_step=start, is_main_process=True)
        for step in steps:
            writer.write_scalars(step, {"train/loss": step / 3})
            side.write_scalars(step, {"speed": 1.0})
        writer.flush()
        assert metric_writers.read_metrics(folder)[-1]["step"] == steps[-1]
        writer.write_scalars(9, {"train/loss": 0.0})
        time.sleep(0.2)
        assert metric_writers.read_metrics(folder)[-1]["step"] == steps[-1]
        writer.close()
    assert [line["step"] for line in metric_writers.read_metrics(folder)] == [1, 2, 3, 4, 9]
    paths.download(folder, tmp_path)
    values = [(e.step, v.tag) for e in events_of(tmp_path) for v in e.summary.value]
    assert {(1, "train/loss"), (4, "train/loss"), (9, "train/loss"), (4, "speed")} < set(values)


def test_lines_arrive_by_themselves_in_time(bucket, monkeypatch):
    monkeypatch.setattr(metric_writers, "MIRROR_SECONDS", 0.0)
    folder = paths.of(f"{bucket}/by_themselves")
    writer, _ = metric_writers.create_writers(folder, start_step=0, is_main_process=True)
    step = 0
    while not metric_writers.read_metrics(folder):
        writer.write_scalars(step := step + 1, {"train/loss": 1.0})
        time.sleep(0.01)
    writer.close()
    assert metric_writers.read_metrics(folder)[-1]["step"] == step


def test_checkpoints_keep_the_newest_and_come_back_resharded(bucket):
    folder = paths.of(f"{bucket}/kept")
    assert restore(folder) is None
    with pytest.raises(UserError, match=f"{folder} holds no checkpoint"):
        checkpoint.newest(folder)
    save(folder, 10, 20, 30)
    assert checkpoint.steps_of(folder) == [20, 30]
    assert names(folder / "checkpoints") == ["20", "30"]
    assert str(checkpoint.newest(str(folder))) == f"{folder}/checkpoints/30"
    step, backbone, training = restore(folder)
    assert (step, training["step"]) == (30, 3)
    np.testing.assert_array_equal(backbone["params"]["kernel"], np.full((64, 32), 30.0, np.float32))
    assert len(training["classifier"].sharding.device_set) == 8
    variables, metadata = checkpoint.load_backbone(checkpoint.newest(folder))
    assert metadata == {"step": 30} | METADATA
    np.testing.assert_array_equal(variables["batch_stats"]["mean"], np.full(32, 30.0, np.float32))
    save(folder, 40)  # by another process: what it did not make itself counts as well
    assert names(folder / "checkpoints") == ["30", "40"]


def test_a_step_that_is_not_whole_does_not_count(bucket):
    folder = paths.of(f"{bucket}/cut")
    save(folder, 10, 20)
    (folder / "checkpoints/20" / staged.COMMITTED).unlink()
    assert checkpoint.newest(folder).name == "10"
    assert restore(folder)[0] == 10
    save(folder, 20)
    assert restore(folder)[0] == 20


def test_an_unreadable_checkpoint_is_set_aside(bucket, caplog):
    folder = paths.of(f"{bucket}/aside")
    save(folder, 10, 20)
    cut_off(folder / "checkpoints/20/training")
    assert restore(folder)[0] == 10
    assert "checkpoint 20 cannot be read" in caplog.text
    assert names(folder / "checkpoints") == ["10"]
    assert names(folder / newest_state.UNREADABLE_FOLDER) == ["20"]
    save(folder, 20)
    assert restore(folder)[0] == 20
    for step in (10, 20):
        cut_off(folder / f"checkpoints/{step}/training")
    with pytest.raises(UserError, match=rf"none of the checkpoints \[20, 10\] of {folder}/checkpoints can be read"):
        restore(folder)


def test_a_step_set_aside_can_be_saved_again_at_once(bucket):
    folder = paths.of(f"{bucket}/again")
    save(folder, 10, 20)
    cut_off(folder / "checkpoints/20/training")
    manager = checkpoint.create_manager(folder, keep=2)
    backbone, training = items(0.0)
    newest_state.restore(manager, backbone=backbone, training=training, check=lambda metadata: None)
    checkpoint.save(manager, 20, backbone=backbone, training=training, metadata={"step": 20} | METADATA)
    manager.close()
    assert checkpoint.steps_of(folder) == [10, 20]


def test_the_mark_of_a_copied_step_comes_last_and_a_failed_copy_is_told(bucket, monkeypatch):
    if bucket.startswith("gs"):
        pytest.skip("orbax writes into gs:// itself")
    folder, real, seen = paths.of(f"{bucket}/marked"), paths.upload, []

    def upload(*arguments, **named):
        real(*arguments, **named)
        seen.append(checkpoint.steps_of(folder))

    monkeypatch.setattr(paths, "upload", upload)
    save(folder, 10, 20)
    assert seen == [[], [10]]
    assert checkpoint.steps_of(folder) == [10, 20]

    def refuse(*arguments, **named):
        raise UserError("disk full")

    monkeypatch.setattr(paths, "upload", refuse)
    with pytest.raises(UserError, match="disk full"):
        save(folder, 30)
    assert checkpoint.steps_of(folder) == [10, 20]


def test_several_processes_and_s3_are_told(monkeypatch):
    monkeypatch.setattr(paths, "_reach", lambda *names: None)
    monkeypatch.setattr(staged.jax, "process_count", lambda: 2)
    with pytest.raises(UserError, match="s3://b/run/checkpoints: several processes can save into gs://"):
        checkpoint.create_manager("s3://b/run", keep=2)


def test_evaluate_and_compare_and_start_from_runs_in_an_object_store(bucket, tmp_path, monkeypatch, capsys):
    made_up_sets.write(str(tmp_path / "data"), "one", made_up_sets.verification(num_folds=2))
    tiny = made_up_sets.TinyBackbone()
    monkeypatch.setattr(models, "create_backbone", lambda backbone, input: {"tiny": tiny}[backbone])
    own = {"protocol": "insightface", "resolutions": [14], "fars": [0.1]}
    runs = [f"{bucket}/evaluated/{name}" for name in ("first", "second")]
    options = ["--data_dir", str(tmp_path / "data")]
    for run in runs:
        manager = checkpoint.create_manager(run, keep=2)
        metadata = {"step": 5, "evals": {"one": own}} | METADATA
        training = {"x": jnp.zeros(())}
        checkpoint.save(manager, 5, backbone=dict(made_up_sets.variables()), training=training, metadata=metadata)
        manager.close()
        evaluate.main(["--workdir", run, *options])
        drawn = {"accuracy_by_resolution.png", "one_roc_hr_lr.png", "one_roc_lr_lr.png", "one_similarities.png"}
        assert set(names(paths.of(run) / "eval/5")) == drawn
        assert (paths.of(run) / "eval/5/one_similarities.png").read_bytes().startswith(b"\x89PNG")
        assert names(paths.of(run)) == ["checkpoints", "eval"]
        assert f"json: {run}/eval/5.json" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"--embeddings .* must be on this machine"):
        evaluate.main(["--checkpoint", f"{runs[0]}/checkpoints/5", *options, "--embeddings", f"{bucket}/e"])
    with pytest.raises(UserError, match="is no checkpoint"):
        evaluate.main(["--checkpoint", f"{runs[0]}/checkpoints/6", *options])

    compare.main(["--workdirs", ",".join(runs), "--output", str(tmp_path / "comparison")])
    assert "second - first" in (tmp_path / "comparison/table.md").read_text()
    with pytest.raises(UserError, match="nothing holds no evaluation"):
        compare.main(["--workdirs", f"{bucket}/nothing", "--output", str(tmp_path)])

    state = warm_start.TrainState(0, {"backbone": {}}, {}, {})
    mesh = sharding.make_mesh(class_shards=1)
    state = warm_start.with_backbone_of(state, f"{runs[0]}/checkpoints/5", mesh=mesh)
    wanted = made_up_sets.variables()["params"]["Dense_0"]["kernel"]
    np.testing.assert_array_equal(state.params["backbone"]["Dense_0"]["kernel"], wanted)


def test_an_exported_file_has_to_be_copied_here(bucket):
    path = paths.of(f"{bucket}/net.onnx")
    path.write_bytes(b"its runtime reads files")
    with pytest.raises(UserError, match=r"the exported file .*net\.onnx must be on this machine"):
        open_model(path)
