"""Face sets as training and evaluation read them: what each kind holds, and random access to its records.

DIR/NAME/1.0.0/ holds the shards, the TFDS metadata, prepared.json (kind and arguments) and, for test sets,
protocol.npz (see `protocol_arrays`), for training sets labels.npy (see `labels`). `builders` writes all of it.
"""

import dataclasses
import json
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from google.protobuf import json_format
from google.protobuf.message import DecodeError
from tensorflow_datasets.proto import tf_example_pb2

from lrfr_jax.data import protocol_arrays
from lrfr_jax.errors import NPZ_ERRORS, UserError, reason_of
from lrfr_jax.files import paths

FORMAT_VERSION = "1.0.0"
# The name of a kind's one TFDS split.
SPLITS = {"training": "train", "verification": "test", "identification": "test", "templates": "test"}
DAMAGED = "damaged"  # in place of the kind of a set whose file does not tell it
PREPARED, PROTOCOL, LABELS = "prepared.json", "protocol.npz", "labels.npy"
# The makers' terms, by the kind of preparation; `--licence` says those of other sets.
LICENCES = {
    "generated": "none needed, the faces are generated and of no real person",
    "scface": "research, by a signed release agreement, no redistribution",
    "survface": "non-commercial research",
    "tinyface": "non-commercial research",
}


class RecordSource(Sequence):
    """Random access to records: `source[i]` is {'image': encoded bytes} and, in a training set, 'label': int.

    It parses the example itself: TFDS' own route spends twice the time of reading on the interpreter lock, which the
    reader threads of a training run share. Any number of threads may read; it can be pickled; damage is a `UserError`.
    """

    def __init__(self, shards: Any, *, name: str):
        self._shards, self._name = shards, name  # of the set, to be told

    def __len__(self) -> int:
        return len(self._shards)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        try:
            features = tf_example_pb2.Example.FromString(self._shards[index]).features.feature
            record = {"image": features["image"].bytes_list.value[0]}
        except (RuntimeError, DecodeError, IndexError) as error:  # of array_record, of protobuf, no image
            raise UserError(f"record {index} of {self._name} is damaged ({reason_of(error)}): copy the set") from error
        if "label" in features:
            record["label"] = _label_of(features)
        return record

    def labels(self, indices: Sequence[int]) -> list[int]:
        """Reads the labels of some records at a time, in half the time of one by one.

        Raises:
          UserError: one of them is damaged.
        """
        try:
            read = self._shards.__getitems__(indices)
            return [_label_of(tf_example_pb2.Example.FromString(one).features.feature) for one in read]
        except (RuntimeError, DecodeError, IndexError):
            return [self[index]["label"] for index in indices]  # which says the one that is damaged


def _label_of(features: Any) -> int:
    return features["label"].int64_list.value[0]


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingSet:
    """Labeled faces; labels run from 0 to num_identities - 1. `licence` is empty where the preparation named none.

    `digest` is of what the set holds, images and labels in their order; empty for a set that was prepared before sets
    had one. `path` is where it lies.
    """

    source: RecordSource
    num_images: int
    num_identities: int
    licence: str
    digest: str = ""
    path: pathlib.Path | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class TestSet:
    """Faces and what to compare; `is_partial` says that it has not the official counts, `path` where it lies.

    `digest` is of what the set holds, images and protocol; empty as in `TrainingSet`.
    """

    __test__ = False  # pytest: the name is no test's

    name: str
    kind: str
    path: pathlib.Path
    source: Sequence  # of {"image": encoded bytes}
    protocol: protocol_arrays.Protocol
    is_partial: bool
    digest: str = ""


def open_training_set(data_dir: str, name: str) -> TrainingSet:
    """Opens a prepared training set.

    Raises:
      UserError: missing, of another version, incomplete, or not a training set.
    """
    folder = folder_of(data_dir, name)
    source, builder = _open(folder, ("training",))
    prepared = read_prepared(folder)
    arguments = prepared["arguments"]
    licence = arguments.get("licence") or LICENCES.get(arguments.get("kind"), "")
    num_identities = builder.info.features["label"].num_classes
    return TrainingSet(source, len(source), num_identities, licence, prepared["digest"], folder)


def open_test_set(data_dir: str, name: str) -> TestSet:
    """Opens a prepared set of any kind but training.

    Raises:
      UserError: missing, of another version, incomplete, or a training set.
    """
    folder = folder_of(data_dir, name)
    source, _ = _open(folder, tuple(protocol_arrays.KINDS))
    prepared = read_prepared(folder)
    path = _existing(folder / PROTOCOL)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            protocol = protocol_arrays.from_arrays(prepared["kind"], dict(arrays))
    except NPZ_ERRORS as error:
        raise UserError(f"{path} is damaged ({error!r}): remove {folder} and prepare the set again") from error
    is_partial = bool(prepared["arguments"].get("partial"))
    return TestSet(name, prepared["kind"], folder, source, protocol, is_partial, prepared["digest"])


def open_any_set(data_dir: str, name: str) -> TrainingSet | TestSet:
    """Opens a prepared set of any kind, for what needs its images alone; `UserError` as of the others."""
    folder = folder_of(data_dir, name)
    is_training = (folder / PREPARED).exists() and read_prepared(folder)["kind"] == "training"
    return open_training_set(data_dir, name) if is_training else open_test_set(data_dir, name)


def digest_of(data_dir: str, name: str) -> str:
    """Returns the digest of a complete set of any kind, see `TrainingSet`."""
    return read_prepared(folder_of(data_dir, name))["digest"]


def folder_of(data_dir: str, name: str) -> pathlib.Path:
    """Where a set lies.

    Raises:
      UserError: in an object store, where records cannot be read at random.
    """
    return paths.local(data_dir, "--data_dir") / name / FORMAT_VERSION


def list_sets(data_dir: str) -> dict[str, str]:
    """Returns {name: kind} of the complete sets in a folder, in order of names; `DAMAGED` where that cannot be read."""
    found = sorted(paths.local(data_dir, "--data_dir").glob(f"*/{FORMAT_VERSION}/{PREPARED}"))
    return {path.parent.parent.name: _kind_of(path.parent) for path in found}


def read_prepared(folder: pathlib.Path) -> dict:
    """Returns {'kind', 'arguments', 'digest'}: what the set is, what it was made from and what it holds.

    Raises:
      UserError: the file that says so is missing, or damaged.
    """
    path = _existing(folder / PREPARED)
    try:
        match json.loads(path.read_bytes()):
            case {"kind": str(kind), "arguments": dict()} as prepared if kind in SPLITS:
                return {**prepared, "digest": str(prepared.get("digest", ""))}
    except (OSError, ValueError, RecursionError):
        pass
    raise UserError(f"{path} is damaged: remove {folder} and prepare the set again")


def _kind_of(folder: pathlib.Path) -> str:
    try:
        return read_prepared(folder)["kind"]
    except UserError:  # whoever opens this set is told
        return DAMAGED


def _open(folder: pathlib.Path, kinds: Sequence[str]) -> tuple[RecordSource, tfds.core.DatasetBuilder]:
    if not folder.exists():
        raise UserError(_why_missing(folder))
    found = read_prepared(folder)["kind"]
    if found not in kinds:
        wanted = "training" if "training" in kinds else "test"
        raise UserError(f"{folder} is a {found} set where a {wanted} set is needed: name another set")
    for name in ("dataset_info.json", "features.json"):
        _existing(folder / name)
    try:
        builder = tfds.builder_from_directory(folder)
        shards = builder.info.splits[SPLITS[found]].filepaths
    except (OSError, ValueError, KeyError, json_format.ParseError) as error:
        reason = f"dataset_info.json or features.json of {folder} is damaged ({reason_of(error)})"
        raise UserError(f"{reason}: remove the folder and prepare the set again") from error
    for shard in shards:
        _existing(pathlib.Path(shard))
    return RecordSource(builder.as_data_source(split=SPLITS[found]).data_source, name=str(folder)), builder


def _existing(path: pathlib.Path) -> pathlib.Path:
    if not path.exists():
        raise UserError(f"{path.parent} is incomplete, {path.name} is missing: remove it and prepare the set again")
    return path


def _why_missing(folder: pathlib.Path) -> str:
    named, data_dir = folder.parent, folder.parent.parent
    children = sorted(path.name for path in named.iterdir()) if named.is_dir() else []
    versions = [child for child in children if re.fullmatch(r"\d+\.\d+\.\d+", child)]
    if versions:
        return f"{named} was prepared in format {', '.join(versions)}, not {FORMAT_VERSION}: prepare it again"
    if any(child.startswith("incomplete.") for child in children):
        return f"preparing {named} was interrupted: run its `python -m lrfr_jax.prepare` command again"
    return (
        f"no set named {named.name} in {data_dir} (there: {', '.join(list_sets(str(data_dir))) or 'none'}): "
        f"make it with `python -m lrfr_jax.prepare KIND --name {named.name} --data_dir {data_dir}`"
    )
