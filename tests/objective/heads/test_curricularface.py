import jax.numpy as jnp
import numpy as np
import pytest

from tests.objective.heads.toy import close, dense_losses, in_double, make

BATCH = ((0.6, 0.3, -0.2), (0.2, 0.7, 0.1))


@in_double
def test_a_batch_and_its_state():
    head = make("curricularface", scale=8.0)
    losses, state, slopes = dense_losses(head, BATCH)
    close(state["t"], 0.004)
    cosines = jnp.asarray(BATCH)
    own = head.own(cosines[:, 0], None, None, state)
    others = 8 * head.others(cosines[:, 1:], head.bar(cosines[:, 0], None, None, state)[:, None], state)
    close(own, [1.144073, -2.353781])
    close(others, [[0.7296, -1.6], [3.9424, 0.0832]])
    close(losses, [0.5452249, 6.3188506], digits=7)
    close(losses.mean(), 3.4320378, digits=7)
    close(slopes["cosines"], [[-4.159686, 1.850698, 0.298240], [-7.789497, 10.980243, 0.033639]])
    close(dense_losses(head, BATCH, state=state)[1]["t"], 0.00796)


@in_double
def test_beyond_pi_the_bar_stays_the_margined_cosine():
    head = make("curricularface", scale=8.0)
    # The state that this batch's own cosine of -0.95 brings to 0.004.
    losses, state, slopes = dense_losses(head, (-0.95, 0.2, 0.1), state={"t": (0.004 + 0.0095) / 0.99})
    np.testing.assert_allclose(state["t"], 0.004, atol=1e-15)
    own = jnp.asarray([-0.95])
    close(head.own(own, None, None, state), [-9.517702])
    close(head.bar(own, None, None, state), [np.cos(np.arccos(-0.95) + 0.5)])
    close(losses, [10.4230542], digits=7)
    close(slopes["cosines"], [[-7.999762, 1.811489, 0.717239]])


@in_double
def test_early_training_eases_hard_negatives():
    head = make("curricularface")
    hard, bar = jnp.asarray([[0.7]]), jnp.asarray([[0.2]])
    assert head.others(hard, bar, {"t": 0.1}) < hard < head.others(hard, bar, {"t": 0.5})
    np.testing.assert_array_equal(head.others(hard, jnp.asarray([[0.7]]), {"t": 0.5}), hard)


@pytest.mark.parametrize(("change", "sentence"), [({"rate": 0}, "rate=0 must be"), ({"scale": -1}, "scale=-1 must be")])
def test_refuses(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        make("curricularface", **change)
