"""Gradient descent and AdamW as PyTorch orders them, and learning rates given in epochs."""

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from lrfr_jax.errors import UserError

Number = float | int

SCHEDULES = ("steps", "cosine", "constant")
ALGORITHMS = ("sgd", "adamw")


def _require(requirements: Mapping[str, bool]) -> None:
    for sentence, holds in requirements.items():
        if not holds:
            raise UserError(f"optimizer.{sentence}")


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
    _require(requirements)
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


def _check_names(field: str, names: Iterable[str], params: PyTree) -> None:
    for name in names:
        if not any(jax.tree.leaves(_under(params, (name,)))):
            depth = name.count("/") + 1
            known = sorted({"/".join(path.split("/")[:depth]) for path in jax.tree.leaves(_paths(params))})
            raise UserError(f"optimizer.{field} names {name!r}, which is none of {', '.join(known)}")


def is_frozen(params: PyTree, *, frozen: tuple[str, ...]) -> PyTree:
    """Returns a tree of bools: which parameters lie under one of the names, such as 'backbone/stage1' or 'classifier'.

    Raises:
      UserError: a name under which there is no parameter.
    """
    _check_names("frozen", frozen, params)
    return _under(params, frozen)


# Where parameters decay to.
DECAY_TARGETS = ("zero", "start")
# Which parameters decay; None stands for all of them.
DECAY_MASKS = {"all": None, "no_norm_bias": _is_matrix}


def weight_decays(
    params: PyTree, *, weight_decay: Number, weight_decay_on: str, by_prefix: tuple[tuple[str, Number], ...]
) -> PyTree:
    """Returns a tree of numbers: how much each parameter decays.

    Args:
      params: the parameters, under their names.
      weight_decay: of those that no prefix names.
      weight_decay_on: see `make_optimizer`; what it spares is spared under a prefix too.
      by_prefix: ((name, decay), ...): parameters under the name, such as 'backbone/embedding'; the longest counts.

    Raises:
      UserError: a name under which there is no parameter.
    """
    _check_names("weight_decay_by_prefix", (name for name, _ in by_prefix), params)
    decays = jax.tree.map(lambda _: weight_decay, params)
    for name, decay in sorted(by_prefix, key=lambda pair: len(pair[0])):
        decays = jax.tree.map(
            lambda old, is_named, new=decay: new if is_named else old, decays, _under(params, (name,))
        )
    mask = DECAY_MASKS[weight_decay_on]
    return (
        jax.tree.map(lambda decay, decays_at_all: decay if decays_at_all else 0, decays, mask(params))
        if mask
        else decays
    )


def make_optimizer(
    schedule: optax.Schedule,
    *,
    algorithm: str,
    momentum: Number,
    nesterov: bool,
    betas: tuple[Number, ...],
    epsilon: Number,
    weight_decay: Number,
    weight_decay_on: str,
    weight_decay_by_prefix: tuple[tuple[str, Number], ...],
    decay_towards: str,
    clip_norm: Number,
    classifier_rate_factor: Number,
    frozen: tuple[str, ...],
) -> optax.GradientTransformation:
    r"""SGD with momentum or AdamW, as torch.optim has them: the rate scales the momentum buffer, not what enters it.

    .. math:: g \leftarrow \mathrm{clip}(g) + \lambda w, \quad b \leftarrow \mu b + g, \quad w \leftarrow w - \eta(t)\,b

    The first buffer is the first gradient. With `nesterov` the step is eta (g + mu b). AdamW's is

    .. math:: w \leftarrow w - \eta(t) \Bigl(\frac{\hat m}{\sqrt{\hat v} + \epsilon} + \lambda w\Bigr)

    with m and v the running means of the clipped gradient and its square, each divided by 1 - beta^t.

    Args:
      schedule: step -> learning rate.
      algorithm: 'sgd' or 'adamw'.
      momentum: mu, in [0, 1); 0 with adamw.
      nesterov: look ahead of the buffer; sgd with momentum only.
      betas: of m and v, each in [0, 1), for adamw; () for sgd.
      epsilon: above 0 for adamw; 0 for sgd.
      weight_decay: lambda: for sgd part of the gradient, for adamw beside it; times the rate in both.
      weight_decay_on: 'all', or 'no_norm_bias' to spare every parameter of fewer than 2 dimensions (normalization
        scales, biases); class centers decay in both.
      weight_decay_by_prefix: other lambdas for parameters by name, see `weight_decays`; () for one lambda.
      decay_towards: 'zero', or 'start': lambda (w - w_0) takes the place of lambda w (L2-SP); the optimizer's state
        keeps w_0, what `init` was given.
      clip_norm: largest global norm of the gradient, before decay; 0 for no clipping.
      classifier_rate_factor: multiplies the rate of the parameters under 'classifier', >= 0; 1 for one rate.
      frozen: names of parameters that stay as they are, see `is_frozen`.

    Raises:
      UserError: a value out of range or an unknown name.

    References:
      Loshchilov and Hutter 2019, AdamW, arXiv 1711.05101, Algorithm 2; Li et al. 2018, Explicit inductive bias for
      transfer learning with convolutional networks (L2-SP), arXiv 1802.01483, equation 2.
    """
    _check_algorithm(algorithm, momentum, nesterov, betas, epsilon)
    negative = [name for name, decay in weight_decay_by_prefix if not decay >= 0]
    requirements = {
        f"weight_decay={weight_decay} must not be negative": weight_decay >= 0,
        f"weight_decay_by_prefix={weight_decay_by_prefix} holds a negative number": not negative,
        f"clip_norm={clip_norm} must be positive, or 0 for no clipping": clip_norm >= 0,
        f"classifier_rate_factor={classifier_rate_factor} must not be negative": classifier_rate_factor >= 0,
        f"weight_decay_on={weight_decay_on!r} is unknown: choose one of {', '.join(DECAY_MASKS)}": (
            weight_decay_on in DECAY_MASKS
        ),
        f"decay_towards={decay_towards!r} is unknown: choose one of {', '.join(DECAY_TARGETS)}": (
            decay_towards in DECAY_TARGETS
        ),
    }
    _require(requirements)
    decay = optax.add_decayed_weights(weight_decay, mask=DECAY_MASKS[weight_decay_on])
    if weight_decay_by_prefix or decay_towards == "start":
        numbers = {"weight_decay": weight_decay, "weight_decay_on": weight_decay_on}
        decays_of = functools.partial(weight_decays, by_prefix=weight_decay_by_prefix, **numbers)
        decay = _decay_to_start(decays_of) if decay_towards == "start" else _decay(decays_of)
    inner = (decay, optax.trace(decay=momentum, nesterov=nesterov))
    if algorithm == "adamw":
        inner = (optax.scale_by_adam(*betas, eps=epsilon), decay)
    return optax.chain(
        optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity(),
        *inner,
        optax.scale_by_learning_rate(schedule),
        optax.masked(optax.scale(classifier_rate_factor), lambda params: _under(params, ("classifier",))),
        # Last, because decay would move them too.
        optax.masked(optax.set_to_zero(), functools.partial(is_frozen, frozen=frozen)),
    )


def _decay(decays_of: Callable[[PyTree], PyTree]) -> optax.GradientTransformation:
    def add(updates: PyTree, params: PyTree) -> PyTree:
        return jax.tree.map(lambda update, weight, decay: update + decay * weight, updates, params, decays_of(params))

    return optax.stateless(add)


def _decay_to_start(decays_of: Callable[[PyTree], PyTree]) -> optax.GradientTransformation:
    def init(params: PyTree) -> PyTree:
        return jax.tree.map(jnp.array, params)

    def update(updates: PyTree, start: PyTree, params: PyTree) -> tuple[PyTree, PyTree]:
        def add(update, weight, first, decay):
            return update + decay * (weight - first)

        return jax.tree.map(add, updates, params, start, decays_of(params)), start

    return optax.GradientTransformation(init, update)


def _check_algorithm(
    algorithm: str, momentum: Number, nesterov: bool, betas: tuple[Number, ...], epsilon: Number
) -> None:
    is_adam = algorithm == "adamw"
    betas_fit = len(betas) == 2 and all(0 <= beta < 1 for beta in betas) if is_adam else not betas
    _require(
        {
            f"algorithm={algorithm!r} is unknown: choose one of {', '.join(ALGORITHMS)}": algorithm in ALGORITHMS,
            f"momentum={momentum} must be at least 0 and below 1": 0 <= momentum < 1,
            f"momentum={momentum} has no meaning for adamw, whose betas take its place: set it to 0": (
                not is_adam or momentum == 0
            ),
            "nesterov=True needs algorithm='sgd' and a momentum above 0": not nesterov
            or (not is_adam and momentum > 0),
            f"betas={betas} does not fit {algorithm=}: give two numbers from 0 to below 1 for adamw and () for sgd": (
                betas_fit
            ),
            f"epsilon={epsilon} does not fit {algorithm=}: set it above 0 for adamw and to 0 for sgd": (
                epsilon > 0 if is_adam else epsilon == 0
            ),
        }
    )
