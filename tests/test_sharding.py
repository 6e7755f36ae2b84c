"""One mesh, batches split over it."""

import numpy as np
import pytest

from lrfr_jax import sharding
from lrfr_jax.errors import UserError


def test_batch_is_split_and_whole():
    mesh = sharding.make_mesh()
    assert (mesh.axis_names, mesh.size) == (("data",), 8)
    batch = {"image": np.arange(16 * 3, dtype=np.uint8).reshape(16, 3), "label": np.arange(16, dtype=np.int32)}
    arrays = sharding.to_devices(batch, mesh)
    assert {shard.data.shape for shard in arrays["image"].addressable_shards} == {(2, 3)}
    for key in batch:
        np.testing.assert_array_equal(arrays[key], batch[key])
        assert arrays[key].dtype == batch[key].dtype


@pytest.mark.parametrize(("batch_size", "choice"), [(12, "8 or 16"), (3, "to 8"), (0, "to 8")])
def test_uneven_batch_is_a_sentence(batch_size, choice):
    with pytest.raises(UserError, match=choice):
        sharding.check_batch_size("batch_size", batch_size, sharding.make_mesh())
    sharding.check_batch_size("batch_size", 16, sharding.make_mesh())
