"""One mesh, batches split over it."""

import jax
import numpy as np
import pytest

from lrfr_jax.errors import UserError
from lrfr_jax.machines import sharding


def test_batch_is_split_and_whole():
    mesh = sharding.make_mesh(class_shards=1)
    assert dict(mesh.shape) == {"data": 8, "model": 1}
    batch = {"image": np.arange(16 * 3, dtype=np.uint8).reshape(16, 3), "label": np.arange(16, dtype=np.int32)}
    second = sharding.to_devices(batch | {"second": {"label": np.arange(8)}}, mesh)["second"]
    assert {shard.data.shape for shard in second["label"].addressable_shards} == {(1,)}
    arrays = sharding.to_devices(batch, mesh)
    assert {shard.data.shape for shard in arrays["image"].addressable_shards} == {(2, 3)}
    for key in batch:
        np.testing.assert_array_equal(arrays[key], batch[key])
        assert arrays[key].dtype == batch[key].dtype


def test_a_batch_is_split_over_both_axes_and_centers_over_one():
    mesh = sharding.make_mesh(class_shards=4)
    assert dict(mesh.shape) == {"data": 2, "model": 4}
    images = sharding.to_devices({"image": np.zeros((16, 3), np.uint8)}, mesh)["image"]
    assert {shard.data.shape for shard in images.addressable_shards} == {(2, 3)}
    centers, kernel = np.arange(16.0).reshape(8, 2), np.zeros((4, 4))
    state = {
        "params": {"classifier": {"class_centers": centers}, "backbone": {"kernel": kernel}},
        "opt_state": ({"classifier": {"class_centers": centers}}, {"classifier": {"class_centers": np.zeros(())}}),
    }
    placed = jax.device_put(state, sharding.of_state(mesh, state))
    for whole in (placed["params"]["backbone"]["kernel"], placed["opt_state"][1]["classifier"]["class_centers"]):
        assert whole.sharding.is_fully_replicated
    for split in (placed["params"]["classifier"], placed["opt_state"][0]["classifier"]):
        shards = split["class_centers"].addressable_shards
        assert {shard.data.shape for shard in shards} == {(2, 2)}
        assert len({shard.index[0].start for shard in shards}) == 4


@pytest.mark.parametrize("shards", [0, 3, 16])
def test_shards_that_do_not_divide_the_devices_are_a_sentence(shards):
    with pytest.raises(UserError, match=f"shards={shards} does not divide 8 devices: set it to 1 or 2 or 4 or 8"):
        sharding.make_mesh(class_shards=shards)


@pytest.mark.parametrize(("batch_size", "choice"), [(12, "8 or 16"), (3, "to 8"), (0, "to 8")])
def test_uneven_batch_is_a_sentence(batch_size, choice):
    with pytest.raises(UserError, match=choice):
        sharding.check_batch_size("batch_size", batch_size, sharding.make_mesh(class_shards=1))
    sharding.check_batch_size("batch_size", 16, sharding.make_mesh(class_shards=1))


def test_parts_that_do_not_fit_the_batch_are_a_sentence():
    mesh = sharding.make_mesh(class_shards=1)
    with pytest.raises(
        UserError, match="batch_size=36 cannot be split evenly over 8 devices in 2 parts: set it to 32 or"
    ):
        sharding.check_batch_size("batch_size", 36, mesh, parts=2)
    sharding.check_batch_size("batch_size", 32, mesh, parts=2)
    with pytest.raises(UserError, match="batch_parts=0 must be at least 1"):
        sharding.check_batch_size("batch_size", 32, mesh, parts=0)


def test_a_batch_that_fits_in_fewer_parts_is_told_so():
    mesh = sharding.make_mesh(class_shards=1)
    with pytest.raises(UserError, match=r"over 8 devices in 4 parts: set --config\.batch_parts to 1 or 3$"):
        sharding.check_batch_size("batch_size", 24, mesh, parts=4)


def test_a_batch_of_a_run_that_continues_is_kept_and_the_devices_that_split_it_are_told():
    """Another batch would be refused next, as another config."""
    mesh = sharding.make_mesh(class_shards=1)
    with pytest.raises(UserError, match="a run keeps its batch: continue it on 1 or 2 or 3 or 4 or 6 devices"):
        sharding.check_batch_size("batch_size", 12, mesh, begins=False)


@pytest.mark.parametrize(("batch_size", "rounded"), [(1, 8), (8, 8), (63, 64)])
def test_what_only_says_how_many_at_a_time_is_rounded_up(batch_size, rounded):
    assert sharding.rounded_up("--batch_size", batch_size, sharding.make_mesh(class_shards=1)) == rounded


def test_no_images_at_a_time_are_a_sentence():
    with pytest.raises(UserError, match="--batch_size=0 must be at least 1"):
        sharding.rounded_up("--batch_size", 0, sharding.make_mesh(class_shards=1))
