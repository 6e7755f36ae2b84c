"""Times the chunked search at TinyFace's size against plain numpy: `python benchmarks/search.py`, about a minute.

Embeddings are made up, of whole numbers below 2^24 in every product, so that each way of computing must give the same.
The plain way (whole score matrix, argsort of its rows) is run on some of the probes and its time scaled to all.
"""

import argparse
import resource
import sys
import time

import numpy as np

from lrfr_jax.data.protocol_arrays import IdentificationProtocol
from lrfr_jax.evals import metrics, search
from lrfr_jax.evals.identification import SCORES_BYTES, evaluate_identification
from lrfr_jax.image_ops import IMAGE_SIZE

# TinyFace's test set; embeddings as long as the backbones'.
PROBES, MATCHES, DISTRACTORS, IDENTITIES, DIM = 3728, 4443, 153_428, 2569, 512
PLAIN_PROBES = 200
RANKS = (1, 5, 10, 20)


def make_up(labels: np.ndarray, centers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One vector for each label: its identity's center and noise; noise alone for a negative label."""
    vectors = rng.standard_normal((len(labels), DIM), dtype=np.float32)
    vectors[labels >= 0] += np.float32(0.5) * centers[labels[labels >= 0]]
    return np.rint(np.multiply(vectors, 4, out=vectors), out=vectors)


def peak_gigabytes() -> float:
    """The most memory this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def plain(probes: np.ndarray, gallery: np.ndarray, probe_labels: np.ndarray, gallery_labels: np.ndarray) -> list:
    """Ranks of all mates of each probe, by sorting whole rows; others of the same score first."""
    scores = probes @ gallery.T
    is_mate = probe_labels[:, None] == gallery_labels
    # Scores are whole: half a point puts a mate behind its equals and before everybody below.
    order = np.argsort(np.float32(0.5) * is_mate - scores, axis=1)
    return [np.flatnonzero(row) + 1 for row in np.take_along_axis(is_mate, order, axis=1)]


def evaluate(probes: np.ndarray, gallery: np.ndarray, probe_labels: np.ndarray, gallery_labels: np.ndarray) -> float:
    """Seconds of all that `evaluate` does with the features of both orientations: fuse, search, every metric."""
    features = np.repeat(np.concatenate([probes, gallery])[:, None], 2, axis=1)
    numbers = np.arange(len(features))
    groups = np.zeros(len(probes), int)
    protocol = IdentificationProtocol(
        numbers[len(probes) :], gallery_labels, numbers[: len(probes)], probe_labels, groups, ("",)
    )
    start = time.perf_counter()
    settings = {"fusion": "sum", "split": "all", "ranks": RANKS, "fpirs": (), "mean_average_precision": True}
    evaluate_identification({IMAGE_SIZE: features}, protocol, resolutions=(), **settings)
    return time.perf_counter() - start


def main() -> None:
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((IDENTITIES, DIM), dtype=np.float32)
    probe_labels = np.arange(PROBES) % IDENTITIES
    gallery_labels = np.concatenate([np.arange(MATCHES) % IDENTITIES, np.full(DISTRACTORS, -1)])
    probes, gallery = make_up(probe_labels, centers, rng), make_up(gallery_labels, centers, rng)
    inputs = (probes.nbytes + gallery.nbytes) / 1e9

    before, start = peak_gigabytes(), time.perf_counter()
    found = search.search(probes, gallery, probe_labels, gallery_labels, num_top=0, memory_bytes=SCORES_BYTES)
    seconds, peak = time.perf_counter() - start, peak_gigabytes()
    cmc = {rank: float(np.mean(found.best_mate_ranks <= rank)) for rank in RANKS}
    mean_precision = metrics.average_precisions(found.mate_ranks, found.offsets).mean()

    start = time.perf_counter()
    ranks = plain(probes[:PLAIN_PROBES], gallery, probe_labels[:PLAIN_PROBES], gallery_labels)
    plain_seconds = (time.perf_counter() - start) * PROBES / PLAIN_PROBES
    plain_gigabytes = PROBES * len(gallery) * (4 + 8) / 1e9 + inputs  # scores in float32 and their order in int64
    assert np.array_equal(np.concatenate(ranks), found.mate_ranks[: found.offsets[PLAIN_PROBES]]), "the ranks differ"

    whole_seconds = evaluate(probes, gallery, probe_labels, gallery_labels)
    whole_peak = peak_gigabytes()

    operations = 2 * PROBES * len(gallery) * DIM / 1e9
    print(
        f"{PROBES} probes x {len(gallery)} gallery images, {DIM}-d: {operations:.0f} GFLOP, embeddings {inputs:.2f} GB"
    )
    rates = ", ".join(f"rank {rank} {100 * rate:.2f} %" for rank, rate in cmc.items())
    print(f"{rates}, mAP {100 * mean_precision:.2f} %; ranks of the first {PLAIN_PROBES} probes equal plain numpy's")
    print(f"{'':16}{'seconds':>10}{'peak GB':>10}")
    print(f"{'chunked search':16}{seconds:>10.1f}{peak:>10.2f}  of the whole process; {before:.2f} before the search")
    print(f"{'all of evaluate':16}{whole_seconds:>10.1f}{whole_peak:>10.2f}  features of both orientations included")
    print(
        f"{'plain numpy':16}{plain_seconds:>10.1f}{plain_gigabytes:>10.2f}  scaled; embeddings, scores and order alone"
    )


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    main()
