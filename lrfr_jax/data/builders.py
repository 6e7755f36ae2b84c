"""Writes face sets: a TFDS builder makes ArrayRecord shards, with what `face_sets` reads beside them.

TFDS fills a folder with another name and renames it at the end, so a folder with a set's name is complete.
"""

import contextlib
import hashlib
import io
import itertools
import json
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module

from lrfr_jax.data import protocol_arrays
from lrfr_jax.data.face_sets import FORMAT_VERSION, LABELS, PREPARED, PROTOCOL, SPLITS, folder_of, read_prepared
from lrfr_jax.data.records import IMAGE_SIZE
from lrfr_jax.errors import UserError, reason_of
from lrfr_jax.files import folder_lock


class _Uncompressed(tfds.core.ExampleWriter):
    """Writes shards without compression: it makes encoded images no smaller and raw ones 2.5 times as slow to read."""

    def write(self, path: str | os.PathLike, examples: Iterable[tuple[Any, bytes]]) -> None:
        writer = array_record_module.ArrayRecordWriter(os.fspath(path), "group_size:1,uncompressed")
        for _, example in examples:
            writer.write(example)
        writer.close()


class _OwnInfo(tfds.core.DatasetInfo):
    """What TFDS knows of a set that nobody but us has."""

    def initialize_from_bucket(self) -> None:
        """TFDS would look the set up among its own, and leave an empty folder among the temporary files."""


class _FaceSet(tfds.core.ShardBasedBuilder, skip_registration=True):
    """Writes given examples in order; `files` are put beside the shards before the folder gets its final name.

    So is `prepared.json`: what the set is, and the digest of what it holds.

    Shard by shard and not a GeneratorBasedBuilder: that one, without its shuffle, collects the whole set in memory, and
    beyond 1 GB it needs TensorFlow.
    """

    VERSION = tfds.core.Version(FORMAT_VERSION)

    def __init__(
        self, *, data_dir: str, name: str, prepared: dict, features: dict, examples: Iterator, sizes: list, files: dict
    ):
        self.name = name
        self._prepared, self._features, self._files = prepared, features, files
        self._examples, self._sizes = examples, sizes
        super().__init__(data_dir=data_dir, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(self._features)
        return _OwnInfo(builder=self, features=features, disable_shuffling=True)

    def _example_writer(self) -> tfds.core.ExampleWriter:
        return _Uncompressed(self.info.file_format)

    def _shard_iterators_per_split(self, dl_manager: Any) -> dict:
        for file_name, content in self._files.items():
            (self.data_path / file_name).write_bytes(content)
        # TFDS calls the shards' iterators one after the other, so they may share one stream of examples.
        examples = self._digesting(self._examples)
        split = SPLITS[self._prepared["kind"]]
        return {split: [lambda size=size: itertools.islice(examples, size) for size in self._sizes]}

    def _digesting(self, examples: Iterator) -> Iterator:
        """Digests the records on their way, and says what the set is before the last one goes."""
        digest, count = hashlib.sha256(self._prepared["kind"].encode()), sum(self._sizes)
        labels = np.zeros(count, np.int32)
        for name, array in sorted(_protocol_of(self._files).items()):
            digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        for number, example in examples:
            digest.update(f"{example.get('label')} {len(example['image'])} ".encode())
            digest.update(example["image"])
            labels[number] = example.get("label", 0)
            if number == count - 1:
                content = json.dumps({**self._prepared, "digest": f"sha256:{digest.hexdigest()}"}, indent=1)
                (self.data_path / PREPARED).write_bytes(content.encode())
                if "label" in example:
                    np.save(self.data_path / LABELS, labels)
            yield number, example


def _protocol_of(files: Mapping[str, bytes]) -> dict[str, np.ndarray]:
    if PROTOCOL not in files:
        return {}
    with np.load(io.BytesIO(files[PROTOCOL]), allow_pickle=False) as arrays:
        return dict(arrays)


def _emptied_after_use(examples: Iterable[dict]) -> Iterator[dict]:
    """TFDS keeps every example that it was given until the shard ends; emptied ones take no memory."""
    for example in examples:
        yield example
        example.clear()


@contextlib.contextmanager
def _told_of_the_disk(data_dir: str, name: str, source_errors: Sequence[Exception]) -> Iterator[None]:
    """Turns what the file system refuses into a `UserError`; what reading the images raised keeps its traceback."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        is_of_the_disk = isinstance(error, OSError) or "write() failed" in str(error)  # as array_record says it
        if source_errors or not is_of_the_disk:
            raise
        with contextlib.suppress(OSError):
            folder_of(data_dir, name).parent.rmdir()  # empty, as TFDS removed what it began
        raise UserError(f"set {name} cannot be written to {data_dir}: {reason_of(error)}") from error


def _noting_errors(examples: Iterable[dict], noted: list[Exception]) -> Iterator[dict]:
    try:
        yield from examples
    except Exception as error:
        noted.append(error)
        raise


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
      UserError: bad name or number of shards, fewer than two identities, or the set exists.
    """
    check_identities(len(identities), name=name)
    features = {"image": _image_feature(), "label": tfds.features.ClassLabel(names=list(identities))}
    examples = ({"image": image, "label": label} for image, label in images)
    files = {file_name: text.encode() for file_name, text in notes.items()}
    return _write(data_dir, name, "training", features, examples, num_images, num_shards, arguments, files)


def write_test_set(
    data_dir: str,
    name: str,
    *,
    images: Iterable[tuple[bytes, str]],
    num_images: int,
    protocol: protocol_arrays.Protocol,
    num_shards: int,
    arguments: Mapping[str, Any],
    notes: Mapping[str, str],
) -> pathlib.Path:
    """Writes faces and what to compare as DIR/NAME/1.0.0; `images` yields (encoded image, path).

    The class of `protocol`, whose numbers of records index into `images`, makes the kind of the set. An argument
    `partial` that is true marks every number measured on the set. All else as in `write_training_set`.
    """
    used = protocol.used_records
    if len(used) == 0 or used.min() < 0 or used.max() >= num_images:
        raise ValueError(f"the protocol must index into the {num_images} images, and must use one")
    kind = next(kind for kind, protocol_class in protocol_arrays.KINDS.items() if isinstance(protocol, protocol_class))
    features = {"image": _image_feature(), "path": tfds.features.Text()}
    examples = ({"image": image, "path": path} for image, path in images)
    stream = io.BytesIO()
    np.savez(stream, **protocol_arrays.to_arrays(protocol))
    files = {file_name: text.encode() for file_name, text in notes.items()} | {PROTOCOL: stream.getvalue()}
    return _write(data_dir, name, kind, features, examples, num_images, num_shards, arguments, files)


def is_complete(data_dir: str, name: str, *, arguments: Mapping[str, Any]) -> bool:
    """Says whether the set exists and was prepared with these arguments; if not, tries whether it can be written.

    Raises:
      UserError: it exists and was prepared with others, or there is no place for it.
    """
    folder = folder_of(data_dir, name)
    if not folder.exists():
        existing = _existing_above(folder)
        if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
            raise UserError(f"--data_dir {data_dir} cannot be written: {existing} is no folder that you may write to")
        return False
    found, wanted = read_prepared(folder)["arguments"], json.loads(json.dumps(arguments))
    keys = (found.keys() | wanted.keys()) - {"partial"}  # known only once the images were looked at
    different = [key for key in sorted(keys) if found.get(key) != wanted.get(key)]
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


def check_fits(data_dir: str, *, num_images: int, num_bytes: int, num_shards: int) -> None:
    """Refuses, before the work, more shards than there may be images, and a disk without room for so many bytes."""
    if num_shards > num_images:
        raise UserError(f"--shards must be at most the number of images, {num_images}; it is {num_shards}")
    free = shutil.disk_usage(_existing_above(pathlib.Path(data_dir).absolute())).free
    if num_bytes > free:
        raise UserError(
            f"--data_dir {data_dir} has {free / 1e9:.3g} GB free, {num_images} images take {num_bytes / 1e9:.3g} GB: "
            "choose a folder on another disk"
        )


def _existing_above(path: pathlib.Path) -> pathlib.Path:
    return next(one for one in (path, *path.absolute().parents) if one.exists())


def check_identities(count: int, *, name: str) -> None:
    """Refuses a training set of one identity: a run on it would end with loss 0 and have learned nothing."""
    if count < 2:
        raise UserError(
            f"training set {name} would have {count} identity, and nothing to tell apart: give images of two or more"
        )


def _image_feature() -> tfds.features.Image:
    return tfds.features.Image(shape=(IMAGE_SIZE, IMAGE_SIZE, 3))


def _write(data_dir, name, kind, features, examples, num_images, num_shards, arguments, files) -> pathlib.Path:
    check_target(name, num_shards=num_shards)
    if num_shards > num_images:
        raise UserError(f"--shards must be at most the number of images, {num_images}; it is {num_shards}")
    folder = folder_of(data_dir, name)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--data_dir {data_dir} cannot be written: {error}") from error
    source_errors: list[Exception] = []
    bounds = np.arange(num_shards + 1) * num_images // num_shards
    with folder_lock.alone_in(folder.parent):
        if folder.exists():
            raise UserError(f"{folder} exists: choose another --name, or remove {folder.parent} first")
        for leftover in folder.parent.glob("incomplete.*"):  # what a killed run of this function left
            shutil.rmtree(leftover)
        builder = _FaceSet(
            data_dir=str(data_dir),
            name=name,
            prepared={"kind": kind, "arguments": arguments},
            features=features,
            examples=_noting_errors(zip(range(num_images), _emptied_after_use(examples), strict=True), source_errors),
            sizes=np.diff(bounds).tolist(),
            files=files,
        )
        config = tfds.download.DownloadConfig(try_download_gcs=False)
        # TFDS wants a folder for downloads and prints about them; there are none.
        with (
            tempfile.TemporaryDirectory() as downloads,
            contextlib.redirect_stdout(io.StringIO()),
            _told_of_the_disk(data_dir, name, source_errors),
        ):
            builder.download_and_prepare(download_dir=downloads, download_config=config)
    return folder
