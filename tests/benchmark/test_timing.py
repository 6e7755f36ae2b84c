"""Functions take turns; their times are per call."""

import itertools
import time

import pytest

from lrfr_jax.benchmark import timing


def test_functions_take_turns_and_times_are_per_call():
    called = []

    def sleepy(name, seconds):
        def run():
            called.append(name)
            time.sleep(seconds)

        return run

    times = timing.take_turns({"slow": sleepy("slow", 0.02), "fast": sleepy("fast", 0.005)}, turns=3, seconds=0.02)
    in_turns = "".join(
        name[0] for name in called[2 + 2 :]
    )  # after one call to warm up and one to see how long it takes
    assert in_turns == ("s" * in_turns.index("f") + "f" * in_turns.count("f", 0, in_turns.index("fs") + 1)) * 3
    assert in_turns.count("f") > in_turns.count("s") == 3
    assert len(times["slow"].seconds) == 3
    assert times["slow"].median > 2 * times["fast"].median
    assert times["slow"].cpu_seconds[0] < times["slow"].seconds[0]


def test_median_and_spread():
    measured = timing.Timing((1.0, 4.0, 2.0), (3.0, 1.0, 2.0))
    assert (measured.median, measured.median_cpu) == (2.0, 2.0)
    assert measured.spread == pytest.approx(1.5)


def test_a_process_is_at_rest_when_it_computes_hardly_anymore(monkeypatch):
    computed = iter([0.0, 0.01, 0.01, 0.02, 0.02, 0.0205])
    monkeypatch.setattr(timing, "_cpu_seconds", lambda: next(computed))
    timing.await_rest()
    assert not list(computed)


def test_a_process_that_never_rests_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(timing, "_cpu_seconds", itertools.count().__next__)
    monkeypatch.setattr(timing, "PATIENCE", 0.05)
    timing.await_rest()


def test_a_turn_begins_at_rest(monkeypatch):
    called = []
    monkeypatch.setattr(timing, "await_rest", lambda: called.append("rest"))
    timing.take_turns({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, turns=1, seconds=0.0)
    assert called[2:] == ["rest", "a", "rest", "b"] * 2
