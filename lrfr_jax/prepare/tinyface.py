"""`prepare tinyface`: TinyFace as published becomes an identification set, or its training part a training set.

References:
  Cheng, Zhu, Gong 2018, Low-Resolution Face Recognition, ACCV (arXiv 1811.08965).
"""

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from lrfr_jax.data.protocol_arrays import DISTRACTOR
from lrfr_jax.errors import UserError
from lrfr_jax.prepare.lists import listed_images
from lrfr_jax.prepare.lists.listed_images import Face
from lrfr_jax.prepare.sets import official_sets

SUMMARY = "TinyFace (folders and .mat lists as published) -> identification set, or training set of its training part"
EXAMPLE = """python -m lrfr_jax.prepare tinyface --source tinyface --name tinyface --data_dir ~/faces --resize
  python -m lrfr_jax.prepare tinyface --source tinyface_aligned --lists tinyface --name tinyface --data_dir ~/faces"""

GALLERY_MATCHES, DISTRACTORS, PROBES, IDENTITIES = 4443, 153_428, 3728, 2569
TRAINING_IMAGES, TRAINING_IDENTITIES = 7804, 2570


def add_arguments(add: Callable) -> None:
    """Declares the options of the command; `add` is the parser's `add_argument`."""
    layout = "folder with Testing_Set/{Probe,Gallery_Match,Gallery_Distractor} and Training_Set/<identity> in it"
    official_sets.add_arguments(add, layout=layout, can_resize=True)
    add("--part", choices=("test", "training"), default="test", help="what to make a set of")
    add("--lists", metavar="DIR", help="where the .mat lists are; without it, below --source")


def prepare(arguments: argparse.Namespace) -> str:
    """Makes the identification set or the training set, and returns the summary; see `--help`.

    Raises:
      UserError: bad lists or images, counts that are not the official ones, or another set of that name.
    """
    if arguments.lists and arguments.part == "training":
        raise UserError("--lists names the lists of the test set: leave it out with --part training")
    record = {
        "kind": "tinyface",
        "part": arguments.part,
        "source": official_sets.remembered(arguments.source, flag="--source"),
        "lists": arguments.lists and official_sets.remembered(arguments.lists, flag="--lists"),
        "resize": arguments.resize,
        "allow_partial": arguments.allow_partial,
    }
    return official_sets.make(arguments, record, _write_test if arguments.part == "test" else _write_training)


def _write_test(arguments: argparse.Namespace, record: Mapping[str, Any]) -> str:
    """Gallery: the matches in the list's order, then the distractors in the order of their names."""
    found = listed_images.find(arguments.source)
    lists = arguments.lists or arguments.source
    matches, missing_matches = listed_images.read_mat(
        found,
        "Gallery_Match",
        lists=lists,
        name="gallery_match_img_ID_pairs.mat",
        names="gallery_set",
        ids="gallery_ids",
    )
    probes, missing_probes = listed_images.read_mat(
        found, "Probe", lists=lists, name="probe_img_ID_pairs.mat", names="probe_set", ids="probe_ids"
    )
    distractors = [Face(image, DISTRACTOR) for image in listed_images.in_folder(found, "Gallery_Distractor")]
    return official_sets.write_identification(
        arguments,
        record,
        gallery=matches + distractors,
        probes=probes,
        groups=("",),
        splits={},
        counts={
            "gallery matches": (GALLERY_MATCHES, len(matches)),
            "distractors": (DISTRACTORS, len(distractors)),
            "probes": (PROBES, len(probes)),
            "identities": (IDENTITIES, len({face.identity for face in matches + probes})),
        },
        problems=[*found.problems, *missing_matches, *missing_probes],
        notes={},
    )


def _write_training(arguments: argparse.Namespace, record: Mapping[str, Any]) -> str:
    return official_sets.write_training_folder(
        arguments, record, folder="Training_Set", images=TRAINING_IMAGES, identities=TRAINING_IDENTITIES
    )
