"""How fast `Embedder.embed` is beside the bare forward pass of the same weights, and beside onnxruntime.

python benchmarks/using_a_model.py --checkpoint pretrained/y1 --images 512      needs the extra 'export'

The embedder reads image files, checks, decodes and normalizes them; the other two run on batches that are ready. All
take each image once, without its mirror image, and are measured in turns, so that a change of the machine's load meets
all of them; medians, their range and the ratios are printed.
"""

import argparse
import functools
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable

import jax
import numpy as np
import onnxruntime

from lrfr_jax import image_ops, models
from lrfr_jax.data import records, synthetic
from lrfr_jax.exports.formats import FORMATS, OURS
from lrfr_jax.trained.embedder import Embedder
from lrfr_jax.trained.model import open_model


def main() -> None:
    """Prints images/s of the three and the ratios."""
    options = _parser().parse_args()
    model = open_model(options.checkpoint)
    arguments = model.metadata["model"]
    forward = jax.jit(functools.partial(models.create_backbone(**arguments).apply, train=False))
    session = onnxruntime.InferenceSession(
        FORMATS["onnx"].serialize(model.variables, arguments, OURS), providers=["CPUExecutionProvider"]
    )
    embedder = Embedder.load(options.checkpoint, fusion="none", batch_size=options.batch_size)
    with tempfile.TemporaryDirectory() as folder:
        files = _faces(pathlib.Path(folder), options.images)
        pixels = np.stack([records.decode_image(file.read_bytes()) for file in files])
        images = np.asarray(image_ops.normalize(jax.numpy.asarray(pixels)))
        batches = np.array_split(images, -(-len(images) // options.batch_size))
        on_device = [jax.device_put(batch) for batch in batches]
        for_onnx = [np.ascontiguousarray(batch.transpose(0, 3, 1, 2)) for batch in batches]

        def bare() -> None:
            for batch in on_device:
                features = forward(model.variables, batch)
            features.block_until_ready()

        def by_onnx() -> None:
            for batch in for_onnx:
                session.run(None, {"images": batch})

        ways = {"bare forward": bare, "Embedder.embed": lambda: embedder.embed(files), "onnxruntime": by_onnx}
        rates = _measure(ways, count=len(images), rounds=options.rounds)
    for name, found in rates.items():
        print(f"{name:15s} {statistics.median(found):8.1f} images/s ({min(found):.1f} to {max(found):.1f})")
    for name in ("bare forward", "onnxruntime"):
        ratios = [ours / theirs for ours, theirs in zip(rates["Embedder.embed"], rates[name], strict=True)]
        print(f"embed / {name}: {statistics.median(ratios):.2f}")


def _measure(ways: dict[str, Callable[[], None]], *, count: int, rounds: int) -> dict[str, list[float]]:
    for run in ways.values():
        run()  # compiles
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            start = time.perf_counter()
            run()
            rates[name].append(count / (time.perf_counter() - start))
    return rates


def _faces(folder: pathlib.Path, count: int) -> list[pathlib.Path]:
    files = [folder / f"{number}.jpg" for number in range(count)]
    for number, file in enumerate(files):
        file.write_bytes(records.encode_image(synthetic.render_face(number, 0, seed=0), quality=90))
    return files


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, help="a run's folder, or one checkpoint")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    return parser


if __name__ == "__main__":
    main()
