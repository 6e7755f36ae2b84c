"""Stochastic gradient descent as PyTorch orders it, and learning rates given in epochs."""

import functools
import itertools

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from lrfr_jax.errors import UserError

Number = float | int

SCHEDULES = ("steps", "cosine", "constant")


def make_schedule(
    *,
    schedule: str,
    learning_rate: Number,
    warmup_epochs: Number,
    milestone_epochs: tuple[Number, ...],
    decay_factor: Number,
    num_epochs: Number,
    steps_per_epoch: Number,
) -> optax.Schedule:
    r"""The learning rate as a function of the step, from 0.

    .. math:: \eta(t) = \eta \cdot \min(1, t / t_{warmup}) \cdot f(t)

    f is decay_factor to the power of the milestones passed ('steps'), a half cosine from 1 at the end of the warm-up to
    0 at the end of training ('cosine'), or 1 ('constant').

    Args:
      schedule: 'steps', 'cosine' or 'constant'.
      learning_rate: eta.
      warmup_epochs: length of the linear rise from 0; 0 for none.
      milestone_epochs: rising; the rate falls after so many epochs, at the nearest whole step. () unless 'steps'.
      decay_factor: what each milestone multiplies the rate by, in (0, 1].
      num_epochs: length of training.
      steps_per_epoch: images of the set over the batch size; need not be whole.

    Raises:
      UserError: a value out of range, or milestones that the schedule would ignore.
    """
    bounds = (0, *milestone_epochs, num_epochs)
    rising = all(lower < upper for lower, upper in itertools.pairwise(bounds))
    requirements = {
        f"schedule={schedule!r} is unknown: choose one of {', '.join(SCHEDULES)}": schedule in SCHEDULES,
        f"learning_rate={learning_rate} must be positive": learning_rate > 0,
        f"steps_per_epoch={steps_per_epoch} must be positive": steps_per_epoch > 0,
        f"decay_factor={decay_factor} must be above 0 and at most 1, and 1 unless schedule='steps'": (
            0 < decay_factor <= 1 and (schedule == "steps" or decay_factor == 1)
        ),
        f"warmup_epochs={warmup_epochs} must be at least 0 and below {num_epochs=}": 0 <= warmup_epochs < num_epochs,
        f"milestone_epochs={milestone_epochs} must rise and lie between 0 and {num_epochs=}": rising,
        f"milestone_epochs={milestone_epochs} does not fit {schedule=}: give milestones for 'steps' and () otherwise": (
            (schedule == "steps") == bool(milestone_epochs)
        ),
    }
    for sentence, holds in requirements.items():
        if not holds:
            raise UserError(f"optimizer.{sentence}")
    warmup_steps, num_steps = warmup_epochs * steps_per_epoch, num_epochs * steps_per_epoch
    milestones = jnp.asarray([round(epochs * steps_per_epoch) for epochs in milestone_epochs], jnp.int32)

    def rate(step) -> Float[Array, ""]:
        factor = jnp.minimum(1, step / warmup_steps) if warmup_steps else jnp.ones(())
        if schedule == "steps":
            factor = factor * decay_factor ** jnp.sum(step >= milestones)
        if schedule == "cosine":
            progress = jnp.clip((step - warmup_steps) / (num_steps - warmup_steps), 0, 1)
            factor = factor * (1 + jnp.cos(jnp.pi * progress)) / 2
        return learning_rate * factor

    return rate


def _is_matrix(params: PyTree) -> PyTree:
    return jax.tree.map(lambda parameter: parameter.ndim > 1, params)


def _paths(params: PyTree) -> PyTree:
    return jax.tree.map_with_path(lambda path, _: jax.tree_util.keystr(path, simple=True, separator="/"), params)


def _under(params: PyTree, names: tuple[str, ...]) -> PyTree:
    return jax.tree.map(lambda path: any(f"{path}/".startswith(f"{name}/") for name in names), _paths(params))


def is_frozen(params: PyTree, *, frozen: tuple[str, ...]) -> PyTree:
    """Returns a tree of bools: which parameters lie under one of the names, such as 'backbone/stage1' or 'classifier'.

    Raises:
      UserError: a name under which there is no parameter.
    """
    for name in frozen:
        if not any(jax.tree.leaves(_under(params, (name,)))):
            depth = name.count("/") + 1
            known = sorted({"/".join(path.split("/")[:depth]) for path in jax.tree.leaves(_paths(params))})
            raise UserError(f"optimizer.frozen names {name!r}, which is none of {', '.join(known)}")
    return _under(params, frozen)


# Which parameters decay; None stands for all of them.
DECAY_MASKS = {"all": None, "no_norm_bias": _is_matrix}


def make_optimizer(
    schedule: optax.Schedule,
    *,
    momentum: Number,
    weight_decay: Number,
    weight_decay_on: str,
    clip_norm: Number,
    classifier_rate_factor: Number,
    frozen: tuple[str, ...],
) -> optax.GradientTransformation:
    r"""SGD with momentum, in the order of torch.optim.SGD: the rate scales the momentum buffer, not what enters it.

    .. math:: g \leftarrow \mathrm{clip}(g) + \lambda w, \quad b \leftarrow \mu b + g, \quad w \leftarrow w - \eta(t)\,b

    The first buffer is the first gradient.

    Args:
      schedule: step -> learning rate.
      momentum: mu, in [0, 1).
      weight_decay: lambda, coupled with the rate.
      weight_decay_on: 'all', or 'no_norm_bias' to spare every parameter of fewer than 2 dimensions (normalization
        scales, biases); class centers decay in both.
      clip_norm: largest global norm of the gradient, before decay; 0 for no clipping.
      classifier_rate_factor: multiplies the rate of the parameters under 'classifier', >= 0; 1 for one rate.
      frozen: names of parameters that stay as they are, see `is_frozen`.

    Raises:
      UserError: a value out of range or an unknown name.
    """
    requirements = {
        f"momentum={momentum} must be at least 0 and below 1": 0 <= momentum < 1,
        f"weight_decay={weight_decay} must not be negative": weight_decay >= 0,
        f"clip_norm={clip_norm} must be positive, or 0 for no clipping": clip_norm >= 0,
        f"classifier_rate_factor={classifier_rate_factor} must not be negative": classifier_rate_factor >= 0,
        f"weight_decay_on={weight_decay_on!r} is unknown: choose one of {', '.join(DECAY_MASKS)}": (
            weight_decay_on in DECAY_MASKS
        ),
    }
    for sentence, holds in requirements.items():
        if not holds:
            raise UserError(f"optimizer.{sentence}")
    return optax.chain(
        optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity(),
        optax.add_decayed_weights(weight_decay, mask=DECAY_MASKS[weight_decay_on]),
        optax.trace(decay=momentum),
        optax.scale_by_learning_rate(schedule),
        optax.masked(optax.scale(classifier_rate_factor), lambda params: _under(params, ("classifier",))),
        # Last, because decay would move them too.
        optax.masked(optax.set_to_zero(), functools.partial(is_frozen, frozen=frozen)),
    )
