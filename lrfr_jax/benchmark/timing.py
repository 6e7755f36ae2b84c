"""Times of functions that take turns, so that a change of the machine's load meets all of them."""

import dataclasses
import math
import resource
import statistics
import time
from collections.abc import Callable, Mapping

# A process is at rest that computes less than a tenth of so many seconds, long beside a turn of a reader thread.
QUIET = 0.01
PATIENCE = 10.0  # seconds, for a process in which some thread never rests


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of each turn, per call: on the clock, and of this process's processor time."""

    seconds: tuple[float, ...]
    cpu_seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median seconds of a call."""
        return statistics.median(self.seconds)

    @property
    def median_cpu(self) -> float:
        """Median processor seconds of a call."""
        return statistics.median(self.cpu_seconds)

    @property
    def spread(self) -> float:
        """Distance of the slowest from the fastest turn, as a share of the median."""
        return (max(self.seconds) - min(self.seconds)) / self.median


def take_turns(functions: Mapping[str, Callable[[], object]], *, turns: int, seconds: float) -> dict[str, Timing]:
    """Calls the functions in turns and returns the times of each.

    Args:
      functions: each ends when its work is done, on the device too; called once before anything is measured.
      turns: how often each one has its turn.
      seconds: of a turn; as many calls as one was seen to take, at least one.
    """
    calls = {name: max(1, round(seconds / _spent(function, calls=1)[0])) for name, function in _warm(functions).items()}
    spent = {name: [] for name in functions}
    for _ in range(turns):
        for name, function in functions.items():
            spent[name].append(_spent(function, calls=calls[name]))
    return {name: Timing(*zip(*pairs, strict=True)) for name, pairs in spent.items()}


def await_rest() -> None:
    """Waits until no thread of this process computes, at most `PATIENCE` seconds.

    Readers go on after a call, until all that may wait is full.
    """
    computed, end = math.inf, time.monotonic() + PATIENCE
    while computed > QUIET / 10 and time.monotonic() < end:
        before = _cpu_seconds()
        time.sleep(QUIET)
        computed = _cpu_seconds() - before


def _warm(functions: Mapping[str, Callable[[], object]]) -> Mapping[str, Callable[[], object]]:
    for function in functions.values():
        function()
    return functions


def _spent(function: Callable[[], object], *, calls: int) -> tuple[float, float]:
    await_rest()  # what threads of the function before still do is not this one's
    since, cpu_since = time.perf_counter(), _cpu_seconds()
    for _ in range(calls):
        function()
    return (time.perf_counter() - since) / calls, (_cpu_seconds() - cpu_since) / calls


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
