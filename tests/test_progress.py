"""Signs of life, and the progress line, whose numbers follow from the clock."""

import logging
import sys
import threading
import time

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


@pytest.fixture
def impatient(monkeypatch):
    """Says everything at once; returns a function that waits until something was said."""
    spoken = threading.Event()
    say = progress._say
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(progress, "_say", lambda text: (say(text), spoken.set()))
    return lambda: spoken.wait(10)


def test_a_long_wait_says_what_and_how_long(impatient, capsys):
    with progress.waiting("compiling the step"):
        impatient()
    first, last = capsys.readouterr().err.splitlines()
    assert first == "compiling the step ..."
    assert last == "compiling the step took 0:00:00"


def test_a_long_loop_says_what_how_many_and_how_long(impatient, capsys):
    for _ in progress.bar(["a", "b", "c"], "embedding lfw", "images"):
        impatient()
    first, last = capsys.readouterr().err.splitlines()
    assert first == "embedding lfw: 0 of 3 images"
    assert last == "embedding lfw: 3 images in 0:00:00"
    with progress.bar(64, "embedding", "images") as done:
        done.update(32)
        impatient()
    assert capsys.readouterr().err.splitlines()[-1] == "embedding: 32 images in 0:00:00"


def test_short_work_and_failing_work_say_nothing(impatient, monkeypatch, capsys):
    def fail():
        impatient()
        raise ValueError("full")

    with pytest.raises(ValueError, match="full"), progress.waiting("writing"):
        fail()
    assert capsys.readouterr().err == "writing ...\n"  # not that it took so long
    monkeypatch.setattr(progress, "QUIET_SECONDS", 60.0)
    assert list(progress.bar(iter("ab"), "reading", "images")) == ["a", "b"]
    assert capsys.readouterr().err == ""


def test_a_command_with_a_log_has_it_there_and_a_silent_process_says_nothing(impatient, monkeypatch, caplog, capsys):
    handler = logging.NullHandler()
    monkeypatch.setattr(progress.logger, "handlers", [handler])
    with caplog.at_level(logging.INFO, "lrfr_jax"), progress.waiting("compiling the step"):
        impatient()
    assert caplog.messages == ["compiling the step ...", "compiling the step took 0:00:00"]
    caplog.clear()
    with caplog.at_level(logging.ERROR, "lrfr_jax"):  # as on all processes but the first
        with progress.waiting("compiling the step"):
            time.sleep(0.01)
        assert list(progress.bar("ab", "reading", "images")) == ["a", "b"]
    assert not caplog.messages
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)  # so that the bar stays
    for _ in progress.bar(range(3), "embedding lfw", "images"):
        pass
    shown = capsys.readouterr().err
    assert "embedding lfw: 100%" in shown
    assert "3/3" in shown
