"""Compares many pairs of faces; where it is known who is who, with all numbers of an evaluation.

python -m lrfr_jax.verify pairs.csv --checkpoint runs/maug --resolutions 20,14,7 --output scores.csv
"""

import argparse
import csv
import dataclasses
import io
import json
import os
import pathlib
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lrfr_jax.data.face_sets import TestSet
from lrfr_jax.data.protocol_arrays import VerificationProtocol
from lrfr_jax.errors import UserError, one_sentence
from lrfr_jax.evals import decisions, evaluation, pair_scores, protocols, report, tables, thresholds, verification
from lrfr_jax.evals.decisions import Decisions
from lrfr_jax.evals.pair_scores import PairScores
from lrfr_jax.evals.thresholds import Threshold
from lrfr_jax.image_ops import IMAGE_SIZE
from lrfr_jax.pictures import contact_sheet
from lrfr_jax.pictures.faces import Faces
from lrfr_jax.terminal import comma_list
from lrfr_jax.trained import model_options, pair_list
from lrfr_jax.trained.embedder import Embedder
from lrfr_jax.trained.pair_list import PairList

PROTOCOL = "insightface"


class Compared(NamedTuple):
    """All pairs at one choice of resolutions: those of the first and of the second images, and the similarities."""

    first: int
    second: int
    cosines: np.ndarray


# {'hr_hr_112': ..., 'hr_lr_14': ..., ...}: the mode and the resolution of the second images.
Similarities = Mapping[str, Compared]


def main(argv: Sequence[str] | None = None) -> int:
    """Compares as the command line says; returns the exit status.

    Raises:
      UserError: a bad option, checkpoint, list or image.
    """
    options = _parser().parse_args(argv)
    model_options.check_new(options, "output")
    if options.calibrated_on and options.far is None:
        raise UserError("--calibrated_on does nothing without --far: name the rate of its thresholds")
    listed = pair_list.read(options.pairs)
    # A protocol that was asked for by its name has its own fusion.
    settings = {"protocol": options.protocol or PROTOCOL} | ({"fusion": options.fusion} if options.fusion else {})
    rules = protocols.rules_of("pairs", "verification", settings)
    root = options.root or os.path.dirname(options.pairs)
    source = model_options.faces_of(options, [os.path.join(root, image) for image in listed.images])
    protocol = None if listed.is_same is None else VerificationProtocol(listed.pairs, listed.is_same, listed.fold)
    if protocol is not None:
        _check(options, protocol, rules)
    options.fusion = rules.fusion if options.protocol else options.fusion
    embedder = model_options.load(options, default_fusion=None)
    rules = dataclasses.replace(rules, fusion=embedder.fusion, score=embedder.score.name, centering=embedder.centering)
    rules = dataclasses.replace(rules, qmag=tuple(embedder.score.line or ()), gallery=embedder.reading.gallery)
    held = _held(embedder, options)
    if protocol is None:
        made, similarities = {}, _similarities(embedder, source, listed, rules, options.resolutions)
    else:
        made, similarities = _evaluated(embedder, source, protocol, rules, options)
    source.require_all()
    model_options.warn_of_large(embedder, source)
    decided = _decisions(held, source, listed, similarities, options.far)
    _show(options, listed, made, similarities, decided)
    return _status(decided.values())


def _held(embedder: Embedder, options: argparse.Namespace) -> list[Threshold]:
    """The model's own thresholds of the rate; none if none was asked for.

    Raises:
      UserError: there are none for this rate, or for the comparisons.
    """
    if options.far is None:
        return []
    asked = {"far": options.far, "calibrated_on": options.calibrated_on}
    held = thresholds.of_rate(embedder.thresholds(), reading=embedder.reading, **asked)
    decisions.check(held, resolutions=list(_compared(options.resolutions).values()), far=options.far)
    return held


def _evaluated(
    embedder: Embedder,
    source: Faces,
    protocol: VerificationProtocol,
    rules: protocols.VerificationRules,
    options: argparse.Namespace,
) -> tuple[dict[str, Any], Similarities]:
    """What `evaluate` says of these pairs, and the similarities."""
    name = pathlib.Path(options.pairs).stem
    test_set = TestSet(name, "verification", pathlib.Path(options.pairs), source, protocol, is_partial=False)
    asked = {"resolutions": options.resolutions, "means": embedder.means}
    asked |= {"gallery_from": embedder.gallery_from if embedder.gallery else None}
    planned = {name: evaluation.Evaluation(test_set, options.protocol or PROTOCOL, rules, **asked)}
    results = evaluation.run(planned, cache=None, **embedder.evaluation_arguments(evaluation.sizes_of(planned)))
    made = report.report_of(
        results, step=embedder.metadata["step"], checkpoint=str(embedder.path), weights=embedder.weights
    )
    return made, {
        f"{c.mode}_{c.resolution}": Compared(c.first_resolution, c.resolution, c.cosines)
        for c in results[name].outcome.comparisons
    }


def _check(options: argparse.Namespace, protocol: VerificationProtocol, rules: protocols.VerificationRules) -> None:
    """Raises `UserError` if an evaluation cannot score these pairs, before anything is embedded."""
    try:
        verification.check(protocol, rules, resolutions=options.resolutions)
    except UserError as error:
        raise UserError(f"{options.pairs}: {error}") from error


def _similarities(
    embedder: Embedder,
    source: Faces,
    listed: PairList,
    rules: protocols.VerificationRules,
    resolutions: Sequence[int],
) -> Similarities:
    """What an evaluation compares, without what is true of it."""
    everything = np.arange(len(source))
    features = embedder.features(source, dict.fromkeys((IMAGE_SIZE, *resolutions), everything))
    unknown = np.zeros(len(listed.pairs), np.int64)
    protocol = VerificationProtocol(listed.pairs, unknown.astype(bool), unknown)
    pairs = PairScores(features, protocol, rules, means=embedder.means, own_sizes=source.sizes)
    return {
        name: Compared(one, other, pair_scores.similarities(pairs.of(one, other)[0], rules))
        for name, (one, other) in _compared(resolutions).items()
    }


def _compared(resolutions: Sequence[int]) -> dict[str, tuple[int, int]]:
    """The resolutions of the first and of the second images, by the name of the comparison."""
    lower = sorted(set(resolutions) - {IMAGE_SIZE}, reverse=True)
    compared = {f"hr_hr_{IMAGE_SIZE}": (IMAGE_SIZE, IMAGE_SIZE)}
    return compared | {f"hr_lr_{r}": (IMAGE_SIZE, r) for r in lower} | {f"lr_lr_{r}": (r, r) for r in lower}


def _decisions(
    held: Sequence[Threshold], source: Faces, listed: PairList, similarities: Similarities, far: float | None
) -> dict[str, Decisions]:
    """Whether each pair is of one person, by the model's own threshold for the sizes of its two faces."""
    if far is None:
        return {}
    sizes = np.array([source.sizes[place] for place in range(len(source))])[listed.pairs]
    return {
        name: decisions.decide(
            held, compared.cosines, sizes=np.minimum(sizes, [compared.first, compared.second]), far=far
        )
        for name, compared in similarities.items()
    }


def _status(decided: Collection[Decisions]) -> int:
    missing = [~one.is_decided for one in decided]
    if missing and np.all(missing):
        return model_options.NO_DECISION
    return model_options.DONE_BUT if np.any(missing) else 0


def _show(
    options: argparse.Namespace,
    listed: PairList,
    made: Mapping[str, Any],
    similarities: Similarities,
    decided: Mapping[str, Decisions],
) -> None:
    columns = {"first": [listed.images[place] for place in listed.pairs[:, 0]]}
    columns |= {"second": [listed.images[place] for place in listed.pairs[:, 1]]}
    if listed.is_same is not None:
        columns["is_same"] = listed.is_same.astype(int).tolist()
    columns |= {name: compared.cosines.tolist() for name, compared in similarities.items()}
    for name, one in decided.items():
        known = zip(one.is_same.astype(int).tolist(), one.is_decided, strict=True)
        columns[f"same_{name}"] = [same if is_decided else None for same, is_decided in known]
    rows = list(zip(*columns.values(), strict=True))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([list(columns), *rows])
    if options.output:
        contact_sheet.write_whole(pathlib.Path(options.output), text.getvalue().encode())
    measured = {} if listed.is_same is None else decisions.measured(decided, listed.is_same)
    if options.json:
        pairs = [dict(zip(columns, row, strict=True)) for row in rows]
        found = {"thresholds": measured} if measured else {}
        print(json.dumps({"report": made, "pairs": pairs} | found))
    else:
        _print(options, made, measured, decided, text.getvalue())
    for warning in decisions.warnings(measured, decided, far=options.far):
        print(f"warning: {warning}", file=sys.stderr)


def _print(
    options: argparse.Namespace,
    made: Mapping[str, Any],
    measured: Mapping[str, Any],
    decided: Mapping[str, Decisions],
    text: str,
) -> None:
    if made:
        print(f"{tables.table(made)}\n(accuracies, and TAR at a FAR: by thresholds fitted to these very pairs)")
    if measured:
        print(decisions.table(measured, decided, far=options.far))
    if options.output:
        print(f"the similarities of {text.count(chr(10)) - 1} pairs are in {options.output}")
    elif not made:
        print(text, end="")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lrfr_jax.verify",
        description="Similarities of pairs of aligned 112x112 faces, and with is_same the metrics of `evaluate`.",
        epilog="Exit status: 0 done, 3 some of the pairs or 4 all of them have no decision, 1 error.",
    )
    parser.add_argument(
        "pairs", help="csv whose first line names its columns: first,second (image files), if known is_same and fold"
    )
    model_options.add_model(
        parser, default_fusion=f"of the protocol, if one is named, else {model_options.CARDS_FUSION}"
    )
    model_options.add_score(parser)
    parser.add_argument("--root", help="folder of the image files; default: that of the csv")
    parser.add_argument(
        "--protocol",
        choices=[name for name, rules in protocols.PROTOCOLS.items() if hasattr(rules, "scoring")],
        help=f"published rules, see docs/protocols.md (default {PROTOCOL})",
    )
    parser.add_argument(
        "--resolutions",
        type=_resolutions,
        default=(),
        metavar="R,R",
        help="also with the second image (hr_lr) and with both (lr_lr) reduced to these side lengths in pixels",
    )
    parser.add_argument(
        "--far",
        type=float,
        metavar="F",
        help="also decide, by the thresholds that `evaluate --calibrate` found for this rate and the faces' sizes: "
        "columns same_hr_hr_112, ...; with is_same it is told which shares of these pairs they accept",
    )
    model_options.add_calibrated_on(parser)
    model_options.add_pictures(parser)
    parser.add_argument(
        "--output", metavar="FILE.csv", help="first,second, is_same if known, and a column for each comparison"
    )
    parser.add_argument("--json", action="store_true", help="print json")
    return parser


def _resolutions(text: str) -> tuple[int, ...]:
    resolutions = tuple(map(int, comma_list.words(text)))
    if not resolutions or not all(1 <= resolution <= IMAGE_SIZE for resolution in resolutions):
        raise argparse.ArgumentTypeError(f"{text} must be whole pixels in 1..{IMAGE_SIZE}")
    return resolutions


if __name__ == "__main__":
    with one_sentence():
        sys.exit(main(sys.argv[1:]))
