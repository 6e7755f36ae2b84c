import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.objective.optimizer import is_frozen, make_optimizer, make_schedule, weight_decays

SCHEDULE = {
    "schedule": "steps",
    "learning_rate": 0.1,
    "warmup_epochs": 2,
    "milestone_epochs": (16, 24.0),
    "decay_factor": 0.1,
    "num_epochs": 28,
    "steps_per_epoch": 12.5,
}
SGD = {"algorithm": "sgd", "momentum": 0.9, "nesterov": False, "betas": (), "epsilon": 0.0}
SGD |= {"weight_decay": 0.05, "weight_decay_on": "all", "weight_decay_by_prefix": (), "clip_norm": 0}
SGD |= {"decay_towards": "zero"}
SGD |= {"classifier_rate_factor": 1.0, "frozen": ()}
ADAMW = {"algorithm": "adamw", "momentum": 0, "betas": (0.8, 0.95), "epsilon": 1e-3}


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


def plain_sgd(params, gradients, learning_rates, *, momentum, decays, clip_norm, nesterov=False):
    """torch.optim.SGD after torch's clip_grad_norm_, written out for float64 arrays."""
    params = {name: np.array(value, np.float64) for name, value in params.items()}
    buffers = {}
    for gradient, learning_rate in zip(gradients, learning_rates, strict=True):
        norm = np.sqrt(sum((value.astype(np.float64) ** 2).sum() for value in gradient.values()))
        factor = min(1, clip_norm / norm) if clip_norm else 1
        for name in params:
            step = factor * gradient[name] + decays[name] * params[name]
            buffers[name] = momentum * buffers[name] + step if name in buffers else step
            ahead = step + momentum * buffers[name] if nesterov else buffers[name]
            params[name] = params[name] - learning_rate * ahead
    return params


def plain_adamw(params, gradients, learning_rates, *, decays):
    """torch.optim.AdamW with betas .8 and .95 and eps 1e-3, written out for float64 arrays."""
    params = {name: np.array(value, np.float64) for name, value in params.items()}
    means, squares = ({name: np.zeros_like(value) for name, value in params.items()} for _ in range(2))
    for count, (gradient, rate) in enumerate(zip(gradients, learning_rates, strict=True), 1):
        for name in params:
            params[name] = params[name] * (1 - rate * decays[name])
            means[name] = 0.8 * means[name] + 0.2 * gradient[name]
            squares[name] = 0.95 * squares[name] + 0.05 * gradient[name] ** 2
            root = np.sqrt(squares[name]) / np.sqrt(1 - 0.95**count) + 1e-3
            params[name] = params[name] - rate / (1 - 0.8**count) * means[name] / root
    return params


def draws(*sizes):
    rng = np.random.default_rng(0)
    return [{"class_centers": size * rng.normal(size=(4, 3)), "bias": size * rng.normal(size=3)} for size in sizes]


RATES = [0.0, 0.1, 0.2, 0.2, 0.02]
DRAWN = draws(1, 0.1, 3, 0.2, 1, 5)  # parameters and five gradients, some below a clip of 1.5, some above


def five_steps(**change):
    optimizer = make_optimizer(lambda step: jnp.asarray(RATES)[step], **SGD | change)
    params, *gradients = [jax.tree.map(jnp.asarray, one) for one in DRAWN]
    state = optimizer.init(params)
    update = jax.jit(optimizer.update)
    for gradient in gradients:
        updates, state = update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params


def assert_close(found, expected):
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("clip_norm", [0, 1.5])
@pytest.mark.parametrize("weight_decay_on", ["all", "no_norm_bias"])
def test_five_steps_of_sgd(clip_norm, weight_decay_on, nesterov):
    found = five_steps(clip_norm=clip_norm, weight_decay_on=weight_decay_on, nesterov=nesterov)
    decays = {"class_centers": 0.05, "bias": 0.05 if weight_decay_on == "all" else 0}
    numbers = {"momentum": 0.9, "decays": decays, "clip_norm": clip_norm, "nesterov": nesterov}
    assert_close(found, plain_sgd(DRAWN[0], DRAWN[1:], RATES, **numbers))


@pytest.mark.parametrize("weight_decay_on", ["all", "no_norm_bias"])
def test_five_steps_of_adamw(weight_decay_on):
    found = five_steps(**ADAMW, weight_decay_on=weight_decay_on)
    decays = {"class_centers": 0.05, "bias": 0.05 if weight_decay_on == "all" else 0}
    assert_close(found, plain_adamw(DRAWN[0], DRAWN[1:], RATES, decays=decays))


@pytest.mark.parametrize("weight_decay_on", ["all", "no_norm_bias"])
@pytest.mark.parametrize("algorithm", ["sgd", "adamw"])
def test_decay_towards_the_start_is_decay_of_what_was_learned(algorithm, weight_decay_on):
    found = five_steps(
        **(ADAMW if algorithm == "adamw" else {}), decay_towards="start", weight_decay_on=weight_decay_on
    )
    nothing = {name: np.zeros_like(value) for name, value in DRAWN[0].items()}
    decays = {"class_centers": 0.05, "bias": 0.05 if weight_decay_on == "all" else 0}
    if algorithm == "adamw":
        learned = plain_adamw(nothing, DRAWN[1:], RATES, decays=decays)
    else:
        learned = plain_sgd(nothing, DRAWN[1:], RATES, momentum=0.9, decays=decays, clip_norm=0)
    assert_close(found, {name: value + DRAWN[0][name] for name, value in learned.items()})


def test_each_prefix_has_its_decay():
    prefixes = {"weight_decay_by_prefix": (("bias", 0.3), ("class_centers", 0.0))}
    numbers = {"momentum": 0.9, "clip_norm": 1.5, "decays": {"class_centers": 0.0, "bias": 0.3}}
    assert_close(five_steps(**prefixes, clip_norm=1.5), plain_sgd(DRAWN[0], DRAWN[1:], RATES, **numbers))
    decays = {"class_centers": 0.0, "bias": 0.3}
    assert_close(five_steps(**prefixes, **ADAMW), plain_adamw(DRAWN[0], DRAWN[1:], RATES, decays=decays))


def test_the_longest_prefix_counts_and_what_is_spared_is_spared():
    def decays(by_prefix, on="all", params=PARAMS):
        found = weight_decays(params, weight_decay=0.1, weight_decay_on=on, by_prefix=by_prefix)
        return found["backbone"]["stage1"]["w"], found["backbone"]["stage10"]["w"], found["classifier"]["c"]

    assert decays(()) == (0.1, 0.1, 0.1)
    for order in ((("backbone", 0.2), ("backbone/stage1", 0.3)), (("backbone/stage1", 0.3), ("backbone", 0.2))):
        assert decays(order) == (0.3, 0.2, 0.1)
    assert decays((("classifier", 0.5),), on="no_norm_bias") == (0, 0, 0)
    matrices = jax.tree.map(lambda w: w[None], PARAMS)
    assert decays((("classifier", 0.5),), on="no_norm_bias", params=matrices) == (0.1, 0.1, 0.5)
    with pytest.raises(
        UserError, match=r"optimizer\.weight_decay_by_prefix names 'head', which is none of backbone, cl"
    ):
        decays((("head", 0.5),))


def test_the_state_of_sgd_is_laid_out_as_it_has_always_been():
    """Checkpoints of before hold it so: seven entries, of which the momentum alone has arrays, and the count."""
    state = make_optimizer(lambda step: 0.1, **SGD).init(PARAMS)
    names = [type(entry).__name__ for entry in state]
    assert names[1:] == ["EmptyState", "TraceState", "ScaleByScheduleState", "MaskedState", "MaskedState"]
    assert len(jax.tree.leaves(state)) == 3 + 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"momentum": 1.0}, "optimizer.momentum=1.0 must be at least 0 and below 1"),
        ({"weight_decay": -1}, "optimizer.weight_decay=-1 must not be negative"),
        ({"clip_norm": -1}, "optimizer.clip_norm=-1 must be positive, or 0 for no clipping"),
        ({"classifier_rate_factor": -1}, "optimizer.classifier_rate_factor=-1 must not be negative"),
        ({"algorithm": "adam"}, "optimizer.algorithm='adam' is unknown: choose one of sgd, adamw"),
        (ADAMW | {"momentum": 0.9}, "optimizer.momentum=0.9 has no meaning for adamw, whose betas take its place"),
        ({"nesterov": True, "momentum": 0.0}, "optimizer.nesterov=True needs algorithm='sgd' and a momentum above 0"),
        (ADAMW | {"nesterov": True}, "optimizer.nesterov=True needs algorithm='sgd'"),
        (ADAMW | {"betas": (0.9,)}, "optimizer.betas=(0.9,) does not fit algorithm='adamw': give two numbers"),
        (ADAMW | {"betas": (0.9, 1.0)}, "optimizer.betas=(0.9, 1.0) does not fit algorithm='adamw': give two numbers"),
        (
            {"betas": (0.9, 0.99)},
            "does not fit algorithm='sgd': give two numbers from 0 to below 1 for adamw and () for",
        ),
        (
            {"epsilon": 1e-8},
            "optimizer.epsilon=1e-08 does not fit algorithm='sgd': set it above 0 for adamw and to 0 for",
        ),
        (ADAMW | {"epsilon": 0.0}, "optimizer.epsilon=0.0 does not fit algorithm='adamw'"),
        ({"decay_towards": "mean"}, "optimizer.decay_towards='mean' is unknown: choose one of zero, start"),
        (
            {"weight_decay_by_prefix": (("bias", -1.0),)},
            "optimizer.weight_decay_by_prefix=(('bias', -1.0),) holds a neg",
        ),
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
