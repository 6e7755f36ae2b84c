"""One mesh over all devices: batches are split over all of it, class centers over its axis `model`, nothing else is."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from lrfr_jax.errors import UserError

CLASS_CENTERS = "class_centers"
# What has a row for each identity, with its number of dimensions.
OF_IDENTITIES = {CLASS_CENTERS: 2, "class_bias": 1}


def make_mesh(class_shards: int) -> Mesh:
    """Returns the mesh of all devices of all processes, with the axes `data` and `model`.

    Auto axes: with jax's default of Explicit ones the gathers of a margin head raise.

    Args:
      class_shards: length of `model`; neighboring devices, which are linked best, share the class centers.

    Raises:
      UserError: it does not divide the number of devices.
    """
    count = jax.device_count()
    if class_shards < 1 or count % class_shards:
        choice = " or ".join(str(number) for number in range(1, count + 1) if count % number == 0)
        raise UserError(
            f"--config.classifier.shards={class_shards} does not divide {count} devices: set it to {choice}"
        )
    return jax.make_mesh((count // class_shards, class_shards), ("data", "model"), axis_types=(AxisType.Auto,) * 2)


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def everywhere(tree: PyTree, mesh: Mesh) -> PyTree:
    """Puts arrays that each process has read for itself, whole, on every device.

    By way of the host: no process can send what lies on its device to a device of another one.
    """
    return jax.device_put(jax.tree.map(np.asarray, tree), replicated(mesh))


def over_batch(mesh: Mesh) -> NamedSharding:
    """The leading axis is split over all devices."""
    return NamedSharding(mesh, PartitionSpec(("data", "model")))


def of_state(mesh: Mesh, state: PyTree) -> PyTree:
    """How a training state lies: class centers, their bias and momentum split by rows, all else whole everywhere.

    Args:
      mesh: from `make_mesh`.
      state: arrays, or their shapes.
    """

    def sharding(path, leaf):
        is_by_identity = any(leaf.ndim == OF_IDENTITIES.get(getattr(key, "key", None)) for key in path)
        return NamedSharding(mesh, PartitionSpec("model")) if is_by_identity else replicated(mesh)

    return jax.tree.map_with_path(sharding, state)


def check_batch_size(flag: str, batch_size: int, mesh: Mesh, *, parts: int = 1, begins: bool = True) -> None:
    """Raises `UserError` if the global batch, which the user sets by `flag`, cannot be split evenly into parts.

    Args:
      flag: for the sentence.
      batch_size: images over all devices and parts.
      mesh: over which it is split.
      parts: into which each device's share is split.
      begins: False where the batch is that of a run that continues, and cannot change any more.
    """
    if parts < 1:
        raise UserError(f"--config.batch_parts={parts} must be at least 1")
    if batch_size >= 1 and batch_size % (mesh.size * parts) == 0:
        return
    in_parts = f" in {parts} parts" if parts > 1 else ""
    said = f"{flag}={batch_size} cannot be split evenly over {mesh.size} devices{in_parts}"
    if batch_size >= 1 and batch_size % mesh.size == 0:
        fitting = [str(count) for count in _divisors(batch_size // mesh.size) if count < parts]
        raise UserError(f"{said}: set --config.batch_parts to {' or '.join(fitting)}")
    if not begins:
        fitting = [str(count) for count in _divisors(batch_size) if count < mesh.size]
        raise UserError(
            f"{said}, and a run keeps its batch: continue it on {' or '.join(fitting)} devices, which "
            "CUDA_VISIBLE_DEVICES can choose"
        )
    unit = mesh.size * parts
    lower, upper = batch_size // unit * unit, (batch_size // unit + 1) * unit
    choice = f"{lower} or {upper}" if lower > 0 else f"{upper}"
    raise UserError(f"{said}: set it to {choice}")


def _divisors(number: int) -> list[int]:
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]


def rounded_up(flag: str, batch_size: int, mesh: Mesh) -> int:
    """Returns the next batch that is split evenly: what only says how many images are worked on at a time.

    Raises:
      UserError: it, which the user sets by `flag`, is below 1.
    """
    if batch_size < 1:
        raise UserError(f"{flag}={batch_size} must be at least 1")
    return mesh.size * -(-batch_size // mesh.size)


def to_devices(batch: Mapping[str, Any], mesh: Mesh) -> dict[str, Any]:
    """Joins the processes' shares of a batch, in order of process, into global arrays split over devices.

    Args:
      batch: arrays by name, or several such under a name.
      mesh: over which they are split.
    """
    split = functools.partial(jax.make_array_from_process_local_data, over_batch(mesh))
    return jax.tree.map(lambda array: split(np.asarray(array)), dict(batch))
