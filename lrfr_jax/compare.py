"""Compares two faces.

python -m lrfr_jax.compare a.jpg b.jpg --checkpoint runs/maug --far 0.01
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence

from lrfr_jax import model_options
from lrfr_jax.embedder import Embedder
from lrfr_jax.errors import UserError, one_sentence
from lrfr_jax.evals import thresholds
from lrfr_jax.evals.thresholds import Threshold
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
    embedder = model_options.load(options)
    found = embedder.embed_faces(source, resolution=[IMAGE_SIZE, options.resolution])
    source.require_all()
    similarity = float(found.vectors[0] @ found.vectors[1])
    sizes = min(source.sizes[0], IMAGE_SIZE), min(source.sizes[1], options.resolution)
    calibrated = None if options.threshold is not None else _calibrated(embedder, options, sizes)
    threshold = calibrated.threshold if calibrated else options.threshold
    is_same = None if threshold is None else similarity > threshold
    if options.json:
        origin = dataclasses.asdict(calibrated) if calibrated else None
        answer = {"similarity": similarity, "is_same": is_same, "threshold": threshold, "calibration": origin}
        print(json.dumps(answer | {"sizes": sizes, "norms": found.norms.tolist()}))
    else:
        print(_in_words(similarity, is_same, threshold, calibrated))
    return model_options.DONE_BUT if is_same is False else 0


def _calibrated(embedder: Embedder, options: argparse.Namespace, sizes: tuple[int, int]) -> Threshold | None:
    """The model's own threshold for faces of these sizes; none if it was not calibrated and no rate was asked for."""
    held = thresholds.of_fusion(embedder.thresholds(), fusion=embedder.fusion, far=options.far)
    return thresholds.choose(held, sizes=sizes, far=options.far) if held else None


def _in_words(similarity: float, is_same: bool | None, threshold: float | None, calibrated: Threshold | None) -> str:
    if is_same is None:
        return f"similarity {similarity:.4f}; no decision: give --threshold, or calibrate the model with `evaluate`"
    if calibrated is not None:
        return thresholds.in_words(similarity, calibrated)
    decision = "the same person" if is_same else "not the same person"
    return f"{decision}: similarity {similarity:.4f}, threshold {threshold:.4f}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lrfr_jax.compare",
        description="The cosine similarity of two aligned 112x112 faces.",
        epilog="Exit status: 0 the same person (or no decision), 3 not the same person, 1 error.",
    )
    parser.add_argument("first", help="image file")
    parser.add_argument("second", help="image file")
    model_options.add_model(parser)
    model_options.add_pictures(parser)
    model_options.add_resolution(parser, "the second face is")
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--threshold", type=float, metavar="T", help="they are the same person where the similarity is above it"
    )
    how.add_argument(
        "--far",
        type=float,
        metavar="F",
        help="false accept rate of the threshold, one that `evaluate --calibrate` found for this model and the size of "
        "the faces; default: the lowest one",
    )
    parser.add_argument("--json", action="store_true", help="print json")
    return parser


if __name__ == "__main__":
    with one_sentence():
        sys.exit(main(sys.argv[1:]))
