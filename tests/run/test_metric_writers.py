"""metrics.jsonl and TensorBoard go on where the last checkpoint ended."""

import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from lrfr_jax.run import metric_writers


def events_of(folder):
    """Reads every event of a folder: 8 bytes length, 4 of checksum, the event, 4 of checksum."""
    for path in sorted(folder.glob("events.*")):
        content, position = path.read_bytes(), 0
        while position < len(content):
            length = int.from_bytes(content[position : position + 8], "little")
            yield event_pb2.Event.FromString(content[position + 12 : position + 12 + length])
            position += length + 16


def write(folder, start_step, steps):
    writer, side = metric_writers.create_writers(folder, start_step=start_step, is_main_process=True)
    for step in steps:
        writer.write_scalars(step, {"train/loss": np.float32(step) / 3})
        side.write_scalars(step, {"speed": 1.0})
    writer.close()


def test_lines_hold_scalars_of_the_first_writer_only(tmp_path):
    write(tmp_path, 0, [1, 2])
    assert metric_writers.read_metrics(tmp_path) == [
        {"step": 1, "train/loss": float(np.float32(1) / 3)},
        {"step": 2, "train/loss": float(np.float32(2) / 3)},
    ]
    values = {(e.step, v.tag) for e in events_of(tmp_path) for v in e.summary.value}
    assert values == {(1, "train/loss"), (2, "train/loss"), (1, "speed"), (2, "speed")}


def test_restart_drops_later_lines_and_a_cut_off_one(tmp_path):
    write(tmp_path, 0, [1, 2, 3])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "train/lo')
    assert [line["step"] for line in metric_writers.read_metrics(tmp_path)] == [1, 2, 3]
    write(tmp_path, 2, [3, 4])
    assert [line["step"] for line in metric_writers.read_metrics(tmp_path)] == [1, 2, 3, 4]
    assert not list(tmp_path.glob("*.partial"))


def test_every_line_is_on_disk_at_once(tmp_path):
    writer, _ = metric_writers.create_writers(tmp_path, start_step=0, is_main_process=True)
    writer.write_scalars(5, {"train/loss": 1.0})
    assert metric_writers.read_metrics(tmp_path) == [{"step": 5, "train/loss": 1.0}]
    writer.close()


def test_texts_images_histograms_and_hparams_reach_tensorboard(tmp_path):
    writer = metric_writers.TensorBoardWriter(tmp_path, start_step=0)
    writer.write_texts(0, {"config": "seed: 0"})
    writer.write_images(0, {"roc": np.zeros((1, 4, 4, 3), np.uint8)})
    writer.write_histograms(0, {"norms": np.arange(5.0)})
    writer.write_hparams({"seed": 0})
    with pytest.raises(TypeError, match="TensorFlow"):
        writer.write_summaries(0, {})
    writer.close()
    tags = " ".join(value.tag for event in events_of(tmp_path) for value in event.summary.value)
    for tag in ("config", "roc", "norms", "_hparams_"):
        assert tag in tags


def test_other_processes_write_nothing(tmp_path):
    writer, side = metric_writers.create_writers(tmp_path / "run", start_step=0, is_main_process=False)
    writer.write_scalars(1, {"train/loss": 1.0})
    side.write_texts(0, {"config": "seed: 0"})
    assert not (tmp_path / "run").exists()
