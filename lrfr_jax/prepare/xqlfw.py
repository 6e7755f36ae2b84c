"""`prepare xqlfw`: cross-quality LFW, the aligned release and its pairs, with its official counts."""

import argparse
import os
from collections.abc import Callable

from lrfr_jax.errors import UserError
from lrfr_jax.prepare import pairs
from lrfr_jax.prepare.sets import verification

SUMMARY = "XQLFW's aligned release and its pairs -> verification set with the official counts"
EXAMPLE = """python -m lrfr_jax.prepare xqlfw --source xqlfw_aligned_112 --pairs xqlfw_pairs.txt --name xqlfw \\
      --data_dir ~/faces"""

# Knoche et al. 2021, Cross-Quality LFW: A Database for Analyzing Cross-Resolution Image Face Recognition.
# The release may hold images that no pair names: only those in pairs are counted.
OFFICIAL = {"folds": 10, "pairs": 6000, "images in pairs": 7263, "identities in pairs": 3743}


def add_arguments(add: Callable) -> None:
    """Declares the options of the command; `add` is the parser's `add_argument`."""
    pairs.add_files(add)
    verification.add_partial(add)


def prepare(arguments: argparse.Namespace) -> str:
    """Makes the verification set, and returns the summary; see `--help` and `pairs.make`."""
    if arguments.source.lower().endswith(".zip") and not os.path.isdir(arguments.source):
        raise UserError(f"--source {arguments.source} is a zip: unpack it and give the folder that it holds")
    return pairs.make(
        arguments,
        kind="xqlfw",
        folds=None,
        sizes=None,
        official=OFFICIAL,
        allow_partial=arguments.allow_partial,
    )
