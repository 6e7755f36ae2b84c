"""Compares two faces.

python -m lrfr_jax.compare a.jpg b.jpg --checkpoint runs/maug --threshold 0.35
"""

import argparse
import json
import sys
from collections.abc import Sequence

from lrfr_jax import model_options
from lrfr_jax.errors import UserError, one_sentence
from lrfr_jax.image_ops import IMAGE_SIZE


def main(argv: Sequence[str] | None = None) -> int:
    """Compares as the command line says; returns the exit status.

    Raises:
      UserError: a bad option, checkpoint or image.
    """
    options = _parser().parse_args(argv)
    if options.threshold is not None and not -1 <= options.threshold <= 1:
        raise UserError(f"--threshold {options.threshold} must be a cosine similarity in [-1, 1]")
    source = model_options.faces_of(options, [options.first, options.second])
    found = model_options.load(options).embed_faces(source, resolution=[IMAGE_SIZE, options.resolution])
    source.require_all()
    similarity = float(found.vectors[0] @ found.vectors[1])
    is_same = None if options.threshold is None else similarity > options.threshold
    if options.json:
        answer = {"similarity": similarity, "threshold": options.threshold, "is_same": is_same}
        print(json.dumps(answer | {"norms": found.norms.tolist()}))
    else:
        decision = {None: "", True: ": the same person", False: ": not the same person"}[is_same]
        against = "" if is_same is None else f", threshold {options.threshold:g}"
        print(f"similarity {similarity:.4f}{against}{decision}")
    return model_options.DONE_BUT if is_same is False else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lrfr_jax.compare",
        description="The cosine similarity of two aligned 112x112 faces.",
        epilog="Exit status: 0 the same person (or no threshold given), 3 not the same person, 1 error.",
    )
    parser.add_argument("first", help="image file")
    parser.add_argument("second", help="image file")
    model_options.add_model(parser)
    model_options.add_pictures(parser)
    model_options.add_resolution(parser, "the second face is")
    parser.add_argument(
        "--threshold", type=float, metavar="T", help="they are the same person where the similarity is above it"
    )
    parser.add_argument("--json", action="store_true", help="print json")
    return parser


if __name__ == "__main__":
    with one_sentence():
        sys.exit(main(sys.argv[1:]))
