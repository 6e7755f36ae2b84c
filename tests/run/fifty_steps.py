"""Fifty steps in float64, for test_multiprocess: python tests/run/fifty_steps.py DATA_DIR OUTPUT [PORT COUNT PROCESS].

The devices of all processes form the mesh; losses, last parameters and last BatchNorm statistics go to OUTPUT.npz.
"""

import functools
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from configs import quickstart
from lrfr_jax.data import face_sets, pipeline
from lrfr_jax.machines import sharding
from lrfr_jax.run import experiment, sources

STEPS = 50


def main(data_dir: str, output: str, port: str = "", count: str = "1", process: str = "0") -> None:
    jax.config.update("jax_enable_x64", True)
    if port:
        jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=int(count), process_id=int(process))
    config = quickstart.get_config("policy=maug,batch_size=16")
    config.model.update({"width": 0.0625, "embedding_size": 16})
    config.optimizer.learning_rate = 0.01  # at 0.1 these small batches make the steps chaotic: tenfold apart each step
    training_set = face_sets.open_training_set(data_dir, "generated_train")
    run = experiment.build_run(config, training_set.num_identities, steps_per_epoch=STEPS)
    mesh = sharding.make_mesh(class_shards=1)
    # A float32 run is no measure: one rounding that turns a ReLU over changes a layer's gradient by a thousandth.
    step = functools.partial(run.step, backbone=run.backbone.clone(dtype="float64"))
    step = jax.jit(step, donate_argnums=0, out_shardings=sharding.replicated(mesh))

    def double(x):
        return x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x

    init = jax.jit(lambda rng: jax.tree.map(double, run.init(rng)), out_shardings=sharding.replicated(mesh))
    state = init(jax.random.key(config.seed, impl="rbg"))
    [source] = sources.bind(config, [training_set])
    batches = pipeline.training_batches(
        source,
        start_batch=0,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        num_threads=1,
        prefetch_images=16,
    )
    losses = []
    for _ in range(STEPS):
        batch = sharding.to_devices(next(batches), mesh)
        state, metrics = step(state, batch, {})
        losses.append(float(metrics["loss"]))
    statistics = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(state.batch_stats)])
    parameters = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(state.params)])
    if jax.process_index() == 0:
        compilations = step._cache_size()
        np.savez(output, loss=losses, statistics=statistics, parameters=parameters, compilations=compilations)


if __name__ == "__main__":
    main(*sys.argv[1:])
