"""PyTorch's checkpoints, `torch.save`'s zip archives (since 1.6) and what it wrote before: state dicts of tensors.

A zip archive holds `<folder>/data.pkl`, a pickle that refers to storages by key, and each of them as
`<folder>/data/<key>`. The older form is five pickles (a magic number, the protocol, facts of the machine, the object,
the storages' keys), then for each key the int64 number of elements, and the elements.

References: torch/serialization.py of PyTorch (`_save` and `_legacy_save`).
"""

import io
import itertools
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from lrfr_jax.files import inert_pickle
from lrfr_jax.weights.tensor_bytes import Stream, num_elements, number, require, skip, take, tensor_name
from lrfr_jax.weights.torch_pickle import Storage, Tensor, dialect
from lrfr_jax.weights.zip_entries import read_entry

PICKLE = "data.pkl"
_MAGIC_NUMBER, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_LONGEST_PICKLE = 2**22  # bytes: a tensor takes about 100, and a training checkpoint has about 3,000
_DEEPEST = 8  # dicts inside each other
_MOST_SHARING = 2  # tensors that share storages may take so many times the file
_BIG_ENDIAN = "comes from a big-endian machine, which is not supported: save it anew on another one"


def read_zip(archive: zipfile.ZipFile, size: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the tensors of a state dict with their names; see `_named`.

    Raises:
      Refused: damaged, of a big-endian machine, without tensors, or naming anything but tensors.
    """
    pickles = [entry for entry in archive.infolist() if entry.filename.split("/")[1:] == [PICKLE]]
    require(len(pickles) == 1, f"is a zip archive with {len(pickles)} entries */{PICKLE}: PyTorch writes one")
    is_program = any(entry.filename.endswith("/constants.pkl") for entry in archive.infolist())
    require(not is_program, "is a TorchScript program, which is not run: get the state dict of its weights")
    folder, length = pickles[0].filename.removesuffix(PICKLE), pickles[0].file_size
    data, order = f"{folder}data/", f"{folder}byteorder"
    require(order not in archive.namelist() or read_entry(archive, order) == b"little", _BIG_ENDIAN)
    require(length <= _LONGEST_PICKLE, f"has a pickle of {length} bytes, more than any checkpoint's tensors need")
    content = io.BytesIO(read_entry(archive, pickles[0].filename))
    named = _named(inert_pickle.read(content, size=length, dialect=dialect({})))
    sizes = {e.filename.removeprefix(data): e.file_size for e in archive.infolist() if e.filename.startswith(data)}
    yield from _arrays(named, sizes, lambda key: read_entry(archive, data + key), size)


def read_legacy(file: io.BufferedIOBase, size: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the tensors of a state dict that PyTorch before 1.6 wrote, with their names; see `_named`.

    Raises:
      Refused: truncated, damaged, no PyTorch file, without tensors, or naming anything but tensors.
    """
    stream, seen = Stream(file, size), {}
    magic = _next_pickle(stream, seen)
    require(magic == _MAGIC_NUMBER, "is a pickle, but none of PyTorch's: it does not begin with its magic number")
    protocol, machine = _next_pickle(stream, seen), _next_pickle(stream, seen)
    require(protocol == _PROTOCOL, f"has another protocol of PyTorch than {_PROTOCOL}: it is damaged")
    require(isinstance(machine, dict) and machine.get(b"little_endian") is True, _BIG_ENDIAN)
    named = _named(_next_pickle(stream, seen))
    places = _places(stream, seen)
    require(not stream.left, "does not end where its last storage ends: it is damaged")

    def fetch(key: str) -> bytes:
        place, num_bytes = places[key]
        file.seek(place)
        return take(Stream(file, num_bytes), num_bytes, inside="a storage")

    yield from _arrays(named, {key: num_bytes for key, (_, num_bytes) in places.items()}, fetch, size)


def _next_pickle(stream: Stream, seen: dict[str, Storage]) -> Any:
    size = min(stream.left, _LONGEST_PICKLE)
    value, used = inert_pickle.read_next(stream.file, size=size, dialect=dialect(seen))
    stream.left -= used
    return value


def _places(stream: Stream, seen: Mapping[str, Storage]) -> dict[str, tuple[int, int]]:
    """Reads the keys of the storages and passes over these: for each its place in the file and its bytes."""
    keys = _next_pickle(stream, {})
    are_keys = isinstance(keys, list) and all(isinstance(key, bytes) for key in keys)
    keys = [key.decode("latin-1") for key in keys] if are_keys else None
    require(are_keys and sorted(keys) == sorted(seen), "lists other storages than its tensors need: it is damaged")
    places = {}
    for key in keys:
        label = f"its storage {key}"
        count = number(stream, 8, inside=label)
        require(count == seen[key].length, f"gives {label} two sizes: it is damaged or malicious")
        num_bytes = count * seen[key].dtype.itemsize
        places[key] = skip(stream, num_bytes, inside=label), num_bytes
    return places


def _named(value: Any) -> dict[str, Tensor]:
    """Finds the tensors in dicts, and in dicts inside them, under names of text; everything else is passed over.

    The names of nested dicts are joined by '.', without those that all tensors share: `{"epoch": 3, "state_dict":
    {"fc.weight": tensor}}` gives `fc.weight`. A nested dict whose tensors are all scalars is passed over: training
    keeps scores and counts in such ones.
    """
    found, visited, waiting = [], set(), [((), value)]
    while waiting:
        path, table = waiting.pop()
        if not isinstance(table, dict) or id(table) in visited:
            continue
        require(len(path) < _DEEPEST, f"holds dicts more than {_DEEPEST} deep, which no state dict is")
        visited.add(id(table))
        tensors = [((*path, key), tensor) for key, tensor in table.items() if isinstance(tensor, Tensor)]
        found += tensors if not path or any(tensor.shape for _, tensor in tensors) else []
        waiting += [((*path, key), item) for key, item in reversed(table.items()) if isinstance(item, dict)]
    require(found, "holds no tensors by name: it must be a state dict, or hold one")
    parents = [path[:-1] for path, _ in found]
    pairs = zip(min(parents), max(parents), strict=False)  # what these two begin with, all do
    shared = len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)))
    named = {tensor_name(b".".join(path[shared:])): tensor for path, tensor in found}
    require(len(named) == len(found), "holds two tensors of one name: it is damaged or malicious")
    return named


def _arrays(
    named: Mapping[str, Tensor], sizes: Mapping[str, int], fetch: Callable[[str], bytes], size: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the tensors, storage by storage, after checking all of them against the storages' sizes in bytes."""
    total, by_storage = 0, {}
    for name, tensor in named.items():
        total += _num_bytes(name, tensor, sizes)
        by_storage.setdefault(tensor.storage.key, []).append((name, tensor))
    sentence = f"holds tensors that would take {total} bytes, over {_MOST_SHARING} times its own {size}, as they share "
    require(total <= _MOST_SHARING * size, f"{sentence}elements: save copies of the network's (tensor.clone())")
    for key, tensors in by_storage.items():
        content = fetch(key)
        for name, tensor in tensors:
            elements = np.frombuffer(content, tensor.storage.dtype)[tensor.offset :]
            strides = [stride * tensor.storage.dtype.itemsize for stride in tensor.strides]
            yield name, np.lib.stride_tricks.as_strided(elements, tensor.shape, strides, writeable=False)


def _num_bytes(name: str, tensor: Tensor, sizes: Mapping[str, int]) -> int:
    """Returns the bytes of a tensor's elements; refuses one that reaches out of its storage."""
    storage, shape = tensor.storage, tensor.shape
    num_bytes = sizes.get(storage.key)
    require(num_bytes is not None, f"lacks the storage {storage.key} of {name}: it is truncated or damaged")
    is_whole = storage.length * storage.dtype.itemsize == num_bytes
    require(is_whole, f"says that the storage of {name} has {storage.length} elements, but it has {num_bytes} bytes")
    count = num_elements(shape, of=name)  # more than the storage has where steps are 0, as `expand` makes them
    are_steps = all(type(step) is int and 0 <= step < 2**48 for step in (tensor.offset, *tensor.strides))
    is_view = are_steps and len(tensor.strides) == len(shape)
    require(is_view, f"gives {name} strides that no tensor has: it is damaged or malicious")
    last = tensor.offset + sum((side - 1) * stride for side, stride in zip(shape, tensor.strides, strict=True))
    sentence = f"gives {name} the shape {shape}, which its storage of {storage.length} elements does not hold: it lies"
    require(last < storage.length if count else tensor.offset <= storage.length, sentence)
    return count * storage.dtype.itemsize
