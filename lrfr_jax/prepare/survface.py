"""`prepare survface`: QMUL-SurvFace as its makers give it becomes an identification, a verification or a training set.

Its faces are native surveillance crops of 24x20 pixels on average without alignment, so they are always resized.

References:
  Cheng, Zhu, Gong 2018, Surveillance Face Recognition Challenge (arXiv 1804.09691).
"""

import argparse
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lrfr_jax.data import protocol_arrays
from lrfr_jax.errors import UserError
from lrfr_jax.pictures import photos
from lrfr_jax.prepare.lists import listed_images, mat_lists
from lrfr_jax.prepare.lists.listed_images import Face
from lrfr_jax.prepare.sets import official_counts, official_sets
from lrfr_jax.prepare.sets.pixel_options import PixelOptions

SUMMARY = "QMUL-SurvFace (folders and .mat lists as published) -> identification, verification or training set"
EXAMPLE = """python -m lrfr_jax.prepare survface --source QMUL-SurvFace --name survface --data_dir ~/faces
  python -m lrfr_jax.prepare survface --source QMUL-SurvFace --name survface_pairs --data_dir ~/faces \\
      --part verification"""

GALLERY, GALLERY_IDENTITIES, MATED_PROBES, UNMATED_PROBES = 60_294, 3000, 60_423, 121_736
PAIRS_OF_EACH_KIND = 5320
TRAINING_IMAGES, TRAINING_IDENTITIES = 220_890, 5319
_NUM_FOLDS = 10  # of the accuracy; the makers give none


def add_arguments(add: Callable) -> None:
    """Declares the options of the command; `add` is the parser's `add_argument`."""
    layout = "folder with Face_Identification_Test_Set, Face_Verification_Test_Set and training_set in it"
    official_sets.add_arguments(add, layout=layout, can_resize=False)
    add(
        "--part",
        choices=("identification", "verification", "training"),
        default="identification",
        help="what to make a set of",
    )
    add("--lists", metavar="DIR", help="where the .mat lists are; without it, below --source")


def prepare(arguments: argparse.Namespace) -> str:
    """Makes one of the three sets, and returns the summary; see `--help`.

    Raises:
      UserError: bad lists or images, counts that are not the official ones, or another set of that name.
    """
    if arguments.lists and arguments.part == "training":
        raise UserError("--lists names the lists of the test sets: leave it out with --part training")
    record = {
        "kind": "survface",
        "part": arguments.part,
        "source": official_sets.remembered(arguments.source, flag="--source"),
        "lists": arguments.lists and official_sets.remembered(arguments.lists, flag="--lists"),
        "resize": True,
        "allow_partial": arguments.allow_partial,
    }
    write = {"identification": _write_identification, "verification": _write_pairs, "training": _write_training}
    return official_sets.make(arguments, record, write[arguments.part])


def _write_identification(arguments: argparse.Namespace, record: Mapping[str, Any]) -> str:
    """Probes: the mated ones in the list's order, then the unmated ones in the order of their names."""
    found = listed_images.find(arguments.source)
    lists = arguments.lists or arguments.source
    gallery, missing_gallery = listed_images.read_mat(
        found, "gallery", lists=lists, name="gallery_img_ID_pairs.mat", names="gallery_set", ids="gallery_ids"
    )
    mated, missing_mated = listed_images.read_mat(
        found,
        "mated_probe",
        lists=lists,
        name="mated_probe_img_ID_pairs.mat",
        names="mated_probe_set",
        ids="mated_probe_ids",
    )
    unmated = [Face(image, protocol_arrays.DISTRACTOR) for image in listed_images.in_folder(found, "unmated_probe")]
    return official_sets.write_identification(
        arguments,
        record,
        gallery=gallery,
        probes=mated + unmated,
        groups=("",),
        splits={},
        counts={
            "gallery images": (GALLERY, len(gallery)),
            "gallery identities": (GALLERY_IDENTITIES, len({face.identity for face in gallery})),
            "mated probes": (MATED_PROBES, len(mated)),
            "unmated probes": (UNMATED_PROBES, len(unmated)),
        },
        problems=[*found.problems, *missing_gallery, *missing_mated],
        notes={},
    )


def _write_pairs(arguments: argparse.Namespace, record: Mapping[str, Any]) -> str:
    """Pairs: the matched ones, then the mismatched ones; the k-th tenth of both is fold k, so each fold is balanced."""
    found = listed_images.find(arguments.source)
    lists = arguments.lists or arguments.source
    names = {}
    for key in ("positive_pairs_names", "negative_pairs_names"):
        path = mat_lists.find_list(lists, f"{key}.mat")
        names[path] = mat_lists.read_names(path, key, columns=2)
    pairs = np.concatenate(list(names.values()))
    is_same = np.repeat([True, False], [len(part) for part in names.values()])
    fold = np.concatenate([np.arange(len(part)) * _NUM_FOLDS // len(part) + 1 for part in names.values()])
    counts = {
        "matched pairs": (PAIRS_OF_EACH_KIND, int(is_same.sum())),
        "mismatched pairs": (PAIRS_OF_EACH_KIND, int((~is_same).sum())),
    }
    listed = sorted(set(pairs.ravel()))
    images, problems = listed_images.look_up(
        listed, listed_images.in_folder(found, "verification_images"), path=" and ".join(names)
    )
    problems = [*found.problems, *problems]
    official_sets.refuse(problems, allow_partial=arguments.allow_partial)
    partial = official_counts.check(counts, allow_partial=arguments.allow_partial, what=arguments.source)
    present = [image for image in images if image is not None]
    good, problems = official_sets.usable(
        present, problems, decode=photos.decode_photo, allow_partial=arguments.allow_partial
    )
    used = [image for image, is_good in zip(present, good, strict=True) if is_good]
    place = {image: index for index, image in enumerate(used)}
    by_name = {name: place.get(image, -1) for name, image in zip(listed, images, strict=True)}
    indices = np.array([[by_name[name] for name in pair] for pair in pairs], np.int32)
    whole = (indices >= 0).all(axis=1)
    if not whole.any():
        raise UserError(f"{arguments.source} holds both images of none of the {len(pairs)} pairs")
    protocol = protocol_arrays.VerificationProtocol(indices[whole], is_same[whole], fold[whole].astype(np.int32))
    images = official_sets.records_of(used, PixelOptions(True, arguments.order))
    official_sets.write_test(
        arguments, record, images, protocol, num_images=len(used), partial=partial, problems=problems, notes={}
    )
    num_folds = len(set(protocol.fold.tolist()))
    return f"{whole.sum()} pairs in {num_folds} folds, {len(used)} images{official_sets.remark(partial, problems)}"


def _write_training(arguments: argparse.Namespace, record: Mapping[str, Any]) -> str:
    return official_sets.write_training_folder(
        arguments, record, folder="training_set", images=TRAINING_IMAGES, identities=TRAINING_IDENTITIES
    )
