"""Names of labels as Hugging Face's `datasets` keeps them: in a file's own schema, or in README.md beside the files."""

import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from lrfr_jax.errors import UserError, reason_of

_KEY = b"huggingface"
_MOST_BYTES = 2**25  # of a README.md: names of a million identities
_FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---\s*(?:\n|\Z)", re.DOTALL)


def of_schema(metadata: Mapping[bytes, bytes] | None, column: str) -> list[str] | None:
    """The names of a ClassLabel column by its labels; None if the schema's metadata say none."""
    try:
        features = json.loads((metadata or {}).get(_KEY, b"null"))["info"]["features"]
        return _checked(features[column]["names"]) if features[column].get("_type") == "ClassLabel" else None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def of_readme(path: str, column: str) -> list[str] | None:
    """The names that README.md in the folder of a file, or above it, gives; None if there are none.

    Raises:
      UserError: a README.md with `dataset_info` that cannot be read, or that names the labels in several ways.
    """
    folder = pathlib.Path(path).absolute().parent
    for readme in (folder / "README.md", folder.parent / "README.md", folder.parent.parent / "README.md"):
        if readme.is_file():
            return _of_front_matter(readme, column)
    return None


def _of_front_matter(readme: pathlib.Path, column: str) -> list[str] | None:
    if readme.stat().st_size > _MOST_BYTES:
        raise UserError(f"{readme} has more than {_MOST_BYTES} bytes: move it away, labels are then their numbers")
    match = _FRONT_MATTER.match(readme.read_text(encoding="utf-8-sig", errors="replace").replace("\r\n", "\n"))
    if match is None or "dataset_info" not in match[1]:
        return None
    try:
        import yaml
    except ImportError as error:
        raise UserError("class names in README.md need the package pyyaml: pip install -e '.[parquet]'") from error
    try:
        info = yaml.load(match[1], Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))["dataset_info"]
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{readme} begins with YAML that cannot be read: {reason_of(error)}; correct it") from error
    found = [names for one in (info if isinstance(info, list) else [info]) if (names := _of_info(one, column))]
    if any(names != found[0] for names in found):
        raise UserError(
            f"{readme} names the classes of {column} in several ways, one a configuration: leave that of these files"
        )
    return found[0] if found else None


def _of_info(info: Any, column: str) -> list[str] | None:
    """The names in one configuration: those of its feature {name, dtype: {class_label: {names: {'0': a}}}}."""
    try:
        feature = next(one for one in info["features"] if one["name"] == column)
        names = feature["dtype"]["class_label"]["names"]
        by_number = {int(number): name for number, name in names.items()} if isinstance(names, dict) else names
        return _checked([by_number[number] for number in range(len(by_number))])
    except (ValueError, LookupError, TypeError, AttributeError, StopIteration):
        return None


def _checked(names: Any) -> list[str] | None:
    are_names = isinstance(names, list) and all(isinstance(name, str | int) for name in names)
    return [str(name) for name in names] if are_names else None
