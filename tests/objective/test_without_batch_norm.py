"""A backbone without BatchNorm: no statistics, from the first state to the step, whatever `model.batch_norm` says."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrfr_jax.objective import embedding, train_step
from lrfr_jax.objective.classifier import Classifier
from lrfr_jax.objective.heads import HEADS
from lrfr_jax.objective.named_features import Names


class Plain(nn.Module):
    @nn.compact
    def __call__(self, images, train):
        x = nn.Dense(4, name="linear")(images.reshape(len(images), -1))
        return nn.Dropout(0.5, deterministic=not train)(x)


def first_state():
    classifier = Classifier(3, shards=1, chunks=1, sampled_share=1.0, precision=jax.lax.Precision.HIGHEST)
    names = Names({}, classifier, HEADS["cosface"](scale=8.0, margin=0.4))
    parts = {"backbone": Plain(), "names": names, "optimizer": optax.sgd(0.1), "terms": (), "num_identities": 3}
    return train_step.init_state(jax.random.key(0), image_shape=(2, 2, 3), **parts)


def test_the_first_state_has_no_statistics():
    state = first_state()
    assert state.batch_stats == {}
    assert set(state.params["backbone"]) == {"linear"}


@pytest.mark.parametrize("batch_norm", embedding.BATCH_NORMS)
def test_views_are_embedded_and_the_statistics_stay_empty(batch_norm):
    params, rng = first_state().params["backbone"], jax.random.key(1)
    views = {
        name: jnp.asarray(np.random.default_rng(number).normal(size=(2, 2, 2, 3)), "float32")
        for number, name in enumerate(("hr", "lr"))
    }
    how = {"backbone": Plain(), "batch_norm": batch_norm, "parts": 1}
    taps = dict.fromkeys(views, ("feature",))
    features, stats = embedding.embed_views(params, {}, views, rng, taps=taps, **how)
    assert stats == {}
    for name, view in views.items():
        feature = features[name, "feature"]
        plain = view.reshape(2, -1) @ params["linear"]["kernel"] + params["linear"]["bias"][None]
        dropped = 2 * plain if batch_norm != "frozen" else plain  # what is kept is divided by the share that is
        expected = jnp.where(feature == 0, 0, dropped)
        np.testing.assert_allclose(feature, expected, rtol=1e-5)
        assert (feature == 0).any() == (batch_norm != "frozen")
