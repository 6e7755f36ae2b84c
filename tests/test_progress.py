"""The progress line: its numbers follow from the clock."""

import pytest

from lrfr_jax import progress


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


def test_line_and_speeds(clock):
    timing = progress.Progress(10)
    clock[0] += 4.0
    timing.waited(1.0)
    line, speeds = timing.line(20, 50, {"train/loss": 1.25}, batch_size=8)
    assert speeds == {"speed/images_per_second": pytest.approx(20.0), "speed/input_wait": pytest.approx(0.25)}
    assert line == "step 20/50 loss 1.25 | 20.0 images/s, 25% waiting for input, ETA 0:00:12"


def test_evaluation_time_is_taken_out_and_each_line_starts_anew(clock):
    timing = progress.Progress(0)
    clock[0] += 12.0
    timing.paused(10.0)
    assert timing.line(4, 8, {}, batch_size=1)[1]["speed/images_per_second"] == pytest.approx(2.0)
    clock[0] += 1.0
    speeds = timing.line(5, 8, {}, batch_size=1)[1]
    assert speeds == {"speed/images_per_second": pytest.approx(1.0), "speed/input_wait": 0.0}
