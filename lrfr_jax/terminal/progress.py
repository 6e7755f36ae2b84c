"""How far the work is: a bar on a terminal or lines in a log for every longer wait, and the line of a training step.

for image in progress.bar(images, "embedding lfw", "images"): ...
with progress.bar(len(images), "embedding lfw", "images") as done: done.update(64)
with progress.waiting("compiling the step"): ...
"""

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Any

from tqdm import tqdm

logger = logging.getLogger("lrfr_jax")

# What is over sooner needs no word; what takes longer is told of again so often, in a log and on a terminal.
QUIET_SECONDS = 3.0
EVERY_SECONDS = 30.0
TICK_SECONDS = 1.0
ACCURACY = "train/accuracy_"  # and then the name of a view
# The clock when the command began, about: importing the libraries is a wait as well, of which nothing can be told. The
# processor has worked since, for what was imported before this file.
_BEGAN = time.monotonic() - time.process_time()
_has_spoken = threading.Event()


def is_due(every: int, step: int, num_steps: int) -> bool:
    """Whether what is done every so many steps (0: never), and at the end, is due after this one."""
    return step > 0 and (step == num_steps or (every > 0 and step % every == 0))


def duration(seconds: float) -> str:
    """Hours, minutes and seconds as people read them."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


def bar(items: Iterable[Any] | int, what: str, unit: str, *, total: int | None = None) -> "Bar":
    """Shows how far a piece of work is: iterate over it, or enter it and call `update`.

    On a terminal it is a tqdm bar, whose clock goes on between two pieces. Elsewhere nothing is said of work that is
    over within `QUIET_SECONDS`; then a line says how much is done, another one every `EVERY_SECONDS`, and a last one
    how long it took.

    Args:
      items: what is iterated over, or the number of pieces for `update`.
      what: the work, such as 'embedding lfw'.
      unit: what is counted, in the plural.
      total: number of pieces, where `items` is an iterable that does not say it; None where nobody knows.
    """
    return Bar(items, what, unit, total)


class Bar:
    """What `bar` returns; its name in annotations."""

    def __init__(self, items: Iterable[Any] | int, what: str, unit: str, total: int | None):
        self._items = () if isinstance(items, int) else items
        if total is None:
            total = items if isinstance(items, int) else len(items) if isinstance(items, Sized) else None
        self._what, self._unit, self._total, self._done = what, unit, total, 0
        self._open = contextlib.ExitStack()

    def __enter__(self) -> "Bar":
        self._since = time.perf_counter()
        # None: off where standard error is no terminal.
        disable = None if _is_wanted() else True
        self._bar = tqdm(total=self._total, desc=self._what, unit=f" {self._unit}", disable=disable)
        self._open.callback(self._bar.close)
        if not self._bar.disable:
            self._open.enter_context(_repeating(self._bar.refresh, TICK_SECONDS))
        elif _is_wanted():
            self._open.enter_context(_told(self._tell))
        return self

    def __exit__(self, *error: Any) -> None:
        self._bar.leave = self._seconds() >= QUIET_SECONDS
        self._open.__exit__(*error)

    def __iter__(self) -> Iterator[Any]:
        with self:
            for item in self._items:
                yield item
                self.update()

    def update(self, count: int = 1) -> None:
        """Counts so many pieces as done."""
        self._done += count
        self._bar.update(count)

    def _seconds(self) -> float:
        return time.perf_counter() - self._since

    def _tell(self, is_over: bool) -> str:
        seconds = self._seconds()
        if is_over:
            return f"{self._what}: {self._done} {self._unit} in {duration(seconds)}"
        if self._total is None:
            return f"{self._what}: {self._done} {self._unit} in {duration(seconds)} so far"
        text = f"{self._what}: {self._done} of {self._total} {self._unit}"
        left = f", about {duration(seconds * (self._total / self._done - 1))} left" if self._done else ""
        return f"{text}{left}"


@contextlib.contextmanager
def waiting(what: str) -> Iterator[None]:
    """Says what is waited for, where it takes longer than `QUIET_SECONDS`, and in the end how long it took.

    On a terminal a clock shows that it goes on.
    """
    since = time.perf_counter()

    def tell(is_over: bool) -> str:
        seconds = time.perf_counter() - since
        if is_over:
            return f"{what} took {duration(seconds)}"
        return f"{what} ..." if seconds < EVERY_SECONDS else f"{what} ... {duration(seconds)} so far"

    if not _is_wanted():
        yield
        return
    form = {"bar_format": "{desc} ... {elapsed}", "leave": False, "delay": QUIET_SECONDS}
    with contextlib.closing(tqdm(desc=what, disable=None, **form)) as clock:
        if clock.disable:
            with _told(tell):
                yield
            return
        try:
            with _repeating(clock.refresh, TICK_SECONDS):
                yield
        finally:  # before an error's sentence, too
            clock.clear()  # which closing does not do for what was refreshed alone
    if time.perf_counter() - since >= QUIET_SECONDS:
        _say(tell(True))


@contextlib.contextmanager
def _told(tell: Callable[[bool], str]) -> Iterator[None]:
    """Says `tell(False)` from time to time by a thread, and `tell(True)` at the end if anything was said before."""
    has_spoken = threading.Event()

    def speak() -> None:
        _say(tell(False))
        has_spoken.set()

    with _repeating(speak, EVERY_SECONDS):
        yield
    if has_spoken.is_set():
        _say(tell(True))


@contextlib.contextmanager
def _repeating(act: Callable[[], Any], every: float) -> Iterator[None]:
    """Acts by a thread while the work goes on: first after the quiet seconds, then every so many."""
    over = threading.Event()

    def repeat() -> None:
        pause = _first_pause()
        while not over.wait(pause):
            act()
            pause = every

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _first_pause() -> float:
    """How long to be quiet: shorter for the first word of a command that was quiet for long before."""
    before = 0.0 if _has_spoken.is_set() else time.monotonic() - _BEGAN
    return max(QUIET_SECONDS - before, QUIET_SECONDS / 10)


def _is_wanted() -> bool:
    """Not on processes that keep their log to themselves, see `main`."""
    return not logger.handlers or logger.isEnabledFor(logging.INFO)


def _say(text: str) -> None:
    """Into the log of a command that has one, else to standard error, beside its results."""
    _has_spoken.set()
    if logger.handlers:
        logger.info(text)
    else:
        print(text, file=sys.stderr, flush=True)


class Progress:
    """Measures one stretch of steps after the other, without the time that was spent on evaluation.

    Args:
      step: the one that the run has reached.
      num_steps: at which it ends.
      steps_per_epoch: need not be whole.
      batch_size: what a step takes of `unit`.
      unit: 'images', or 'pairs' where an image gives two views.
    """

    def __init__(self, *, step: int, num_steps: int, steps_per_epoch: float, batch_size: int, unit: str):
        self._num_steps, self._steps_per_epoch, self._batch_size, self._unit = (
            num_steps,
            steps_per_epoch,
            batch_size,
            unit,
        )
        self._first = step + 1
        self._begin(step)

    def _begin(self, step: int) -> None:
        self._step, self._since, self._waited = step, time.perf_counter(), 0.0
        self._told = self._since

    @contextlib.contextmanager
    def compiling(self, step: int) -> Iterator[None]:
        """Around a step: the first one, for which its program is compiled, says so and counts for no speed."""
        with waiting("compiling the step") if step == self._first else contextlib.nullcontext():
            yield
        if step == self._first:
            self._begin(step)

    def waited(self, seconds: float) -> None:
        """Adds time in which the device had no input."""
        self._waited += seconds

    def paused(self, seconds: float) -> None:
        """Takes out time that was not spent on training."""
        self._since += seconds
        self._told += seconds

    def line(self, step: int, metrics: Mapping[str, float]) -> tuple[str, dict[str, float]]:
        """Ends the stretch at `step`; returns the line to print, of what people watch, and its speeds as scalars."""
        speeds = self._speeds(step)
        parts = [f"{self._place(step)} loss {metrics['train/loss']:.4g}"]
        accuracies = sorted(name for name in metrics if name.startswith(ACCURACY))
        parts += ["accuracy"] if accuracies else []
        parts += [f"{100 * metrics[name]:.1f}% {name.removeprefix(ACCURACY).upper()}" for name in accuracies]
        parts += [f"rate {metrics['train/learning_rate']:.3g}", self._pace(step, speeds)]
        self._begin(step)
        return " ".join(parts), speeds

    def is_overdue(self) -> bool:
        """Whether nothing was said for so long that one may wonder whether it still runs."""
        return time.perf_counter() - self._told >= (QUIET_SECONDS if sys.stderr.isatty() else EVERY_SECONDS)

    def sign_of_life(self, step: int) -> None:
        """Says how far the stretch is, without its end; on a terminal in one line, over which the next one goes."""
        self._told = time.perf_counter()
        text = f"{self._place(step)} {self._pace(step, self._speeds(step))}"
        if not sys.stderr.isatty():
            _say(text)
        elif _is_wanted():
            print(f"\033[K{text}", end="\r", file=sys.stderr, flush=True)

    def _place(self, step: int) -> str:
        return f"step {step}/{self._num_steps} epoch {step / self._steps_per_epoch:.2f}"

    def _speeds(self, step: int) -> dict[str, float]:
        if step == self._step:
            return {}
        seconds = max(time.perf_counter() - self._since, 1e-9)  # a clock may not have moved
        per_second = (step - self._step) / seconds * self._batch_size
        return {f"speed/{self._unit}_per_second": per_second, "speed/input_wait": self._waited / seconds}

    def _pace(self, step: int, speeds: Mapping[str, float]) -> str:
        if not speeds:
            return "| the next step is measured"
        per_second, waiting = speeds[f"speed/{self._unit}_per_second"], speeds["speed/input_wait"]
        left = (self._num_steps - step) * self._batch_size / per_second
        # For input; a few in a hundred are what handing over takes.
        waits = f"{waiting:.0%} wait, " if waiting >= 0.05 else ""
        return f"| {per_second:.4g} {self._unit}/s, {waits}ETA {duration(left)}"
