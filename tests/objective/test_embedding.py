"""Views through a backbone: in parts as a whole, each by its own statistics or all by the same."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import quickstart
from lrfr_jax.machines import sharding
from lrfr_jax.objective import embedding
from lrfr_jax.run import experiment

BATCH = 8
SMALL = {"backbone": "resnet6", "width": 0.0625, "embedding_size": 16}
pytestmark = pytest.mark.usefixtures("resnet6")


@functools.cache
def run_of():
    config = quickstart.get_config(f"policy=maug,batch_size={BATCH}")
    config.model.update(SMALL)
    return experiment.build_run(config, num_identities=5, steps_per_epoch=10.0)


@functools.cache
def fresh_state():
    with jax.enable_x64(False):  # whichever test asks first
        return jax.jit(run_of().init)(jax.random.key(0, impl="rbg"))


def in_float64(x):
    return jnp.array(x, jnp.float64 if jnp.issubdtype(x.dtype, jnp.floating) else x.dtype)


def embed_views(params, stats, views, rng, **settings):
    """(the features of each view, the new statistics)."""
    named = dict(zip("ab", views, strict=False))
    taps = dict.fromkeys(named, ("feature",))
    features, stats = embedding.embed_views(params, stats, named, rng, taps=taps, **settings)
    return tuple(features[name, "feature"] for name in named), stats


def test_parts_of_a_batch_give_the_features_and_the_gradient_of_the_whole():
    """Of a batch that lies on two devices."""
    random = np.random.default_rng(4)
    views = tuple(random.normal(size=(BATCH, 112, 112, 3)) for _ in range(2))
    weights = random.normal(size=(2, BATCH, 16))
    with jax.enable_x64(True):
        fresh = jax.tree.map(in_float64, fresh_state())
        mesh = jax.sharding.Mesh(np.reshape(jax.devices()[:2], (-1, 1)), ("data", "model"))
        views = jax.device_put(views, sharding.over_batch(mesh))

        @functools.partial(jax.jit, static_argnames="parts")
        def embed(params, views, *, parts):
            def value(params):
                settings = {
                    "backbone": run_of().backbone.clone(dtype="float64"),
                    "batch_norm": "frozen",
                    "parts": parts,
                }
                features, _ = embed_views(params, fresh.batch_stats, views, jax.random.key(1), **settings)
                return jnp.sum(jnp.stack(features) * weights), features

            return jax.grad(value, has_aux=True)(params)

        whole, in_parts = (embed(fresh.params["backbone"], views, parts=parts) for parts in (1, 4))
    chex.assert_trees_all_close(whole, in_parts, rtol=1e-9, atol=1e-9)


def test_per_view_runs_two_forwards_and_joint_one():
    random = np.random.default_rng(2)
    views = tuple(jnp.asarray(random.normal(size=(BATCH, 112, 112, 3)) * s + s, jnp.float32) for s in (1.0, 0.2))
    fresh = fresh_state()

    @functools.partial(jax.jit, static_argnames="batch_norm")
    def embed(views, stats, *, batch_norm):
        settings = {"backbone": run_of().backbone, "batch_norm": batch_norm, "parts": 1}
        return embed_views(fresh.params["backbone"], stats, views, jax.random.key(1), **settings)

    (hr, lr), stats = embed(views, fresh.batch_stats, batch_norm="per_view")
    (hr_alone,), after_hr = embed(views[:1], fresh.batch_stats, batch_norm="per_view")
    (lr_alone,), after_both = embed(views[1:], after_hr, batch_norm="per_view")
    chex.assert_trees_all_close((hr, lr, stats), (hr_alone, lr_alone, after_both), rtol=1e-4, atol=1e-4)

    (joint_hr, joint_lr), _ = embed(views, fresh.batch_stats, batch_norm="joint")
    (whole,), _ = embed((jnp.concatenate(views),), fresh.batch_stats, batch_norm="per_view")
    chex.assert_trees_all_close(jnp.concatenate([joint_hr, joint_lr]), whole, rtol=1e-4, atol=1e-4)
    assert np.abs(joint_hr - hr).max() > 0.01
