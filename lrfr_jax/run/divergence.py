"""A run that diverges stops, in words, before anything of it is saved."""

import math

from lrfr_jax.checkpoints import checkpoint
from lrfr_jax.errors import UserError
from lrfr_jax.files import paths


def check(step_and_metrics: tuple[int, dict] | None, workdir: paths.AnyPath) -> None:
    """Raises `UserError` with the step and the loss parts if any of them is NaN or infinite.

    Args:
      step_and_metrics: what the step made; None for none.
      workdir: of the run, whose last good checkpoint is named.
    """
    if step_and_metrics is None:
        return
    step, metrics = step_and_metrics
    values = {key: float(value) for key, value in metrics.items()}
    if all(map(math.isfinite, values.values())):
        return
    saved = checkpoint.steps_of(workdir)
    last_good = f"the last good checkpoint is step {max(saved)}" if saved else "no checkpoint was saved before"
    parts = ", ".join(f"{key}={value:.6g}" for key, value in values.items())
    raise UserError(
        f"step {step}: the loss is not finite ({parts}); {last_good} in {workdir / checkpoint.FOLDER}; "
        "a lower optimizer.learning_rate, a longer warm-up or optimizer.clip_norm in a new --workdir may help"
    )
