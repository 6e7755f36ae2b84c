import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from configs import quickstart
from lrfr_jax.machines import sharding
from lrfr_jax.models import convolution
from lrfr_jax.run import experiment
from lrfr_jax.sizing import communication


@pytest.mark.parametrize(
    ("line", "sent"),
    [
        # 1,024 bytes over 4 of 8 devices, in the three ways in which groups are written.
        ("%a = f32[256]{0} all-reduce(%x), replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%add", {"all-reduce": 1536}),
        ("%a = f32[256]{0} all-reduce(%x), replica_groups=[2,4]<=[8], to_apply=%add", {"all-reduce": 1536}),
        ("%a = f32[256]{0} all-reduce(%x), replica_groups=mesh['a'=2,'b'=4] {'b'}, x=1", {"all-reduce": 1536}),
        ("%a = f32[256]{0} all-reduce(%x), replica_groups=mesh['a'=2,'b'=4] {'a','b'}, x=1", {"all-reduce": 1792}),
        (
            "ROOT %a = (bf16[2,64]{1,0}, /*index=1*/s32[]) all-gather(%x), replica_groups=[1,4]<=[4]",
            {"all-gather": 195},
        ),
        ("%a = (f32[8]{0}, f32[32]{0}) all-gather-start(%x), replica_groups=[1,4]<=[4]", {"all-gather": 96}),
        ("%a = (f32[8]{0}, f32[8]{0}) all-reduce-start(%x, %y), replica_groups=[1,4]<=[4]", {"all-reduce": 96}),
        ("%a = f32[8]{0} reduce-scatter(%x), replica_groups=[1,4]<=[4]", {"reduce-scatter": 96}),
        ("%a = f32[16]{0} all-to-all(%x), replica_groups=[1,4]<=[4]", {"all-to-all": 48}),
        ("%a = f32[16]{0} collective-permute(%x), source_target_pairs={{0,1},{1,0}}", {"collective-permute": 64}),
        ("%a = f32[16]{0} all-reduce(%x), replica_groups={{0},{1}}", {}),
        ("%a = f32[16]{0} all-reduce-done(%x)", {}),
        ("%all-reduce.1 = f32[16]{0} add(%x, %y)", {}),
    ],
)
def test_bytes_that_a_line_sends(line, sent):
    assert communication.of_program(f"HloModule a\n  {line}\n") == sent


def test_a_compiled_product_sends_its_sum():
    """Rows of 8 devices are summed: a matrix of 64 x 32 numbers goes around once for the sum, once for the result."""
    mesh = sharding.make_mesh(class_shards=1)
    rows = NamedSharding(mesh, PartitionSpec(("data", "model")))
    shapes = (jax.ShapeDtypeStruct((128, size), jnp.float32, sharding=rows) for size in (64, 32))
    program = jax.jit(lambda x, y: x.T @ y, out_shardings=sharding.replicated(mesh)).lower(*shapes).compile()
    assert communication.of_program(program.as_text()) == {"all-reduce": 2 * 7 / 8 * 64 * 32 * 4}


def test_least_of_a_step():
    backbone = {"a": jnp.zeros((10, 10)), "b": jnp.zeros(100, jnp.bfloat16)}
    arguments = {"rows": 1000, "dim": 8, "images": 64}
    alone = communication.least_of_step(backbone, **arguments, data=1, model=1)
    assert alone == {"gradients": 0, "embeddings": 0}
    split = communication.least_of_step(backbone, **arguments, data=4, model=2)
    assert split["gradients"] == 2 * 7 / 8 * 600 + 2 * 3 / 4 * 4 * 1000 * 8 / 2
    assert split["embeddings"] == 2 * 1 / 2 * 4 * 64 * 8 / 4


def test_step_sends_gradients_and_embeddings_once(resnet6, monkeypatch):
    """BatchNorm's sums and three numbers per image and shard come on top; images stay where they are.

    Kernels' gradients as accelerators compute them: the 16 sums of Winograd's products, on a CPU, are more than nine.
    """
    monkeypatch.setattr(convolution, "KERNEL_GRADIENT_FROM_CHANNELS", math.inf)
    config = quickstart.get_config("policy=maug,batch_size=64")
    config.model.update({"backbone": resnet6, "width": 0.0625, "embedding_size": 32, "batch_norm": "joint"})
    config.classifier.shards = 8
    run, mesh = experiment.build_run(config, 4096, 10.0), sharding.make_mesh(class_shards=8)
    state = jax.eval_shape(run.init, jax.eval_shape(jax.random.key, 0))
    placement = sharding.of_state(mesh, state)
    place = lambda shape, where: jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=where)  # noqa: E731
    images = jax.ShapeDtypeStruct((64, 112, 112, 3), np.uint8, sharding=sharding.over_batch(mesh))
    labels = jax.ShapeDtypeStruct((64,), np.int32, sharding=sharding.over_batch(mesh))
    with jax.set_mesh(mesh):
        step = jax.jit(run.step, donate_argnums=0, out_shardings=(placement, sharding.replicated(mesh)))
        program = step.lower(jax.tree.map(place, state, placement), {"image": images, "label": labels}, {}).compile()
    least = communication.least_of_step(
        state.params["backbone"], rows=run.classifier.rows, dim=32, images=2 * 64, data=1, model=8
    )
    sent = sum(communication.of_program(program.as_text()).values())
    assert 1 <= sent / sum(least.values()) < 1.06
