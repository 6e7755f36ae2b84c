"""Batches of identities beside shuffled ones: images per second and processor time of reading and decoding them.

python benchmarks/batches.py [--images N] [--identities N] [--batch_size N] [--images_per_identity K] [--rounds N]

Both orders read the same records of a set that is written for it, in turns, with the readers at rest before each; the
record numbers that a device cache takes likewise. A ratio is the time of 'identities' over that of 'shuffled' in one
round; the median of all rounds counts, with the smallest and largest.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator

from lrfr_jax.data import batches, builders, face_sets, pipeline, records, synthetic

FACES, JPEG_QUALITY, NUM_THREADS, WAITING = 64, 95, 2, 512
REST = 1.0  # seconds


def write_set(folder: str, options: argparse.Namespace) -> face_sets.TrainingSet:
    faces = [
        records.encode_image(synthetic.render_face(face, 0, seed=0), quality=JPEG_QUALITY) for face in range(FACES)
    ]
    builders.write_training_set(
        folder,
        "faces",
        images=((faces[number % FACES], number % options.identities) for number in range(options.images)),
        num_images=options.images,
        identities=[f"face {number}" for number in range(options.identities)],
        num_shards=1,
        arguments={},
        notes={},
    )
    return face_sets.open_training_set(folder, "faces")


def open_batches(training_set: face_sets.TrainingSet, order: str, images: int, size: int) -> dict[str, Iterator]:
    how = {"order": order, "images_per_identity": images, "group": "config.input"}
    source = batches.make_source(training_set, batch_size=size, seed=0, num_threads=NUM_THREADS, **how)
    which = {"start_batch": 0, "process_index": 0, "process_count": 1}
    reading = {"num_threads": NUM_THREADS, "prefetch_images": WAITING}
    return {
        "decoded images": pipeline.training_batches(source, **which, **reading),
        "record numbers": pipeline.training_numbers(source, **which),
    }


def timed(batches: Iterator, count: int) -> tuple[float, float]:
    """Seconds on the clock and of the processor for so many batches."""
    began, worked = time.perf_counter(), time.process_time()
    for _ in itertools.islice(batches, count):
        pass
    return time.perf_counter() - began, time.process_time() - worked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("images", 8192), ("identities", 1024), ("batch_size", 256), ("images_per_identity", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    size, count = options.batch_size, options.images // options.batch_size
    with tempfile.TemporaryDirectory() as folder:
        training_set = write_set(folder, options)
        orders = {"shuffled": 1, "identities": options.images_per_identity}
        opened = {order: open_batches(training_set, order, images, size) for order, images in orders.items()}
        for what in ("decoded images", "record numbers"):
            spent: dict[str, list] = {order: [] for order in orders}
            for _ in range(options.rounds):
                time.sleep(REST)  # until the readers of the other order have filled what may wait
                for order in orders:
                    timed(opened[order][what], 4)  # what waited
                    spent[order].append(timed(opened[order][what], count))
                    time.sleep(REST)
            for column, unit in enumerate(("on the clock", "of the processor")):
                speeds = {
                    order: statistics.median(count * size / one[column] for one in spent[order]) for order in orders
                }
                pairs = zip(spent["identities"], spent["shuffled"], strict=True)
                ratios = [one[column] / other[column] for one, other in pairs]
                told = ", ".join(f"{order} {speed:,.0f}" for order, speed in speeds.items())
                middle = statistics.median(ratios)
                print(f"{what} per second {unit}: {told}; time {middle:.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
