"""A backbone without BatchNorm: no statistics, from the first state to the step, whatever `model.batch_norm` says."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrfr_jax.objective import train_step
from lrfr_jax.objective.classifier import Classifier
from lrfr_jax.objective.heads import HEADS


class Plain(nn.Module):
    @nn.compact
    def __call__(self, images, train):
        x = nn.Dense(4, name="linear")(images.reshape(len(images), -1))
        return nn.Dropout(0.5, deterministic=not train)(x)


def first_state():
    classifier = Classifier(3, shards=1, chunks=1, sampled_share=1.0, precision=jax.lax.Precision.HIGHEST)
    parts = {"backbone": Plain(), "classifier": classifier, "optimizer": optax.sgd(0.1)}
    head = HEADS["cosface"](scale=8.0, margin=0.4)
    return train_step.init_state(jax.random.key(0), image_shape=(2, 2, 3), head=head, **parts)


def test_the_first_state_has_no_statistics():
    state = first_state()
    assert state.batch_stats == {}
    assert set(state.params["backbone"]) == {"linear"}


@pytest.mark.parametrize("batch_norm", train_step.BATCH_NORMS)
def test_views_are_embedded_and_the_statistics_stay_empty(batch_norm):
    params, rng = first_state().params["backbone"], jax.random.key(1)
    views = tuple(jnp.asarray(np.random.default_rng(number).normal(size=(2, 2, 2, 3)), "float32") for number in (0, 1))
    how = {"backbone": Plain(), "batch_norm": batch_norm, "parts": 1}
    features, stats = train_step.embed_views(params, {}, views, rng, **how)
    assert stats == {}
    for view, feature in zip(views, features, strict=True):
        plain = view.reshape(2, -1) @ params["linear"]["kernel"] + params["linear"]["bias"][None]
        dropped = 2 * plain if batch_norm != "frozen" else plain  # what is kept is divided by the share that is
        expected = jnp.where(feature == 0, 0, dropped)
        np.testing.assert_allclose(feature, expected, rtol=1e-5)
        assert (feature == 0).any() == (batch_norm != "frozen")
