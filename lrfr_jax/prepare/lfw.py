"""`prepare lfw`: Labeled Faces in the Wild, View 2, with its official counts."""

import argparse
from collections.abc import Callable

from lrfr_jax.prepare import pairs
from lrfr_jax.prepare.sets import verification

SUMMARY = "LFW and its pairs.txt -> verification set with the official counts"
EXAMPLE = "python -m lrfr_jax.prepare lfw --source lfw112.tar --pairs pairs.txt --name lfw --data_dir ~/faces"

# Huang et al. 2007, Labeled Faces in the Wild; the last two follow from its pairs.txt.
OFFICIAL = {
    "folds": 10,
    "pairs": 6000,
    "images": 13233,
    "identities": 5749,
    "images in pairs": 7701,
    "identities in pairs": 4281,
}


def add_arguments(add: Callable) -> None:
    """Declares the options of the command; `add` is the parser's `add_argument`."""
    pairs.add_files(add)
    verification.add_sizes(add)
    verification.add_partial(add)


def prepare(arguments: argparse.Namespace) -> str:
    """Makes the verification set, and returns the summary; see `--help` and `pairs.make`."""
    return pairs.make(
        arguments,
        kind="lfw",
        folds=None,
        sizes=arguments.sizes,
        official=OFFICIAL,
        allow_partial=arguments.allow_partial,
    )
