"""Signs of life, and the progress line, whose numbers follow from the clock."""

import contextlib
import io
import logging
import sys
import threading
import time

import pytest

from lrfr_jax.terminal import progress


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


def metrics(**others):
    return {"train/loss": 1.25, "train/accuracy_hr": 0.5, "train/learning_rate": 0.05} | others


def timing_of(step, num_steps=50, batch_size=8, unit="images"):
    return progress.Progress(step=step, num_steps=num_steps, steps_per_epoch=12.5, batch_size=batch_size, unit=unit)


def test_line_and_speeds(clock):
    timing = timing_of(10)
    clock[0] += 4.0
    timing.waited(1.0)
    line, speeds = timing.line(20, metrics())
    assert speeds == {"speed/images_per_second": pytest.approx(20.0), "speed/input_wait": pytest.approx(0.25)}
    wanted = "step 20/50 epoch 1.60 loss 1.25 accuracy 50.0% HR rate 0.05 | "
    assert line == wanted + "20 images/s, 25% wait, ETA 0:00:12"


def test_two_views_are_pairs_and_the_line_stays_short(clock):
    timing = progress.Progress(step=99900, num_steps=295000, steps_per_epoch=9098.0, batch_size=640, unit="pairs")
    clock[0] += 51.9
    timing.waited(12.0)
    numbers = {"train/loss": 12.3456, "train/accuracy_hr": 0.81349, "train/learning_rate": 0.0123456}
    lower = {"train/accuracy_lr": 0.6449, "train/distance": 0.1, "train/grad_norm": 3.0}
    line, speeds = timing.line(100000, numbers | lower)
    assert speeds["speed/pairs_per_second"] == pytest.approx(1233.1, rel=1e-4)
    wanted = "step 100000/295000 epoch 10.99 loss 12.35 accuracy 81.3% HR 64.5% LR rate 0.0123 | 1233 pairs/s"
    assert line == f"{wanted}, 23% wait, ETA 28:06:45"
    assert len(line) <= 120


def test_views_of_other_names_have_their_accuracy(clock):
    clock[0] += 1.0
    others = {"train/loss": 1.0, "train/learning_rate": 0.1, "train/accuracy_second": 0.25, "train/accuracy_first": 0.5}
    assert "loss 1 accuracy 50.0% FIRST 25.0% SECOND rate 0.1" in timing_of(0).line(1, others)[0]


def test_without_a_classifier_there_is_no_accuracy(clock):
    clock[0] += 1.0
    assert " loss 1 rate 0.1 | " in timing_of(0).line(1, {"train/loss": 1.0, "train/learning_rate": 0.1})[0]


def test_evaluation_time_is_taken_out_and_each_line_starts_anew(clock):
    timing = timing_of(0, 8, batch_size=1)
    clock[0] += 12.0
    timing.paused(10.0)
    assert timing.line(4, metrics())[1]["speed/images_per_second"] == pytest.approx(2.0)
    clock[0] += 1.0
    speeds = timing.line(5, metrics())[1]
    assert speeds == {"speed/images_per_second": pytest.approx(1.0), "speed/input_wait": 0.0}


def test_compiling_counts_for_no_speed(clock, impatient, capsys):
    timing = timing_of(0, batch_size=1)
    with timing.compiling(1):
        clock[0] += 600.0
        impatient()
    assert capsys.readouterr().err.splitlines()[1:] == ["compiling the step took 0:10:00"]
    line, speeds = timing.line(1, metrics())
    assert speeds == {}
    assert line.endswith("rate 0.05 | the next step is measured")
    for step in (2, 3):
        with timing.compiling(step):
            clock[0] += 1.0
    assert timing.line(3, metrics())[1]["speed/images_per_second"] == pytest.approx(1.0)
    assert capsys.readouterr().err == ""


def test_between_rare_lines_there_is_a_sign_of_life(clock, capsys):
    timing = timing_of(0, 800, batch_size=1)
    assert not timing.is_overdue()
    for step in (1, 2):  # each is said once
        clock[0] += progress.EVERY_SECONDS
        assert timing.is_overdue()
        timing.sign_of_life(step)
        assert capsys.readouterr().err.startswith(f"step {step}/800 epoch 0.{8 * step:02} | 0.0333")
        assert not timing.is_overdue()
    assert timing.line(4, metrics())[1]["speed/images_per_second"] == pytest.approx(4 / 60)  # its stretch went on
    clock[0] += progress.EVERY_SECONDS
    timing.paused(progress.EVERY_SECONDS)  # an evaluation has signs of its own
    assert not timing.is_overdue()


def test_the_first_word_comes_sooner_after_a_silent_start(monkeypatch):
    monkeypatch.setattr(progress, "QUIET_SECONDS", 3.0)
    monkeypatch.setattr(progress, "_has_spoken", threading.Event())
    for began, pause in ((0.0, 3.0), (2.0, 1.0), (60.0, 0.3)):
        monkeypatch.setattr(progress, "_BEGAN", time.monotonic() - began)
        assert progress._first_pause() == pytest.approx(pause, abs=0.05)
    progress._has_spoken.set()
    assert progress._first_pause() == 3.0


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


class Terminal(io.StringIO):
    def isatty(self):
        return True


def at_a_terminal(monkeypatch):
    """Called by the test itself: pytest puts its own stderr in place when one begins."""
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.01)  # not 0, with which tqdm shows itself at once
    monkeypatch.setattr(progress, "TICK_SECONDS", 0.001)
    monkeypatch.setattr(sys, "stderr", Terminal())
    return sys.stderr


def until(terminal, text, count):
    end = time.monotonic() + 10
    while terminal.getvalue().count(text) < count and time.monotonic() < end:
        time.sleep(0.001)
    return terminal.getvalue().count(text) >= count


def test_on_a_terminal_a_clock_goes_on_while_one_waits(monkeypatch):
    terminal = at_a_terminal(monkeypatch)
    with progress.waiting("compiling the step"):
        assert until(terminal, "compiling the step ... 00:00", 3)
    assert terminal.getvalue().endswith("compiling the step took 0:00:00\n")


def test_on_a_terminal_nothing_stands_before_an_error(monkeypatch):
    terminal = at_a_terminal(monkeypatch)
    with contextlib.suppress(OSError), progress.waiting("writing"):
        assert until(terminal, "writing ... 00:00", 1)
        raise OSError("full")
    assert terminal.getvalue().rpartition("00:00")[2].strip(" \r") == ""
    assert terminal.getvalue().endswith("\r")


def test_on_a_terminal_training_is_told_of_in_one_line(monkeypatch, clock):
    terminal = at_a_terminal(monkeypatch)
    timing = timing_of(0, 800, batch_size=1)
    for step in (1, 2):
        clock[0] += 0.5
        assert timing.is_overdue()
        timing.sign_of_life(step)
    first, second, end = terminal.getvalue().split("\r")
    assert (first[:13], second[:13], end) == ("\033[Kstep 1/800", "\033[Kstep 2/800", "")


def test_on_a_terminal_a_bar_goes_on_between_two_pieces(monkeypatch):
    terminal = at_a_terminal(monkeypatch)
    with progress.bar(2, "embedding lfw", "images"):
        assert until(terminal, "embedding lfw:   0%", 3)
