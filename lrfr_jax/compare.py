"""Compares two faces.

python -m lrfr_jax.compare a.jpg b.jpg --checkpoint runs/maug --far 0.01
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence

from lrfr_jax.errors import UserError, one_sentence
from lrfr_jax.evals import thresholds
from lrfr_jax.evals.thresholds import Threshold
from lrfr_jax.image_ops import IMAGE_SIZE
from lrfr_jax.trained import model_options
from lrfr_jax.trained.embedder import Embedder, Embeddings


def main(argv: Sequence[str] | None = None) -> int:
    """Compares as the command line says; returns the exit status.

    Raises:
      UserError: a bad option, checkpoint or image.
    """
    options = _parser().parse_args(argv)
    if options.threshold is not None and options.score == "cosine" and not -1 <= options.threshold <= 1:
        raise UserError(f"--threshold {options.threshold} must be a cosine similarity in [-1, 1]")
    if options.threshold is not None and options.calibrated_on:
        raise UserError("--calibrated_on does nothing with --threshold: give one of them")
    source = model_options.faces_of(options, [options.first, options.second])
    embedder = model_options.load(options, default_fusion=None)
    held = None if options.threshold is not None else _held(embedder, options)
    found = embedder.embed_faces(source, resolution=[IMAGE_SIZE, options.resolution])
    source.require_all()
    model_options.warn_of_large(embedder, source, resolution=[IMAGE_SIZE, options.resolution])
    first, second = (Embeddings(found.vectors[[row]], found.norms[[row]]) for row in (0, 1))
    similarity = float(embedder.similarities(first, second)[0])
    sizes = min(source.sizes[0], IMAGE_SIZE), min(source.sizes[1], options.resolution)
    calibrated, reason = (None, "") if held is None else _chosen(embedder, held, sizes, options.far)
    threshold = calibrated.threshold if calibrated else options.threshold
    is_same = None if threshold is None else similarity > threshold
    if options.json:
        origin = dataclasses.asdict(calibrated) if calibrated else None
        answer = {"similarity": similarity, "is_same": is_same, "threshold": threshold, "calibration": origin}
        answer["populations"] = {one.set: one.threshold for one in _populations(embedder, calibrated)}
        answer |= {"no_decision": reason, **dataclasses.asdict(embedder.reading)}
        print(json.dumps(answer | {"sizes": sizes, "norms": found.norms.tolist()}))
    elif reason:
        print(f"no decision: similarity {similarity:.4f}, but {reason}; or give --threshold")
    else:
        print(_in_words(similarity, is_same, threshold, calibrated, _populations(embedder, calibrated)))
    return {True: 0, False: model_options.DONE_BUT, None: model_options.NO_DECISION}[is_same]


def _held(embedder: Embedder, options: argparse.Namespace) -> list[Threshold]:
    """The model's own thresholds that may decide; `UserError` if the rate or the set asked for is none of theirs."""
    asked = {"far": options.far, "calibrated_on": options.calibrated_on}
    return thresholds.of_rate(embedder.thresholds(), reading=embedder.reading, **asked)


def _chosen(
    embedder: Embedder, held: list[Threshold], sizes: tuple[int, int], far: float | None
) -> tuple[Threshold | None, str]:
    """The threshold for faces of these sizes, or why there is none."""
    known = embedder.thresholds()
    if not held:
        return None, thresholds.why_none(known, reading=embedder.reading)
    try:
        return thresholds.choose(held, sizes=sizes, far=far), ""
    except UserError as error:
        return None, thresholds.with_others(str(error), known, held)


def _populations(embedder: Embedder, calibrated: Threshold | None) -> list[Threshold]:
    return thresholds.of_populations(embedder.thresholds(), calibrated) if calibrated else []


def _in_words(
    similarity: float, is_same: bool, threshold: float, calibrated: Threshold | None, populations: list[Threshold]
) -> str:
    if calibrated is not None:
        return thresholds.in_words(similarity, calibrated, populations)
    decision = "the same person" if is_same else "not the same person"
    return f"{decision}: similarity {similarity:.4f}, threshold {threshold:.4f}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lrfr_jax.compare",
        description="The similarity of two aligned 112x112 faces.",
        epilog="Exit status: 0 the same person, 3 not the same person, 4 no decision (no threshold for them), 1 error.",
    )
    parser.add_argument("first", help="image file")
    parser.add_argument("second", help="image file")
    model_options.add_model(parser, default_fusion=model_options.CARDS_FUSION)
    model_options.add_score(parser)
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
    model_options.add_calibrated_on(parser)
    parser.add_argument("--json", action="store_true", help="print json")
    return parser


if __name__ == "__main__":
    with one_sentence():
        sys.exit(main(sys.argv[1:]))
