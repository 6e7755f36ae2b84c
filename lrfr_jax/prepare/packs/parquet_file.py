"""Parquet files as Hugging Face's `datasets` writes them: a column of images, a column of labels."""

import contextlib
import functools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64

from lrfr_jax.errors import UserError, reason_of
from lrfr_jax.pictures import sources, stored_files
from lrfr_jax.prepare.lists.path_lists import label_of
from lrfr_jax.prepare.packs import class_names, streamed
from lrfr_jax.prepare.packs.streamed import StreamedFile

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError:
    pa = pq = None

IMAGE, LABEL = "image", "label"
_MISSING = -1  # the label of an image that has none, as `datasets` writes it
_IMAGES_AT_ONCE, _LABELS_AT_ONCE = 64, 2**16
_BUFFER = 2**20  # bytes of a column that are read at once, not the whole column of a row group
_MOST_UNPACKED = 2**34  # bytes of a row group's images: more are no row group but a trap
_SHOWN = 100  # characters of a list of columns or of a path that a sentence repeats


class Columns(NamedTuple):
    """The names of the columns of images and of labels; None: to be found."""

    image: str | None
    label: str | None


def open_file(path: str, columns: Columns) -> StreamedFile:
    """Reads whose images a Parquet file holds: its footer and its labels.

    Raises:
      UserError: no whole Parquet file, a column that is missing or of another type, or several that may be meant.
    """
    _require_pyarrow()
    with _naming(path), _opened(path) as file:
        schema = file.schema_arrow
        image = _image_column(path, schema, columns.image)
        label = _label_column(path, schema, columns.label, image)
        count = file.metadata.num_rows
        if not count:
            raise UserError(f"{path} holds no images: it has no rows")
        names = _class_names(path, schema, label)
        identities = _identities(_column(file, label, None, _LABELS_AT_ONCE), names)
        own_names, owners, faults = streamed.owners_of(_counted(path, identities, count), count)
        num_bytes = _check_groups(path, file.metadata)
    read = functools.partial(_read, path, image)
    return StreamedFile(path, own_names, owners, faults, num_bytes, read, functools.partial(_where, path))


def _require_pyarrow() -> None:
    if pq is None:
        raise UserError("Parquet files need the package pyarrow: pip install -e '.[parquet]'")


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
    """Makes what pyarrow raises on a damaged file the user's error."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        what = stored_files.what_instead(path)
        is_other = what is not None and "Parquet" not in what
        reason = f"is {what}" if is_other else f"cannot be read as Parquet ({reason_of(error)}): copy it again"
        raise UserError(f"{path} {reason}") from error


def _opened(path: str) -> Any:
    # Both of the first are needed: without them a whole row group is read, and that may be the whole file.
    return pq.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False, page_checksum_verification=True)


def _check_groups(path: str, metadata: Any) -> int:
    """Adds up what the images take, as far as the footer tells; refuses row groups that no memory could hold."""
    sizes = [metadata.row_group(place).total_byte_size for place in range(metadata.num_row_groups)]
    if max(sizes) > _MOST_UNPACKED or min(sizes) < 0:
        raise UserError(f"{path} has a row group of {max(sizes)} bytes: write it anew with smaller ones")
    return sum(sizes)


def _image_column(path: str, schema: Any, given: str | None) -> str:
    fitting = [field.name for field in schema if _is_image(field.type)]
    what = "images are bytes, or a struct of `bytes` and `path`"
    return _one_of(path, schema, fitting, given, usual=IMAGE, flag="--image_column", what=what)


def _label_column(path: str, schema: Any, given: str | None, image: str) -> str:
    fitting = [field.name for field in schema if field.name != image and _is_label(field.type)]
    what = "labels are integers or names"
    return _one_of(path, schema, fitting, given, usual=LABEL, flag="--label_column", what=what)


def _one_of(path: str, schema: Any, fitting: list[str], given: str | None, *, usual: str, flag: str, what: str) -> str:
    """Finds a column: the one that the user named, the one of the usual name, or the only one of a fitting type."""
    if given is not None and schema.names.count(given) != 1:
        raise UserError(f"{path} has no column {given} ({flag}): its columns are {_shown(schema.names)}")
    wanted = given or (usual if schema.names.count(usual) == 1 else None)
    if wanted is not None and wanted not in fitting:
        raise UserError(f"{path} has a column {wanted} of type {_text(schema.field(wanted).type)}: {what}")
    if wanted is None and len(fitting) != 1:
        which = f"{_shown(fitting)} may be one" if fitting else f"none of {_shown(schema.names)} may be one"
        raise UserError(f"{path} has no column {usual}, and {which} ({what}): name it with {flag}")
    return wanted or fitting[0]


def _shown(names: list[str]) -> str:
    return sources.printable(", ".join(names))[:_SHOWN]


def _text(kind: Any) -> str:
    return sources.printable(str(kind))[:_SHOWN]


def _is_image(kind: Any) -> bool:
    if not pa.types.is_struct(kind):
        return _is_bytes(kind)
    return any(field.name == "bytes" and _is_bytes(field.type) for field in kind)


def _is_bytes(kind: Any) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)


def _is_label(kind: Any) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_integer(kind) or _is_name(kind)


def _is_name(kind: Any) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _class_names(path: str, schema: Any, label: str) -> list[str] | None:
    if not pa.types.is_integer(schema.field(label).type):
        return None
    return class_names.of_schema(schema.metadata, label) or class_names.of_readme(path, label)


def _column(file: Any, name: str, groups: list[int] | None, at_once: int) -> Iterator[Any]:
    """Yields a column in parts of some rows, of some row groups or all."""
    for batch in file.iter_batches(batch_size=at_once, row_groups=groups, columns=[name], use_threads=False):
        yield batch.column(batch.schema.names.index(name))


def _identities(parts: Iterable[Any], names: list[str] | None) -> Iterator[str | ValueError]:
    for part in parts:
        for label in part.to_pylist():
            yield _identity(label, names)


def _identity(label: int | str | None, names: list[str] | None) -> str | ValueError:
    if label is None or label in (_MISSING, ""):
        return ValueError(f"has no label: it is {'null' if label is None else repr(label)}")
    if names is not None and isinstance(label, int):
        if not 0 <= label < len(names):
            return ValueError(f"has the label {label}, and the classes are {len(names)}, counted from 0")
        label = names[label]
    identity = label_of(label)
    if identity is None:
        shown = sources.printable(repr(label))[:_SHOWN]
        return ValueError(f"has a label that is neither a name nor an integer from 0 on: it is {shown}")
    return identity


def _counted(path: str, identities: Iterable[str | ValueError], count: int) -> Iterator[str | ValueError]:
    """Passes them on, and makes sure that the footer is right about their number."""
    number = 0
    for number, identity in enumerate(identities, 1):
        if number > count:
            break
        yield identity
    if number != count:
        raise UserError(f"{path} says that it has {count} rows, and has {number} labels or more: copy it again")


def _where(path: str, row: int) -> str:
    return f"{path}, row {row},"


def _read(path: str, image: str, rows: Int64[np.ndarray, " some"]) -> Iterator[bytes | ValueError]:
    with _naming(path), _opened(path) as file:
        metadata = file.metadata
        ends = np.cumsum([metadata.row_group(place).num_rows for place in range(metadata.num_row_groups)])
        groups = np.unique(np.searchsorted(ends, rows, side="right")).tolist()
        for group in groups:
            start = int(ends[group - 1]) if group else 0
            wanted = rows[(rows >= start) & (rows < ends[group])] - start
            yield from _of_group(_column(file, image, [group], _IMAGES_AT_ONCE), wanted)


def _of_group(parts: Iterable[Any], wanted: Int64[np.ndarray, " some"]) -> Iterator[bytes | ValueError]:
    start = given = 0
    for part in parts:
        if given == len(wanted):
            return
        inside = wanted[(wanted >= start) & (wanted < start + len(part))]
        for place in (inside - start).tolist():
            yield _image(part[place].as_py())
        start, given = start + len(part), given + len(inside)
    if given != len(wanted):
        raise ValueError("a row group has fewer rows than it says")


def _image(value: Any) -> bytes | ValueError:
    content, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
    if content is None and path:
        shown = sources.printable(str(path))[:_SHOWN]
        return ValueError(
            f"holds a path alone, {shown}, and no image: give the files to `prepare folder`, or embed them, as "
            "push_to_hub of `datasets` does"
        )
    if content is None:
        return ValueError("holds no image: it is null")
    if len(content) > sources.MAX_IMAGE_BYTES:
        return ValueError(f"has {len(content)} bytes, more than the {sources.MAX_IMAGE_BYTES} that an image may have")
    return content
