"""The training step of every config lowers for GPUs and TPUs, on a machine that has neither.

With a one-layer network in the place of the configs' own, and of those configs that all have CosFace the paper's alone.
All, and with their own networks: `pytest -m slow tests/run/test_lowering.py` (minutes).
"""

import importlib
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from configs import common
from lrfr_jax import models
from lrfr_jax.machines import sharding
from lrfr_jax.run import experiment, teachers
from tests.one_layer import MAKE_THEIR_TEACHER, OneLayer, write_metadata

PLATFORMS = ("cuda", "tpu")
BATCH_SIZE, IDENTITIES = 16, 16  # of fewer Massoli's share is no image
FOLDER = pathlib.Path(common.__file__).parent
CONFIGS = sorted(
    ".".join(path.relative_to(FOLDER).with_suffix("").parts)
    for path in [*FOLDER.glob("*.py"), *FOLDER.glob("systems/*.py")]
    if path.stem not in ("__init__", "common")
)
QUICK = [
    (name, "") if name.startswith("systems.") else pytest.param(name, "", marks=pytest.mark.slow) for name in CONFIGS
]
QUICK += [("systems.bridge_kd", "step=2"), ("systems.massoli", "share=curriculum")]


@pytest.fixture
def one_layer(monkeypatch):
    monkeypatch.setattr(models, "BACKBONES", dict.fromkeys(models.BACKBONES, OneLayer))


def config_of(name, arg):
    return importlib.import_module(f"configs.{name}").get_config(arg)


def taught(name, arg, folder):
    """A config, with a teacher where it has one."""
    config = config_of(name, f"batch_size={BATCH_SIZE},{arg}")
    if config.teacher.checkpoint:
        made_by = config_of(name, MAKE_THEIR_TEACHER[name]) if name in MAKE_THEIR_TEACHER else config
        config.teacher.checkpoint = write_metadata(folder / "teacher", made_by, num_identities=IDENTITIES)
    return config


def arguments_of(run, mesh):
    """The step's arguments without numbers, laid out as a run lays them out."""
    state = jax.eval_shape(run.init, jax.eval_shape(lambda: jax.random.key(0, impl="rbg")))
    placed = jax.tree.map(
        lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
        state,
        sharding.of_state(mesh, state),
    )
    rows = sharding.over_batch(mesh)
    images = jax.ShapeDtypeStruct((BATCH_SIZE, 112, 112, 3), np.uint8, sharding=rows)
    labels = jax.ShapeDtypeStruct((BATCH_SIZE,), np.int32, sharding=rows)
    batch, of_teacher = {"image": images, "label": labels}, {}
    if run.teacher is not None and run.teacher.is_kept:
        shape = (BATCH_SIZE, 2, models.feature_size(run.teacher.backbone))
        batch["teacher"] = jax.ShapeDtypeStruct(shape, np.float32, sharding=rows)
    elif run.teacher is not None:
        whole = sharding.replicated(mesh)
        of_teacher = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=whole),
            teachers.abstract_variables(run.teacher),
        )
    return placed, batch, of_teacher


def lowered(config, mesh):
    """The exported step of a config on a mesh."""
    run = experiment.build_run(config, num_identities=IDENTITIES, steps_per_epoch=1000.0)
    with jax.set_mesh(mesh):
        arguments = arguments_of(run, mesh)
        outputs = (sharding.of_state(mesh, arguments[0]), sharding.replicated(mesh))
        return export.export(jax.jit(run.step, out_shardings=outputs), platforms=PLATFORMS)(*arguments)


def one_device():
    devices, axis_types = jax.devices()[:1], (jax.sharding.AxisType.Auto,) * 2
    return jax.make_mesh((1, 1), ("data", "model"), devices=devices, axis_types=axis_types)


def check(program, *, devices):
    assert program.platforms == PLATFORMS
    assert program.nr_devices == devices
    state, metrics = jax.tree.unflatten(program.out_tree, program.out_avals)
    assert metrics["loss"].shape == ()
    if "classifier" in state.params:
        assert state.params["classifier"]["class_centers"].dtype == jnp.float32


@pytest.mark.parametrize(("name", "arg"), QUICK)
def test_the_step_of_every_config(name, arg, one_layer, tmp_path):
    check(lowered(taught(name, arg, tmp_path), one_device()), devices=1)


@pytest.mark.parametrize("head", common.HEADS)
def test_the_step_of_every_head(head, one_layer):
    check(lowered(config_of("quickstart", f"batch_size={BATCH_SIZE},head={head}"), one_device()), devices=1)


def test_the_step_of_the_paper_over_two_by_four_devices(one_layer):
    config = config_of("casia_r34", f"batch_size={BATCH_SIZE}")
    config.classifier.update({"shards": 4, "chunks": 2})
    mesh = sharding.make_mesh(class_shards=4)
    assert dict(mesh.shape) == {"data": 2, "model": 4}
    check(lowered(config, mesh), devices=8)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_the_step_of_every_config_with_its_own_network(name, tmp_path):
    check(lowered(taught(name, "", tmp_path), one_device()), devices=1)
