import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.objective.optimizer import is_frozen, make_optimizer, make_schedule

SCHEDULE = {
    "schedule": "steps",
    "learning_rate": 0.1,
    "warmup_epochs": 2,
    "milestone_epochs": (16, 24.0),
    "decay_factor": 0.1,
    "num_epochs": 28,
    "steps_per_epoch": 12.5,
}
SGD = {"momentum": 0.9, "weight_decay": 0.05, "weight_decay_on": "all", "clip_norm": 0}
SGD |= {"classifier_rate_factor": 1.0, "frozen": ()}


def rates(steps, **change):
    schedule = jax.jit(make_schedule(**SCHEDULE | change))
    return [float(schedule(jnp.asarray(step))) for step in steps]


def test_steps_rise_and_fall_at_their_epochs():
    steps = [0, 10, 25, 199, 200, 299, 300, 349, 10_000]
    np.testing.assert_allclose(rates(steps), [0, 0.04, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001, 0.001], rtol=1e-5)


def test_cosine_falls_to_zero_at_the_end():
    steps = [0, 10, 25, 25 + 325 // 5, 350, 400]
    expected = [0, 0.04, 0.1, 0.05 * (1 + np.cos(np.pi / 5)), 0, 0]
    np.testing.assert_allclose(
        rates(steps, schedule="cosine", milestone_epochs=(), decay_factor=1), expected, rtol=1e-5, atol=1e-9
    )


def test_constant_with_and_without_warmup():
    constant = {"schedule": "constant", "milestone_epochs": (), "decay_factor": 1}
    np.testing.assert_allclose(rates([0, 5, 25, 349], **constant), [0, 0.02, 0.1, 0.1], rtol=1e-6)
    np.testing.assert_allclose(rates([0, 349], **constant, warmup_epochs=0), [0.1, 0.1], rtol=1e-6)


def test_epochs_follow_the_size_of_the_data():
    once, twice = rates(range(1, 70), steps_per_epoch=2.5), rates(range(2, 140, 2), steps_per_epoch=5)
    np.testing.assert_allclose(once, twice, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"schedule": "poly"}, "optimizer.schedule='poly' is unknown: choose one of steps, cosine, constant"),
        (
            {"schedule": "cosine", "decay_factor": 1},
            "optimizer.milestone_epochs=(16, 24.0) does not fit schedule='cosine'",
        ),
        ({"milestone_epochs": ()}, "does not fit schedule='steps'"),
        ({"milestone_epochs": (24, 16)}, "must rise and lie between 0 and num_epochs=28"),
        ({"milestone_epochs": (16, 28)}, "must rise and lie between 0 and num_epochs=28"),
        ({"learning_rate": 0}, "learning_rate=0 must be positive"),
        ({"steps_per_epoch": 0.0}, "steps_per_epoch=0.0 must be positive"),
        ({"decay_factor": 10}, "decay_factor=10 must be above 0 and at most 1"),
        (
            {"schedule": "cosine", "milestone_epochs": ()},
            "decay_factor=0.1 must be above 0 and at most 1, and 1 unless",
        ),
        ({"warmup_epochs": 28}, "warmup_epochs=28 must be at least 0 and below num_epochs=28"),
        ({"warmup_epochs": -1}, "warmup_epochs=-1 must be at least 0"),
    ],
)
def test_schedules_that_are_refused(change, sentence):
    with pytest.raises(UserError) as error:
        make_schedule(**SCHEDULE | change)
    assert sentence in str(error.value)


def plain_sgd(params, gradients, learning_rates, *, momentum, decays, clip_norm):
    """torch.optim.SGD after torch's clip_grad_norm_, written out for float64 arrays."""
    params = {name: np.array(value, np.float64) for name, value in params.items()}
    buffers = {}
    for gradient, learning_rate in zip(gradients, learning_rates, strict=True):
        norm = np.sqrt(sum((value.astype(np.float64) ** 2).sum() for value in gradient.values()))
        factor = min(1, clip_norm / norm) if clip_norm else 1
        for name in params:
            step = factor * gradient[name] + decays[name] * params[name]
            buffers[name] = momentum * buffers[name] + step if name in buffers else step
            params[name] = params[name] - learning_rate * buffers[name]
    return params


@pytest.mark.parametrize("clip_norm", [0, 1.5])
@pytest.mark.parametrize("weight_decay_on", ["all", "no_norm_bias"])
def test_five_steps_of_sgd(clip_norm, weight_decay_on):
    rng = np.random.default_rng(0)

    def draw(size):
        return {"class_centers": size * rng.normal(size=(4, 3)), "bias": size * rng.normal(size=3)}

    params, gradients = draw(1), [draw(size) for size in (0.1, 3, 0.2, 1, 5)]  # some below the clip, some above
    learning_rates = [0.0, 0.1, 0.2, 0.2, 0.02]
    optimizer = make_optimizer(
        lambda step: jnp.asarray(learning_rates)[step],
        **SGD | {"clip_norm": clip_norm, "weight_decay_on": weight_decay_on},
    )
    current = jax.tree.map(jnp.asarray, params)
    state = optimizer.init(current)
    update = jax.jit(optimizer.update)
    for gradient in gradients:
        updates, state = update(jax.tree.map(jnp.asarray, gradient), state, current)
        current = optax.apply_updates(current, updates)
    decays = {"class_centers": 0.05, "bias": 0.05 if weight_decay_on == "all" else 0}
    expected = plain_sgd(params, gradients, learning_rates, momentum=0.9, decays=decays, clip_norm=clip_norm)
    for name, value in expected.items():
        np.testing.assert_allclose(current[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"momentum": 1.0}, "optimizer.momentum=1.0 must be at least 0 and below 1"),
        ({"weight_decay": -1}, "optimizer.weight_decay=-1 must not be negative"),
        ({"clip_norm": -1}, "optimizer.clip_norm=-1 must be positive, or 0 for no clipping"),
        ({"classifier_rate_factor": -1}, "optimizer.classifier_rate_factor=-1 must not be negative"),
        ({"weight_decay_on": "some"}, "optimizer.weight_decay_on='some' is unknown: choose one of all, no_norm_bias"),
    ],
)
def test_optimizers_that_are_refused(change, sentence):
    with pytest.raises(UserError) as error:
        make_optimizer(lambda step: 0.1, **SGD | change)
    assert sentence in str(error.value)


PARAMS = {"backbone": {"stage1": {"w": jnp.ones(2)}, "stage10": {"w": jnp.ones(2)}}, "classifier": {"c": jnp.ones(2)}}


def update_of(**change):
    optimizer = make_optimizer(lambda step: 0.1, **SGD | change)
    return optimizer.update(jax.tree.map(jnp.ones_like, PARAMS), optimizer.init(PARAMS), PARAMS)[0]


def test_the_classifier_has_its_own_rate():
    one, ten = update_of(), update_of(classifier_rate_factor=10)
    np.testing.assert_allclose(ten["classifier"]["c"], 10 * one["classifier"]["c"])
    np.testing.assert_array_equal(ten["backbone"]["stage1"]["w"], one["backbone"]["stage1"]["w"])


def test_what_is_frozen_does_not_even_decay():
    update = update_of(frozen=("backbone/stage1", "classifier"))
    assert not update["backbone"]["stage1"]["w"].any()
    assert not update["classifier"]["c"].any()
    assert update["backbone"]["stage10"]["w"].all()
    with pytest.raises(UserError, match="frozen names 'backbone/stage2', which is none of backbone/stage1, b"):
        is_frozen(PARAMS, frozen=("backbone/stage2",))
