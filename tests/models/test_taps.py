"""Values inside networks by name."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.models import create_backbone, layers, taps

RGB = {"order": "rgb", "mean": 127.5, "scale": 127.5, "columns": 112}
SMALL = {"width": 0.125, "embedding_size": 16, "dropout": 0.4, "dtype": "float32", "input": RGB}
STAGES = ("stage1", "stage2", "stage3", "stage4")
IS_STAGE = lambda module, method: isinstance(module, layers.Stage)  # noqa: E731


def variables_of(net, images):
    variables = jax.jit(functools.partial(net.init, train=False))(jax.random.key(0), images)
    assert set(variables) == {"params", "batch_stats"}
    return variables


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (2, 112, 112, 3)), jnp.float32)


@pytest.mark.parametrize(
    ("name", "channels"),
    [("resnet50", (32, 64, 128, 256)), ("iresnet18", (8, 16, 32, 64)), ("mobilefacenet", (8, 8, 16, 16))],
)
def test_every_backbone_shows_the_last_map_of_each_size(name, channels, images):
    net = create_backbone(name, **SMALL)
    assert taps.names_of(net) == (*STAGES, "feature")
    variables = jax.eval_shape(functools.partial(net.init, train=False), jax.random.key(0), images)
    asked = functools.partial(taps.apply, net, taps=(*STAGES, "feature"), train=False)
    found, updated = jax.eval_shape(asked, variables, images)
    sides = [56, 28, 14, 7]
    shapes = [(2, side, side, count) for side, count in zip(sides, channels, strict=True)]
    wanted = zip((*STAGES, "feature"), [*shapes, (2, 16)], strict=True)
    assert {tap: value.shape for tap, value in found.items()} == dict(wanted)
    assert not updated


def test_what_is_shown_is_what_a_stage_returns(images):
    net = create_backbone("resnet18", **SMALL).clone(stage_sizes=(1, 2))
    variables = variables_of(net, images)
    wanted, captured = net.apply(variables, images, train=False, capture_intermediates=IS_STAGE)
    found, _ = taps.apply(net, variables, images, taps=("feature", "stage2", "stage1"), train=False)
    assert list(found) == ["feature", "stage2", "stage1"]
    np.testing.assert_array_equal(found["feature"], wanted)
    for name in ("stage1", "stage2"):
        np.testing.assert_array_equal(found[name], captured["intermediates"][name]["__call__"][0])


def test_a_step_in_training_changes_its_statistics_with_and_without_taps(images):
    net = create_backbone("iresnet18", **SMALL).clone(stage_sizes=(1,))
    variables = variables_of(net, images)
    settings = {"train": True, "rngs": {"dropout": jax.random.key(1)}, "mutable": ("batch_stats",)}
    with_taps = taps.apply(net, variables, images, taps=("stage1", "feature"), **settings)
    without = taps.apply(net, variables, images, taps=("feature",), **settings)
    feature, updated = net.apply(variables, images, **settings | {"mutable": ["batch_stats"]})
    np.testing.assert_array_equal(with_taps[0]["feature"], feature)
    np.testing.assert_array_equal(without[0]["feature"], feature)
    chex.assert_trees_all_equal(with_taps[1], without[1], dict(updated))


def test_who_asks_for_no_tap_gets_the_program_of_before(images, monkeypatch):
    net = create_backbone("iresnet18", **SMALL, remat="blocks")
    variables = jax.eval_shape(functools.partial(net.init, train=False), jax.random.key(0), images)

    def program(function):
        return str(jax.make_jaxpr(function)(variables, images))

    def alone(variables, images):
        return taps.apply(net, variables, images, taps=("feature",), train=False)[0]["feature"]

    asked = program(functools.partial(net.apply, train=False))
    with_taps = program(alone)
    monkeypatch.setattr(taps, "show", lambda *_: None)
    assert asked == with_taps == program(functools.partial(net.apply, train=False))


def test_gradients_go_through_taps_with_every_remat(images):
    """As through the stages' results, which flax itself hands over; with BatchNorm of training."""
    images = images[:, ::4, ::4]
    net = create_backbone("iresnet18", **SMALL | {"dropout": 0.0, "input": RGB | {"columns": 28}})
    net = net.clone(stage_sizes=(1, 1))
    variables = variables_of(net, images)

    def gradient(maps_of):
        def loss(params):
            maps = maps_of(variables | {"params": params})
            return sum(jnp.sum(value * jnp.sin(jnp.arange(value.size).reshape(value.shape))) for value in maps)

        return jax.jit(jax.grad(loss))(variables["params"])

    def captured(variables):
        settings = {"mutable": ["batch_stats", "intermediates"], "capture_intermediates": IS_STAGE}
        found = net.apply(variables, images, train=True, **settings)[1]["intermediates"]
        return [found[name]["__call__"][0] for name in ("stage1", "stage2")]

    wanted = gradient(captured)
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(wanted))
    for remat in layers.REMATS:
        settings = {"taps": ("stage1", "stage2"), "train": True, "mutable": ("batch_stats",)}
        asked = functools.partial(taps.apply, net.clone(remat=remat), images=images, **settings)
        found = gradient(lambda variables, asked=asked: asked(variables)[0].values())
        chex.assert_trees_all_close(found, wanted, atol=1e-5 * largest)
        assert all(leaf.any() for name, part in found.items() for leaf in jax.tree.leaves(part) if name != "neck")


class Twelve(nn.Module):
    """Shows one number from each of twelve blocks, two of its own."""

    @nn.compact
    def __call__(self, images, train):
        for number in range(12):
            Block(float(number), name=f"block{number}")(images)
        return images.mean(axis=(1, 2, 3))[:, None]


class Block(nn.Module):
    number: float

    @nn.compact
    def __call__(self, images):
        taps.show(self, "attention", jnp.full(len(images), self.number))
        taps.show(self, "attention", jnp.full(len(images), self.number + 0.5))


def test_values_of_one_name_come_in_the_order_of_the_blocks(images):
    """Under jit too, where dicts come back by the alphabet; a network without variables has no collections."""
    found, _ = jax.jit(functools.partial(taps.apply, Twelve(), {}, taps=("attention",), train=False))(images)
    np.testing.assert_array_equal(np.array(found["attention"])[:, 1], np.arange(24) / 2)
    assert taps.names_of(Twelve()) == ("attention", "feature")


def test_a_tap_that_does_not_exist_is_named(images):
    with pytest.raises(UserError, match=r"no tap 'stage5': choose one of attention, feature$"):
        taps.apply(Twelve(), {}, images, taps=("feature", "stage5"), train=False)
