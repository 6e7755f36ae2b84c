"""Compares many pairs of faces; where it is known who is who, with all numbers of an evaluation.

python -m lrfr_jax.verify pairs.csv --checkpoint runs/maug --resolutions 20,14,7 --output scores.csv
"""

import argparse
import csv
import functools
import io
import json
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lrfr_jax import comma_list, model_options, pair_list
from lrfr_jax.data.face_sets import TestSet
from lrfr_jax.data.protocol_arrays import VerificationProtocol
from lrfr_jax.embedder import Embedder
from lrfr_jax.errors import UserError, one_sentence
from lrfr_jax.evals import evaluation, protocols, report, tables, thresholds, verification
from lrfr_jax.evals.fusion import FUSIONS
from lrfr_jax.evals.thresholds import Threshold
from lrfr_jax.image_ops import IMAGE_SIZE
from lrfr_jax.pair_list import PairList
from lrfr_jax.pictures import contact_sheet
from lrfr_jax.pictures.faces import Faces


class Compared(NamedTuple):
    """All pairs at one choice of resolutions: those of the first and of the second images, and the similarities."""

    first: int
    second: int
    cosines: np.ndarray


# {'hr_hr_112': ..., 'hr_lr_14': ..., ...}: the mode and the resolution of the second images.
Similarities = Mapping[str, Compared]


def main(argv: Sequence[str] | None = None) -> None:
    """Compares as the command line says.

    Raises:
      UserError: a bad option, checkpoint, list or image.
    """
    options = _parser().parse_args(argv)
    model_options.check_new(options, "output")
    listed = pair_list.read(options.pairs)
    settings = {"protocol": options.protocol} | ({"fusion": options.fusion} if options.fusion else {})
    rules = protocols.rules_of("pairs", "verification", settings)
    root = options.root or os.path.dirname(options.pairs)
    source = model_options.faces_of(options, [os.path.join(root, image) for image in listed.images])
    protocol = None if listed.is_same is None else VerificationProtocol(listed.pairs, listed.is_same, listed.fold)
    if protocol is not None:
        _check(options, protocol, rules)
    options.fusion = rules.fusion
    embedder = model_options.load(options)
    held = (
        []
        if options.far is None
        else thresholds.of_fusion(embedder.thresholds(), fusion=embedder.fusion, far=options.far)
    )
    name = pathlib.Path(options.pairs).stem
    if protocol is None:
        made, similarities = {}, _similarities(embedder, source, listed, rules, options.resolutions)
    else:
        test_set = TestSet(name, "verification", pathlib.Path(options.pairs), source, protocol, is_partial=False)
        planned = {name: evaluation.Evaluation(test_set, options.protocol, rules, options.resolutions)}
        results = evaluation.run(planned, cache=None, **embedder.evaluation_arguments(evaluation.sizes_of(planned)))
        made = report.report_of(results, step=embedder.metadata["step"], checkpoint=str(embedder.path))
        similarities = {
            f"{c.mode}_{c.resolution}": Compared(c.first_resolution, c.resolution, c.cosines)
            for c in results[name].outcome.comparisons
        }
    source.require_all()
    columns = {name: compared.cosines.tolist() for name, compared in similarities.items()}
    if options.far is not None:
        columns |= _decisions(held, source, listed, similarities, options.far)
    _show(options, listed, made, columns)


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
    vectors = {resolution: FUSIONS[rules.fusion](raw) for resolution, raw in features.items()}
    lower = sorted(set(resolutions) - {IMAGE_SIZE}, reverse=True)
    compared = {f"hr_hr_{IMAGE_SIZE}": (IMAGE_SIZE, IMAGE_SIZE)}
    compared |= {f"hr_lr_{r}": (IMAGE_SIZE, r) for r in lower} | {f"lr_lr_{r}": (r, r) for r in lower}
    first, second = listed.pairs.T
    scoring = rules.scoring
    return {
        name: Compared(one, other, scoring.cosines(scoring.score(vectors[one][first], vectors[other][second])))
        for name, (one, other) in compared.items()
    }


def _decisions(
    held: Sequence[Threshold],
    source: Faces,
    listed: PairList,
    similarities: Similarities,
    far: float,
) -> dict[str, list[int]]:
    """Whether each pair is of one person (1 or 0), by the model's own threshold for the sizes of its two faces."""

    @functools.cache
    def threshold(first: int, second: int) -> float:
        return thresholds.choose(held, sizes=(first, second), far=far).threshold

    sizes = np.array([source.sizes[place] for place in range(len(source))])[listed.pairs]
    decided = {}
    for name, compared in similarities.items():
        at = np.minimum(sizes, [compared.first, compared.second]).clip(max=IMAGE_SIZE).tolist()
        limits = np.array([threshold(first, second) for first, second in at])
        decided[f"same_{name}"] = (compared.cosines > limits).astype(int).tolist()
    return decided


def _show(
    options: argparse.Namespace, listed: PairList, made: Mapping[str, object], columns: Mapping[str, Sequence]
) -> None:
    names = [[listed.images[place] for place in pair] for pair in listed.pairs]
    rows = [[*pair, *(values[i] for values in columns.values())] for i, pair in enumerate(names)]
    header = ["first", "second", *columns]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    if options.output:
        contact_sheet.write_whole(pathlib.Path(options.output), text.getvalue().encode())
    if options.json:
        print(json.dumps({"report": made, "pairs": [dict(zip(header, row, strict=True)) for row in rows]}))
        return
    if made:
        print(tables.table(made))
    if options.output:
        print(f"the similarities of {len(rows)} pairs are in {options.output}")
    elif not made:
        print(text.getvalue(), end="")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lrfr_jax.verify",
        description="Similarities of pairs of aligned 112x112 faces, and with is_same the metrics of `evaluate`.",
        epilog="Exit status: 0 done, 1 error.",
    )
    parser.add_argument(
        "pairs", help="csv whose first line names its columns: first,second (image files), if known is_same and fold"
    )
    model_options.add_model(parser)
    parser.add_argument("--root", help="folder of the image files; default: that of the csv")
    parser.add_argument(
        "--protocol",
        choices=[name for name, rules in protocols.PROTOCOLS.items() if hasattr(rules, "scoring")],
        default="insightface",
        help="published rules, see docs/protocols.md (default insightface)",
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
        "columns same_hr_hr_112, ...",
    )
    model_options.add_pictures(parser)
    parser.add_argument("--output", metavar="FILE.csv", help="first,second and a column for each comparison")
    parser.add_argument("--json", action="store_true", help="print json")
    return parser


def _resolutions(text: str) -> tuple[int, ...]:
    resolutions = tuple(map(int, comma_list.words(text)))
    if not all(1 <= resolution <= IMAGE_SIZE for resolution in resolutions):
        raise argparse.ArgumentTypeError(f"{text} must be whole pixels in 1..{IMAGE_SIZE}")
    return resolutions


if __name__ == "__main__":
    with one_sentence():
        main(sys.argv[1:])
