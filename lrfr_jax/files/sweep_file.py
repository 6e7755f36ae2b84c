"""A table of experiments as data: what a file of `configs/sweeps` says, and where the runs of its rows lie."""

import dataclasses
import os
import pathlib
import re
import runpy
import tokenize
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lrfr_jax.errors import UserError

# A row's name is the name of a folder.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


def _is_dict(value: Any, kind: Any) -> bool:
    """Whether it is a dict from text to values of a kind."""
    return isinstance(value, Mapping) and all(isinstance(k, str) and isinstance(v, kind) for k, v in value.items())


# What the fields of a row must be, and how it is said.
_FIELDS = {
    "name": (lambda value: isinstance(value, str), "a text"),
    "arg": (lambda value: isinstance(value, str), "a text"),
    "overrides": (lambda value: _is_dict(value, object), "a dict {field of the config: value}"),
    "paper": (lambda value: _is_dict(value, int | float), "a dict {metric: number}"),
    "config": (lambda value: value is None or isinstance(value, str), "the path of a config file, or None"),
}
_OPTIONAL = {"config"}


@dataclasses.dataclass(frozen=True)
class Row:
    """One run of a table.

    Attributes:
      name: name of its folder.
      arg: argument of the config file, such as 'policy=maug'; '' for none.
      overrides: {dotted field of the config: value}.
      paper: {metric: the published number in percent}.
      config: the config file that it changes; None for a row that cannot run and only stands in the tables.
    """

    name: str
    arg: str
    overrides: Mapping[str, Any]
    paper: Mapping[str, float | int]
    config: str | None


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A sweep file, read; `configs/sweeps/__init__.py` says what stands in one.

    Attributes:
      title: first line of the file's docstring.
      base: the config file of every row that names none itself.
      tables: {title of a table: {title of a column: metric, or metrics joined by '+' for their mean}}.
      rows: the rows by their names, in order.
    """

    title: str
    base: str
    tables: Mapping[str, Mapping[str, str]]
    rows: Mapping[str, Row]

    @property
    def published_only(self) -> list[str]:
        """The names of the rows that cannot run."""
        return [name for name, row in self.rows.items() if row.config is None]


def read(path: str | os.PathLike) -> Sweep:
    """Runs a sweep file and checks what it says; an error of the Python in it keeps its traceback.

    Raises:
      UserError: the file cannot be read or lacks a part, or a part or a row is not as it should be.
    """
    _check_text(path)
    found = runpy.run_path(os.fspath(path))
    missing = [name for name in ("BASE", "TABLES", "rows") if name not in found]
    if missing:
        raise UserError(f"{path} is no sweep file, as it defines no {missing[0]}: see configs/sweeps/__init__.py")
    _check_parts(found, path=path)
    title = ((found.get("__doc__") or "").strip() or pathlib.Path(path).stem).splitlines()[0]
    metrics = {metric for columns in found["TABLES"].values() for metric in columns.values()}
    yielded = found["rows"]()
    if not isinstance(yielded, Iterable):
        raise UserError(f"rows() of {path} returns {yielded!r}: let it yield one dict per run")
    rows: dict[str, Row] = {}
    for plain in yielded:
        row = _row(plain, path=path, metrics=metrics, base=found["BASE"])
        if row.name in rows:
            raise UserError(f"{path} has two rows named {row.name}: give each a name of its own")
        rows[row.name] = row
    if all(row.config is None for row in rows.values()):
        raise UserError(f"{path} yields no row that can run: let rows() give one dict per run")
    return Sweep(title, found["BASE"], found["TABLES"], rows)


def arguments(row: Row, *, seed: int, changes: Sequence[str], root: str | os.PathLike, data_dir: str) -> list[str]:
    """Returns the arguments of `python -m lrfr_jax.main` for one run.

    Args:
      row: what to run; one that has a config.
      seed: the run's `config.seed`.
      changes: 'field=value' for all rows; they win over the row's own.
      root: folder of all runs.
      data_dir: folder of the prepared sets.
    """
    config = f"{row.config}:{row.arg}" if row.arg else row.config
    overrides = [f"{field}={value}" for field, value in row.overrides.items()]
    return [
        *("--config", config, "--workdir", str(folder(root, row.name, seed)), "--data_dir", data_dir),
        *(f"--config.{change}" for change in [*overrides, *changes, f"seed={seed}"]),
    ]


def folder(root: str | os.PathLike, name: str, seed: int) -> pathlib.Path:
    """The workdir of a row's run with a seed."""
    return pathlib.Path(root) / name / f"seed{seed}"


def seeds(root: str | os.PathLike, name: str) -> list[int]:
    """The seeds of a row that have a folder, ascending."""
    found = (re.fullmatch(r"seed(\d+)", path.name) for path in pathlib.Path(root, name).glob("seed*") if path.is_dir())
    return sorted(int(match[1]) for match in found if match)


def log_of(workdir: str | os.PathLike) -> pathlib.Path:
    """Where `launch/sweep.py` keeps what a run prints: beside its workdir."""
    workdir = pathlib.Path(workdir)
    return workdir.with_name(f"{workdir.name}.log")


def _check_text(path: str | os.PathLike) -> None:
    # Before it is run, for what a folder or bytes would make of `runpy`, and so that no OSError of its own is taken
    # for one of the file.
    try:
        with tokenize.open(path) as file:
            file.read()
    except (OSError, UnicodeDecodeError, SyntaxError) as error:
        raise UserError(f"the sweep file {path} cannot be read: {error}") from error


def _check_parts(found: Mapping[str, Any], *, path: str | os.PathLike) -> None:
    tables = found["TABLES"]
    if not _is_dict(tables, Mapping) or not all(_is_dict(columns, str) for columns in tables.values()):
        raise UserError(f"TABLES of {path} must be {{title of a table: {{title of a column: metric}}}}")
    if not isinstance(found["BASE"], str):
        raise UserError(f"BASE of {path} is {found['BASE']!r}: it must be the path of a config file")
    if not callable(found["rows"]):
        raise UserError(f"rows of {path} must be a function: let it yield one dict per run")


def _row(plain: Any, *, path: str | os.PathLike, metrics: set[str], base: str) -> Row:
    needed = _FIELDS.keys() - _OPTIONAL
    if not isinstance(plain, Mapping) or plain.keys() - _OPTIONAL != needed:
        known = f"{', '.join(sorted(needed))}, and {', '.join(_OPTIONAL)} where it has its own"
        raise UserError(f"{path} yields {plain!r}: a row is a dict of exactly {known}")
    for field, value in plain.items():
        is_right, wanted = _FIELDS[field]
        if not is_right(value):
            raise UserError(f"{path} yields {plain!r}, whose {field} must be {wanted}")
    row = Row(**{"config": base} | dict(plain))
    if row.config is None and (row.arg or row.overrides or not row.paper):
        raise UserError(f"row {row.name} of {path} has no config: it can hold published numbers alone, and must")
    if not _NAME.fullmatch(row.name):
        raise UserError(f"{path} names a row {row.name!r}: use letters, digits and _ . + - only, as it names a folder")
    strangers = row.paper.keys() - metrics
    if strangers:
        raise UserError(f"row {row.name} of {path} has a published number for {min(strangers)}, no column of TABLES")
    return row
