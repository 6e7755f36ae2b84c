"""What is measured: a config with its run and a batch on its devices, and parts of the work."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from lrfr_jax import image_ops, models
from lrfr_jax.machines import sharding
from lrfr_jax.run import experiment, teachers

# The steps per epoch only move the learning rate, which takes no time.
STEPS_PER_EPOCH = 1000.0


@dataclasses.dataclass(frozen=True)
class Part:
    """One call of `run` works on `images` images; the rest is None where it does not apply.

    Attributes:
      run: does the work once and returns when it is done.
      images: that a call works on, of a training step those of the batch (its views count once).
      compile_seconds: of the program.
      operations: of a call, counted by hand: matrix products and convolutions.
      compiled_operations: of a call, as the compiler counts those of its program.
      temporary_bytes: that the program holds beside its arguments and results, on one device.
      facts: what else is to be said, once the part has been measured.
    """

    run: Callable[[], object]
    images: int
    compile_seconds: float | None = None
    operations: float | int | None = None
    compiled_operations: float | int | None = None
    temporary_bytes: int | None = None
    facts: Callable[[], dict[str, float]] = dict


@dataclasses.dataclass(frozen=True)
class Setting:
    """A config with its run, a mesh, and one batch of random images on it, what a teacher gives among it.

    Attributes:
      of_teacher: weights that the step takes; {} without a teacher, or where its features come with the batch.
    """

    config: ConfigDict
    run: experiment.Run
    mesh: Mesh
    batch: dict[str, Any]
    of_teacher: dict[str, Any]
    data_dir: str

    @property
    def images(self) -> jax.Array:
        """Pixels of the batch."""
        return self.batch["image"]

    @property
    def labels(self) -> jax.Array:
        """Identities of the batch."""
        return self.batch["label"]

    @property
    def views(self) -> int:
        """Views of each image that a training step embeds."""
        return len(self.run.objective.student_taps())

    def fresh_state(self) -> Any:
        """Draws the state of step 0 and lays it out over the mesh."""
        return self.run.fresh_state(self.config.seed, self.mesh)


def make_setting(config: ConfigDict, *, num_identities: int, data_dir: str) -> Setting:
    """Builds the run of a config for `num_identities` and a batch of noise.

    Raises:
      UserError: a config that does not fit together or to the devices.
    """
    mesh = sharding.make_mesh(config.classifier.shards)
    sharding.check_batch_size("--config.batch_size", config.batch_size, mesh, parts=config.batch_parts)
    with jax.set_mesh(mesh):  # as in the parts, which need not trace the network again then
        others = {"second_identities": num_identities if config.input.second.dataset else 0}
        run = experiment.build_run(config, num_identities, STEPS_PER_EPOCH, **others)
    random, second = np.random.default_rng(config.seed), config.input.second.batch_size

    def noise(size: int) -> dict[str, np.ndarray]:
        shape = (size, image_ops.IMAGE_SIZE, image_ops.IMAGE_SIZE, 3)
        images = random.integers(0, image_ops.BYTE_MAX + 1, shape, np.uint8)
        return {"image": images, "label": random.integers(0, num_identities, size).astype(np.int32)}

    batch: dict[str, Any] = noise(config.batch_size) | ({"second": noise(second)} if second else {})
    of_teacher: dict[str, Any] = {}
    if run.teacher is not None and run.teacher.is_kept:
        size = models.feature_size(run.teacher.backbone)
        batch["teacher"] = random.normal(size=(config.batch_size, 2, size)).astype(np.float32)
    elif run.teacher is not None:
        of_teacher = teachers.load(config.teacher.checkpoint, run.teacher, mesh)
    return Setting(config, run, mesh, sharding.to_devices(batch, mesh), of_teacher, data_dir)
