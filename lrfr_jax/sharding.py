"""One mesh over all devices; batches are split over its `data` axis, everything else is replicated."""

from collections.abc import Mapping

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from lrfr_jax.errors import UserError


def make_mesh() -> Mesh:
    """Returns the mesh of all devices of all processes, with the one axis `data`.

    Auto axes: with jax's default of Explicit ones the gathers of a margin head raise.
    """
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def over_batch(mesh: Mesh) -> NamedSharding:
    """The leading axis is split over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def check_batch_size(flag: str, batch_size: int, mesh: Mesh) -> None:
    """Raises `UserError` if the global batch, which the user sets by `flag`, cannot be split evenly."""
    if batch_size < 1 or batch_size % mesh.size:
        lower, upper = batch_size // mesh.size * mesh.size, (batch_size // mesh.size + 1) * mesh.size
        choice = f"{lower} or {upper}" if lower > 0 else f"{upper}"
        raise UserError(f"{flag}={batch_size} cannot be split evenly over {mesh.size} devices: set it to {choice}")


def to_devices(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Joins the processes' shares of a batch, in order of process, into global arrays split over devices."""
    return {
        key: jax.make_array_from_process_local_data(over_batch(mesh), np.asarray(array)) for key, array in batch.items()
    }
