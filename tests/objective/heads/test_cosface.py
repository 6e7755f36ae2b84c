import jax
import jax.numpy as jnp
import numpy as np

from lrfr_jax.objective import heads
from tests.objective.heads.toy import T0, close, dense_losses, in_double, make


@in_double
def test_values_and_gradient():
    head = make("cosface", scale=8.0)
    close(head.own(jnp.asarray([0.6]), None, None, {}), [1.6])
    losses, _, slopes = dense_losses(head, T0)
    close(losses, [1.1836588], digits=7)
    close(slopes["cosines"], [[-5.550748, 5.450911, 0.099837]])


@in_double
def test_golden(golden):
    g = golden("cosface")
    labels = jnp.asarray(g["labels"])

    def unit(x):
        return x / jnp.linalg.norm(x, axis=1, keepdims=True)

    def loss(features, centers):
        cosines = unit(features) @ unit(centers).T
        logits = heads.cosface_logits(cosines, labels, scale=float(g["scale"]), margin=float(g["margin"]))
        return jnp.mean(heads.cross_entropy(logits, labels)), logits

    arguments = jnp.asarray(g["features"]), jnp.asarray(g["class_centers"])
    (value, logits), gradients = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(*arguments)
    np.testing.assert_allclose(logits, g["logits"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(value, g["loss"], rtol=1e-6)
    np.testing.assert_allclose(gradients[0], g["grad_features"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(gradients[1], g["grad_class_centers"], rtol=0, atol=1e-6)
