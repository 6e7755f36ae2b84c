"""Face sets as training and evaluation read them: what each kind holds, and random access to its records.

DIR/NAME/1.0.0/ holds the shards, the TFDS metadata, prepared.json (kind and arguments) and, for test sets,
protocol.npz: plain arrays that index into the records. `builders` writes all of it.
"""

import dataclasses
import json
import pathlib
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from google.protobuf.message import DecodeError
from jaxtyping import Bool, Float, Int
from tensorflow_datasets.proto import tf_example_pb2

from lrfr_jax import paths
from lrfr_jax.errors import UserError, reason_of

FORMAT_VERSION = "1.0.0"
# The name of a kind's one TFDS split.
SPLITS = {"training": "train", "verification": "test", "identification": "test", "templates": "test"}
DAMAGED = "damaged"  # in place of the kind of a set whose file does not tell it
PREPARED, PROTOCOL = "prepared.json", "protocol.npz"
# The makers' terms, by the kind of preparation; `--licence` says those of other sets.
LICENCES = {
    "generated": "none needed, the faces are generated and of no real person",
    "scface": "research, by a signed release agreement, no redistribution",
    "survface": "non-commercial research",
    "tinyface": "non-commercial research",
}
DISTRACTOR = -1  # label of gallery images and of probes whose identity nobody knows: they have no mate


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
            record["label"] = features["label"].int64_list.value[0]
        return record


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingSet:
    """Labeled faces; labels run from 0 to num_identities - 1. `licence` is empty where the preparation named none."""

    source: RecordSource
    num_images: int
    num_identities: int
    licence: str


@dataclasses.dataclass(frozen=True, eq=False)
class VerificationProtocol:
    """Pairs to compare: `pairs` indexes into the records, `fold` holds the fold numbers of the protocol's file.

    `sizes` holds lists by name that give both images of each pair a side length in pixels (Knoche et al. 2021).
    """

    pairs: Int[np.ndarray, "pairs 2"]
    is_same: Bool[np.ndarray, " pairs"]
    fold: Int[np.ndarray, " pairs"]
    sizes: Mapping[str, Int[np.ndarray, "pairs 2"]] = dataclasses.field(default_factory=dict)

    @property
    def used_records(self) -> Int[np.ndarray, "..."]:
        return self.pairs.ravel()


@dataclasses.dataclass(frozen=True, eq=False)
class IdentificationProtocol:
    """A search of each probe in a gallery; a gallery image with the probe's label is its mate.

    Attributes:
      gallery, probes: record numbers.
      gallery_labels, probe_labels: identities, `DISTRACTOR` for a nameless one; a probe without a mate is unmated.
      probe_groups: index into `groups` (such as the distance of a camera) of each probe.
      groups: names of the groups; one empty name if there is but one.
      splits: lists by name of equally many test identities, one row for each repetition; a search within a row leaves
        out the gallery images and probes of other identities, and keeps the distractors.
    """

    gallery: Int[np.ndarray, " gallery"]
    gallery_labels: Int[np.ndarray, " gallery"]
    probes: Int[np.ndarray, " probes"]
    probe_labels: Int[np.ndarray, " probes"]
    probe_groups: Int[np.ndarray, " probes"]
    groups: tuple[str, ...]
    splits: Mapping[str, Int[np.ndarray, "repetitions identities"]] = dataclasses.field(default_factory=dict)

    @property
    def used_records(self) -> Int[np.ndarray, "..."]:
        return np.concatenate([self.gallery, self.probes])


@dataclasses.dataclass(frozen=True, eq=False)
class TemplateProtocol:
    """Templates (sets of images of one subject) that are compared in pairs, and searched in galleries.

    Attributes:
      templates, media: template and video (or photo) of every record, template numbers from 0.
      faceness: detector score of every record, in [0, 1].
      pairs, is_same: templates to compare, and whether they show one subject.
      galleries: {name: (templates, subjects)}.
      probe_templates, probe_subjects: templates to search in the galleries.
    """

    templates: Int[np.ndarray, " images"]
    media: Int[np.ndarray, " images"]
    faceness: Float[np.ndarray, " images"]
    pairs: Int[np.ndarray, "pairs 2"]
    is_same: Bool[np.ndarray, " pairs"]
    galleries: Mapping[str, tuple[Int[np.ndarray, " _"], Int[np.ndarray, " _"]]]  # each of its own length
    probe_templates: Int[np.ndarray, " probes"]
    probe_subjects: Int[np.ndarray, " probes"]

    @property
    def used_records(self) -> Int[np.ndarray, "..."]:
        return np.arange(len(self.templates))


Protocol = VerificationProtocol | IdentificationProtocol | TemplateProtocol
PROTOCOL_KINDS = {
    "verification": VerificationProtocol,
    "identification": IdentificationProtocol,
    "templates": TemplateProtocol,
}


@dataclasses.dataclass(frozen=True, eq=False)
class TestSet:
    """Faces and what to compare; `is_partial` says that it has not the official counts, `path` where it lies."""

    __test__ = False  # pytest: the name is no test's

    name: str
    kind: str
    path: pathlib.Path
    source: Sequence  # of {"image": encoded bytes}
    protocol: Protocol
    is_partial: bool


def to_arrays(protocol: Protocol) -> dict[str, np.ndarray]:
    """Lays a protocol out as plain arrays; an entry of a mapping is named `field/key`, part 0 of it `field/key/0`."""
    arrays = {}
    for field in dataclasses.fields(protocol):
        value = getattr(protocol, field.name)
        if isinstance(value, Mapping):
            for key, entry in value.items():
                parts = {f"/{i}": part for i, part in enumerate(entry)} if isinstance(entry, tuple) else {"": entry}
                arrays |= {f"{field.name}/{key}{end}": np.asarray(part) for end, part in parts.items()}
        else:
            arrays[field.name] = np.asarray(value)
    return arrays


def from_arrays(kind: str, arrays: Mapping[str, np.ndarray]) -> Protocol:
    """Reads back what `to_arrays` made.

    Raises:
      KeyError: a field is missing.
    """
    values: dict[str, Any] = {}
    for field in dataclasses.fields(PROTOCOL_KINDS[kind]):
        prefix = f"{field.name}/"
        entries = {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}
        if field.name == "galleries":
            names = dict.fromkeys(key.rpartition("/")[0] for key in entries)
            values[field.name] = {name: (entries[f"{name}/0"], entries[f"{name}/1"]) for name in names}
        elif field.name in ("sizes", "splits"):
            values[field.name] = entries
        elif field.name == "groups":
            values[field.name] = tuple(map(str, arrays[field.name]))
        else:
            values[field.name] = arrays[field.name]
    return PROTOCOL_KINDS[kind](**values)


def open_training_set(data_dir: str, name: str) -> TrainingSet:
    """Opens a prepared training set.

    Raises:
      UserError: missing, of another version, incomplete, or not a training set.
    """
    folder = folder_of(data_dir, name)
    source, builder = _open(folder, ("training",))
    arguments = read_prepared(folder)["arguments"]
    licence = arguments.get("licence") or LICENCES.get(arguments.get("kind"), "")
    return TrainingSet(source, len(source), builder.info.features["label"].num_classes, licence)


def open_test_set(data_dir: str, name: str) -> TestSet:
    """Opens a prepared set of any kind but training.

    Raises:
      UserError: missing, of another version, incomplete, or a training set.
    """
    folder = folder_of(data_dir, name)
    source, _ = _open(folder, tuple(PROTOCOL_KINDS))
    prepared = read_prepared(folder)
    path = _existing(folder / PROTOCOL)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            protocol = from_arrays(prepared["kind"], dict(arrays))
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is damaged ({error!r}): remove {folder} and prepare the set again") from error
    return TestSet(name, prepared["kind"], folder, source, protocol, bool(prepared["arguments"].get("partial")))


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
    """Returns {'kind', 'arguments'}: what the set is and what it was made from.

    Raises:
      UserError: the file that says so is missing, or damaged.
    """
    path = _existing(folder / PREPARED)
    try:
        match json.loads(path.read_bytes()):
            case {"kind": str(kind), "arguments": dict()} as prepared if kind in SPLITS:
                return prepared
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
    builder = tfds.builder_from_directory(_existing(folder / "dataset_info.json").parent)
    for shard in builder.info.splits[SPLITS[found]].filepaths:
        _existing(pathlib.Path(shard))
    return RecordSource(builder.as_data_source(split=SPLITS[found]).data_source, name=str(folder)), builder


def _existing(path: pathlib.Path) -> pathlib.Path:
    if not path.exists():
        raise UserError(f"{path.parent} is incomplete, {path.name} is missing: remove it and prepare the set again")
    return path


def _why_missing(folder: pathlib.Path) -> str:
    named, data_dir = folder.parent, folder.parent.parent
    children = sorted(path.name for path in named.iterdir()) if named.is_dir() else []
    versions = [child for child in children if not child.startswith("incomplete.")]
    if versions:
        return f"{named} was prepared in format {', '.join(versions)}, not {FORMAT_VERSION}: prepare it again"
    if children:
        return f"preparing {named} was interrupted: run its `python -m lrfr_jax.prepare` command again"
    return (
        f"no set named {named.name} in {data_dir} (there: {', '.join(list_sets(str(data_dir))) or 'none'}): "
        f"make it with `python -m lrfr_jax.prepare KIND --name {named.name} --data_dir {data_dir}`"
    )
