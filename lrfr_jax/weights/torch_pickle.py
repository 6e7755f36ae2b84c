"""What names mean in PyTorch's pickles: tensors as views of storages; all else has no effect, or is refused by name."""

import dataclasses
from typing import Any

import numpy as np

from lrfr_jax.files.inert_pickle import Dialect, Name, Opaque, Refused
from lrfr_jax.weights.tensor_bytes import BFLOAT16

# Elements of a storage by its class.
_STORAGES = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": BFLOAT16,
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}
_FUNCTIONS = {
    b"torch._utils _rebuild_tensor_v2": Name("tensor"),
    b"torch._utils _rebuild_tensor": Name("tensor"),
    b"torch._utils _rebuild_parameter": Name("parameter"),
    b"torch._utils _rebuild_parameter_with_state": Name("parameter"),
    b"torch._tensor _rebuild_from_type_v2": Name("tensor with attributes"),
    b"collections OrderedDict": Name("dict"),
    b"collections defaultdict": Name("dict"),
}
# Classes that training scripts leave in a checkpoint beside its tensors. Nothing is made of them.
_BESIDE_TENSORS = """
    builtins set|builtins frozenset|builtins dict|builtins list|builtins tuple|builtins int|builtins float|builtins str
    builtins bool|builtins bytes|__builtin__ set|__builtin__ frozenset|__builtin__ dict|__builtin__ list
    __builtin__ tuple|__builtin__ int|__builtin__ long|__builtin__ float|__builtin__ str|__builtin__ unicode
    __builtin__ bool|__builtin__ bytes|__builtin__ object|builtins object|_codecs encode|copy_reg _reconstructor
    copyreg _reconstructor|collections Counter|collections deque|typing Any|datetime datetime|datetime timedelta
    pathlib Path|pathlib PosixPath|pathlib PurePosixPath|pathlib WindowsPath|pathlib PureWindowsPath
    pathlib._local PosixPath|pathlib._local WindowsPath|argparse Namespace|easydict EasyDict|yacs.config CfgNode
    numpy dtype|numpy ndarray|numpy.core.multiarray scalar|numpy._core.multiarray scalar
    numpy.core.multiarray _reconstruct|numpy._core.multiarray _reconstruct
    torch Tensor|torch.nn.parameter Parameter|torch.nn.parameter Buffer
    torch Size|torch device|torch.torch_version TorchVersion|torch float16|torch bfloat16|torch float32|torch float64
    torch uint8|torch int8|torch int16|torch int32|torch int64|torch bool
    pytorch_lightning.utilities.parsing AttributeDict|lightning.pytorch.utilities.parsing AttributeDict
    lightning_fabric.utilities.data AttributeDict|lightning.fabric.utilities.data AttributeDict
    pytorch_lightning.callbacks.model_checkpoint ModelCheckpoint
    pytorch_lightning.callbacks.early_stopping EarlyStopping
    pytorch_lightning.callbacks.lr_monitor LearningRateMonitor
    omegaconf.dictconfig DictConfig|omegaconf.listconfig ListConfig|omegaconf.base Metadata
    omegaconf.base ContainerMetadata|omegaconf.nodes AnyNode|omegaconf.nodes StringNode|omegaconf.nodes IntegerNode
    omegaconf.nodes FloatNode|omegaconf.nodes BooleanNode
"""
_NAMES = (
    _FUNCTIONS
    | {b"torch " + kind.encode(): Name(kind) for kind in _STORAGES}
    | {name.strip().encode(): Opaque() for line in _BESIDE_TENSORS.strip().split("\n") for name in line.split("|")}
)


@dataclasses.dataclass(frozen=True)
class Storage:
    """Elements that stand beside the pickle, by their key, a row of digits; the pickle says that they are `length`."""

    dtype: np.dtype
    key: str
    length: int


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A view of a storage as the pickle gives it, unchecked: offset and strides in elements."""

    storage: Storage
    offset: Any
    shape: tuple
    strides: tuple


def _call(function: Any, arguments: Any) -> Any:
    match function, arguments:
        case Name("tensor"), (Storage() as storage, offset, tuple(shape), tuple(strides), *_):
            return Tensor(storage, offset, shape, strides)
        case Name("parameter"), (Tensor() as tensor, *_):
            return tensor
        case Name("tensor with attributes"), (
            Name("tensor" | "parameter") as make,
            _,
            tuple(given),
            *_,
        ):  # with attributes of its own
            return _call(make, given)
        case Name("dict"), () | (Opaque(),):
            return {}
        case Name("dict"), (list(items),) if all(map(_is_item, items)):  # as Python 2 pickled an OrderedDict
            return dict(items)
    what = f"makes a {function.meaning}" if isinstance(function, Name) else "calls a value"
    raise Refused(f"{what} in a way in which PyTorch does not make it: it is damaged")


def _is_item(item: Any) -> bool:
    return isinstance(item, list) and len(item) == 2 and isinstance(item[0], bytes)


def _build(target: Any, state: Any) -> None:
    """Passes over what PyTorch hangs on a state dict: the versions of its modules."""
    if not isinstance(target, dict):
        raise Refused("gives a value a state that no tensor has: it is damaged or malicious")


def _storage(identifier: Any, seen: dict[str, Storage]) -> Storage:
    match identifier:
        case (b"storage", Name(kind), bytes(key), _, int(length), *view) if kind in _STORAGES and view in ([], [None]):
            storage = Storage(_STORAGES[kind], key.decode("latin-1"), length)
            if not key.isdigit() or seen.setdefault(storage.key, storage) != storage:
                raise Refused(f"describes its storage {key[:20]!r} in two ways, or not by a number: it is damaged")
            return storage
    raise Refused("refers to something else than a storage beside its pickle: it is damaged, or of PyTorch before 0.4")


def dialect(seen: dict[str, Storage]) -> Dialect:
    """Returns what PyTorch means by its pickles; every storage that a pickle refers to is added to `seen`."""
    return Dialect(
        purpose="tensors",
        names=_NAMES,
        call=_call,
        build=_build,
        persistent=lambda identifier: _storage(identifier, seen),
        encoding="utf-8",
        bytes_per_opcode=1,
    )
