"""Face sets on disk: a TFDS builder writes them as ArrayRecord shards, a thin random-access source reads them back.

DIR/NAME/1.0.0/ holds the shards, the TFDS metadata, prepared.json (kind and arguments) and, for verification,
protocol.npz. TFDS fills a folder with another name and renames it at the end, so a folder with this name is complete.
"""

import contextlib
import dataclasses
import io
import itertools
import json
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Bool, Int
from tensorflow_datasets.proto import tf_example_pb2

from lrfr_jax import folder_lock
from lrfr_jax.data.records import IMAGE_SIZE
from lrfr_jax.errors import UserError

FORMAT_VERSION = "1.0.0"
_SPLITS = {"training": "train", "verification": "test"}
_PREPARED = "prepared.json"
_PROTOCOL = "protocol.npz"


class RecordSource(Sequence):
    """Random access to records: `source[i]` is {'image': encoded bytes} and, in a training set, 'label': int.

    It parses the example itself: TFDS' own route spends twice the time of reading on the interpreter lock, which the
    reader threads of a training run share. Any number of threads may read; it can be pickled.
    """

    def __init__(self, shards: Any):
        self._shards = shards

    def __len__(self) -> int:
        return len(self._shards)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        features = tf_example_pb2.Example.FromString(self._shards[index]).features.feature
        record = {"image": features["image"].bytes_list.value[0]}
        if "label" in features:
            record["label"] = features["label"].int64_list.value[0]
        return record


@dataclasses.dataclass(frozen=True)
class TrainingSet:
    """Labeled faces; labels run from 0 to num_identities - 1."""

    source: RecordSource
    num_images: int
    num_identities: int


@dataclasses.dataclass(frozen=True)
class VerificationSet:
    """Pairs of faces; `pairs` indexes into `source`, `fold` holds the fold numbers of the protocol's file."""

    source: RecordSource
    pairs: Int[np.ndarray, "pairs 2"]
    is_same: Bool[np.ndarray, " pairs"]
    fold: Int[np.ndarray, " pairs"]


class _FaceSet(tfds.core.ShardBasedBuilder, skip_registration=True):
    """Writes given examples in order; `files` are put beside the shards before the folder gets its final name.

    Shard by shard and not a GeneratorBasedBuilder: that one, without its shuffle, collects the whole set in memory, and
    beyond 1 GB it needs TensorFlow.
    """

    VERSION = tfds.core.Version(FORMAT_VERSION)

    def __init__(
        self, *, data_dir: str, name: str, split: str, features: dict, examples: Iterator, sizes: list, files: dict
    ):
        self.name = name
        self._split, self._features, self._files = split, features, files
        self._examples, self._sizes = examples, sizes
        super().__init__(data_dir=data_dir, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(self._features)
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _shard_iterators_per_split(self, dl_manager: Any) -> dict:
        for file_name, content in self._files.items():
            (self.data_path / file_name).write_bytes(content)
        # TFDS calls the shards' iterators one after the other, so they may share one stream of examples.
        return {self._split: [lambda size=size: itertools.islice(self._examples, size) for size in self._sizes]}


def _emptied_after_use(examples: Iterable[dict]) -> Iterator[dict]:
    """TFDS keeps every example that it was given until the shard ends; emptied ones take no memory."""
    for example in examples:
        yield example
        example.clear()


def write_training_set(
    data_dir: str,
    name: str,
    *,
    images: Iterable[tuple[bytes, int]],
    num_images: int,
    identities: Sequence[str],
    num_shards: int,
    arguments: Mapping[str, Any],
    notes: Mapping[str, str],
) -> pathlib.Path:
    """Writes labeled faces as DIR/NAME/1.0.0; record i is the i-th image, its bytes unchanged.

    Args:
      images: pairs (encoded image, label in 0..len(identities) - 1); read once, one at a time.
      num_images: how many `images` yields.
      identities: the name behind each label, all different.
      arguments: what the set was made from (JSON); `is_complete` compares it.
      notes: texts to put beside the shards, by file name.

    Returns:
      The folder of the set.

    Raises:
      UserError: bad name or number of shards, or the set exists.
    """
    features = {"image": _image_feature(), "label": tfds.features.ClassLabel(names=list(identities))}
    examples = ({"image": image, "label": label} for image, label in images)
    files = {file_name: text.encode() for file_name, text in notes.items()}
    return _write(data_dir, name, "training", features, examples, num_images, num_shards, arguments, files)


def write_verification_set(
    data_dir: str,
    name: str,
    *,
    images: Iterable[tuple[bytes, str]],
    num_images: int,
    pairs: Int[np.ndarray, "pairs 2"],
    is_same: Bool[np.ndarray, " pairs"],
    fold: Int[np.ndarray, " pairs"],
    num_shards: int,
    arguments: Mapping[str, Any],
    notes: Mapping[str, str],
) -> pathlib.Path:
    """Writes faces and the pairs to compare as DIR/NAME/1.0.0; `images` yields (encoded image, path).

    Arguments, result and errors as in `write_training_set`; `pairs` indexes into `images`.
    """
    if len(pairs) == 0 or pairs.min() < 0 or pairs.max() >= num_images:
        raise ValueError(f"pairs must index into the {num_images} images, and there must be one")
    features = {"image": _image_feature(), "path": tfds.features.Text()}
    examples = ({"image": image, "path": path} for image, path in images)
    protocol = io.BytesIO()
    np.savez(protocol, pairs=pairs.astype(np.int32), is_same=is_same, fold=fold.astype(np.int32))
    files = {file_name: text.encode() for file_name, text in notes.items()} | {_PROTOCOL: protocol.getvalue()}
    return _write(data_dir, name, "verification", features, examples, num_images, num_shards, arguments, files)


def is_complete(data_dir: str, name: str, *, arguments: Mapping[str, Any]) -> bool:
    """Says whether the set exists and was prepared with these arguments.

    Raises:
      UserError: it exists and was prepared with others.
    """
    folder = _folder(data_dir, name)
    if not folder.exists():
        return False
    found, wanted = _prepared(folder)["arguments"], json.loads(json.dumps(arguments))
    different = [key for key in sorted(found.keys() | wanted.keys()) if found.get(key) != wanted.get(key)]
    if different:
        key = different[0]
        raise UserError(
            f"{folder} exists and was prepared with {key}={found.get(key)}, not {key}={wanted.get(key)}: "
            f"choose another --name, or remove {folder.parent} first"
        )
    return True


def check_target(name: str, *, num_shards: int) -> None:
    """Refuses less than one shard, and a name (it becomes a file's) with other than letters, digits, '_', '-'."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise UserError(
            f"--name {name!r} must consist of letters, digits, '_' and '-', and start with a letter or digit"
        )
    if num_shards < 1:
        raise UserError(f"--shards must be at least 1, it is {num_shards}")


def open_training_set(data_dir: str, name: str) -> TrainingSet:
    """Opens a prepared training set.

    Raises:
      UserError: missing, of another version, incomplete, or not a training set.
    """
    source, builder = _open(data_dir, name, "training")
    return TrainingSet(source, len(source), builder.info.features["label"].num_classes)


def open_verification_set(data_dir: str, name: str) -> VerificationSet:
    """Opens a prepared verification set.

    Raises:
      UserError: missing, of another version, incomplete, or not a verification set.
    """
    source, _ = _open(data_dir, name, "verification")
    with np.load(_existing(_folder(data_dir, name) / _PROTOCOL), allow_pickle=False) as protocol:
        return VerificationSet(source, protocol["pairs"], protocol["is_same"], protocol["fold"])


def _image_feature() -> tfds.features.Image:
    return tfds.features.Image(shape=(IMAGE_SIZE, IMAGE_SIZE, 3))


def _folder(data_dir: str, name: str) -> pathlib.Path:
    return pathlib.Path(data_dir) / name / FORMAT_VERSION


def _write(data_dir, name, kind, features, examples, num_images, num_shards, arguments, files) -> pathlib.Path:
    check_target(name, num_shards=num_shards)
    if num_shards > num_images:
        raise UserError(f"--shards must be at most the number of images, {num_images}; it is {num_shards}")
    folder = _folder(data_dir, name)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--data_dir {data_dir} cannot be written: {error}") from error
    prepared = json.dumps({"kind": kind, "arguments": arguments}, indent=1).encode()
    bounds = np.arange(num_shards + 1) * num_images // num_shards
    with folder_lock.alone_in(folder.parent):
        if folder.exists():
            raise UserError(f"{folder} exists: choose another --name, or remove {folder.parent} first")
        for leftover in folder.parent.glob("incomplete.*"):  # what a killed run of this function left
            shutil.rmtree(leftover)
        builder = _FaceSet(
            data_dir=str(data_dir),
            name=name,
            split=_SPLITS[kind],
            features=features,
            examples=zip(range(num_images), _emptied_after_use(examples), strict=True),
            sizes=np.diff(bounds).tolist(),
            files=files | {_PREPARED: prepared},
        )
        config = tfds.download.DownloadConfig(try_download_gcs=False)
        # TFDS wants a folder for downloads and prints about them; there are none.
        with tempfile.TemporaryDirectory() as downloads, contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(download_dir=downloads, download_config=config)
    return folder


def _open(data_dir: str, name: str, kind: str) -> tuple[RecordSource, tfds.core.DatasetBuilder]:
    folder = _folder(data_dir, name)
    if not folder.exists():
        raise UserError(_why_missing(folder))
    found = _prepared(folder)["kind"]
    if found != kind:
        raise UserError(f"{folder} is a {found} set where a {kind} set is needed: name another set")
    builder = tfds.builder_from_directory(_existing(folder / "dataset_info.json").parent)
    for shard in builder.info.splits[_SPLITS[kind]].filepaths:
        _existing(pathlib.Path(shard))
    return RecordSource(builder.as_data_source(split=_SPLITS[kind]).data_source), builder


def _prepared(folder: pathlib.Path) -> dict:
    return json.loads(_existing(folder / _PREPARED).read_text())


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
    existing = sorted(path.parent.parent.name for path in data_dir.glob(f"*/{FORMAT_VERSION}/{_PREPARED}"))
    return (
        f"no set named {named.name} in {data_dir} (there: {', '.join(existing) or 'none'}): "
        f"make it with `python -m lrfr_jax.prepare KIND --name {named.name} --data_dir {data_dir}`"
    )
