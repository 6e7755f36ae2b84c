"""Whether thresholds keep what they say: found on all folds of a set but two, asked on those two, for all such splits.

python benchmarks/thresholds.py --checkpoint pretrained/y1 --data_dir data --set lfw --fusion none --resolutions 20,14,7

For every comparison: the impostor pairs that are accepted in the two folds, beside the interval of 95 % in which that
count must lie if all pairs are draws from one world. The threshold stands on finitely many pairs itself, so this is
wider than the binomial error of the rate: if k of n impostor pairs lie above it, the count among m others has a
beta-binomial distribution, of m draws with parameters k + 1 and n - k.
"""

import argparse

import numpy as np
from scipy import stats

from lrfr_jax.errors import UserError, one_sentence
from lrfr_jax.evals import evaluation, metrics
from lrfr_jax.terminal import comma_list
from lrfr_jax.trained.embedder import Embedder

LEAST_FOLDS = 4  # two to ask, two to calibrate on


def main() -> None:
    """Prints a line for each comparison, and how many counts lie outside of their interval."""
    options = _parser().parse_args()
    sizes = tuple(map(int, comma_list.words(options.resolutions)))
    rules = {"resolutions": sizes, "comparisons": ("hr_lr", "lr_lr"), "fusion": options.fusion}
    model = Embedder.load(options.checkpoint, fusion=options.fusion)
    planned = evaluation.plan(options.data_dir, {options.set_name: rules})
    test_set = planned[options.set_name].test_set
    folds = np.unique(getattr(test_set.protocol, "fold", ()))
    if len(folds) < LEAST_FOLDS:
        raise UserError(f"{test_set.name} has {len(folds)} folds of pairs: name a set with at least {LEAST_FOLDS}")
    arguments = model.evaluation_arguments(evaluation.sizes_of(planned))
    found = evaluation.run(planned, cache=None, **arguments)[options.set_name]
    protocol = test_set.protocol
    outside = total = 0
    for comparison in found.outcome.comparisons:
        counts, intervals = [], []
        for first in range(0, len(folds) - 1, 2):
            is_test = np.isin(protocol.fold, folds[first : first + 2])
            impostors = [comparison.cosines[~protocol.is_same & part] for part in (~is_test, is_test)]
            count, interval = accepted(*impostors, far=options.far)
            counts.append(count)
            intervals.append(interval)
        outside += sum(not low <= count <= high for count, (low, high) in zip(counts, intervals, strict=True))
        total += len(counts)
        shown = ", ".join(f"{count} ({low}-{high})" for count, (low, high) in zip(counts, intervals, strict=True))
        print(f"{comparison.mode} {comparison.resolution:3d} px: {shown}")
    print(f"{outside} of {total} counts lie outside of their interval of 95 %")


def accepted(calibration: np.ndarray, test: np.ndarray, *, far: float) -> tuple[int, tuple[int, int]]:
    """Returns how many impostor pairs of a test pass the threshold of others, and the interval of that count."""
    threshold = metrics.strictest_threshold(calibration, far)
    above = int((calibration > threshold).sum())
    low, high = stats.betabinom(len(test), above + 1, len(calibration) - above).ppf((0.025, 0.975))
    return int((test > threshold).sum()), (int(low), int(high))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--checkpoint", required=True, help="a run's folder, one checkpoint, or an exported file")
    add("--data_dir", required=True, help="folder of the prepared sets")
    add(
        "--set",
        "--sets",
        required=True,
        type=comma_list.one_word,
        dest="set_name",
        metavar="NAME",
        help="a verification set with at least four folds",
    )
    add("--resolutions", default="20,14,7", metavar="R,R", help="side lengths in pixels (default %(default)s)")
    add("--fusion", default="sum", help="how an image and its mirror image become one vector (default %(default)s)")
    add("--far", type=float, default=0.01, help="false accept rate (default %(default)s)")
    return parser


if __name__ == "__main__":
    with one_sentence():
        main()
