"""How far a run is: what is due after a step, and the line that says its loss, its speed, its waiting and its end."""

import time
from collections.abc import Mapping


def is_due(every: int, step: int, num_steps: int) -> bool:
    """Whether what is done every so many steps (0: never), and at the end, is due after this one."""
    return step > 0 and (step == num_steps or (every > 0 and step % every == 0))


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


class Progress:
    """Measures one stretch of steps after the other, without the time that was spent on evaluation."""

    def __init__(self, step: int):
        self._begin(step)

    def _begin(self, step: int) -> None:
        self._step, self._since, self._waited = step, time.perf_counter(), 0.0

    def waited(self, seconds: float) -> None:
        """Adds time in which the device had no input."""
        self._waited += seconds

    def paused(self, seconds: float) -> None:
        """Takes out time that was not spent on training."""
        self._since += seconds

    def line(
        self, step: int, num_steps: int, metrics: Mapping[str, float], batch_size: int
    ) -> tuple[str, dict[str, float]]:
        """Ends the stretch at `step`; returns the line to print and its speeds as scalars."""
        seconds = max(time.perf_counter() - self._since, 1e-9)  # a clock may not have moved
        steps_per_second = (step - self._step) / seconds
        speeds = {"speed/images_per_second": steps_per_second * batch_size, "speed/input_wait": self._waited / seconds}
        eta = (num_steps - step) / steps_per_second if steps_per_second else 0.0
        parts = " ".join(f"{key.removeprefix('train/')} {value:.4g}" for key, value in metrics.items())
        text = (
            f"step {step}/{num_steps} {parts} | {speeds['speed/images_per_second']:.1f} images/s, "
            f"{speeds['speed/input_wait']:.0%} waiting for input, ETA {_duration(eta)}"
        )
        self._begin(step)
        return text, speeds
