"""`prepare check`: what is in a prepared set, and what would spoil a run on it, before the run."""

import argparse
import json
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lrfr_jax.data import face_sets, records
from lrfr_jax.errors import UserError
from lrfr_jax.pictures import contact_sheet
from lrfr_jax.prepare.checks import overlaps, report_folder
from lrfr_jax.prepare.checks.image_survey import Survey, draw_thresholds, survey
from lrfr_jax.terminal import comma_list

SUMMARY = "look at a prepared set before a long run: counts, duplicates, overlap with test sets, colors, memory"
EXAMPLE = """python -m lrfr_jax.prepare check casia --data_dir ~/faces --against lfw,agedb30"""

_DARK, _BRIGHT, _FLAT = 10.0, 245.0, 4.0  # mean, mean and deviation in gray levels that no photographed face has
_GRAY = 0.5  # a smaller difference of red and blue means an image without color
_RED_SHARE = 0.5  # where fewer colored faces are redder than blue, the channels stand in wrong order
_NAMED = 20  # how many records, labels or names a line of the report holds
_ON_SHEET, _SHEET_COLUMNS = 48, 12
_FLOAT_BYTES = 4


def add_arguments(add: Callable) -> None:
    """Declares the options of the command; `add` is the parser's `add_argument`."""
    add("dataset", metavar="DATASET", help="name of the set to look at")
    add("--data_dir", required=True, help="folder of all sets")
    add(
        "--against",
        metavar="SET,SET",
        help="sets with which DATASET must share no image; if not given, all test sets in DATA_DIR for a training set "
        "and none for a test set; an empty one for none",
    )
    add(
        "--output",
        help="folder for report.json and contact_sheet.png, which shows faces; DATA_DIR/DATASET/check if not given",
    )
    add("--min_images", type=int, default=3, help="identities with fewer images are counted as tiny")
    add("--embedding_size", type=int, default=512, help="for the estimate of the classifier's memory")
    add("--batch_size", type=int, default=512, help="for the estimates of steps and memory")
    add("--seed", type=int, default=0, help="draws the faces of the contact sheet")


def run(arguments: argparse.Namespace) -> str:
    """Looks at all images, writes the report, and returns the summary; see `--help` for the arguments.

    Raises:
      UserError: after the summary, if the set has what is plainly wrong: a record that cannot be decoded, labels out of
        range or without an image, one label alone, or images that a set of `--against` has too. Also a set that is
        missing.
    """
    start = time.perf_counter()
    for option in ("min_images", "embedding_size", "batch_size"):
        if getattr(arguments, option) < 1:
            raise UserError(f"--{option} must be at least 1, it is {getattr(arguments, option)}")
    kind = face_sets.list_sets(arguments.data_dir).get(arguments.dataset, "training")
    is_training = kind == "training"
    open_set = face_sets.open_training_set if is_training else face_sets.open_test_set
    opened = open_set(arguments.data_dir, arguments.dataset)
    others = {other: _open_any(arguments.data_dir, other).source for other in _others(arguments, is_training)}
    beside = face_sets.folder_of(arguments.data_dir, arguments.dataset).parent / "check"  # removed with the set
    output = pathlib.Path(arguments.output) if arguments.output else beside
    report_folder.make(output, flag="--output")
    thresholds = draw_thresholds(opened.source, seed=arguments.seed)
    found = survey(opened.source, thresholds, name=arguments.dataset)
    report: dict[str, Any] = {"dataset": arguments.dataset, "kind": kind, "images": len(found.images)}
    report |= {"undecodable": _first(found.problems), "num_undecodable": len(found.problems)}
    report |= {"sizes": found.sizes, "formats": found.formats, "suspicious": _suspicious(found.images)}
    report["colors"] = _colors(found.images)
    if is_training:
        report["identities"] = _identities(found.labels, opened.num_identities, arguments.min_images)
    else:
        unused = len(found.images) - len(np.unique(opened.protocol.used_records))
        report["protocol"] = {"images_unused": unused}
    report["duplicates"] = overlaps.within(opened.source, found.images, named=_NAMED)
    names = overlaps.identity_names(arguments.data_dir, arguments.dataset)
    report["against"], num_read = {}, len(found.images)
    for other, source in others.items():
        second = survey(source, thresholds, name=other)
        num_read += len(second.images)
        shared = overlaps.between(opened.source, found.images, source, second.images, named=_NAMED)
        other_names = overlaps.identity_names(arguments.data_dir, other)
        report["against"][other] = shared | {"identities": overlaps.shared_names(names, other_names, named=_NAMED)}
    report["estimates"] = _estimates(arguments, found.images, getattr(opened, "num_identities", 0))
    report["wrong"], report["warnings"] = _wrong(report), _warnings(report)
    _write(output, report, opened.source, found, seed=arguments.seed)
    seconds = time.perf_counter() - start
    summary = _in_words(report) + f"\n{seconds:.1f} s, {num_read / seconds:.0f} images/s, report in {output}"
    if report["wrong"]:
        print(summary, flush=True)
        raise UserError(f"{arguments.dataset} is not fit for use: {'; '.join(report['wrong'])}")
    return summary


def _others(arguments: argparse.Namespace, is_training: bool) -> list[str]:
    if arguments.against is not None:
        named = comma_list.words(arguments.against)
        if arguments.dataset in named:
            raise UserError(f"--against names {arguments.dataset} itself: name other sets")
        return named
    kinds = face_sets.list_sets(arguments.data_dir)
    return [name for name, kind in kinds.items() if is_training and kind != "training"]


def _open_any(data_dir: str, name: str) -> Any:
    is_training = face_sets.list_sets(data_dir).get(name) == "training"
    return (face_sets.open_training_set if is_training else face_sets.open_test_set)(data_dir, name)


def _identities(labels: np.ndarray, num_identities: int, min_images: int) -> dict[str, Any]:
    """Counts images per identity; bin `2-3` of the histogram holds identities with 2 or 3 images."""
    outside = (labels < 0) | (labels >= num_identities)
    counts = np.bincount(labels[~outside], minlength=num_identities)
    empty, tiny = np.flatnonzero(counts == 0), np.flatnonzero((counts > 0) & (counts < min_images))
    bins = 2 ** np.arange(int(counts.max()).bit_length() + 1)
    histogram = {
        f"{low}-{2 * low - 1}": int(((counts >= low) & (counts < 2 * low)).sum()) for low in map(int, bins[:-1])
    }
    return {
        "labels": num_identities,
        "images_per_identity": {
            "least": int(counts.min()),
            "median": float(np.median(counts)),
            "most": int(counts.max()),
        },
        "histogram": histogram,
        "num_out_of_range": int(outside.sum()),
        "out_of_range": _first(np.flatnonzero(outside)),
        "num_empty": len(empty),
        "empty": _first(empty),
        "num_tiny": len(tiny),
        "tiny": _first(tiny),
        "min_images": min_images,
    }


def _suspicious(images: np.ndarray) -> dict[str, Any]:
    """Names records that decode and yet show no face: one gray level, nearly black, nearly white."""
    decoded = images["decoded"]
    kinds = {
        "flat": decoded & (images["deviation"] < _FLAT),
        "dark": decoded & (images["mean"] < _DARK),
        "bright": decoded & (images["mean"] > _BRIGHT),
    }
    return {f"num_{kind}": int(mask.sum()) for kind, mask in kinds.items()} | {
        kind: _first(np.flatnonzero(mask)) for kind, mask in kinds.items()
    }


def _colors(images: np.ndarray) -> dict[str, Any]:
    """Of the colored images, how many are redder than blue in the middle, as skin is: of real faces 98 % or more."""
    difference = images["red_minus_blue"][images["decoded"]]
    colored = difference[np.abs(difference) > _GRAY]
    share = float((colored > 0).mean()) if len(colored) else None
    return {"num_gray": len(difference) - len(colored), "share_redder_than_blue": share}


def _estimates(arguments: argparse.Namespace, images: np.ndarray, num_identities: int) -> dict[str, int]:
    folder = face_sets.folder_of(arguments.data_dir, arguments.dataset)
    classifier = num_identities * arguments.embedding_size * _FLOAT_BYTES
    return {
        "bytes_on_disk": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        "mean_bytes_per_image": int(images["bytes"].mean()),
        "classifier_bytes": classifier,
        "classifier_bytes_with_momentum_and_gradient": 3 * classifier,
        "logits_bytes_per_batch": 2 * arguments.batch_size * num_identities * _FLOAT_BYTES,  # of the two views
        "image_bytes_per_batch": arguments.batch_size * records.IMAGE_SIZE**2 * 3,
        "steps_per_epoch": len(images) // arguments.batch_size,
    }


def _wrong(report: dict[str, Any]) -> list[str]:
    """What spoils a run or a measurement for certain: with any of it the command ends with status 1."""
    wrong = []
    if report["num_undecodable"]:
        record, reason = next(iter(report["undecodable"].items()))
        wrong.append(f"{report['num_undecodable']} records cannot be used, as record {record}, which {reason}")
    identities = report.get("identities", {})
    if identities.get("labels") == 1:
        wrong.append("all images have one label, so there is nothing to tell apart: the identities stand elsewhere")
    if identities.get("num_out_of_range"):
        wrong.append(f"record {identities['out_of_range'][0]} has a label beyond 0..{identities['labels'] - 1}")
    if identities.get("num_empty"):
        wrong.append(f"{identities['num_empty']} labels have no image, as label {identities['empty'][0]}")
    for other, shared in report["against"].items():
        if shared["num_shared"]:
            first = shared["shared"][0]
            wrong.append(
                f"{shared['num_shared']} images are in {other} too, as record {first['record']}, there record "
                f"{first['other_record']}"
            )
    return wrong


def _warnings(report: dict[str, Any]) -> list[str]:
    """What may be meant so, but seldom is."""
    share, duplicates, warnings = report["colors"]["share_redder_than_blue"], report["duplicates"], []
    if share is not None and share < _RED_SHARE:
        warnings.append(
            f"only {share:.0%} of the colored faces are redder than blue: red and blue may be exchanged, which "
            "`--order bgr` mends while a set is prepared"
        )
    if duplicates.get("num_across_identities"):
        warnings.append(f"{duplicates['num_across_identities']} pairs of duplicates have different labels")
    for kind in ("flat", "dark", "bright"):
        if report["suspicious"][f"num_{kind}"]:
            number, some = report["suspicious"][f"num_{kind}"], report["suspicious"][kind]
            warnings.append(f"{number} images are {kind}: records {', '.join(map(str, some))}")
    for other, shared in report["against"].items():
        if shared["identities"] and shared["identities"]["num_shared"]:
            warnings.append(
                f"{shared['identities']['num_shared']} identities have a name that {other} has too: "
                "leave them out with `prepare folder --exclude_identities`, which compares names in the same way"
            )
    return warnings


def _in_words(report: dict[str, Any]) -> str:
    duplicates, colors = report["duplicates"], report["colors"]
    megabytes = {key: f"{number / 1e6:.1f} MB" for key, number in report["estimates"].items()}
    lines = [
        f"{report['dataset']}: a {report['kind']} set of {report['images']} images, sizes {report['sizes']}, "
        f"formats {report['formats']}, {report['num_undecodable']} not usable"
    ]
    if "identities" in report:
        identities = report["identities"]
        spread = identities["images_per_identity"]
        lines.append(
            f"identities: {identities['labels']}, {spread['least']} to {spread['most']} images each (median "
            f"{spread['median']:g}), {identities['num_empty']} without images, {identities['num_tiny']} with fewer "
            f"than {identities['min_images']}; by number of images: {identities['histogram']}"
        )
    lines.append(
        f"duplicates: {duplicates['num_exact']} images repeat another byte by byte, {duplicates['num_near']} pairs "
        f"look the same{' (more were not compared)' if duplicates['is_cut'] else ''}"
    )
    share = colors["share_redder_than_blue"]
    redder = "no colored image" if share is None else f"{share:.1%} of the colored faces redder than blue"
    lines.append(f"colors: {redder} (of real faces in RGB, 98 % or more), {colors['num_gray']} gray")
    for other, shared in report["against"].items():
        names = shared["identities"]
        known = "names not known" if names is None else f"{names['num_shared']} identities of one name"
        alike = f"{shared['num_exact']} images byte by byte, {shared['num_near']} that look the same"
        lines.append(f"against {other}: {alike}, {known}")
    lines.append(
        f"estimates: {megabytes['bytes_on_disk']} on disk, {report['estimates']['steps_per_epoch']} steps an epoch, "
        f"classifier {megabytes['classifier_bytes']} ({megabytes['classifier_bytes_with_momentum_and_gradient']} "
        f"with momentum and gradient), logits {megabytes['logits_bytes_per_batch']} a batch"
    )
    return "\n".join(lines + [f"warning: {warning}" for warning in report["warnings"]])


def _write(output: pathlib.Path, report: dict[str, Any], source: Sequence[Any], found: Survey, *, seed: int) -> None:
    decoded = np.flatnonzero(found.images["decoded"])
    chosen = [int(decoded[place]) for place in contact_sheet.sample(len(decoded), size=_ON_SHEET, seed=seed)]
    faces, titles = [], []
    for record in chosen:
        face = records.decode_image(source[record]["image"])
        faces += [face, face[..., ::-1]]
        titles += [f"{record} as stored", f"{record} exchanged"]
    if chosen:
        contact_sheet.save_png(
            output / "contact_sheet.png", contact_sheet.draw_sheet(faces, titles, columns=_SHEET_COLUMNS)
        )
    contact_sheet.write_whole(output / "report.json", json.dumps(report, indent=1).encode())


def _first(found: Any) -> Any:
    """The first few of many, as JSON takes them."""
    if isinstance(found, dict):
        return {str(key): found[key] for key in list(found)[:_NAMED]}
    return [int(index) for index in found[:_NAMED]]
