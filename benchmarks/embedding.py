"""How much of the bare forward pass's speed is left when a test set is embedded, reading and decoding included.

python benchmarks/embedding.py --backbone resnet18 --width 0.25 --images 512

The forward pass runs on images that are on the device already. Both are measured in turns, so that a change of the
machine's load meets both; the medians and their ratio are printed. An image is embedded in both orientations.
"""

import argparse
import contextlib
import io
import statistics
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np

from configs import common
from lrfr_jax import image_ops, models
from lrfr_jax.data import face_sets
from lrfr_jax.evals import embed
from lrfr_jax.machines import sharding
from lrfr_jax.prepare import __main__ as prepare


def main() -> None:
    """Prints images/s of both and the ratio."""
    options = _parser().parse_args()
    mesh = sharding.make_mesh(class_shards=1)
    backbone = models.create_backbone(
        backbone=options.backbone,
        width=options.width,
        embedding_size=512,
        dropout=0.0,
        dtype=options.dtype,
        input=common.model_input(),
    )
    shape = (2 * options.batch_size, image_ops.IMAGE_SIZE, image_ops.IMAGE_SIZE, 3)
    rng = jax.random.key(0, impl="rbg")
    variables = jax.jit(lambda: backbone.init(rng, jnp.zeros((1, *shape[1:])), train=False))()
    variables = jax.device_put(variables, sharding.replicated(mesh))
    forward = jax.jit(lambda variables, images: backbone.apply(variables, images, train=False))
    images = jax.device_put(jnp.zeros(shape), sharding.over_batch(mesh))
    embedder = embed.make_embedder(
        backbone, sizes=(image_ops.IMAGE_SIZE,), rounding="uint8", sharding=sharding.over_batch(mesh)
    )
    with tempfile.TemporaryDirectory() as folder:
        source = _faces(folder, options.images)
        wanted = {image_ops.IMAGE_SIZE: np.arange(len(source))}
        reading = {"wanted": wanted, "batch_size": options.batch_size, "num_threads": options.threads}
        batches = -(-len(source) // options.batch_size)

        def bare() -> None:
            for _ in range(batches):
                features = forward(variables, images)
            features.block_until_ready()

        def embedded() -> None:
            embed.embed_records(embedder, variables, source, **reading)

        seconds = {"bare forward": [], "embed_records": []}
        bare(), embedded()  # compiled
        for _ in range(options.repeats):
            for name, function in (("bare forward", bare), ("embed_records", embedded)):
                since = time.perf_counter()
                function()
                seconds[name].append(time.perf_counter() - since)
    device = mesh.devices.flat[0].device_kind
    print(
        f"{options.backbone} width {options.width} {options.dtype}, batch {options.batch_size}, {mesh.size} x {device}"
    )
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    for name, median in medians.items():
        count = batches * options.batch_size if name == "bare forward" else len(source)
        spread = (max(seconds[name]) - min(seconds[name])) / median
        print(f"{name:14} {count / median:8.1f} images/s (both orientations), spread {spread:.0%}")
    print(f"ratio {medians['bare forward'] / medians['embed_records']:.3f}")


def _faces(folder: str, count: int) -> face_sets.RecordSource:
    with contextlib.redirect_stdout(io.StringIO()):
        counts = ["--identities", str(count // 4), "--images_per_identity", "4", "--shards", "1"]
        prepare.main(["generated", "--name", "faces", "--data_dir", folder, *counts])
    return face_sets.open_training_set(folder, "faces").source


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--backbone", choices=sorted(models.BACKBONES), default="resnet18", help="network")
    parser.add_argument("--width", type=float, default=0.25, help="multiple of the network's channels")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the convolutions")
    parser.add_argument("--batch_size", type=int, default=64, help="images at a time, each in both orientations")
    parser.add_argument("--images", type=int, default=512, help="generated faces to embed; a multiple of 4")
    parser.add_argument("--threads", type=int, default=2, help="threads that decode")
    parser.add_argument("--repeats", type=int, default=5, help="turns")
    return parser


if __name__ == "__main__":
    main()
