"""`prepare ijb`: the loose crops of IJB-B or IJB-C, aligned here, and InsightFace's lists become a set of templates.

The images are warped by their five landmarks and stored as PNG (about 11 GB for IJB-C): JPEG would take a third of that
and add its own losses to the numbers.

References:
  Whitelam et al. 2017, IARPA Janus Benchmark-B, CVPRW; Maze et al. 2018, IARPA Janus Benchmark-C, ICB.
"""

import argparse
import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from lrfr_jax.data import protocol_arrays
from lrfr_jax.errors import UserError
from lrfr_jax.pictures import sources, warp
from lrfr_jax.pictures.photos import decode_photo
from lrfr_jax.pictures.resize import BGR, encode_png
from lrfr_jax.pictures.stored_files import SourceImage
from lrfr_jax.prepare.lists import ijb_lists, listed_images
from lrfr_jax.prepare.sets import official_counts, official_sets, pixel_options

SUMMARY = "IJB-B or IJB-C (loose crops and InsightFace's lists) -> set of templates, 1:1 and 1:N"
EXAMPLE = "python -m lrfr_jax.prepare ijb --source IJBC --edition ijbc --name ijbc --data_dir ~/faces"

# Lines of the lists that InsightFace distributes. The templates are those of the galleries and of the probes together.
COUNTS = {
    "ijbb": {
        "images": 227_630,
        "templates": 12_115,
        "genuine pairs": 10_270,
        "impostor pairs": 8_000_000,
        "gallery templates": 1845,
        "probe templates": 10_270,
    },
    "ijbc": {
        "images": 469_375,
        "templates": 23_124,
        "genuine pairs": 19_557,
        "impostor pairs": 15_638_932,
        "gallery templates": 3531,
        "probe templates": 19_593,
    },
}


def add_arguments(add: Callable) -> None:
    """Declares the options of the command; `add` is the parser's `add_argument`."""
    official_sets.add_arguments(add, layout="folder with loose_crop/1.jpg and so on in it", can_resize=False)
    add("--edition", choices=tuple(COUNTS), required=True, help="which benchmark; the lists' names begin with it")
    add("--meta", metavar="DIR", help="folder of the lists; without it, SOURCE/meta")


def prepare(arguments: argparse.Namespace) -> str:
    """Makes the set of templates, and returns the summary; see `--help`.

    Raises:
      UserError: bad lists or images, counts that are not the official ones, or another set of that name.
    """
    meta = arguments.meta or os.path.join(arguments.source, "meta")
    record = {
        "kind": "ijb",
        "edition": arguments.edition,
        "source": official_sets.remembered(arguments.source, flag="--source"),
        "meta": official_sets.remembered(meta, flag="--meta"),
        "allow_partial": arguments.allow_partial,
    }
    return official_sets.make(arguments, record, _write)


def _write(arguments: argparse.Namespace, record: Mapping[str, Any]) -> str:
    meta, edition, allow_partial = record["meta"][0], arguments.edition, arguments.allow_partial
    listed = ijb_lists.read_images(meta, edition)
    found = listed_images.find(arguments.source)
    images, missing = listed_images.look_up(
        listed.names, listed_images.in_folder(found, "loose_crop"), path=f"{edition}_name_5pts_score.txt"
    )
    problems = [*found.problems, *missing]
    official_sets.refuse(problems, allow_partial=allow_partial)
    pairs, is_same = ijb_lists.read_pairs(meta, edition)
    parts = ijb_lists.GALLERIES[edition]
    galleries = {part: ijb_lists.read_subjects(meta, edition, f"gallery_{part}") for part in parts}
    probes = ijb_lists.read_subjects(meta, edition, "probe_mixed")
    found_counts = (
        len(images) - len(missing),
        len(np.unique(listed.templates)),
        int(is_same.sum()),
        int((~is_same).sum()),
        len(np.unique(np.concatenate([templates for templates, _ in galleries.values()]))),
        len(probes[0]),
    )
    counts = {name: (due, count) for (name, due), count in zip(COUNTS[edition].items(), found_counts, strict=True)}
    partial = official_counts.check(counts, allow_partial=allow_partial, what=arguments.source)
    present = np.flatnonzero([image is not None for image in images])
    good, problems = official_sets.usable(
        [images[place] for place in present], problems, decode=decode_photo, allow_partial=allow_partial
    )
    used = present[good]
    protocol, is_whole = _protocol(listed, used, (pairs, is_same), galleries, probes)
    if not is_whole and not allow_partial:
        raise UserError(f"the lists in {meta} name templates that have no image: get them anew (or --allow_partial)")
    tasks = [(images[place], listed.landmarks[place]) for place in used]
    align = functools.partial(_align, order=arguments.order)
    encoded = pixel_options.converted(tasks, align, total=len(tasks))
    partial = partial or not is_whole
    official_sets.write_test(
        arguments,
        record,
        zip(encoded, (listed.names[place] for place in used), strict=True),
        protocol,
        num_images=len(used),
        partial=partial,
        problems=problems,
        notes={},
    )
    return (
        f"{len(used)} images, {len(np.unique(protocol.templates))} templates, {len(protocol.pairs)} pairs, "
        f"{len(protocol.probe_templates)} probe templates{official_sets.remark(partial, problems)}"
    )


def _protocol(
    listed: ijb_lists.Images,
    used: np.ndarray,
    labeled_pairs: tuple[np.ndarray, np.ndarray],
    galleries: Mapping[str, tuple[np.ndarray, np.ndarray]],
    probes: tuple[np.ndarray, np.ndarray],
) -> tuple[protocol_arrays.TemplateProtocol, bool]:
    """Numbers the templates of the used images from 0; drops whatever names others, and says whether nothing did."""
    known, templates = np.unique(listed.templates[used], return_inverse=True)
    pairs, is_known = ijb_lists.renumber(labeled_pairs[0], known)
    whole_pairs = is_known.all(axis=1)
    is_whole = bool(whole_pairs.all())
    searched = {}
    for name, (numbers, subjects) in {**galleries, "probes": probes}.items():
        places, present = ijb_lists.renumber(numbers, known)
        searched[name] = places[present], subjects[present]
        is_whole = is_whole and bool(present.all())
    probe_templates, probe_subjects = searched.pop("probes")
    if not whole_pairs.any() or not len(probe_templates) or not all(len(part) for part, _ in searched.values()):
        raise UserError("no pair, no probe or no gallery is left of the lists: too many images are missing")
    protocol = protocol_arrays.TemplateProtocol(
        templates=templates.astype(np.int32),
        media=listed.media[used],
        faceness=listed.faceness[used],
        pairs=pairs if is_whole else pairs[whole_pairs],
        is_same=labeled_pairs[1][whole_pairs],
        galleries=searched,
        probe_templates=probe_templates,
        probe_subjects=probe_subjects,
    )
    return protocol, is_whole


def _align(task: tuple[SourceImage, Float[np.ndarray, "5 2"]], *, order: str) -> bytes:
    image, landmarks = task
    face = warp.warp_face(decode_photo(sources.read_image(image)), landmarks)[0]
    return encode_png(face[..., ::-1] if order == BGR else face)
